package flags

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
)

var annotationTypes = []string{"manifest", "index", "manifest-descriptor", "index-descriptor"}

// ParseAnnotation reads [TYPE[,TYPE...]:]KEY=VALUE, where TYPE is manifest,
// index, manifest-descriptor or index-descriptor and the manifest types may name
// a platform, as in manifest[linux/amd64]. key keeps the prefix.
func ParseAnnotation(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return "", "", errors.New("no value: write KEY=VALUE")
	}
	types, name, prefixed := strings.Cut(key, ":")
	if !prefixed {
		name = key
	}
	if name == "" || strings.ContainsAny(name, " \t\r\n") {
		return "", "", fmt.Errorf("the key %q must be a word", name)
	}
	if !prefixed {
		return key, value, nil
	}
	for t := range strings.SplitSeq(types, ",") {
		if err := checkAnnotationType(t); err != nil {
			return "", "", err
		}
	}
	return key, value, nil
}

func checkAnnotationType(s string) error {
	typ, platform, bracketed := strings.Cut(s, "[")
	if !slices.Contains(annotationTypes, typ) {
		return unknown("type", typ, annotationTypes)
	}
	if !bracketed {
		return nil
	}
	platform, closed := strings.CutSuffix(platform, "]")
	switch {
	case !closed:
		return fmt.Errorf("%q lacks the closing bracket", s)
	case strings.HasPrefix(typ, "index"):
		return fmt.Errorf("%q: an index has no platform", s)
	}
	if _, err := platforms.Parse(platform); err != nil {
		return fmt.Errorf("%q is not a platform: write OS/ARCH[/VARIANT]", platform)
	}
	return nil
}
