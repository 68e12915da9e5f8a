package zimage

import (
	"sync"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// fileTable describes a whole ZImagefile. Everything that is known about keys hangs off it. It is
// made once and not changed.
var fileTable = sync.OnceValue(newFileTable)

func newFileTable() *yamlfile.Table[File] {
	steps := yamlfile.List("steps", yamlfile.Deref(yamlfile.Object(stepTable())))
	build := nested(yamlfile.Object(buildTable()))
	t := &yamlfile.Table[File]{What: "a ZImagefile", Members: []yamlfile.Member[File]{
		yamlfile.Key("version", yamlfile.Choice("version", "1"), func(f *File) **String { return &f.Version },
			"Version of the format; only \"1\" exists."),
		yamlfile.Key("runtime", yamlfile.Word("runtime"), func(f *File) **String { return &f.Runtime },
			"Name of a runtime template to build with, like node22 or go. The metadata of the file is applied on top."),
		yamlfile.Key("base", yamlfile.Word("base"), func(f *File) **String { return &f.Base },
			"Image to start from, or scratch. Variables of args are expanded."),
		yamlfile.Key("build", build, func(f *File) **Build { return &f.Build },
			"Directory with a build file of its own whose image to start from."),
		yamlfile.Key("platform", yamlfile.Word("platform"), func(f *File) **String { return &f.Platform },
			"Platform to build for, like linux/arm64."),
		yamlfile.Key("os", yamlfile.Choice("os", "linux", "windows"), func(f *File) **String { return &f.OS },
			"Operating system to build for."),
		yamlfile.Key("args", yamlfile.Mapping("args", yamlfile.VariableName), func(f *File) *[]Pair { return &f.Args },
			"Build arguments with their defaults; an empty default is none. They can be used in base."),
		yamlfile.Key("stages", stages(yamlfile.Object(stageTable(steps, build))), func(f *File) *[]Stage { return &f.Stages },
			"Stages by name. The last one is the result."),
		yamlfile.Key("wasm", yamlfile.Object(wasmTable()), func(f *File) **Wasm { return &f.Wasm },
			"Build a WebAssembly component or module."),
	}}
	t.Members = append(t.Members, metaMembers(func(f *File) *Meta { return &f.Meta })...)
	insertAfter(t, "workdir", yamlfile.Key("steps", steps, func(f *File) *[]Step { return &f.Steps },
		"What to do to the base, in order."))
	mode := []any{}
	for _, name := range []string{"runtime", "base", "build", "stages", "wasm"} {
		mode = append(mode, yamlfile.Schema{"required": []any{name}})
	}
	t.Rules = yamlfile.Schema{"oneOf": mode}
	return remember(t, func(f *File) *keyed { return &f.keyed })
}

// stageTable describes an entry of stages.
func stageTable(steps yamlfile.Kind[[]Step], build yamlfile.Kind[*Build]) *yamlfile.Table[Stage] {
	t := &yamlfile.Table[Stage]{What: "a stage", Members: []yamlfile.Member[Stage]{
		yamlfile.Key("base", yamlfile.Word("base"), func(s *Stage) **String { return &s.Base },
			"Image or earlier stage to start from, or scratch."),
		yamlfile.Key("build", build, func(s *Stage) **Build { return &s.Build },
			"Directory with a build file of its own whose image to start from."),
		yamlfile.Key("platform", yamlfile.Word("platform"), func(s *Stage) **String { return &s.Platform },
			"Platform of the stage's base, like linux/arm64 or $BUILDPLATFORM."),
		yamlfile.Key("os", yamlfile.Choice("os", "linux", "windows"), func(s *Stage) **String { return &s.OS },
			"Operating system of the stage."),
		yamlfile.Key("args", yamlfile.Mapping("args", yamlfile.VariableName), func(s *Stage) *[]Pair { return &s.Args },
			"Build arguments that the stage uses; an empty default is that of the file's args."),
	}}
	t.Members = append(t.Members, metaMembers(func(s *Stage) *Meta { return &s.Meta })...)
	insertAfter(t, "workdir", yamlfile.Key("steps", steps, func(s *Stage) *[]Step { return &s.Steps },
		"What to do to the base, in order."))
	t.Rules = yamlfile.Schema{"oneOf": []any{yamlfile.Schema{"required": []any{"base"}}, yamlfile.Schema{"required": []any{"build"}}}}
	return remember(t, func(s *Stage) *keyed { return &s.keyed })
}

// metaMembers are the keys that files and stages share.
func metaMembers[O any](at func(*O) *Meta) []yamlfile.Member[O] {
	return []yamlfile.Member[O]{
		yamlfile.Key("env", yamlfile.Mapping("env", yamlfile.VariableName), func(o *O) *[]Pair { return &at(o).Env },
			"Environment variables of the image."),
		yamlfile.Key("workdir", yamlfile.Word("workdir"), func(o *O) **String { return &at(o).Workdir },
			"Working directory of the steps and of the image."),
		yamlfile.Key("labels", yamlfile.Mapping("labels", yamlfile.LabelName), func(o *O) *[]Pair { return &at(o).Labels },
			"Labels of the image."),
		yamlfile.Key("expose", ports(), func(o *O) *[]String { return &at(o).Expose },
			"Ports that the image listens on: numbers, or NUMBER/udp."),
		yamlfile.Key("user", yamlfile.Word("user"), func(o *O) **String { return &at(o).User },
			"User, and group after a colon, that the image runs as. Steps run as the base's user."),
		yamlfile.Key("volumes", yamlfile.List("volumes", yamlfile.Item("a volume", true)), func(o *O) *[]String { return &at(o).Volumes },
			"Paths that hold data."),
		yamlfile.Key("healthcheck", yamlfile.Object(healthcheckTable()), func(o *O) **Healthcheck { return &at(o).Healthcheck },
			"How to find out whether a container is well."),
		yamlfile.Key("stopsignal", yamlfile.Word("stopsignal"), func(o *O) **String { return &at(o).StopSignal },
			"Signal that asks the container to stop."),
		yamlfile.Key("entrypoint", command("entrypoint", true), func(o *O) **Command { return &at(o).Entrypoint },
			"Program of the image: a text for the shell, or a list. An empty list removes the base's."),
		yamlfile.Key("cmd", command("cmd", true), func(o *O) **Command { return &at(o).Cmd },
			"Default command, or arguments of the entrypoint: a text for the shell, or a list."),
	}
}

// stepTable describes an entry of steps.
func stepTable() *yamlfile.Table[Step] {
	words := func(name string) yamlfile.Kind[[]String] { return yamlfile.OneOrMore(name) }
	t := &yamlfile.Table[Step]{What: "a step", Members: []yamlfile.Member[Step]{
		yamlfile.Key("run", command("run", false), func(s *Step) **Command { return &s.Run },
			"Command to run: a text for the shell, or a list."),
		yamlfile.Key("copy", words("copy"), func(s *Step) *[]String { return &s.Copy },
			"Paths to copy from the build context, or from what \"from\" names."),
		yamlfile.Key("add", words("add"), func(s *Step) *[]String { return &s.Add },
			"Paths or addresses to add; archives are unpacked."),
		yamlfile.Key("env", yamlfile.Mapping("env", yamlfile.VariableName), func(s *Step) *[]Pair { return &s.Env },
			"Environment variables from here on; beside run, for that command only."),
		yamlfile.Key("workdir", yamlfile.Word("workdir"), func(s *Step) **String { return &s.Workdir },
			"Working directory from here on."),
		yamlfile.Key("user", yamlfile.Word("user"), func(s *Step) **String { return &s.User },
			"User from here on."),
		yamlfile.Key("to", yamlfile.Word("to"), func(s *Step) **String { return &s.To },
			"Where copy and add put the files."),
		yamlfile.Key("from", yamlfile.Word("from"), func(s *Step) **String { return &s.From },
			"Stage or image to copy from. Relative paths start at the working directory of the stage."),
		yamlfile.Key("owner", yamlfile.Word("owner"), func(s *Step) **String { return &s.Owner },
			"Owner of the copied files: USER[:GROUP]."),
		yamlfile.Key("chmod", fileMode("chmod"), func(s *Step) **String { return &s.Chmod },
			"Permissions of the copied files, like 0755 or u+x."),
		yamlfile.Key("cache", yamlfile.List("cache", yamlfile.Deref(yamlfile.Object(cacheTable()))), func(s *Step) *[]Mount { return &s.Cache },
			"Directories that are kept between builds."),
		yamlfile.Key("mounts", yamlfile.List("mounts", yamlfile.Deref(yamlfile.Object(mountTable()))), func(s *Step) *[]Mount { return &s.Mounts },
			"Other mounts for the command."),
		yamlfile.Key("secrets", yamlfile.List("secrets", named(yamlfile.Deref(yamlfile.Object(secretTable())))), func(s *Step) *[]Mount { return &s.Secrets },
			"Secrets for the command: ids, or mappings."),
		yamlfile.Key("ssh", agents(yamlfile.Deref(yamlfile.Object(agentTable()))), func(s *Step) *[]Mount { return &s.SSH },
			"SSH agents for the command: true for the default one, ids, or mappings."),
		yamlfile.Key("network", yamlfile.Choice("network", "default", "none", "host"), func(s *Step) **String { return &s.Network },
			"Network of the command."),
		yamlfile.Key("security", yamlfile.Choice("security", "sandbox", "insecure"), func(s *Step) **String { return &s.Security },
			"Whether the command runs with all capabilities."),
	}}
	t.Rules = stepRules()
	remember(t, func(s *Step) *keyed { return &s.keyed })
	t.Place = func(s *Step, pos graph.Pos) { s.Pos = pos }
	t.Seen = noteStep
	return t
}

// stepRules are the schema's conditions on steps: one action, and modifiers only beside it.
func stepRules() yamlfile.Schema {
	required := func(names ...string) yamlfile.Schema {
		l := []any{}
		for _, n := range names {
			l = append(l, n)
		}
		return yamlfile.Schema{"required": l}
	}
	none := func(names ...string) yamlfile.Schema {
		l := []any{}
		for _, n := range names {
			l = append(l, required(n))
		}
		return yamlfile.Schema{"not": yamlfile.Schema{"anyOf": l}}
	}
	run := []string{"cache", "mounts", "secrets", "ssh", "network", "security"}
	files := []string{"to", "from", "owner", "chmod"}
	with := func(s yamlfile.Schema, not ...[]string) yamlfile.Schema {
		var names []string
		for _, n := range not {
			names = append(names, n...)
		}
		return yamlfile.Schema{"allOf": []any{s, none(names...)}}
	}
	return yamlfile.Schema{"oneOf": []any{
		with(required("run"), files, []string{"copy", "add", "workdir", "user"}),
		with(required("copy", "to"), run, []string{"run", "add", "env", "workdir", "user"}),
		with(required("add", "to"), run, []string{"run", "copy", "env", "workdir", "user", "from"}),
		with(required("env"), run, files, []string{"run", "copy", "add", "workdir", "user"}),
		with(required("workdir"), run, files, []string{"run", "copy", "add", "env", "user"}),
		with(required("user"), run, files, []string{"run", "copy", "add", "env", "workdir"}),
	}}
}

const sharingDoc = "Who may use the directory at the same time: locked (one command after the other, the default), shared, or private."

func cacheTable() *yamlfile.Table[Mount] {
	return &yamlfile.Table[Mount]{What: "a cache", Place: func(m *Mount, pos graph.Pos) { m.Pos = pos }, Members: []yamlfile.Member[Mount]{
		yamlfile.Must(yamlfile.Key("target", yamlfile.Word("target"), func(m *Mount) **String { return &m.Target }, "Path in the stage.")),
		yamlfile.Key("id", yamlfile.Word("id"), func(m *Mount) **String { return &m.ID }, "Name of the cache; the path by default."),
		yamlfile.Key("sharing", yamlfile.Choice("sharing", "locked", "shared", "private"), func(m *Mount) **String { return &m.Sharing }, sharingDoc),
		yamlfile.Key("readonly", yamlfile.Boolean("readonly"), func(m *Mount) *bool { return &m.ReadOnly }, "The command must not write to it."),
	}}
}

func mountTable() *yamlfile.Table[Mount] {
	return &yamlfile.Table[Mount]{What: "a mount", Place: func(m *Mount, pos graph.Pos) { m.Pos = pos }, Members: []yamlfile.Member[Mount]{
		yamlfile.Must(yamlfile.Key("type", yamlfile.Choice("type", "bind", "cache", "tmpfs"), func(m *Mount) **String { return &m.Type }, "Kind of mount.")),
		yamlfile.Must(yamlfile.Key("target", yamlfile.Word("target"), func(m *Mount) **String { return &m.Target }, "Path in the stage.")),
		yamlfile.Key("from", yamlfile.Word("from"), func(m *Mount) **String { return &m.From }, "Stage or image that is mounted; the build context by default. Paths in it start at its root."),
		yamlfile.Key("source", yamlfile.Word("source"), func(m *Mount) **String { return &m.Source }, "Path in what is mounted."),
		yamlfile.Key("id", yamlfile.Word("id"), func(m *Mount) **String { return &m.ID }, "Name of the cache; the path by default."),
		yamlfile.Key("sharing", yamlfile.Choice("sharing", "locked", "shared", "private"), func(m *Mount) **String { return &m.Sharing }, sharingDoc),
		yamlfile.Key("size", yamlfile.Word("size"), func(m *Mount) **String { return &m.Size }, "Limit of a tmpfs, like 64m."),
		yamlfile.Key("readonly", yamlfile.Boolean("readonly"), func(m *Mount) *bool { return &m.ReadOnly }, "The command must not write to it. Binds are read-only by default."),
		yamlfile.Key("readwrite", yamlfile.Boolean("readwrite"), func(m *Mount) *bool { return &m.ReadWrite }, "The command may write to a bind; what it writes is dropped."),
		yamlfile.Key("mode", octal("mode"), func(m *Mount) **String { return &m.Mode }, "Permissions of a new cache."),
		yamlfile.Key("uid", yamlfile.Natural("uid"), func(m *Mount) **String { return &m.UID }, "Owner of a new cache."),
		yamlfile.Key("gid", yamlfile.Natural("gid"), func(m *Mount) **String { return &m.GID }, "Group of a new cache."),
	}, Rules: yamlfile.Schema{}}
}

func secretTable() *yamlfile.Table[Mount] {
	return &yamlfile.Table[Mount]{What: "a secret", Place: func(m *Mount, pos graph.Pos) { m.Pos = pos }, Members: append([]yamlfile.Member[Mount]{
		yamlfile.Must(yamlfile.Key("id", yamlfile.Word("id"), func(m *Mount) **String { return &m.ID }, "Id of the secret.")),
		yamlfile.Key("target", yamlfile.Word("target"), func(m *Mount) **String { return &m.Target }, "File with the secret; /run/secrets/ID by default."),
		yamlfile.Key("env", yamlfile.Word("env"), func(m *Mount) **String { return &m.Env }, "Variable with the secret."),
	}, ownership()...)}
}

func agentTable() *yamlfile.Table[Mount] {
	return &yamlfile.Table[Mount]{What: "an ssh agent", Place: func(m *Mount, pos graph.Pos) { m.Pos = pos }, Members: append([]yamlfile.Member[Mount]{
		yamlfile.Key("id", yamlfile.Word("id"), func(m *Mount) **String { return &m.ID }, "Id of the agent."),
		yamlfile.Key("target", yamlfile.Word("target"), func(m *Mount) **String { return &m.Target }, "Path of the socket."),
	}, ownership()...)}
}

func ownership() []yamlfile.Member[Mount] {
	return []yamlfile.Member[Mount]{
		yamlfile.Key("required", yamlfile.Boolean("required"), func(m *Mount) *bool { return &m.Required }, "The build fails without it."),
		yamlfile.Key("mode", octal("mode"), func(m *Mount) **String { return &m.Mode }, "Permissions of the file."),
		yamlfile.Key("uid", yamlfile.Natural("uid"), func(m *Mount) **String { return &m.UID }, "Owner of the file."),
		yamlfile.Key("gid", yamlfile.Natural("gid"), func(m *Mount) **String { return &m.GID }, "Group of the file."),
	}
}

func buildTable() *yamlfile.Table[Build] {
	dir := yamlfile.Key("workdir", yamlfile.Word("workdir"), func(b *Build) **String { return &b.Dir }, "Directory, relative to the build context.")
	dir.Alias = "context"
	return &yamlfile.Table[Build]{What: "a nested build", Place: func(b *Build, pos graph.Pos) { b.Pos = pos }, Members: []yamlfile.Member[Build]{
		dir,
		yamlfile.Key("file", yamlfile.Word("file"), func(b *Build) **String { return &b.File }, "Build file, relative to the directory."),
		yamlfile.Key("target", yamlfile.Word("target"), func(b *Build) **String { return &b.Target }, "Stage that is the result."),
		yamlfile.Key("args", yamlfile.Mapping("args", yamlfile.VariableName), func(b *Build) *[]Pair { return &b.Args }, "Build arguments."),
	}}
}

func healthcheckTable() *yamlfile.Table[Healthcheck] {
	return &yamlfile.Table[Healthcheck]{What: "a healthcheck", Place: func(h *Healthcheck, pos graph.Pos) { h.Pos = pos }, Members: []yamlfile.Member[Healthcheck]{
		yamlfile.Must(yamlfile.Key("cmd", command("cmd", false), func(h *Healthcheck) **Command { return &h.Cmd }, "Command that fails if the container is not well.")),
		yamlfile.Key("interval", duration("healthcheck interval"), func(h *Healthcheck) **Duration { return &h.Interval }, "Time between checks, like 30s."),
		yamlfile.Key("timeout", duration("healthcheck timeout"), func(h *Healthcheck) **Duration { return &h.Timeout }, "Time that a check may take."),
		yamlfile.Key("start_period", duration("healthcheck start_period"), func(h *Healthcheck) **Duration { return &h.StartPeriod }, "Time that the container has to start."),
		yamlfile.Key("start_interval", duration("healthcheck start_interval"), func(h *Healthcheck) **Duration { return &h.StartInterval }, "Time between checks while it starts."),
		yamlfile.Key("retries", yamlfile.Natural("retries"), func(h *Healthcheck) **String { return &h.Retries }, "Failures in a row that count."),
	}}
}

func wasmTable() *yamlfile.Table[Wasm] {
	commands := func(name string) yamlfile.Kind[[]Command] {
		return yamlfile.List(name, yamlfile.Deref(command("a command of "+name, false)))
	}
	return &yamlfile.Table[Wasm]{What: "wasm", Place: func(w *Wasm, pos graph.Pos) { w.Pos = pos }, Members: []yamlfile.Member[Wasm]{
		yamlfile.Key("target", yamlfile.Choice("wasm.target", "preview1", "preview2"), func(w *Wasm) **String { return &w.Target }, "WASI version: preview1 is a module, preview2 a component. By default what the language makes by itself."),
		yamlfile.Key("optimize", yamlfile.Boolean("optimize"), func(w *Wasm) *bool { return &w.Optimize }, "Build for release, and make the result smaller."),
		yamlfile.Key("opt_level", yamlfile.Choice("wasm.opt_level", "O", "Os", "Oz", "O2", "O3"), func(w *Wasm) **String { return &w.OptLevel }, "What to optimise for; Oz by default."),
		yamlfile.Key("language", yamlfile.Choice("wasm.language", "rust", "rust-component", "go", "tinygo", "python", "typescript", "javascript", "assemblyscript", "c", "zig"), func(w *Wasm) **String { return &w.Language }, "Language of the sources; found out by default."),
		yamlfile.Key("wit", yamlfile.Word("wit"), func(w *Wasm) **String { return &w.WIT }, "File or directory with WIT files; wit by default, if it is there."),
		yamlfile.Key("world", yamlfile.Word("world"), func(w *Wasm) **String { return &w.World }, "WIT world that the result conforms to: one of the WIT files, zlayer-plugin and its kind, wasi:cli/command or wasi:http/proxy."),
		yamlfile.Key("output", yamlfile.Word("output"), func(w *Wasm) **String { return &w.Output }, "File for the result, relative to the build context."),
		yamlfile.Key("features", yamlfile.List("features", yamlfile.Item("a feature", true)), func(w *Wasm) *[]String { return &w.Features }, "Features to enable."),
		yamlfile.Key("build_args", yamlfile.Mapping("build_args", yamlfile.VariableName), func(w *Wasm) *[]Pair { return &w.BuildArgs }, "Environment variables of the commands."),
		yamlfile.Key("pre_build", commands("pre_build"), func(w *Wasm) *[]Command { return &w.PreBuild }, "Commands to run before."),
		yamlfile.Key("post_build", commands("post_build"), func(w *Wasm) *[]Command { return &w.PostBuild }, "Commands to run after."),
		yamlfile.Key("adapter", yamlfile.Word("adapter"), func(w *Wasm) **String { return &w.Adapter }, "Makes a component of a module: an adapter in the build context, or command or reactor for the usual one."),
		yamlfile.Key("image", yamlfile.Word("image"), func(w *Wasm) **String { return &w.Image }, "Image with the toolchain."),
		yamlfile.Key("oci", yamlfile.Unless(yamlfile.Boolean("oci")), func(w *Wasm) *bool { return &w.NoOCI }, "Make an OCI artifact; true by default."),
	}}
}

// nested is a nested build in its long form, or its directory alone.
func nested(long yamlfile.Kind[*Build]) yamlfile.Kind[*Build] {
	short := yamlfile.Word("build")
	return yamlfile.Kind[*Build]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*Build, bool) {
			if yamlfile.Resolved(n).Kind != yaml.ScalarNode {
				return long.Decode(d, n)
			}
			dir, ok := short.Decode(d, n)
			return &Build{Pos: d.Pos(n), Dir: dir}, ok
		},
		Encode: func(b *Build) *yaml.Node {
			if b != nil && b.Dir != nil && b.File == nil && b.Target == nil && b.Args == nil {
				return short.Encode(b.Dir)
			}
			return long.Encode(b)
		},
		Schema: yamlfile.Schema{"oneOf": []any{short.Schema, long.Schema}},
	}
}

