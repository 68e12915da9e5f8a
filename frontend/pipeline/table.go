package pipeline

import (
	"sync"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

type text = yamlfile.String

// fileTable describes a whole pipeline file. Everything that is known about keys hangs off it. It
// is made once and not changed.
var fileTable = sync.OnceValue(newFileTable)

func newFileTable() *yamlfile.Table[file] {
	images := named("images", "images", nameFault, yamlfile.Object(imageTable()), func() *image { return &image{} })
	templates := named("templates", "templates", nameFault, yamlfile.Object(templateTable()), func() *template { return &template{} })
	variables := named("variables", "variables", variableFault, yamlfile.Object(variableTable()), func() *variable { return &variable{} })
	groups := named("groups", "lists of images", nameFault, pointer(texts("a group")), nil)
	defaults := yamlfile.Object(defaultsTable())
	return &yamlfile.Table[file]{What: "a pipeline", Members: []yamlfile.Member[file]{
		yamlfile.Key("version", yamlfile.Choice("version", "1"), func(f *file) **text { return &f.version },
			"Version of the format; only \"1\" exists."),
		yamlfile.Key("include", yamlfile.OneOrMore("include"), func(f *file) *[]text { return &f.include },
			"Other pipeline files whose contents belong to this one, relative to it. Wildcards as in paths of the shell: * ? [a-z]."),
		yamlfile.Key("vars", yamlfile.Mapping("vars", variableFault), func(f *file) *[]yamlfile.Pair { return &f.vars },
			"Variables and their values, which --set NAME=VALUE replaces. Texts use them as ${NAME}."),
		yamlfile.Key("variables", variables, func(f *file) *[]declared[variable] { return &f.variables },
			"Variables with rules for their values."),
		yamlfile.Key("defaults", watched(defaults), func(f *file) **declared[fields] { return &f.defaults },
			"What holds for all images of the file unless they say otherwise; those of the file given with -f hold for included files too."),
		yamlfile.Key("templates", templates, func(f *file) *[]declared[template] { return &f.templates },
			"Fields for images to inherit. A template is not built itself."),
		yamlfile.Key("images", images, func(f *file) *[]declared[image] { return &f.images },
			"Images by name."),
		yamlfile.Key("groups", groups, func(f *file) *[]declared[[]text] { return &f.groups },
			"Lists of images by name: names of images, matrices and groups, with * and ?. The group \"default\" is built when nothing else is asked for."),
		yamlfile.Key("cache", yamlfile.Object(cacheTable()), func(f *file) **cache { return &f.cache },
			"Where results of builds are remembered."),
		yamlfile.Key("push", yamlfile.Object(pushTable()), func(f *file) **push { return &f.push },
			"How images are pushed."),
	}}
}

func imageTable() *yamlfile.Table[image] {
	t := &yamlfile.Table[image]{What: "an image", Place: func(i *image, pos graph.Pos) { i.pos = pos }}
	t.Members = append(fieldMembers(func(i *image) *fields { return &i.fields }),
		yamlfile.Key("inherits", yamlfile.OneOrMore("inherits"), func(i *image) *[]text { return &i.inherits },
			"Templates or images whose fields the image has unless it says otherwise; later ones go before earlier ones."),
		yamlfile.Key("matrix", matrices(), func(i *image) **matrix { return &i.matrix },
			"Makes an image of every combination of values, which its texts use as ${NAME}: names with lists of values, or a list of combinations."),
		yamlfile.Key("name", word("name", rule{}), func(i *image) **text { return &i.variant },
			"Name of the images of a matrix; the image's name and the values, joined by dashes, by default."),
	)
	return t
}

func templateTable() *yamlfile.Table[template] {
	t := &yamlfile.Table[template]{What: "a template", Place: func(t *template, pos graph.Pos) { t.pos = pos }}
	t.Members = append(fieldMembers(func(t *template) *fields { return &t.fields }),
		yamlfile.Key("inherits", yamlfile.OneOrMore("inherits"), func(t *template) *[]text { return &t.inherits },
			"Templates or images whose fields the template has unless it says otherwise; later ones go before earlier ones."))
	return t
}

func defaultsTable() *yamlfile.Table[fields] {
	return &yamlfile.Table[fields]{What: "the section defaults", Place: func(f *fields, pos graph.Pos) { f.pos = pos },
		Members: fieldMembers(func(f *fields) *fields { return f })}
}

// fieldMembers are the keys that images, templates and defaults share.
func fieldMembers[O any](at func(*O) *fields) []yamlfile.Member[O] {
	pairs := func(name string, fault func(string) string) yamlfile.Kind[[]yamlfile.Pair] {
		return yamlfile.Mapping(name, fault)
	}
	return []yamlfile.Member[O]{
		yamlfile.Key("file", word("file", rule{}), func(o *O) **text { return &at(o).file },
			"Build file, relative to the pipeline file. By default it is looked for in the context."),
		yamlfile.Key("context", word("context", rule{}), func(o *O) **text { return &at(o).context },
			"Build context: a directory relative to the pipeline file, or the address of a git repository or an archive. The directory of the pipeline file by default."),
		yamlfile.Key("target", word("target", rule{}), func(o *O) **text { return &at(o).target },
			"Stage to build; the last one by default."),
		yamlfile.Key("tags", texts("tags"), func(o *O) *[]text { return &at(o).tags },
			"Names of the image, like registry.example.com/app:1.0."),
		yamlfile.Key("build_args", pairs("build_args", yamlfile.VariableName), func(o *O) *[]yamlfile.Pair { return &at(o).buildArgs },
			"Build arguments."),
		yamlfile.Key("platforms", texts("platforms"), func(o *O) *[]text { return &at(o).platforms },
			"Platforms to build for, like linux/arm64; the daemon's own by default."),
		yamlfile.Key("os", word("os", oneOf("linux", "windows")), func(o *O) **text { return &at(o).os },
			"Operating system, linux or windows; that of the platforms by default."),
		yamlfile.Key("depends_on", texts("depends_on"), func(o *O) *[]text { return &at(o).dependsOn },
			"Images that have to be built before. Bases and contexts that are images of the pipeline need not be named."),
		yamlfile.Key("contexts", pairs("contexts", contextNameFault), func(o *O) *[]yamlfile.Pair { return &at(o).contexts },
			"Named build contexts: directories, addresses, docker-image://NAME, oci-layout://DIR, or image:NAME for another image of the pipeline."),
		yamlfile.Key("labels", pairs("labels", yamlfile.LabelName), func(o *O) *[]yamlfile.Pair { return &at(o).labels },
			"Labels of the image."),
		yamlfile.Key("annotations", pairs("annotations", annotationFault), func(o *O) *[]yamlfile.Pair { return &at(o).annotations },
			"Annotations of manifests; a prefix like index: or manifest[linux/amd64]: says of which."),
		yamlfile.Key("format", word("format", oneOf("oci", "docker")), func(o *O) **text { return &at(o).format },
			"Format of the image: oci or docker."),
		yamlfile.Key("no_cache", word("no_cache", boolean()), func(o *O) **text { return &at(o).noCache },
			"Run every step anew."),
		yamlfile.Key("pull", word("pull", pullMode()), func(o *O) **text { return &at(o).pull },
			"When base images are looked up again: always, newer or never; true is always."),
		yamlfile.Key("retries", word("retries", natural()), func(o *O) **text { return &at(o).retries },
			"How often a failed step, pull or push is tried again."),
		yamlfile.Key("cache_mounts", oneOrMore("cache_mounts", mounts()), func(o *O) *[]cacheMount { return &at(o).cacheMounts },
			"Directories that all RUN steps keep between builds: paths, or mappings."),
		yamlfile.Key("secrets", entries("secrets", secretKeys()), func(o *O) *[]entry { return &at(o).secrets },
			"Secrets that RUN steps may mount: texts like id=token,src=FILE, or mappings with id and one of file, env and value."),
		yamlfile.Key("ssh", oneOrMore("ssh", agents()), func(o *O) *[]agent { return &at(o).ssh },
			"SSH agents that RUN steps may use: default, ID=PATH, or mappings with id and paths."),
		yamlfile.Key("output", entries("output", nil), func(o *O) *[]entry { return &at(o).outputs },
			"Where the result goes: texts like type=oci,dest=FILE, or mappings; zlayer's store by default."),
		yamlfile.Key("push", word("push", boolean()), func(o *O) **text { return &at(o).push },
			"Push the tags."),
		yamlfile.Key("cache_from", entries("cache_from", nil), func(o *O) *[]entry { return &at(o).cacheFrom },
			"BuildKit caches to import: names of images, texts like type=local,src=DIR, or mappings."),
		yamlfile.Key("cache_to", entries("cache_to", nil), func(o *O) *[]entry { return &at(o).cacheTo },
			"BuildKit caches to export to, in the same forms."),
	}
}

func variableTable() *yamlfile.Table[variable] {
	return &yamlfile.Table[variable]{What: "a variable", Place: func(v *variable, pos graph.Pos) { v.pos = pos }, Members: []yamlfile.Member[variable]{
		yamlfile.Key("type", yamlfile.Choice("type", "string", "number", "bool", "list"), func(v *variable) **text { return &v.typ },
			"What its values are: string (the default), number, bool or list."),
		yamlfile.Key("default", givens("default"), func(v *variable) **given { return &v.def },
			"Value unless another is given: a text, or a list of texts. It may use other variables."),
		yamlfile.Key("pattern", yamlfile.Word("pattern"), func(v *variable) **text { return &v.pattern },
			"Regular expression (Go's syntax) that values, or every item of a list, must match."),
		yamlfile.Key("enum", yamlfile.OneOrMore("enum"), func(v *variable) *[]text { return &v.enum },
			"The values that are allowed."),
		yamlfile.Key("required", yamlfile.Boolean("required"), func(v *variable) *bool { return &v.required },
			"A value that is not empty must be given."),
		yamlfile.Key("description", yamlfile.Text("description", false), func(v *variable) **text { return &v.description },
			"What it is for."),
		yamlfile.Key("secret", yamlfile.Boolean("secret"), func(v *variable) *bool { return &v.secret },
			"It is never printed, and can be used as value of secrets only."),
		yamlfile.Key("env", yamlfile.Word("env"), func(v *variable) **text { return &v.env },
			"Environment variable that may give the value: true for one of the same name, or its name."),
	}}
}

func cacheTable() *yamlfile.Table[cache] {
	return &yamlfile.Table[cache]{What: "the section cache", Place: func(c *cache, pos graph.Pos) { c.pos = pos }, Members: []yamlfile.Member[cache]{
		yamlfile.Must(yamlfile.Key("type", word("type", oneOf("memory", "persistent", "s3", "registry")), func(c *cache) **text { return &c.typ },
			"memory, persistent (a directory), s3 or registry.")),
		yamlfile.Key("path", word("path", rule{}), func(c *cache) **text { return &c.path }, "Directory of a persistent cache, relative to the pipeline file; zlayer's own by default."),
		yamlfile.Key("bucket", word("bucket", rule{}), func(c *cache) **text { return &c.bucket }, "Bucket of S3."),
		yamlfile.Key("region", word("region", rule{}), func(c *cache) **text { return &c.region }, "Region of S3."),
		yamlfile.Key("endpoint", word("endpoint", rule{}), func(c *cache) **text { return &c.endpoint }, "Address of a service that speaks S3."),
		yamlfile.Key("prefix", word("prefix", rule{}), func(c *cache) **text { return &c.prefix }, "Prefix of the keys in the bucket."),
		yamlfile.Key("ref", word("ref", rule{}), func(c *cache) **text { return &c.ref }, "Repository of a cache in a registry."),
	}}
}

func pushTable() *yamlfile.Table[push] {
	return &yamlfile.Table[push]{What: "the section push", Place: func(p *push, pos graph.Pos) { p.pos = pos }, Members: []yamlfile.Member[push]{
		yamlfile.Key("after_all", word("after_all", boolean()), func(p *push) **text { return &p.afterAll },
			"Push all images with tags, and none unless all were built."),
	}}
}
