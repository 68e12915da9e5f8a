package zimage

import (
	"gopkg.in/yaml.v3"
)

// worlds are the WIT worlds that a WASM build may target.
func worlds() []string {
	return []string{
		"zlayer-plugin", "zlayer-http-handler", "zlayer-transformer", "zlayer-authenticator",
		"zlayer-rate-limiter", "zlayer-middleware", "zlayer-router",
		"wasi:cli/command", "wasi:http/proxy",
	}
}

// fileTable describes a whole ZImagefile. Everything that is known about keys hangs off it.
func fileTable() *table[File] {
	steps := list("steps", deref(object(stepTable())))
	build := nested(object(buildTable()))
	t := &table[File]{what: "a ZImagefile", members: []member[File]{
		key("version", choice("version", "1"), func(f *File) **String { return &f.Version },
			"Version of the format; only \"1\" exists."),
		key("runtime", word("runtime"), func(f *File) **String { return &f.Runtime },
			"Name of a runtime template to build with, like node22 or go. The metadata of the file is applied on top."),
		key("base", word("base"), func(f *File) **String { return &f.Base },
			"Image to start from, or scratch. Variables of args are expanded."),
		key("build", build, func(f *File) **Build { return &f.Build },
			"Directory with a build file of its own whose image to start from."),
		key("platform", word("platform"), func(f *File) **String { return &f.Platform },
			"Platform to build for, like linux/arm64."),
		key("os", choice("os", "linux", "windows"), func(f *File) **String { return &f.OS },
			"Operating system to build for."),
		key("args", mapping("args", variableName), func(f *File) *[]Pair { return &f.Args },
			"Build arguments with their defaults; an empty default is none. They can be used in base."),
		key("stages", stages(object(stageTable(steps, build))), func(f *File) *[]Stage { return &f.Stages },
			"Stages by name. The last one is the result."),
		key("wasm", object(wasmTable()), func(f *File) **Wasm { return &f.Wasm },
			"Build a WebAssembly component or module."),
	}}
	t.members = append(t.members, metaMembers(func(f *File) *Meta { return &f.Meta })...)
	t.insertAfter("workdir", key("steps", steps, func(f *File) *[]Step { return &f.Steps },
		"What to do to the base, in order."))
	mode := []any{}
	for _, name := range []string{"runtime", "base", "build", "stages", "wasm"} {
		mode = append(mode, schema{"required": []any{name}})
	}
	t.rules = schema{"oneOf": mode}
	return t
}

// stageTable describes an entry of stages.
func stageTable(steps kind[[]Step], build kind[*Build]) *table[Stage] {
	t := &table[Stage]{what: "a stage", members: []member[Stage]{
		key("base", word("base"), func(s *Stage) **String { return &s.Base },
			"Image or earlier stage to start from, or scratch."),
		key("build", build, func(s *Stage) **Build { return &s.Build },
			"Directory with a build file of its own whose image to start from."),
		key("platform", word("platform"), func(s *Stage) **String { return &s.Platform },
			"Platform of the stage's base, like linux/arm64 or $BUILDPLATFORM."),
		key("os", choice("os", "linux", "windows"), func(s *Stage) **String { return &s.OS },
			"Operating system of the stage."),
		key("args", mapping("args", variableName), func(s *Stage) *[]Pair { return &s.Args },
			"Build arguments that the stage uses; an empty default is that of the file's args."),
	}}
	t.members = append(t.members, metaMembers(func(s *Stage) *Meta { return &s.Meta })...)
	t.insertAfter("workdir", key("steps", steps, func(s *Stage) *[]Step { return &s.Steps },
		"What to do to the base, in order."))
	t.rules = schema{"oneOf": []any{schema{"required": []any{"base"}}, schema{"required": []any{"build"}}}}
	return t
}

// insertAfter adds a member behind the one of the name.
func (t *table[O]) insertAfter(name string, m member[O]) {
	for i := range t.members {
		if t.members[i].name == name {
			t.members = append(t.members[:i+1], append([]member[O]{m}, t.members[i+1:]...)...)
			return
		}
	}
	panic("zimage: no member " + name)
}

