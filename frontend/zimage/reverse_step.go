package zimage

import (
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/zlayer-dev/zlayer/graph"
)

// commandLine is a command in one of its forms; the text for the shell is not touched.
func (b *stageBuilder) commandLine(pos graph.Pos, c instructions.ShellDependantCmdLine) *Command {
	if !c.PrependShell {
		return &Command{Pos: pos, Exec: append([]string{}, c.CmdLine...)}
	}
	text := strings.Join(c.CmdLine, " ")
	if len(c.Files) > 0 {
		text = b.heredocs(pos, text, c.Files)
	}
	if strings.TrimSpace(text) == "" {
		b.Errorf(pos, "the command is empty")
	}
	return &Command{Pos: pos, Shell: text}
}

// heredocs gives the text that BuildKit hands to the shell.
func (b *stageBuilder) heredocs(pos graph.Pos, text string, files []instructions.ShellInlineFile) string {
	if parser.MustParseHeredoc(text) == nil {
		for _, f := range files {
			text += "\n" + f.Data + f.Name
		}
		return text
	}
	data := files[0].Data
	if files[0].Chomp {
		data = parser.ChompHeredocContent(data)
	}
	if strings.HasPrefix(data, "#!") {
		b.Errorf(pos, "a heredoc that names its interpreter cannot be said in a ZImagefile: call the interpreter in the command")
	}
	return data
}

func (b *stageBuilder) healthcheck(pos graph.Pos, c *instructions.HealthCheckCommand) {
	h := &Healthcheck{Pos: pos}
	switch test := c.Health.Test; test[0] {
	case "CMD-SHELL":
		h.Cmd = &Command{Pos: pos, Shell: strings.Join(test[1:], " ")}
	case "CMD":
		h.Cmd = &Command{Pos: pos, Exec: test[1:]}
	default:
		b.Errorf(pos, "HEALTHCHECK %s cannot be said in a ZImagefile", test[0])
		return
	}
	for _, d := range []struct {
		from time.Duration
		to   **Duration
	}{
		{c.Health.Interval, &h.Interval},
		{c.Health.Timeout, &h.Timeout},
		{c.Health.StartPeriod, &h.StartPeriod},
		{c.Health.StartInterval, &h.StartInterval},
	} {
		if d.from != 0 {
			*d.to = &Duration{String: String{Value: spellDuration(d.from), Pos: pos}, Length: d.from}
		}
	}
	if c.Health.Retries != 0 {
		h.Retries = &String{Value: strconv.Itoa(c.Health.Retries), Pos: pos}
	}
	b.Healthcheck = h
}

// spellDuration is the opposite of parseDuration.
func spellDuration(d time.Duration) string {
	var out []string
	for _, u := range []string{"h", "m", "s", "ms", "us", "ns"} {
		length, _ := unitLength(u)
		if n := d / length; n > 0 {
			out = append(out, strconv.FormatInt(int64(n), 10)+u)
			d -= n * length
		}
	}
	if out == nil {
		return "0"
	}
	return strings.Join(out, " ")
}

// files fills in what COPY and ADD have in common.
func (b *stageBuilder) files(pos graph.Pos, c instructions.SourcesAndDest, chown, chmod string) (Step, []String) {
	s := Step{Pos: pos}
	if len(c.SourceContents) > 0 {
		b.Errorf(pos, "a heredoc as a source cannot be said in a ZImagefile")
	}
	sources := []String{}
	for _, src := range c.SourcePaths {
		sources = append(sources, b.text(pos, src))
	}
	to := b.text(pos, c.DestPath)
	s.To = &to
	s.Owner = optional(b.literal(pos, "--chown", chown))
	s.Chmod = optional(b.literal(pos, "--chmod", chmod))
	return s, sources
}

// refuse notes the flags that ZImagefiles do not have.
func (b *stageBuilder) refuse(pos graph.Pos, flags map[string]bool) {
	for _, name := range []string{"link", "parents", "exclude", "checksum", "keep-git-dir", "unpack", "device"} {
		if flags[name] {
			b.Errorf(pos, "--%s cannot be said in a ZImagefile", name)
		}
	}
}

