package wasm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// World is what a component may import and has to export.
type World struct {
	Name string
	// Imports are the interfaces and functions that the world offers. Interfaces of WASI are offered
	// by every host and need not be listed.
	Imports []string
	// Exports are what a component of the world has to export.
	Exports []string
	// Closed says that Imports are all there are beside WASI. Otherwise only Denied ones are missing.
	Closed bool
	Denied []string
}

const pluginPackage = "zlayer:plugin"

// pluginInterfaces are what the worlds of the package zlayer:plugin can import of it.
var pluginInterfaces = []string{"config", "keyvalue", "logging", "secrets", "metrics"}

// pluginWorlds are the worlds of the package: what each imports of it, and the interface that it exports.
var pluginWorlds = map[string]struct {
	imports []string
	export  string
}{
	"zlayer-plugin":        {[]string{"config", "keyvalue", "logging", "secrets", "metrics"}, "zlayer:plugin/handler@0.1.0"},
	"zlayer-http-handler":  {[]string{"config", "keyvalue", "logging"}, "wasi:http/incoming-handler@0.2.0"},
	"zlayer-transformer":   {[]string{"logging"}, "zlayer:plugin/transformer@0.1.0"},
	"zlayer-authenticator": {[]string{"config", "keyvalue", "logging", "secrets"}, "zlayer:plugin/authenticator@0.1.0"},
	"zlayer-rate-limiter":  {[]string{"config", "keyvalue", "logging", "metrics"}, "zlayer:plugin/rate-limiter@0.1.0"},
	"zlayer-middleware":    {[]string{"config", "logging"}, "zlayer:plugin/middleware@0.1.0"},
	"zlayer-router":        {[]string{"config", "keyvalue", "logging"}, "zlayer:plugin/router@0.1.0"},
}

// commonWorlds are worlds of WASI that need no WIT files to be checked.
var commonWorlds = map[string]string{
	"wasi:cli/command": "wasi:cli/run@0.2.0",
	"wasi:http/proxy":  "wasi:http/incoming-handler@0.2.0",
}

// KnownWorlds lists the worlds that can be checked without their WIT files.
func KnownWorlds() []string {
	return append(slices.Sorted(maps.Keys(pluginWorlds)), slices.Sorted(maps.Keys(commonWorlds))...)
}

// KnownWorld gives one of [KnownWorlds]; it may be written with a version.
func KnownWorld(name string) (World, bool) {
	base, _ := splitVersion(name)
	if export, ok := commonWorlds[base]; ok {
		return World{Name: name, Exports: []string{export}}, true
	}
	p, ok := pluginWorlds[strings.TrimPrefix(base, pluginPackage+"/")]
	if !ok {
		return World{}, false
	}
	w := World{Name: name, Exports: []string{p.export}}
	for _, i := range pluginInterfaces {
		full := pluginPackage + "/" + i
		if slices.Contains(p.imports, i) {
			w.Imports = append(w.Imports, full)
		} else {
			w.Denied = append(w.Denied, full)
		}
	}
	return w, true
}

// Check holds a binary against the world and gives an error that lists all that does not fit.
func (w World) Check(info *Info) error {
	if info.Kind != Component {
		return fmt.Errorf("world %s is one of components, and this is a module: build for preview2", w.Name)
	}
	var errs []error
	for _, e := range w.Exports {
		if !slices.ContainsFunc(info.Exports, func(x Extern) bool { return sameExtern(e, x.Name) }) {
			errs = append(errs, fmt.Errorf("the component does not export %s, as world %s asks", e, w.Name))
		}
	}
	for _, i := range info.Imports {
		if !w.offers(i.Name) {
			errs = append(errs, fmt.Errorf("the component imports %s, which world %s does not offer", i.Name, w.Name))
		}
	}
	return errors.Join(errs...)
}

func (w World) offers(name string) bool {
	is := func(other string) bool { return sameExtern(other, name) }
	switch {
	case strings.HasPrefix(name, "wasi:"), slices.ContainsFunc(w.Imports, is):
		return true
	case w.Closed:
		return false
	}
	return !slices.ContainsFunc(w.Denied, is)
}

// splitVersion takes the version off a name.
func splitVersion(name string) (base, version string) {
	base, version, _ = strings.Cut(name, "@")
	return base, version
}

// sameExtern tells whether got is what is wanted: the same name in a compatible version. A name
// without a version stands for all.
func sameExtern(wanted, got string) bool {
	wantedBase, wantedVersion := splitVersion(wanted)
	gotBase, gotVersion := splitVersion(got)
	return wantedBase == gotBase && (wantedVersion == "" || gotVersion == "" || track(wantedVersion) == track(gotVersion))
}

// track is what compatible versions have in common: the numbers up to the first that is not 0.
// Previews are compatible with themselves only.
func track(version string) string {
	if strings.ContainsAny(version, "-") {
		return version
	}
	parts := strings.Split(version, ".")
	for i, p := range parts {
		if p != "0" {
			return strings.Join(parts[:i+1], ".")
		}
	}
	return version
}