// stages is a mapping of names to stages, in the order of the file.
func stages(stage yamlfile.Kind[*Stage]) yamlfile.Kind[[]Stage] {
	return yamlfile.Kind[[]Stage]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) ([]Stage, bool) {
			m := d.Enter(n)
			if m == nil {
				return nil, false
			}
			defer d.Leave(n)
			out := []Stage{}
			if m.Kind != yaml.MappingNode {
				d.Errorf(d.Pos(n), "stages must be a mapping of names to stages, not %s", yamlfile.KindName(m))
				return nil, false
			}
			for _, e := range d.Entries(m) {
				name, ok := d.Scalar(e.Key, "the name of a stage")
				if !ok {
					continue
				}
				st := &Stage{}
				if !yamlfile.IsNull(yamlfile.Resolved(e.Val)) {
					st, ok = stage.Decode(d, e.Val)
				}
				if ok {
					st.Name, st.Pos = name.Value, name.Pos
					out = append(out, *st)
				}
			}
			return out, true
		},
		Encode: func(all []Stage) *yaml.Node {
			if all == nil {
				return nil
			}
			m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			for i := range all {
				m.Content = append(m.Content, yamlfile.TextNode(all[i].Name), stage.Encode(&all[i]))
			}
			return m
		},
		Schema: yamlfile.Schema{"type": "object", "minProperties": 1, "additionalProperties": stage.Schema},
	}
}

