package flags

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"

	"github.com/zlayer-dev/zlayer/engine"
)

// ParsePull reads always, newer or never; true and false are docker's boolean.
func ParsePull(s string) (engine.PullMode, error) {
	switch s {
	case "true":
		return engine.PullAlways, nil
	case "false":
		return engine.PullDefault, nil
	case "always", "newer", "never":
		return engine.PullMode(s), nil
	}
	return "", unknown("mode", s, []string{"always", "newer", "never"})
}

// ParseNetwork reads the network of RUN steps.
func ParseNetwork(s string) (string, error) {
	modes := []string{"default", "none", "host"}
	if !slices.Contains(modes, s) {
		return "", unknown("network", s, modes)
	}
	return s, nil
}

// ParseAllow checks an entitlement.
func ParseAllow(s string) (string, error) {
	known := []string{"network.host", "security.insecure", "device", "fs.read"}
	name, value, hasValue := strings.Cut(s, "=")
	switch {
	case !slices.Contains(known, name):
		return "", unknown("entitlement", name, known)
	case name == "fs.read" && value == "":
		return "", errors.New("the directory is missing: write fs.read=DIR, or fs.read=* for all")
	case hasValue && name != "device" && name != "fs.read":
		return "", fmt.Errorf("%s takes no value", name)
	case hasValue && value == "":
		return "", errors.New("the device is empty: write device=NAME")
	}
	return s, nil
}

// ParsePlatforms reads platforms separated by commas and gives them back in
// their normal form. A platform given twice counts once.
func ParsePlatforms(list []string) ([]string, error) {
	var out []string
	for _, s := range list {
		for p := range strings.SplitSeq(s, ",") {
			p = strings.TrimSpace(p)
			spec := platforms.DefaultSpec()
			if p != "local" {
				var err error
				if spec, err = platforms.Parse(p); err != nil {
					return nil, fmt.Errorf("%q is not a platform: write OS/ARCH[/VARIANT], such as linux/arm64", p)
				}
			}
			if f := platforms.FormatAll(platforms.Normalize(spec)); !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// CheckTag refuses what cannot be the name of an image that is yet to be built.
func CheckTag(s string) error {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return fmt.Errorf("%w: write [HOST/]NAME[:TAG], in lower case", err)
	}
	if _, ok := named.(reference.Digested); ok {
		return errors.New("the name of a new image cannot hold a digest: leave out @sha256:...")
	}
	return nil
}

// Call is one value of --call.
type Call struct {
	// Name is the question; empty is to build.
	Name engine.Call
	// JSON asks for the answer in the form for programs.
	JSON bool
}

// ParseCall reads NAME[,format=text|json].
func ParseCall(s string) (Call, error) {
	list, err := fields(s)
	if err != nil {
		return Call{}, err
	}
	var c Call
	known := map[string]engine.Call{
		"build": "", "check": engine.CallCheck, "lint": engine.CallCheck, "outline": engine.CallOutline,
		"targets": engine.CallTargets, "subrequests.describe": engine.CallDescribe,
	}
	name := list[0].key
	call, ok := known[name]
	if !list[0].bare || !ok {
		return Call{}, unknown("call", name, []string{"build", "check", "outline", "targets", "subrequests.describe"})
	}
	c.Name = call
	for _, f := range list[1:] {
		switch {
		case f.key != "format":
			return Call{}, unknown("field", f.key, []string{"format"})
		case f.value != "json" && f.value != "text":
			return Call{}, unknown("format", f.value, []string{"json", "text"})
		case call == "":
			return Call{}, errors.New("build has no format")
		}
		c.JSON = f.value == "json"
	}
	return c, nil
}