// metaMembers are the keys that files and stages share.
func metaMembers[O any](at func(*O) *Meta) []member[O] {
	return []member[O]{
		key("env", mapping("env", variableName), func(o *O) *[]Pair { return &at(o).Env },
			"Environment variables of the image."),
		key("workdir", word("workdir"), func(o *O) **String { return &at(o).Workdir },
			"Working directory of the steps and of the image."),
		key("labels", mapping("labels", labelName), func(o *O) *[]Pair { return &at(o).Labels },
			"Labels of the image."),
		key("expose", ports(), func(o *O) *[]String { return &at(o).Expose },
			"Ports that the image listens on: numbers, or NUMBER/udp."),
		key("user", word("user"), func(o *O) **String { return &at(o).User },
			"User, and group after a colon, that the image runs as. Steps run as the base's user."),
		key("volumes", list("volumes", item("a volume", true)), func(o *O) *[]String { return &at(o).Volumes },
			"Paths that hold data."),
		key("healthcheck", object(healthcheckTable()), func(o *O) **Healthcheck { return &at(o).Healthcheck },
			"How to find out whether a container is well."),
		key("stopsignal", word("stopsignal"), func(o *O) **String { return &at(o).StopSignal },
			"Signal that asks the container to stop."),
		key("entrypoint", command("entrypoint", true), func(o *O) **Command { return &at(o).Entrypoint },
			"Program of the image: a text for the shell, or a list. An empty list removes the base's."),
		key("cmd", command("cmd", true), func(o *O) **Command { return &at(o).Cmd },
			"Default command, or arguments of the entrypoint: a text for the shell, or a list."),
	}
}

// stepTable describes an entry of steps.
func stepTable() *table[Step] {
	words := func(name string) kind[[]String] { return oneOrMore(name) }
	t := &table[Step]{what: "a step", members: []member[Step]{
		key("run", command("run", false), func(s *Step) **Command { return &s.Run },
			"Command to run: a text for the shell, or a list."),
		key("copy", words("copy"), func(s *Step) *[]String { return &s.Copy },
			"Paths to copy from the build context, or from what \"from\" names."),
		key("add", words("add"), func(s *Step) *[]String { return &s.Add },
			"Paths or addresses to add; archives are unpacked."),
		key("env", mapping("env", variableName), func(s *Step) *[]Pair { return &s.Env },
			"Environment variables from here on; beside run, for that command only."),
		key("workdir", word("workdir"), func(s *Step) **String { return &s.Workdir },
			"Working directory from here on."),
		key("user", word("user"), func(s *Step) **String { return &s.User },
			"User from here on."),
		key("to", word("to"), func(s *Step) **String { return &s.To },
			"Where copy and add put the files."),
		key("from", word("from"), func(s *Step) **String { return &s.From },
			"Stage or image to copy from. Relative paths start at the working directory of the stage."),
		key("owner", word("owner"), func(s *Step) **String { return &s.Owner },
			"Owner of the copied files: USER[:GROUP]."),
		key("chmod", fileMode("chmod"), func(s *Step) **String { return &s.Chmod },
			"Permissions of the copied files, like 0755 or u+x."),
		key("cache", list("cache", deref(object(cacheTable()))), func(s *Step) *[]Mount { return &s.Cache },
			"Directories that are kept between builds."),
		key("mounts", list("mounts", deref(object(mountTable()))), func(s *Step) *[]Mount { return &s.Mounts },
			"Other mounts for the command."),
		key("secrets", list("secrets", named(deref(object(secretTable())))), func(s *Step) *[]Mount { return &s.Secrets },
			"Secrets for the command: ids, or mappings."),
		key("ssh", agents(deref(object(agentTable()))), func(s *Step) *[]Mount { return &s.SSH },
			"SSH agents for the command: true for the default one, ids, or mappings."),
		key("network", choice("network", "default", "none", "host"), func(s *Step) **String { return &s.Network },
			"Network of the command."),
		key("security", choice("security", "sandbox", "insecure"), func(s *Step) **String { return &s.Security },
			"Whether the command runs with all capabilities."),
	}}
	t.rules = stepRules()
	return t
}

