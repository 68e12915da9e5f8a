package daemon

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/cmd/buildkitd/config"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
	"github.com/pelletier/go-toml/v2"
)

// File is the part of buildkitd.toml that makes sense for a daemon whose
// workers, listeners and lifetime are zlayer's business.
type File struct {
	// Debug makes the daemon's log verbose.
	Debug bool `toml:"debug"`
	// Registries are the [registry."host"] sections.
	Registries map[string]resolverconfig.RegistryConfig `toml:"registry"`
	// DNS is the [dns] section: resolvers for build steps.
	DNS *config.DNSConfig `toml:"dns"`
	// Worker holds [worker.oci].
	Worker struct {
		OCI struct {
			config.GCConfig
			MaxParallelism int `toml:"max-parallelism"`
		} `toml:"oci"`
	} `toml:"worker"`
}

// LoadFile reads a configuration file in the syntax of buildkitd.toml. Paths
// in it are relative to its directory. A key that has no effect here is an
// error, never ignored.
func LoadFile(path string) (File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("reading daemon configuration: %w", err)
	}
	f, err := parseFile(b)
	if err != nil {
		return File{}, fmt.Errorf("%s:%w", path, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return File{}, fmt.Errorf("reading daemon configuration: %w", err)
	}
	f.resolvePaths(filepath.Dir(path))
	return f, nil
}

// parseFile decodes a configuration file. Its errors begin with line:column.
func parseFile(b []byte) (File, error) {
	var f File
	dec := toml.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	err := dec.Decode(&f)
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		e := unknown.Errors[0]
		line, col := e.Position()
		return File{}, fmt.Errorf("%d:%d: key %q has no effect on zlayer's daemon (known are debug, registry, dns, and in worker.oci the gc keys and max-parallelism): remove it",
			line, col, strings.Join(e.Key(), "."))
	case errors.As(err, &bad):
		line, col := bad.Position()
		return File{}, fmt.Errorf("%d:%d: %s", line, col, strings.TrimPrefix(bad.Error(), "toml: "))
	case err != nil:
		return File{}, fmt.Errorf("1:1: %w", err)
	}
	return f, nil
}

// resolvePaths makes the file names in f absolute.
func (f *File) resolvePaths(dir string) {
	abs := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	for host, r := range f.Registries {
		for i := range r.RootCAs {
			r.RootCAs[i] = abs(r.RootCAs[i])
		}
		for i := range r.TLSConfigDir {
			r.TLSConfigDir[i] = abs(r.TLSConfigDir[i])
		}
		for i := range r.KeyPairs {
			r.KeyPairs[i].Key, r.KeyPairs[i].Certificate = abs(r.KeyPairs[i].Key), abs(r.KeyPairs[i].Certificate)
		}
		f.Registries[host] = r
	}
}

// DefaultConfigFile returns the path of the user's configuration file, or ""
// if there is none: /etc/zlayer/buildkitd.toml for root, for others
// $XDG_CONFIG_HOME/zlayer/buildkitd.toml or ~/.config/zlayer/buildkitd.toml.
func DefaultConfigFile() string {
	dir := "/etc"
	if os.Geteuid() != 0 {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return ""
		}
	}
	path := filepath.Join(dir, "zlayer", "buildkitd.toml")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return path
}

// mergeRegistries returns base with over laid on it: lists are joined, those
// of over first, and single values of over win.
func mergeRegistries(base, over map[string]resolverconfig.RegistryConfig) map[string]resolverconfig.RegistryConfig {
	if len(base) == 0 && len(over) == 0 {
		return nil
	}
	out := maps.Clone(base)
	if out == nil {
		out = make(map[string]resolverconfig.RegistryConfig)
	}
	for host, o := range over {
		b := out[host]
		b.Mirrors = slices.Concat(o.Mirrors, b.Mirrors)
		b.RootCAs = slices.Concat(o.RootCAs, b.RootCAs)
		b.KeyPairs = slices.Concat(o.KeyPairs, b.KeyPairs)
		b.TLSConfigDir = slices.Concat(o.TLSConfigDir, b.TLSConfigDir)
		if o.PlainHTTP != nil {
			b.PlainHTTP = o.PlainHTTP
		}
		if o.Insecure != nil {
			b.Insecure = o.Insecure
		}
		out[host] = b
	}
	return out
}
