package runtimes

import (
	"slices"
	"strings"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// windows is what the template of Windows is executed with.
type windows struct {
	*common
	// Kind is exe for a program that is there, dotnet or framework for one that has to be built.
	Kind    string
	Project string // the file to build
	// Exe is the program, or the name of the assembly.
	Exe string
	Web bool // it needs ASP.NET
}

// Nano tells whether the image is Nano Server.
func (w *windows) Nano() bool { return w.Runtime.Language == "nanoserver" }

var (
	targetFramework = lazyregexp.New(`<TargetFrameworks?>\s*([^<;\s]+)`)
	assemblyName    = lazyregexp.New(`<AssemblyName>\s*([A-Za-z0-9._-]+)\s*</AssemblyName>`)
	projectSDK      = lazyregexp.New(`<Project\s[^>]*Sdk\s*=\s*"([^"]+)"`)
	modernDotnet    = lazyregexp.New(`^net(?:coreapp)?(\d+\.\d+)`)
)

// windows looks at a project for Windows.
func (c *common) windows() (*windows, error) {
	w := &windows{common: c, Kind: "exe"}
	c.Version = defaultLTSC
	projects := c.withExt(".csproj")
	if w.Nano() || len(projects) == 0 {
		return w, w.program()
	}
	if len(projects) > 1 {
		c.note("there are %s: the first one is built", strings.Join(projects, ", "))
	}
	w.Project = projects[0]
	data, err := c.read(w.Project)
	if err != nil {
		return nil, err
	}
	w.Exe = w.Project[:len(w.Project)-len(".csproj")]
	if m := assemblyName().FindSubmatch(data); m != nil {
		w.Exe = string(m[1])
	}
	w.Kind = "framework"
	if m := targetFramework().FindSubmatch(data); m != nil {
		if v := modernDotnet().FindSubmatch(m[1]); v != nil {
			w.Kind, c.Version, c.VersionFrom = "dotnet", string(v[1]), w.Project
		}
	}
	if m := projectSDK().FindSubmatch(data); m != nil {
		w.Web = string(m[1]) == "Microsoft.NET.Sdk.Web"
	}
	return w, plain(w.Project, w.Exe)
}

// program chooses a program that has been built already.
func (w *windows) program() error {
	found := w.withExt(".exe")
	if len(found) == 0 {
		w.Exe = "app.exe"
		w.note("there is no program here: the image takes app.exe, which has to be built before")
		if len(w.withExt(".sln", ".vcxproj")) > 0 {
			w.note("C++ and solutions without a .csproj beside them cannot be built in a container without a licence for the tools: build before and copy")
		}
		return nil
	}
	w.Exe = found[0]
	if slices.Contains(found, "app.exe") {
		w.Exe = "app.exe"
	}
	if len(found) > 1 {
		w.note("there are %s: the image has %s only", strings.Join(found, ", "), w.Exe)
	}
	return plain(w.Exe)
}