// stepRules are the schema's conditions on steps: one action, and modifiers only beside it.
func stepRules() schema {
	required := func(names ...string) schema {
		l := []any{}
		for _, n := range names {
			l = append(l, n)
		}
		return schema{"required": l}
	}
	none := func(names ...string) schema {
		l := []any{}
		for _, n := range names {
			l = append(l, required(n))
		}
		return schema{"not": schema{"anyOf": l}}
	}
	run := []string{"cache", "mounts", "secrets", "ssh", "network", "security"}
	files := []string{"to", "from", "owner", "chmod"}
	with := func(s schema, not ...[]string) schema {
		var names []string
		for _, n := range not {
			names = append(names, n...)
		}
		return schema{"allOf": []any{s, none(names...)}}
	}
	return schema{"oneOf": []any{
		with(required("run"), files, []string{"copy", "add", "workdir", "user"}),
		with(required("copy", "to"), run, []string{"run", "add", "env", "workdir", "user"}),
		with(required("add", "to"), run, []string{"run", "copy", "env", "workdir", "user", "from"}),
		with(required("env"), run, files, []string{"run", "copy", "add", "workdir", "user"}),
		with(required("workdir"), run, files, []string{"run", "copy", "add", "env", "user"}),
		with(required("user"), run, files, []string{"run", "copy", "add", "env", "workdir"}),
	}}
}

const sharingDoc = "Who may use the directory at the same time: locked (one command after the other, the default), shared, or private."

func cacheTable() *table[Mount] {
	return &table[Mount]{what: "a cache", members: []member[Mount]{
		must(key("target", word("target"), func(m *Mount) **String { return &m.Target }, "Path in the stage.")),
		key("id", word("id"), func(m *Mount) **String { return &m.ID }, "Name of the cache; the path by default."),
		key("sharing", choice("sharing", "locked", "shared", "private"), func(m *Mount) **String { return &m.Sharing }, sharingDoc),
		key("readonly", boolean("readonly"), func(m *Mount) *bool { return &m.ReadOnly }, "The command must not write to it."),
	}}
}

func mountTable() *table[Mount] {
	return &table[Mount]{what: "a mount", members: []member[Mount]{
		must(key("type", choice("type", "bind", "cache", "tmpfs"), func(m *Mount) **String { return &m.Type }, "Kind of mount.")),
		must(key("target", word("target"), func(m *Mount) **String { return &m.Target }, "Path in the stage.")),
		key("from", word("from"), func(m *Mount) **String { return &m.From }, "Stage or image that is mounted; the build context by default. Paths in it start at its root."),
		key("source", word("source"), func(m *Mount) **String { return &m.Source }, "Path in what is mounted."),
		key("id", word("id"), func(m *Mount) **String { return &m.ID }, "Name of the cache; the path by default."),
		key("sharing", choice("sharing", "locked", "shared", "private"), func(m *Mount) **String { return &m.Sharing }, sharingDoc),
		key("size", word("size"), func(m *Mount) **String { return &m.Size }, "Limit of a tmpfs, like 64m."),
		key("readonly", boolean("readonly"), func(m *Mount) *bool { return &m.ReadOnly }, "The command must not write to it. Binds are read-only by default."),
		key("readwrite", boolean("readwrite"), func(m *Mount) *bool { return &m.ReadWrite }, "The command may write to a bind; what it writes is dropped."),
		key("mode", octal("mode"), func(m *Mount) **String { return &m.Mode }, "Permissions of a new cache."),
		key("uid", natural("uid"), func(m *Mount) **String { return &m.UID }, "Owner of a new cache."),
		key("gid", natural("gid"), func(m *Mount) **String { return &m.GID }, "Group of a new cache."),
	}, rules: schema{}}
}

func secretTable() *table[Mount] {
	return &table[Mount]{what: "a secret", members: append([]member[Mount]{
		must(key("id", word("id"), func(m *Mount) **String { return &m.ID }, "Id of the secret.")),
		key("target", word("target"), func(m *Mount) **String { return &m.Target }, "File with the secret; /run/secrets/ID by default."),
		key("env", word("env"), func(m *Mount) **String { return &m.Env }, "Variable with the secret."),
	}, ownership()...)}
}

