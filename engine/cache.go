package engine

import (
	"fmt"
	"maps"
	"os"
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
		if err := j.checkCache(c, true); err != nil {
			return err
		}
		if c.Type == "local" && !isFile(filepath.Join(c.Attrs["src"], "index.json")) {
			j.warnings = append(j.warnings, fmt.Sprintf("cache %s is not there: building without it", c.Attrs["src"]))
			continue
		}
		j.cacheFrom = append(j.cacheFrom, withCredentials(c))
	}
	for _, c := range j.req.CacheTo {
		if err := j.checkCache(c, false); err != nil {
			return err
		}
		j.cacheTo = append(j.cacheTo, withCredentials(c))
	}
	return nil
}

func (j *job) checkCache(c CacheEntry, read bool) error {
	names := make([]string, len(cacheTypes))
	for i, t := range cacheTypes {
		names[i] = t.name
	}
	i := slices.Index(names, c.Type)
	if i < 0 {
		return inputErrorf("cache type %q is none of %s", c.Type, strings.Join(names, ", "))
	}
	if c.Type == "gha" && j.engine.cfg.Addr == "" {
		return inputErrorf("the embedded BuildKit has no cache of type gha: use type=registry, or another BuildKit with --addr")
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

// cacheEnv are the attributes that caches take from the environment of the caller,
// as buildx has it: the daemon that uses them has an environment of its own.
var cacheEnv = map[string][]struct{ attr, env string }{
	"s3": {
		{"access_key_id", "AWS_ACCESS_KEY_ID"},
		{"secret_access_key", "AWS_SECRET_ACCESS_KEY"},
		{"session_token", "AWS_SESSION_TOKEN"},
		{"region", "AWS_REGION"},
	},
	"gha": {
		{"url", "ACTIONS_CACHE_URL"},
		{"url_v2", "ACTIONS_RESULTS_URL"},
		{"token", "ACTIONS_RUNTIME_TOKEN"},
	},
}

// withCredentials is a cache with what the environment adds to it. Keys that are
// given in part are not mixed with others.
func withCredentials(c CacheEntry) client.CacheOptionsEntry {
	attrs := maps.Clone(c.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	given := attrs["access_key_id"] != "" || attrs["secret_access_key"] != ""
	for _, e := range cacheEnv[c.Type] {
		if attrs[e.attr] == "" && (!given || e.attr == "region") {
			if v := os.Getenv(e.env); v != "" {
				attrs[e.attr] = v
			}
		}
	}
	return client.CacheOptionsEntry{Type: c.Type, Attrs: attrs}
}
