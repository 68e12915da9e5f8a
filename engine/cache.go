package engine

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
)

// cacheTypes are BuildKit's cache backends and the attribute each needs to read
// and to write. That of "inline" is written into the image and read from its
// registry. A daemon need not have them all, and says so.
var cacheTypes = []struct{ name, from, to string }{
	{"registry", "ref", "ref"},
	{"local", "src", "dest"},
	{"inline", "", ""},
	{"gha", "", ""},
	{"s3", "bucket", "bucket"},
	{"azblob", "account_url", "account_url"},
}

// setCache checks which caches are read and written. Attributes are copied:
// BuildKit's client writes into them.
func (j *job) setCache() error {
	for _, c := range j.req.CacheFrom {
		if c.Type == "inline" {
			return inputErrorf("cache inline cannot be read as such: it is part of an image, so name that: type=registry with ref=IMAGE")
		}
		if err := checkCache(c, true); err != nil {
			return err
		}
		if c.Type == "local" && !isFile(filepath.Join(c.Attrs["src"], "index.json")) {
			j.warnings = append(j.warnings, fmt.Sprintf("cache %s is not there: building without it", c.Attrs["src"]))
			continue
		}
		j.cacheFrom = append(j.cacheFrom, client.CacheOptionsEntry{Type: c.Type, Attrs: maps.Clone(c.Attrs)})
	}
	for _, c := range j.req.CacheTo {
		if err := checkCache(c, false); err != nil {
			return err
		}
		j.cacheTo = append(j.cacheTo, client.CacheOptionsEntry{Type: c.Type, Attrs: maps.Clone(c.Attrs)})
	}
	return nil
}

func checkCache(c CacheEntry, read bool) error {
	names := make([]string, len(cacheTypes))
	for i, t := range cacheTypes {
		names[i] = t.name
	}
	i := slices.Index(names, c.Type)
	if i < 0 {
		return inputErrorf("cache type %q is none of %s", c.Type, strings.Join(names, ", "))
	}
	need := cacheTypes[i].to
	if read {
		need = cacheTypes[i].from
	}
	if need != "" && c.Attrs[need] == "" {
		return inputErrorf("cache %s needs %s=", c.Type, need)
	}
	return nil
}
