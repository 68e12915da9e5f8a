package flags

import (
	"errors"
	"fmt"
	"slices"

	"github.com/distribution/reference"

	"github.com/zlayer-dev/zlayer/engine"
)

var (
	cacheSources = []string{"registry", "local", "gha", "s3", "azblob"}
	cacheTargets = []string{"registry", "local", "inline", "gha", "s3", "azblob"}
)

// ParseCacheFrom reads type=TYPE[,KEY=VALUE...] or a bare image reference, which
// is type=registry,ref=REFERENCE. lookup finds the environment variables in
// which CI systems hand out credentials for gha and s3.
func ParseCacheFrom(s string, lookup func(string) (string, bool)) (engine.CacheEntry, error) {
	return parseCache(s, cacheSources, "src", lookup)
}

// ParseCacheTo is [ParseCacheFrom] for the place the cache is written to.
func ParseCacheTo(s string, lookup func(string) (string, bool)) (engine.CacheEntry, error) {
	e, err := parseCache(s, cacheTargets, "dest", lookup)
	if err != nil {
		return e, err
	}
	if mode, ok := e.Attrs["mode"]; ok && mode != "min" && mode != "max" {
		return engine.CacheEntry{}, unknown("mode", mode, []string{"min", "max"})
	}
	return e, nil
}

func parseCache(s string, types []string, path string, lookup func(string) (string, bool)) (engine.CacheEntry, error) {
	list, err := fields(s)
	if err != nil {
		return engine.CacheEntry{}, err
	}
	if len(list) == 1 && list[0].bare {
		list = []field{{key: "type", value: "registry"}, {key: "ref", value: unquote(s)}}
	}
	kv, err := attrs(list)
	if err != nil {
		return engine.CacheEntry{}, err
	}
	typ, ok := kv["type"]
	if !ok {
		return engine.CacheEntry{}, errors.New("type= is missing: use " + oneOf(types))
	}
	delete(kv, "type")
	if !slices.Contains(types, typ) {
		return engine.CacheEntry{}, unknown("type", typ, types)
	}
	e := engine.CacheEntry{Type: typ, Attrs: kv}
	return e, checkCache(e, path, lookup)
}

// checkCache looks for the fields without which a backend cannot work, and adds
// the credentials that the backend's own tools take from the environment.
func checkCache(e engine.CacheEntry, path string, lookup func(string) (string, bool)) error {
	switch e.Type {
	case "registry":
		if e.Attrs["ref"] == "" {
			return errors.New("type=registry needs ref=IMAGE")
		}
		if _, err := reference.ParseNormalizedNamed(e.Attrs["ref"]); err != nil {
			return fmt.Errorf("ref %q is not an image reference: %w", e.Attrs["ref"], err)
		}
	case "local":
		if e.Attrs[path] == "" {
			return fmt.Errorf("type=local needs %s=DIR", path)
		}
	case "gha":
		fromEnv(e.Attrs, lookup, "token", "ACTIONS_RUNTIME_TOKEN")
		fromEnv(e.Attrs, lookup, "url", "ACTIONS_CACHE_URL")
		fromEnv(e.Attrs, lookup, "url_v2", "ACTIONS_RESULTS_URL")
		if e.Attrs["token"] == "" {
			return errors.New("type=gha needs token=TOKEN or ACTIONS_RUNTIME_TOKEN, which GitHub gives to actions only")
		}
	case "s3":
		if e.Attrs["access_key_id"] == "" && e.Attrs["secret_access_key"] == "" {
			fromEnv(e.Attrs, lookup, "access_key_id", "AWS_ACCESS_KEY_ID")
			fromEnv(e.Attrs, lookup, "secret_access_key", "AWS_SECRET_ACCESS_KEY")
			fromEnv(e.Attrs, lookup, "session_token", "AWS_SESSION_TOKEN")
		}
		fromEnv(e.Attrs, lookup, "region", "AWS_REGION")
	}
	return nil
}

func fromEnv(kv map[string]string, lookup func(string) (string, bool), key, name string) {
	if kv[key] != "" {
		return
	}
	if v, ok := lookup(name); ok && v != "" {
		kv[key] = v
	}
}