func agentTable() *table[Mount] {
	return &table[Mount]{what: "an ssh agent", members: append([]member[Mount]{
		key("id", word("id"), func(m *Mount) **String { return &m.ID }, "Id of the agent."),
		key("target", word("target"), func(m *Mount) **String { return &m.Target }, "Path of the socket."),
	}, ownership()...)}
}

func ownership() []member[Mount] {
	return []member[Mount]{
		key("required", boolean("required"), func(m *Mount) *bool { return &m.Required }, "The build fails without it."),
		key("mode", octal("mode"), func(m *Mount) **String { return &m.Mode }, "Permissions of the file."),
		key("uid", natural("uid"), func(m *Mount) **String { return &m.UID }, "Owner of the file."),
		key("gid", natural("gid"), func(m *Mount) **String { return &m.GID }, "Group of the file."),
	}
}

func buildTable() *table[Build] {
	dir := key("workdir", word("workdir"), func(b *Build) **String { return &b.Dir }, "Directory, relative to the build context.")
	dir.alias = "context"
	return &table[Build]{what: "a nested build", members: []member[Build]{
		dir,
		key("file", word("file"), func(b *Build) **String { return &b.File }, "Build file, relative to the directory."),
		key("target", word("target"), func(b *Build) **String { return &b.Target }, "Stage that is the result."),
		key("args", mapping("args", variableName), func(b *Build) *[]Pair { return &b.Args }, "Build arguments."),
	}}
}

func healthcheckTable() *table[Healthcheck] {
	return &table[Healthcheck]{what: "a healthcheck", members: []member[Healthcheck]{
		must(key("cmd", command("cmd", false), func(h *Healthcheck) **Command { return &h.Cmd }, "Command that fails if the container is not well.")),
		key("interval", duration("healthcheck interval"), func(h *Healthcheck) **Duration { return &h.Interval }, "Time between checks, like 30s."),
		key("timeout", duration("healthcheck timeout"), func(h *Healthcheck) **Duration { return &h.Timeout }, "Time that a check may take."),
		key("start_period", duration("healthcheck start_period"), func(h *Healthcheck) **Duration { return &h.StartPeriod }, "Time that the container has to start."),
		key("start_interval", duration("healthcheck start_interval"), func(h *Healthcheck) **Duration { return &h.StartInterval }, "Time between checks while it starts."),
		key("retries", natural("retries"), func(h *Healthcheck) **String { return &h.Retries }, "Failures in a row that count."),
	}}
}

func wasmTable() *table[Wasm] {
	commands := func(name string) kind[[]Command] {
		return list(name, deref(command("a command of "+name, false)))
	}
	return &table[Wasm]{what: "wasm", members: []member[Wasm]{
		key("target", choice("wasm.target", "preview1", "preview2"), func(w *Wasm) **String { return &w.Target }, "WASI version; preview2 by default."),
		key("optimize", boolean("optimize"), func(w *Wasm) *bool { return &w.Optimize }, "Build for release."),
		key("opt_level", choice("wasm.opt_level", "O", "Os", "Oz", "O2", "O3"), func(w *Wasm) **String { return &w.OptLevel }, "What to optimise for; Oz by default."),
		key("language", choice("wasm.language", "rust", "go", "python", "typescript", "assemblyscript", "c", "zig"), func(w *Wasm) **String { return &w.Language }, "Language of the sources; found out by default."),
		key("wit", word("wit"), func(w *Wasm) **String { return &w.WIT }, "Directory with WIT files."),
		key("world", choice("wasm.world", worlds()...), func(w *Wasm) **String { return &w.World }, "WIT world that is targeted."),
		key("output", word("output"), func(w *Wasm) **String { return &w.Output }, "File for the result."),
		key("features", list("features", item("a feature", true)), func(w *Wasm) *[]String { return &w.Features }, "Features to enable."),
		key("build_args", mapping("build_args", variableName), func(w *Wasm) *[]Pair { return &w.BuildArgs }, "Environment variables of the commands."),
		key("pre_build", commands("pre_build"), func(w *Wasm) *[]Command { return &w.PreBuild }, "Commands to run before."),
		key("post_build", commands("post_build"), func(w *Wasm) *[]Command { return &w.PostBuild }, "Commands to run after."),
		key("adapter", word("adapter"), func(w *Wasm) **String { return &w.Adapter }, "Adapter from preview1 to preview2."),
		key("oci", unless(boolean("oci")), func(w *Wasm) *bool { return &w.NoOCI }, "Make an OCI artifact; true by default."),
	}}
}

