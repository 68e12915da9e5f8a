// Package zlayer has no code: the root of the module holds the test of its architecture only.
package zlayer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/zlayer-dev/zlayer"

// layers says for every layer (a folder and what lies below it, up to the next layer) which other
// layers it may import. A package that lies in none fails the test: it has to be given a place first.
// DESIGN.md has the picture.
var layers = map[string][]string{
	"internal/lazyregexp": nil,

	"graph":  nil,
	"source": {"graph", "internal/lazyregexp"},
	"store":  {"graph", "internal/lazyregexp"},

	"solver":      {"solver/memo", "graph", "internal/lazyregexp"},
	"solver/memo": {"graph"},

	"frontend":            {"source", "graph", "internal/lazyregexp"},
	"frontend/dockerfile": {"frontend", "source", "graph"},
	"frontend/zimage":     {"frontend", "source", "graph", "internal/lazyregexp"},
	"frontend/runtimes":   {"frontend", "graph", "internal/lazyregexp"},
	"frontend/wasm":       {"frontend", "source", "graph", "internal/lazyregexp"},
	"frontend/pipeline":   {"frontend", "source", "graph", "internal/lazyregexp"},

	"dag":           {"frontend", "graph", "internal/lazyregexp"},
	"engine":        {"engine/daemon", "dag", "frontend", "frontend/dockerfile", "frontend/zimage", "frontend/runtimes", "frontend/wasm", "frontend/pipeline", "solver", "solver/memo", "store", "source", "graph", "internal/lazyregexp"},
	"engine/daemon": {"graph"},
	"cmd":           {"engine", "engine/daemon", "solver", "store", "graph"},

	"integration": {"cmd", "engine", "dag", "engine/daemon", "frontend", "frontend/dockerfile", "frontend/zimage", "frontend/runtimes", "frontend/wasm", "frontend/pipeline", "solver", "solver/memo", "store", "source", "graph"},
	"bench":       {"integration", "engine", "dag", "engine/daemon", "frontend", "frontend/dockerfile", "frontend/zimage", "frontend/runtimes", "frontend/wasm", "frontend/pipeline", "solver", "solver/memo", "store", "source", "graph"},
	"examples":    {"engine", "dag"},
}

// thirdParty says of packages of others which folders alone may import them.
var thirdParty = map[string][]string{
	// independent failures are gathered in one place, see RATIONALE.md
	"github.com/hashicorp/go-multierror": {"solver", "engine"},
}

// pure is what graph may import: LLB is its language, and it reaches for nothing outside of the
// process.
var pure = struct{ buildkit, denied []string }{
	buildkit: []string{"github.com/moby/buildkit/client/llb", "github.com/moby/buildkit/solver/pb"},
	denied:   []string{"os", "net", "syscall", "io/ioutil", "math/rand", "crypto/rand", "path/filepath", "embed", "log", "runtime"},
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string
}

func TestImportsPointDown(t *testing.T) {
	packages := list(t)
	if len(packages) < 8 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, p := range packages {
		for _, err := range check(p) {
			t.Error(err)
		}
	}
}

// TestCheckFinds feeds check what it must find, so that the test above cannot go blind.
func TestCheckFinds(t *testing.T) {
	in := func(path string, imports ...string) pkg {
		for i, imp := range imports {
			if !strings.Contains(imp, ".") && !slices.Contains(pure.denied, imp) {
				imports[i] = module + "/" + imp
			}
		}
		return pkg{ImportPath: module + "/" + path, Imports: imports}
	}
	for _, c := range []struct {
		pkg  pkg
		want string // part of the message; "" is none
	}{
		{in("graph", "solver"), "graph must not import solver"},
		{in("graph", "os"), "graph must not import os"},
		{in("graph", "github.com/moby/buildkit/client"), "graph must not import github.com/moby/buildkit/client"},
		{in("graph", "github.com/moby/buildkit/client/llb"), ""},
		{in("graph/graphtest", "graph"), ""},
		{in("solver", "solver/memo"), ""},
		{in("solver", "store"), "solver must not import store"},
		{in("solver/memo", "solver"), "solver/memo must not import solver"},
		{in("store", "solver"), "store must not import solver"},
		{in("frontend", "frontend/dockerfile"), "frontend must not import frontend/dockerfile"},
		{in("frontend/dockerfile", "frontend/zimage"), "frontend/dockerfile must not import frontend/zimage"},
		{in("frontend/zimage", "frontend", "graph"), ""},
		{in("frontend/dockerfile", "engine"), "frontend/dockerfile must not import engine"},
		{in("engine", "engine/daemon", "frontend/dockerfile", "solver", "store"), ""},
		{in("engine/daemon", "engine"), "engine/daemon must not import engine"},
		{in("engine", "cmd/zlayer"), "engine must not import cmd/zlayer"},
		{in("engine", "integration/lab"), "engine must not import integration/lab"},
		{in("cmd/zlayer", "engine"), ""},
		{in("cmd/zlayer", "frontend/dockerfile"), "cmd/zlayer must not import frontend/dockerfile"},
		{in("solver", "github.com/hashicorp/go-multierror"), ""},
		{in("store", "github.com/hashicorp/go-multierror"), "store must not import github.com/hashicorp/go-multierror"},
		{in("util/strings"), "util/strings has no place"},
		{in("graphics", "graph"), "graphics has no place"},
	} {
		errs := check(c.pkg)
		switch {
		case c.want == "" && len(errs) > 0:
			t.Errorf("%s importing %q: got %v, want none", c.pkg.ImportPath, c.pkg.Imports, errs)
		case c.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want)):
			t.Errorf("%s importing %q: got %v, want %q", c.pkg.ImportPath, c.pkg.Imports, errs, c.want)
		}
	}
}

// list asks go for all packages of the module, without their tests: tests may import what they like.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var packages []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("reading go list: %v", err)
		}
		if p.ImportPath != module {
			packages = append(packages, p)
		}
	}
}

// check gives an error for every import of p that the tables do not allow.
func check(p pkg) []error {
	name := strings.TrimPrefix(p.ImportPath, module+"/")
	layer, ok := longest(layers, name)
	if !ok {
		return []error{fmt.Errorf("%s has no place: add its folder to layers in depcheck_test.go", name)}
	}
	var errs []error
	for _, imp := range p.Imports {
		if allowed(name, layer, imp) {
			continue
		}
		errs = append(errs, fmt.Errorf("%s must not import %s", name, strings.TrimPrefix(imp, module+"/")))
	}
	return errs
}

// allowed tells whether the package called name, which lies in the layer, may import imp.
func allowed(name, layer, imp string) bool {
	if inner, ok := strings.CutPrefix(imp, module+"/"); ok {
		other, ok := longest(layers, inner)
		return ok && (other == layer || slices.Contains(layers[layer], other))
	}
	if restriction, ok := longest(thirdParty, imp); ok {
		return slices.ContainsFunc(thirdParty[restriction], func(a string) bool { return within(name, a) })
	}
	return layer != "graph" || allowedPure(imp)
}

func allowedPure(imp string) bool {
	in := func(prefix string) bool { return within(imp, prefix) }
	if within(imp, "github.com/moby/buildkit") {
		return slices.ContainsFunc(pure.buildkit, in)
	}
	return !slices.ContainsFunc(pure.denied, in)
}

// within tells whether path is the folder or lies below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// longest finds the longest key of the table that path lies within.
func longest(table map[string][]string, path string) (string, bool) {
	best, found := "", false
	for folder := range table {
		if within(path, folder) && (!found || len(folder) > len(best)) {
			best, found = folder, true
		}
	}
	return best, found
}