func (b *stageBuilder) copy(pos graph.Pos, c *instructions.CopyCommand) {
	b.refuse(pos, map[string]bool{"link": c.Link, "parents": c.Parents, "exclude": len(c.ExcludePatterns) > 0})
	s, sources := b.files(pos, c.SourcesAndDest, c.Chown, c.Chmod)
	if c.From != "" {
		from, stage := b.source(c.From)
		s.From = &String{Value: from, Pos: pos}
		if stage >= 0 {
			// In a Dockerfile, paths in stages start at the root.
			for i := range sources {
				if v := sources[i].Value; !absolute(v, b.windows[stage]) {
					sources[i].Value = "/" + v
				}
			}
		}
	}
	s.Copy = sources
	b.step(s)
}

// source is what a --from names, and the number of the stage if that is one, else -1.
func (b *stageBuilder) source(from string) (string, int) {
	if i, err := strconv.Atoi(from); err == nil && i >= 0 && i < b.index {
		return b.names[i], i
	}
	for i, name := range b.names[:b.index] {
		if strings.EqualFold(name, from) {
			return name, i
		}
	}
	return from, -1
}

func (b *stageBuilder) add(pos graph.Pos, c *instructions.AddCommand) {
	b.refuse(pos, map[string]bool{
		"link": c.Link, "exclude": len(c.ExcludePatterns) > 0, "checksum": c.Checksum != "",
		"keep-git-dir": c.KeepGitDir != nil, "unpack": c.Unpack != nil,
	})
	s, sources := b.files(pos, c.SourcesAndDest, c.Chown, c.Chmod)
	s.Add = sources
	b.step(s)
}

func (b *stageBuilder) run(pos graph.Pos, c *instructions.RunCommand) {
	s := Step{Pos: pos}
	// The values of mounts are there only when they have been expanded.
	if err := c.Expand(func(word string) (string, error) {
		return b.literal(pos, "--mount", word).Value, nil
	}); err != nil {
		b.Fail(pos, err)
		return
	}
	b.refuse(pos, map[string]bool{"device": len(instructions.GetDevices(c)) > 0})
	for _, m := range instructions.GetMounts(c) {
		b.mount(pos, &s, m)
	}
	if n := instructions.GetNetwork(c); n != instructions.NetworkDefault {
		s.Network = &String{Value: n, Pos: pos}
	}
	if n := instructions.GetSecurity(c); n != instructions.SecuritySandbox {
		s.Security = &String{Value: n, Pos: pos}
	}
	s.Run = b.commandLine(pos, c.ShellDependantCmdLine)
	b.step(s)
}

// mount adds a mount of a RUN to the list where ZImagefiles have it.
func (b *stageBuilder) mount(pos graph.Pos, s *Step, m *instructions.Mount) {
	str := func(v string) *String { return optional(String{Value: v, Pos: pos}) }
	number := func(v *uint64, base int) *String {
		if v == nil {
			return nil
		}
		text := strconv.FormatUint(*v, base)
		if base == 8 {
			text = "0" + text
		}
		return str(text)
	}
	out := Mount{
		Pos: pos, Target: str(m.Target), Source: str(m.Source), ID: str(m.CacheID), Required: m.Required,
		Mode: number(m.Mode, 8), UID: number(m.UID, 10), GID: number(m.GID, 10),
	}
	if m.From != "" {
		from, _ := b.source(m.From)
		out.From = str(from)
	}
	if m.Env != nil {
		out.Env = str(*m.Env)
	}
	switch m.Type {
	case instructions.MountTypeCache:
		out.ReadOnly, out.Sharing = m.ReadOnly, str(string(m.CacheSharing))
		if out.Sharing == nil {
			out.Sharing = str("shared") // Docker's default, which is not ours
		}
		if out.From == nil && out.Source == nil && out.Mode == nil && out.UID == nil && out.GID == nil {
			s.Cache = append(s.Cache, out)
			return
		}
	case instructions.MountTypeSecret:
		if out.ID == nil {
			out.ID, out.Source = out.Source, nil
		}
		if out.ID == nil && out.Target != nil {
			out.ID = str(m.Target[strings.LastIndexByte(m.Target, '/')+1:])
		}
		s.Secrets = append(s.Secrets, out)
		return
	case instructions.MountTypeSSH:
		s.SSH = append(s.SSH, out)
		return
	case instructions.MountTypeBind:
		out.ReadWrite = !m.ReadOnly
	case instructions.MountTypeTmpfs:
		if m.SizeLimit > 0 {
			out.Size = str(strconv.FormatInt(m.SizeLimit, 10))
		}
	}
	out.Type = str(string(m.Type))
	s.Mounts = append(s.Mounts, out)
}
