package dag

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// clone makes the command independent of the caller's slices.
func (c Command) clone() Command {
	c.Args, c.Mounts = slices.Clone(c.Args), slices.Clone(c.Mounts)
	return c
}

func (c Command) write(r *renderer) []string {
	parts := []string{"RUN"}
	for _, m := range c.Mounts {
		parts = append(parts, flag("mount", m.write(r)))
	}
	if c.Network != "" {
		parts = append(parts, flag("network", c.Network))
	}
	if c.Insecure {
		parts = append(parts, "--security=insecure")
	}
	head := strings.Join(parts, " ")
	if len(c.Args) > 0 {
		return []string{head + " " + jsonList(c.Args)}
	}
	text := strings.TrimSpace(c.Shell)
	if line := head + " " + text; oneLine(line, text, len(parts)-1) {
		return []string{line}
	}
	end := "EOF"
	for n := 2; slices.Contains(strings.Split(text, "\n"), end); n++ {
		end = "EOF" + strconv.Itoa(n)
	}
	return slices.Concat([]string{head + " <<" + end}, strings.Split(text, "\n"), []string{end})
}

// oneLine reports whether a line is read as a command for the shell that says just text.
// It is not where the text looks like another form of the instruction, or has a line
// break.
func oneLine(line, text string, flags int) bool {
	if strings.Contains(text, "\n") {
		return false
	}
	res, err := parser.Parse(strings.NewReader(line + "\n"))
	if err != nil || len(res.AST.Children) != 1 {
		return false
	}
	n := res.AST.Children[0]
	return len(n.Flags) == flags && !n.Attributes["json"] && len(n.Heredocs) == 0 && n.Next != nil && n.Next.Value == text && n.Next.Next == nil
}

func (m Mount) write(r *renderer) string {
	fields := []string{"type=" + string(m.kind())}
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, csvField(name, value))
		}
	}
	if !isNil(m.From) {
		fields = append(fields, "from="+r.name(m.From))
	}
	add("source", m.Source)
	add("target", m.Target)
	add("id", m.ID)
	add("sharing", m.Sharing)
	add("env", m.Env)
	add("mode", m.Mode)
	add("uid", m.UID)
	add("gid", m.GID)
	add("size", m.Size)
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Writable, "rw"}, {m.ReadOnly, "ro"}, {m.Required, "required"}} {
		if f.set {
			fields = append(fields, f.name)
		}
	}
	return strings.Join(fields, ",")
}

func (f Files) write(r *renderer) []string {
	download, ok := f.From.(httpSource)
	parts := []string{"COPY"}
	paths := append(slices.Clone(f.Src), f.Dest)
	switch {
	case ok:
		parts = []string{"ADD"}
		if download.file.Checksum != "" {
			parts = append(parts, flag("checksum", word(download.file.Checksum.String())))
		}
		paths = []string{download.file.URL, f.Dest}
	default:
		parts = append(parts, "--from="+r.name(f.From))
		if len(f.Src) == 0 {
			paths = []string{".", f.Dest}
		}
	}
	if f.Chown != "" {
		parts = append(parts, flag("chown", word(f.Chown)))
	}
	if f.Chmod != "" {
		parts = append(parts, flag("chmod", word(f.Chmod)))
	}
	if f.Link {
		parts = append(parts, "--link")
	}
	if f.Parents {
		parts = append(parts, "--parents")
	}
	for _, p := range f.Exclude {
		parts = append(parts, flag("exclude", p)) // not expanded
	}
	return []string{strings.Join(parts, " ") + " " + words(paths)}
}

func (e envStep) write(*renderer) []string {
	return []string{"ENV " + word(e.name) + "=" + word(e.value)}
}

func (w workdirStep) write(*renderer) []string { return []string{"WORKDIR " + word(w.dir)} }

func (u userStep) write(*renderer) []string { return []string{"USER " + word(u.user)} }

func (c Config) clone() Config {
	c.Labels = maps.Clone(c.Labels)
	c.Expose, c.Volumes = slices.Clone(c.Expose), slices.Clone(c.Volumes)
	c.Shell, c.Entrypoint, c.Cmd = slices.Clone(c.Shell), slices.Clone(c.Entrypoint), slices.Clone(c.Cmd)
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Args = slices.Clone(h.Args)
		c.Healthcheck = &h
	}
	return c
}

func (c Config) write(r *renderer) []string {
	var out []string
	if c.Shell != nil {
		out = append(out, "SHELL "+jsonList(c.Shell))
	}
	if len(c.Labels) > 0 {
		line := "LABEL"
		for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
			line += " " + word(k) + "=" + word(c.Labels[k])
		}
		out = append(out, line)
	}
	if len(c.Expose) > 0 {
		out = append(out, "EXPOSE "+strings.Join(c.Expose, " "))
	}
	if len(c.Volumes) > 0 {
		quoted := make([]string, len(c.Volumes))
		for i, v := range c.Volumes {
			quoted[i] = word(v)
		}
		out = append(out, "VOLUME "+jsonList(quoted))
	}
	if c.StopSignal != "" {
		out = append(out, "STOPSIGNAL "+word(c.StopSignal))
	}
	if c.Healthcheck != nil {
		line, err := c.Healthcheck.line()
		if err != nil {
			r.fail(err)
		}
		out = append(out, line)
	}
	if c.Entrypoint != nil {
		out = append(out, "ENTRYPOINT "+jsonList(c.Entrypoint))
	}
	if c.Cmd != nil {
		out = append(out, "CMD "+jsonList(c.Cmd))
	}
	return out
}

func (h Healthcheck) line() (string, error) {
	if h.none() {
		return "HEALTHCHECK NONE", nil
	}
	parts := []string{"HEALTHCHECK"}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start-period", h.StartPeriod}, {"start-interval", h.StartInterval}} {
		if d.value != 0 {
			parts = append(parts, flag(d.name, d.value.String()))
		}
	}
	if h.Retries > 0 {
		parts = append(parts, flag("retries", strconv.Itoa(h.Retries)))
	}
	parts = append(parts, "CMD")
	if len(h.Args) > 0 {
		return strings.Join(append(parts, jsonList(h.Args)), " "), nil
	}
	text := strings.TrimSpace(h.Shell)
	if strings.HasPrefix(text, "[") || strings.HasSuffix(text, `\`) {
		return "", errors.New("a health check for the shell begins with [ or ends in a backslash: give its shell and it as Args")
	}
	return strings.Join(append(parts, text), " "), nil
}