// nested is a nested build in its long form, or its directory alone.
func nested(long kind[*Build]) kind[*Build] {
	short := word("build")
	return kind[*Build]{
		decode: func(d *decoder, n *yaml.Node) (*Build, bool) {
			if resolved(n).Kind != yaml.ScalarNode {
				return long.decode(d, n)
			}
			dir, ok := short.decode(d, n)
			return &Build{Pos: d.pos(n), Dir: dir}, ok
		},
		encode: func(b *Build) *yaml.Node {
			if b != nil && b.Dir != nil && b.File == nil && b.Target == nil && b.Args == nil {
				return short.encode(b.Dir)
			}
			return long.encode(b)
		},
		schema: schema{"oneOf": []any{short.schema, long.schema}},
	}
}

// stages is a mapping of names to stages, in the order of the file.
func stages(stage kind[*Stage]) kind[[]Stage] {
	return kind[[]Stage]{
		decode: func(d *decoder, n *yaml.Node) ([]Stage, bool) {
			m := d.enter(n)
			if m == nil {
				return nil, false
			}
			defer d.leave(n)
			out := []Stage{}
			if m.Kind != yaml.MappingNode {
				d.errorf(d.pos(n), "stages must be a mapping of names to stages, not %s", kindName(m))
				return nil, false
			}
			for _, e := range d.entries(m) {
				name, ok := d.scalar(e.key, "the name of a stage")
				if !ok {
					continue
				}
				st := &Stage{}
				if !isNull(resolved(e.val)) {
					st, ok = stage.decode(d, e.val)
				}
				if ok {
					st.Name, st.Pos = name.Value, name.Pos
					out = append(out, *st)
				}
			}
			return out, true
		},
		encode: func(all []Stage) *yaml.Node {
			if all == nil {
				return nil
			}
			m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			for i := range all {
				m.Content = append(m.Content, textNode(all[i].Name), stage.encode(&all[i]))
			}
			return m
		},
		schema: schema{"type": "object", "minProperties": 1, "additionalProperties": stage.schema},
	}
}

// named is a mount in its long form, or its id alone.
func named(long kind[Mount]) kind[Mount] {
	short := word("id")
	return kind[Mount]{
		decode: func(d *decoder, n *yaml.Node) (Mount, bool) {
			if resolved(n).Kind != yaml.ScalarNode {
				return long.decode(d, n)
			}
			id, ok := short.decode(d, n)
			return Mount{Pos: d.pos(n), ID: id}, ok
		},
		encode: func(m Mount) *yaml.Node {
			if (m == Mount{Pos: m.Pos, ID: m.ID}) && m.ID != nil {
				return short.encode(m.ID)
			}
			return long.encode(m)
		},
		schema: schema{"oneOf": []any{short.schema, long.schema}},
	}
}

// agents are ssh agents: true, an id, a mapping, or a list of ids and mappings.
func agents(long kind[Mount]) kind[[]Mount] {
	one := named(long)
	many := list("ssh", one)
	return kind[[]Mount]{
		decode: func(d *decoder, n *yaml.Node) ([]Mount, bool) {
			r := resolved(n)
			switch {
			case r.Kind == yaml.SequenceNode:
				return many.decode(d, n)
			case r.Kind == yaml.ScalarNode && r.ShortTag() == "!!bool":
				if on, _ := boolean("ssh").decode(d, n); !on {
					return nil, true
				}
				return []Mount{{Pos: d.pos(n)}}, true
			}
			m, ok := one.decode(d, n)
			return []Mount{m}, ok
		},
		encode: func(l []Mount) *yaml.Node {
			if len(l) == 1 && (l[0] == Mount{Pos: l[0].Pos}) {
				return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
			}
			return many.encode(l)
		},
		schema: schema{"oneOf": []any{one.schema.without("boolean"), schema{"type": "boolean"}, many.schema}},
	}
}
