package runtimes

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// ErrNotDetected says that nothing in a project suggests a runtime.
var ErrNotDetected = errors.New("detecting the runtime: no manifest of a known language here; name one with --runtime (zlayer runtimes lists them)")

// Detection is what a project was found to be.
type Detection struct {
	// Runtime is what to build it with. Where the project asks for a release line that has no
	// runtime of its own, it is the newest template with Version set to that line.
	Runtime Runtime
	// Version is the version of the language that the project asks for, and VersionFrom where it
	// does; both are "" if it does not.
	Version, VersionFrom string
	// Reasons say in sentences what led to the runtime and its version.
	Reasons []string
	// Others are runtimes that the project could be built for, too, best first. They are a reason
	// to name the runtime instead of having it detected.
	Others []Candidate
}

// Candidate is a runtime that a project could be built for.
type Candidate struct {
	Runtime Runtime
	// Reason names the files that suggest it.
	Reason string
}

// Ambiguous tells whether the project could be built for another language as well.
func (d Detection) Ambiguous() bool { return len(d.Others) > 0 }

// Detect tells which runtime the project in a directory wants, by its manifests and lock files. The
// order is: WebAssembly, .NET, JavaScript (Bun, Deno, Node.js, or just files), Deno, Rust, Python,
// Go, static files, programs for Windows; the first one wins and the others are listed. It returns
// ErrNotDetected if there is none, and a graph.PosError if a manifest cannot be read.
func Detect(dir fs.FS) (Detection, error) {
	p := &project{fs: dir}
	found, err := p.candidates()
	if err != nil {
		return Detection{}, fmt.Errorf("detecting the runtime: %w", err)
	}
	if len(found) == 0 {
		return Detection{}, ErrNotDetected
	}
	d := Detection{Runtime: found[0].Runtime, Reasons: []string{found[0].Reason}, Others: found[1:]}
	h, err := p.versionHint(d.Runtime.Language)
	if err != nil {
		return Detection{}, fmt.Errorf("detecting the runtime: %w", err)
	}
	if h.version != "" {
		d.Version, d.VersionFrom = h.version, h.from
		verb := "asks for"
		if h.allowed {
			verb = "allows"
		}
		d.Reasons = append(d.Reasons, fmt.Sprintf("%s %s version %s", h.from, verb, h.version))
		d.version(h)
	}
	return d, nil
}

// version chooses the runtime of the release line.
func (d *Detection) version(h hint) {
	depth := strings.Count(d.Runtime.Version, ".") + 1
	v, _, ok := parseVersion(h.version)
	if d.Runtime.Version == "" || !ok || len(v) < depth {
		return
	}
	line := v.cut(depth).String()
	named := slices.ContainsFunc(ofLanguage(d.Runtime.Language), func(r Runtime) bool { return r.Version == line })
	d.Runtime = byLanguage(d.Runtime.Language, line)
	if !named {
		d.Reasons = append(d.Reasons, fmt.Sprintf("no runtime is named for version %s: the template of %s builds with it", line, d.Runtime.Name))
	}
}

// candidates lists the runtimes that the project suggests, best first and each language once.
func (p *project) candidates() ([]Candidate, error) {
	var found []Candidate
	add := func(r Runtime, reason string) {
		if reason != "" && !slices.ContainsFunc(found, func(c Candidate) bool { return c.Runtime.Language == r.Language }) {
			found = append(found, Candidate{r, reason})
		}
	}
	kind, reason, err := p.wasm()
	if err != nil {
		return nil, err
	}
	if kind != NotWASM {
		r := byLanguage("wasm", "")
		r.WASM = kind
		add(r, reason)
	}
	if p.has("project.json") {
		add(byLanguage("servercore", ""), there("project.json"))
	}
	add(byLanguage("servercore", ""), there(p.withExt(".sln", ".csproj", ".vcxproj")...))
	if p.has("package.json") {
		r, reason, err := p.javascript()
		if err != nil {
			return nil, err
		}
		add(r, reason)
	}
	add(byLanguage("deno", ""), there(p.present("deno.json", "deno.jsonc", "deno.lock")...))
	if kind == NotWASM || !p.has("Cargo.toml") {
		add(byLanguage("rust", ""), there(p.present("Cargo.toml")...))
	}
	add(byLanguage("python", defaultPython), there(p.present("pyproject.toml", "requirements.txt", "setup.py", "Pipfile", "poetry.lock", "uv.lock")...))
	add(byLanguage("go", ""), there(p.present("go.mod", "go.work")...))
	add(byLanguage("static", ""), there(p.present("index.html")...))
	add(byLanguage("nanoserver", ""), there(p.withExt(".exe")...))
	return found, nil
}

func there(files ...string) string {
	switch len(files) {
	case 0:
		return ""
	case 1:
		return "there is " + files[0]
	}
	return "there are " + strings.Join(files[:len(files)-1], ", ") + " and " + files[len(files)-1]
}

// javascript chooses between the runtimes that a package.json can mean.
func (p *project) javascript() (Runtime, string, error) {
	pkg, err := p.packageJSON()
	if err != nil {
		return Runtime{}, "", err
	}
	manager, _ := pkg.manager()
	if lock := p.first("bun.lock", "bun.lockb"); lock != "" {
		return byLanguage("bun", ""), there("package.json", lock), nil
	}
	if manager == "bun" {
		return byLanguage("bun", ""), "package.json names bun as package manager", nil
	}
	if conf := p.first("deno.json", "deno.jsonc"); conf != "" {
		return byLanguage("deno", ""), there("package.json", conf), nil
	}
	if tool, _ := p.siteBuilder(pkg); tool != "" {
		return byLanguage("static", ""), fmt.Sprintf("package.json builds files with %s and starts no server", tool), nil
	}
	return byLanguage("node", defaultNode), there("package.json"), nil
}

// wasm tells whether the project is built for WebAssembly.
func (p *project) wasm() (WASM, string, error) {
	if p.has("cargo-component.toml") {
		return WASMComponent, there("cargo-component.toml"), nil
	}
	cargo, err := p.cargoTOML("Cargo.toml")
	if err != nil {
		return NotWASM, "", err
	}
	if cargo != nil && cargo.Component {
		return WASMComponent, "Cargo.toml has a section for cargo-component", nil
	}
	if p.has("componentize-py.config") {
		return WASMComponent, there("componentize-py.config"), nil
	}
	pkg, err := p.packageJSON()
	if err != nil {
		return NotWASM, "", err
	}
	if pkg != nil && (pkg.depends("jco") || pkg.depends("@bytecodealliance/jco")) {
		return WASMComponent, "package.json depends on jco", nil
	}
	if cargo == nil {
		return NotWASM, "", nil
	}
	for _, f := range []string{".cargo/config.toml", ".cargo/config"} {
		data, err := p.read(f)
		if err != nil {
			return NotWASM, "", err
		}
		raw, err := parseTOML(f, data)
		if err != nil {
			return NotWASM, "", err
		}
		switch target := buildTarget(raw); target {
		case "wasm32-wasip1", "wasm32-wasi":
			return WASMModule, fmt.Sprintf("%s builds for %s", f, target), nil
		case "wasm32-wasip2":
			return WASMComponent, fmt.Sprintf("%s builds for %s", f, target), nil
		}
	}
	return NotWASM, "", nil
}

// buildTarget gives the target that a configuration of cargo builds for.
func buildTarget(config tomlTable) string {
	build := config.table("build")
	if list := build.texts("target"); len(list) == 1 {
		return list[0]
	}
	return build.text("target")
}
