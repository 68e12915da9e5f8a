package dockerfile

import (
	"context"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/frontend"
)

func TestBuiltin(t *testing.T) {
	for ref, want := range map[string]bool{
		"docker/dockerfile:1":                         true,
		"docker/dockerfile:1.0":                       true,
		"docker/dockerfile:1.7":                       true,
		"docker/dockerfile:1.7.1":                     true,
		"docker.io/docker/dockerfile:1.28":            true,
		"index.docker.io/docker/dockerfile:1.28.0":    true,
		"docker/dockerfile:1.28.1":                    false,
		"docker/dockerfile:1.29":                      false,
		"docker/dockerfile:1.100":                     false,
		"docker/dockerfile:2":                         false,
		"docker/dockerfile:10":                        false,
		"docker/dockerfile:latest":                    false,
		"docker/dockerfile":                           false,
		"docker/dockerfile:1-labs":                    false,
		"docker/dockerfile:1.7-labs":                  false,
		"docker/dockerfile:1.07":                      false,
		"docker/dockerfile:1.":                        false,
		"docker/dockerfile:1.7.1.1":                   false,
		"docker/dockerfile-upstream:1.7":              false,
		"docker/dockerfile-upstream:master":           false,
		"example.com/docker/dockerfile:1":             false,
		"docker/dockerfile:1@sha256:" + zeros(64):     false,
		"docker/dockerfile@sha256:" + zeros(64):       false,
		"Not A Reference":                             false,
		"":                                            false,
		"docker/dockerfile:1.99999999999999999999999": false,
	} {
		if got := Builtin(ref); got != want {
			t.Errorf("Builtin(%q) = %v, want %v", ref, got, want)
		}
	}
}

func zeros(n int) string { return strings.Repeat("0", n) }

func TestForeignSyntaxIsForwarded(t *testing.T) {
	for name, c := range map[string]struct {
		text, arg string
		source    string
	}{
		"line":       {text: "# syntax=example.com/front:2 --x\nFROM scratch\n", source: "example.com/front:2"},
		"labs":       {text: "# syntax=docker/dockerfile:1-labs\nFROM scratch\n", source: "docker/dockerfile:1-labs"},
		"argument":   {text: "FROM scratch\n", arg: "example.com/front:3", source: "example.com/front:3"},
		"overrides":  {text: "# syntax=example.com/front:2\nFROM scratch\n", arg: "docker/dockerfile:1", source: ""},
		"slashes":    {text: "// syntax=example.com/front:4\nwhatever\n", source: "example.com/front:4"},
		"built in":   {text: "# syntax=docker/dockerfile:1.4\nFROM scratch\nCOPY Dockerfile /\n", source: ""},
		"none":       {text: "FROM scratch\nCOPY Dockerfile /\n", source: ""},
		"not a line": {text: "FROM scratch\n# syntax=example.com/front:2\nCOPY Dockerfile /\n", source: ""},
	} {
		t.Run(name, func(t *testing.T) {
			opts := map[string]string{}
			if c.arg != "" {
				opts[syntaxArg] = c.arg
			}
			gw := newGateway(t, map[string]string{"Dockerfile": c.text}, opts)
			if _, err := Build(context.Background(), gw); err != nil {
				t.Fatal(err)
			}
			solves := gw.(*frontend.Files).Client.(*gateway).solves
			if len(solves) != 1 {
				t.Fatalf("got %d solves, want 1", len(solves))
			}
			if got := solves[0].FrontendOpt["source"]; got != c.source {
				t.Errorf("forwarded to %q, want %q", got, c.source)
			}
			if c.source != "" && solves[0].Frontend != "gateway.v0" {
				t.Errorf("forwarded to frontend %q", solves[0].Frontend)
			}
		})
	}
}

func TestForwardedOnlyOnce(t *testing.T) {
	// A gateway that already runs us sets cmdline: obeying the line again would loop.
	gw := newGateway(t, map[string]string{"Dockerfile": "# syntax=example.com/front\nFROM scratch\nCOPY Dockerfile /\n"},
		map[string]string{"cmdline": "example.com/front", "source": "example.com/front"})
	if _, err := Build(context.Background(), gw); err != nil {
		t.Fatal(err)
	}
	if s := gw.(*frontend.Files).Client.(*gateway).solves; len(s) != 1 || s[0].Frontend != "" {
		t.Errorf("got %v", s)
	}
}
