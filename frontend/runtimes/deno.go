package runtimes

import (
	"path"
	"slices"
	"strings"
)

// deno is what the template of Deno is executed with.
type deno struct {
	*common
	Entry  string // the file that is run
	Frozen bool   // there is a lock file
}

// deno looks at a project of Deno.
func (c *common) deno() (*deno, error) {
	d := &deno{common: c, Frozen: c.has("deno.lock")}
	conf := &denoJSON{}
	name := c.first("deno.json", "deno.jsonc")
	if name != "" {
		data, err := c.read(name)
		if err != nil {
			return nil, err
		}
		if conf, err = parseDenoJSON(name, data); err != nil {
			return nil, err
		}
	}
	if !d.Frozen {
		c.note("there is no deno.lock: each build may use other versions; run deno install")
	}
	d.command(conf)
	return d, plain(d.Entry)
}

// command finds out what starts the program.
func (d *deno) command(conf *denoJSON) {
	names := append(slices.Clone(conf.Exports), "main.ts", "server.ts", "index.ts", "app.ts", "src/main.ts", "src/server.ts",
		"main.tsx", "main.js", "server.js", "index.js", "mod.ts")
	for i, n := range names {
		names[i] = path.Clean(n)
	}
	d.Entry = d.first(names...)
	start := conf.Tasks["start"]
	words := strings.Fields(start)
	switch {
	case len(words) > 2 && words[0] == "deno" && (words[1] == "run" || words[1] == "serve") && plainCommand(start):
		d.Cmd = words[1:]
		if file := path.Clean(words[len(words)-1]); d.has(file) {
			d.Entry = file
		}
	case start != "":
		d.Cmd = []string{"task", "start"}
	}
	if d.Entry == "" {
		d.Entry = "main.ts"
		if d.Cmd == nil {
			d.note("there is no start task and no main.ts: the image runs main.ts, which is not there")
		}
	}
	if d.Cmd == nil {
		d.Cmd = []string{"run", "--allow-net", "--allow-read", "--allow-env", d.Entry}
	}
}
