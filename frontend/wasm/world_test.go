package wasm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func component(imports, exports []string) *Info {
	i := &Info{Kind: Component}
	for _, n := range imports {
		i.Imports = append(i.Imports, Extern{Name: n, Kind: "instance"})
	}
	for _, n := range exports {
		i.Exports = append(i.Exports, Extern{Name: n, Kind: "instance"})
	}
	return i
}

func TestKnownWorlds(t *testing.T) {
	for _, c := range []struct {
		world            string
		imports, exports []string
		want             string
	}{
		{"zlayer-http-handler", []string{"wasi:cli/stdout@0.2.3", "zlayer:plugin/config@0.1.0", "acme:x/y"}, []string{"wasi:http/incoming-handler@0.2.3"}, ""},
		{"zlayer:plugin/zlayer-http-handler@0.1.0", nil, []string{"wasi:http/incoming-handler@0.2.0"}, ""},
		{"zlayer-http-handler", []string{"zlayer:plugin/secrets@0.1.0"}, []string{"wasi:http/incoming-handler@0.2.3"}, "imports zlayer:plugin/secrets@0.1.0, which world zlayer-http-handler does not offer"},
		{"zlayer-http-handler", nil, []string{"wasi:http/incoming-handler@0.3.0"}, "does not export wasi:http/incoming-handler@0.2.0"},
		{"zlayer-http-handler", nil, []string{"wasi:http/incoming-handler@0.2.0-rc-2023-10-18"}, "does not export"},
		{"zlayer-plugin", []string{"zlayer:plugin/secrets@0.1.0", "zlayer:plugin/metrics@0.1.5"}, []string{"zlayer:plugin/handler@0.1.0"}, ""},
		{"zlayer-transformer", nil, []string{"zlayer:plugin/transformer@0.1.0"}, ""},
		{"zlayer-authenticator", nil, []string{"zlayer:plugin/authenticator@0.1.0"}, ""},
		{"zlayer-rate-limiter", nil, []string{"zlayer:plugin/rate-limiter@0.1.0"}, ""},
		{"zlayer-middleware", nil, []string{"zlayer:plugin/middleware@0.1.0"}, ""},
		{"zlayer-router", nil, nil, "does not export zlayer:plugin/router@0.1.0"},
		{"wasi:cli/command", nil, []string{"wasi:cli/run@0.2.12"}, ""},
		{"wasi:http/proxy@0.2.0", nil, []string{"wasi:cli/run@0.2.12"}, "does not export wasi:http/incoming-handler@0.2.0"},
	} {
		w, ok := KnownWorld(c.world)
		if !ok {
			t.Errorf("%s is not known", c.world)
			continue
		}
		err := w.Check(component(c.imports, c.exports))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.world, err, c.want)
		}
	}
	if _, ok := KnownWorld("zlayer-nothing"); ok {
		t.Error("zlayer-nothing is known")
	}
	w, _ := KnownWorld("zlayer-plugin")
	if err := w.Check(&Info{Kind: Module}); err == nil || !strings.Contains(err.Error(), "this is a module") {
		t.Errorf("a module: %v", err)
	}
	if len(KnownWorlds()) != 9 {
		t.Errorf("known worlds: %s", KnownWorlds())
	}
}

var witTree = tree{
	"wit/world.wit": `/* the /* nested */ comment */
package acme:app@1.2.3;

use wasi:http/types@0.2.0 as http;

/// a world
world app {
  include wasi:http/proxy@0.2.0;
  include base with { a as b }
  import log;
  @since(version = 1.0.0)
  import acme:store/kv@0.4.0;
  import now: func() -> u64;
  export %handler;
  export ping: async func(x: list<tuple<u8, string>>) -> result<_, string>;
  export admin: interface {
    use types.{a, b};
    stop: func();
  }
  use types.{request};
  record point { x: u32, y: u32 }
  type list-of = list<point>;
  resource blob { constructor(init: list<u8>); read: func(n: u32) -> list<u8>; }
  export last: func();
}
`,
	"wit/more.wit": "world base { export health; }\ninterface handler { use types.{request}; handle: func(r: request); }\ninterface log { log: func(m: string) }\n" +
		"interface types { record request { path: string } }\ninterface health {}\n",
	"wit/deps/http/proxy.wit": "package wasi:http@0.2.0;\nworld proxy { import types; export incoming-handler; }\ninterface types {}\ninterface incoming-handler {}\n",
	"wit/deps/store.wit":      "package acme:store@0.4.0;\ninterface kv {}\n",
	"one.wit":                 "package a:b;\nworld w { export run: func(); }\npackage c:d@1.0.0 { interface i {} world x {} }\n",
}

