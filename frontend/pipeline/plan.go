package pipeline

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// Plan is a pipeline with everything resolved. Plans are read by anyone and changed by no one.
type Plan struct {
	// File is the absolute path of the pipeline file.
	File string `json:"file"`
	// Images are what is to be built: what was selected, and what that is known to need. An image
	// comes after those it depends on; what is independent is in the order of the files.
	Images []Image `json:"images"`
	// Levels are the names of Images in waves: those of a level depend on earlier levels only.
	Levels [][]string `json:"levels"`
	// Groups are the groups with the names of their images. A matrix is a group of its images too.
	Groups map[string][]string `json:"groups,omitempty"`
	// Vars are the values of the variables, without secret ones.
	Vars  map[string]string `json:"vars,omitempty"`
	Push  PushPlan          `json:"push"`
	Cache CachePlan         `json:"cache,omitzero"`

	// Rest are the images that are not in Images. A build file may yet name one as base: that this is
	// so turns out when it is compiled.
	Rest []Image `json:"-"`
	// Warnings are about what has no effect.
	Warnings []*graph.PosError `json:"-"`

	order    []string // of all images, as declared
	families []string // names of the matrices, which are in Groups
}

// PushPlan says how tags are pushed. What is pushed, each image says.
type PushPlan struct {
	// AfterAll: nothing is pushed unless everything was built.
	AfterAll bool      `json:"after_all"`
	Pos      graph.Pos `json:"-"`
}

// CachePlan says where results of builds are remembered. The zero value leaves it to the engine.
type CachePlan struct {
	// Type is memory, persistent, s3 or registry.
	Type string `json:"type"`
	// Path is the absolute directory of the type persistent; empty is the engine's own.
	Path string `json:"path,omitempty"`
	// Bucket, Region, Endpoint and Prefix are of the type s3.
	Bucket   string `json:"bucket,omitempty"`
	Region   string `json:"region,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Prefix   string `json:"prefix,omitempty"`
	// Ref is the repository of the type registry.
	Ref string    `json:"ref,omitempty"`
	Pos graph.Pos `json:"-"`
}

// Image is one image of a plan.
type Image struct {
	Name string `json:"name"`
	// Family is the name of the matrix that the image comes from, and Matrix its place in it.
	Family string            `json:"family,omitempty"`
	Matrix map[string]string `json:"matrix,omitempty"`
	// Along: the image was not selected, but one that was needs it. It is built; its tags, outputs and
	// pushes are not asked for.
	Along bool `json:"along,omitempty"`

	// File is the build file: an absolute path, one within a remote Context, or empty for the one that
	// is found in the context.
	File string `json:"file,omitempty"`
	// Context is the build context: an absolute directory, or an address that is fetched.
	Context string `json:"context"`
	Target  string `json:"target,omitempty"`
	// OS is linux or windows. Platforms are normalised; none is the daemon's own.
	OS        string   `json:"os"`
	Platforms []string `json:"platforms,omitempty"`
	// Tags are normalised references. Names are by which build files can mean the image: its tags and
	// its name, as normalised references. No two images of a plan share one.
	Tags  []string `json:"tags,omitempty"`
	Names []string `json:"names,omitempty"`
	// Format is oci, docker, or empty for the engine's choice.
	Format      string            `json:"format,omitempty"`
	BuildArgs   map[string]string `json:"build_args,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Contexts are the named contexts: absolute directories, docker-image:// and oci-layout:// names
	// and addresses. ImageContexts are those that are other images of the pipeline, by name.
	Contexts      map[string]string `json:"contexts,omitempty"`
	ImageContexts map[string]string `json:"image_contexts,omitempty"`
	// DependsOn are the names of the images that have to be there before: those of depends_on and of
	// ImageContexts, in the order of the plan.
	DependsOn   []string     `json:"depends_on,omitempty"`
	CacheMounts []CacheMount `json:"cache_mounts,omitempty"`
	Secrets     []Secret     `json:"secrets,omitempty"`
	SSH         []SSH        `json:"ssh,omitempty"`
	Outputs     []Output     `json:"outputs,omitempty"`
	CacheFrom   []CacheEntry `json:"cache_from,omitempty"`
	CacheTo     []CacheEntry `json:"cache_to,omitempty"`
	// Pull is always, newer, never, or empty for the default.
	Pull    string `json:"pull,omitempty"`
	NoCache bool   `json:"no_cache,omitempty"`
	// Retries is how often a failed step, pull or push is tried again.
	Retries int `json:"retries,omitempty"`
	// Push: the tags are pushed.
	Push bool `json:"push,omitempty"`

	// Vars are the variables that texts of ZImagefiles can use: those of the plan and of Matrix.
	Vars map[string]string `json:"-"`
	// Pos is where the image is declared.
	Pos graph.Pos `json:"-"`

	places map[string]graph.Pos
}

// CacheMount is a directory that RUN steps keep between builds. Every RUN has it that has no cache of
// its own at the same path.
type CacheMount struct {
	Target string `json:"target"`
	// ID is the name of the cache; empty is the path.
	ID string `json:"id,omitempty"`
	// Sharing is locked, shared or private; empty is locked.
	Sharing  string `json:"sharing,omitempty"`
	ReadOnly bool   `json:"readonly,omitempty"`
}

// Secret is a value that RUN steps may mount. Exactly one of File, Env and HasValue says where it
// comes from.
type Secret struct {
	ID   string `json:"id"`
	File string `json:"file,omitempty"`
	Env  string `json:"env,omitempty"`
	// HasValue: the value is that of a variable, in Value, which is never printed.
	HasValue bool   `json:"has_value,omitempty"`
	Value    []byte `json:"-"`
}

// SSH is an agent that RUN steps may use: sockets or keys, or without Paths the agent of the user.
type SSH struct {
	ID    string   `json:"id"`
	Paths []string `json:"paths,omitempty"`
}

// Output is a place for the result, with the types and attributes of "zlayer build --output".
type Output struct {
	Type  string            `json:"type"`
	Dest  string            `json:"dest,omitempty"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

// CacheEntry is a cache of BuildKit that is imported or exported.
type CacheEntry struct {
	Type  string            `json:"type"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

// JSON renders the plan for people and programs. The same plan gives the same bytes. Values of
// secrets are not in it.
func (p *Plan) JSON() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		panic("pipeline: encoding a plan: " + err.Error()) // there is nothing in it that JSON cannot say
	}
	return b.Bytes()
}

// Image finds an image by its name, in Images and Rest. It is nil if there is none.
func (p *Plan) Image(name string) *Image {
	for _, list := range [][]Image{p.Images, p.Rest} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// At returns where the value of a field comes from, for messages about it. Fields are called as in
// the file, their parts behind a dot: "context", "tags.0", "build_args.VERSION". What the file does
// not say has the place of what it would be part of, in the end of the image.
func (i *Image) At(field string) graph.Pos {
	for {
		if p, ok := i.places[field]; ok {
			return p
		}
		dot := strings.LastIndexByte(field, '.')
		if dot < 0 {
			return i.Pos
		}
		field = field[:dot]
	}
}
