package zimage

import (
	"fmt"
	"strings"

	"github.com/zlayer-dev/zlayer/graph"
)

// head writes what comes before the steps.
func (c *converter) head(st *stageState, m *Meta) {
	c.env(st, m.Env)
	if m.Workdir != nil {
		c.workdir(st, m.Workdir)
	}
}

// env writes the variables as one instruction, so that all are expanded with what was before it.
func (c *converter) env(st *stageState, env []Pair) {
	st.scope.env(env)
	c.pairs(st, "ENV", env)
}

func (c *converter) workdir(st *stageState, dir *String) {
	st.scope.chdir(c, st, dir)
	if w, ok := c.word(st, *dir); ok {
		c.line(dir.Pos, "WORKDIR "+w)
	}
}

// pairs writes names and values as one instruction with a line for each.
func (c *converter) pairs(st *stageState, instruction string, pairs []Pair) {
	type row struct {
		pos  graph.Pos
		text string
	}
	var rows []row
	for _, p := range pairs {
		if v, ok := c.word(st, p.Value); ok {
			rows = append(rows, row{p.Key.Pos, dockerWord(literalParts(p.Key.Value)) + "=" + v})
		}
	}
	for i, r := range rows {
		text := instruction + " " + r.text
		if i > 0 {
			text = strings.Repeat(" ", len(instruction)+1) + r.text
		}
		if i < len(rows)-1 {
			text += ` \`
		}
		c.line(r.pos, text)
	}
}

// tail writes what comes after the steps.
func (c *converter) tail(st *stageState, m *Meta) {
	c.pairs(st, "LABEL", m.Labels)
	if len(m.Expose) > 0 {
		var ports []string
		for _, p := range m.Expose {
			ports = append(ports, p.Value)
		}
		c.line(m.Expose[0].Pos, "EXPOSE "+strings.Join(ports, " "))
	}
	if m.User != nil {
		c.user(st, m.User)
	}
	if len(m.Volumes) > 0 {
		var paths []string
		for _, v := range m.Volumes {
			paths = append(paths, c.literal(st, v.Value))
		}
		c.line(m.Volumes[0].Pos, "VOLUME "+jsonList(paths))
	}
	if m.Healthcheck != nil {
		c.healthcheck(m.Healthcheck)
	}
	if m.StopSignal != nil {
		c.line(m.StopSignal.Pos, "STOPSIGNAL "+m.StopSignal.Value)
	}
	if m.Entrypoint != nil {
		c.line(m.Entrypoint.Pos, "ENTRYPOINT "+oneLineCommand(m.Entrypoint, true))
	}
	if m.Cmd != nil {
		c.line(m.Cmd.Pos, "CMD "+oneLineCommand(m.Cmd, true))
	}
}

func (c *converter) user(st *stageState, user *String) {
	if w, ok := c.word(st, *user); ok {
		c.line(user.Pos, "USER "+w)
	}
}

func (c *converter) healthcheck(h *Healthcheck) {
	text := "HEALTHCHECK"
	for _, o := range []struct {
		flag string
		d    *Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start-period", h.StartPeriod}, {"start-interval", h.StartInterval}} {
		if o.d == nil {
			continue
		}
		if o.d.Length > 0 && o.d.Length < 1_000_000 {
			c.Errorf(o.d.Pos, "%s %s of a healthcheck is too short: the least is 1ms", o.flag, o.d.Value)
		}
		text += fmt.Sprintf(" --%s=%s", o.flag, o.d.Length)
	}
	if h.Retries != nil {
		text += " --retries=" + h.Retries.Value
	}
	c.line(h.Pos, text+" CMD "+oneLineCommand(h.Cmd, false))
}