func TestWIT(t *testing.T) {
	w, err := ReadWIT(witTree.fs(), "wit")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"app", "base"}, w.Worlds()); diff != "" {
		t.Error(diff)
	}
	got, err := w.World("app")
	if err != nil {
		t.Fatal(err)
	}
	want := World{
		Name: "acme:app/app@1.2.3", Closed: true,
		Imports: []string{
			"acme:app/log@1.2.3", "acme:store/kv@0.4.0", "now", "wasi:http/types@0.2.0",
			"acme:app/handler@1.2.3", "acme:app/log@1.2.3", "acme:app/types@1.2.3", "acme:app/health@1.2.3",
			"wasi:http/types@0.2.0", "wasi:http/incoming-handler@0.2.0", "acme:store/kv@0.4.0",
		},
		Exports: []string{"acme:app/handler@1.2.3", "ping", "admin", "last", "wasi:http/incoming-handler@0.2.0", "acme:app/health@1.2.3"},
	}
	opts := cmp.Transformer("sets", func(l []string) map[string]int {
		m := map[string]int{}
		for _, s := range l {
			m[s]++
		}
		return m
	})
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := got.Check(component([]string{"acme:app/types@1.2.3", "wasi:cli/exit@0.2.0"}, got.Exports)); err != nil {
		t.Error(err)
	}
	if err := got.Check(component([]string{"acme:evil/x"}, got.Exports)); err == nil || !strings.Contains(err.Error(), "imports acme:evil/x") {
		t.Error(err)
	}
	if _, err := w.World(""); err == nil || !strings.Contains(err.Error(), "there are several worlds: name one of app, base") {
		t.Error(err)
	}
	if x, err := w.World("wasi:http/proxy@0.2.0"); err != nil || len(x.Exports) != 1 {
		t.Error(x, err)
	}
	if _, err := w.World("proxy"); err == nil || !strings.Contains(err.Error(), "there is no world proxy: there are app, base") {
		t.Error(err)
	}
	if w, err = ReadWIT(witTree.fs(), "one.wit"); err != nil {
		t.Fatal(err)
	}
	if x, err := w.World(""); err != nil || x.Name != "a:b/w" {
		t.Errorf("%v, %v", x, err)
	}
	if x, err := w.World("c:d/x@1.0.0"); err != nil || x.Name != "c:d/x@1.0.0" {
		t.Errorf("%v, %v", x, err)
	}
}

func TestWITMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"package a:b;\nworld x {", "w.wit:2:"},
		{"package a:b\nworld x {}", "w.wit:2:1: \";\" is expected before \"world\""},
		{"/* x", "w.wit:1:1: the comment does not end"},
		{"world x { }\n}", "w.wit:2:1: there is a } too many"},
		{"interface x", "\"{\" is missing"},
		{"interface x { record a {", "} is missing"},
		{"world x { @since(version", "the gate does not end"},
		{"package a:b;\nworld x { include nothing; }", "world nothing is not there"},
		{"package a:b;\nworld x { include x; }", "includes itself"},
		{"package a:b;", "has no worlds"},
	} {
		w, err := ReadWIT(tree{"w.wit": c.text}.fs(), "w.wit")
		if err == nil {
			_, err = w.World("")
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.text, err, c.want)
		}
	}
	if _, err := ReadWIT(tree{"wit/x.txt": ""}.fs(), "wit"); err == nil || !strings.Contains(err.Error(), "no WIT files in wit") {
		t.Error(err)
	}
}

// FuzzWIT: reading ends, and worlds that are found can be asked for.
func FuzzWIT(f *testing.F) {
	for _, text := range witTree {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ReadWIT(tree{"w.wit": text}.fs(), "w.wit")
		if err != nil {
			return
		}
		for _, name := range w.Worlds() {
			if _, err := w.find(name); err != nil {
				t.Fatalf("world %q: %v", name, err)
			}
		}
	})
}