// named is a mount in its long form, or its id alone.
func named(long yamlfile.Kind[Mount]) yamlfile.Kind[Mount] {
	short := yamlfile.Word("id")
	return yamlfile.Kind[Mount]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (Mount, bool) {
			if yamlfile.Resolved(n).Kind != yaml.ScalarNode {
				return long.Decode(d, n)
			}
			id, ok := short.Decode(d, n)
			return Mount{Pos: d.Pos(n), ID: id}, ok
		},
		Encode: func(m Mount) *yaml.Node {
			if (m == Mount{Pos: m.Pos, ID: m.ID}) && m.ID != nil {
				return short.Encode(m.ID)
			}
			return long.Encode(m)
		},
		Schema: yamlfile.Schema{"oneOf": []any{short.Schema, long.Schema}},
	}
}

// agents are ssh agents: true, an id, a mapping, or a list of ids and mappings.
func agents(long yamlfile.Kind[Mount]) yamlfile.Kind[[]Mount] {
	one := named(long)
	many := yamlfile.List("ssh", one)
	return yamlfile.Kind[[]Mount]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) ([]Mount, bool) {
			r := yamlfile.Resolved(n)
			switch {
			case r.Kind == yaml.SequenceNode:
				return many.Decode(d, n)
			case r.Kind == yaml.ScalarNode && r.ShortTag() == "!!bool":
				if on, _ := yamlfile.Boolean("ssh").Decode(d, n); !on {
					return nil, true
				}
				return []Mount{{Pos: d.Pos(n)}}, true
			}
			m, ok := one.Decode(d, n)
			return []Mount{m}, ok
		},
		Encode: func(l []Mount) *yaml.Node {
			if len(l) == 1 && (l[0] == Mount{Pos: l[0].Pos}) {
				return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
			}
			return many.Encode(l)
		},
		Schema: yamlfile.Schema{"oneOf": []any{one.Schema.Without("boolean"), yamlfile.Schema{"type": "boolean"}, many.Schema}},
	}
}
