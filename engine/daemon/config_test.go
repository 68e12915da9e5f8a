package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
)

const exampleFile = `
debug = true
[registry."docker.io"]
  mirrors = ["mirror.example:5000", "other.example"]
[registry."mirror.example:5000"]
  http = true
  insecure = false
  ca = ["ca.pem", "/abs/ca.pem"]
  tlsconfigdir = ["certs"]
  [[registry."mirror.example:5000".keypair]]
    key = "key.pem"
    cert = "cert.pem"
[dns]
  nameservers = ["192.0.2.1"]
[worker.oci]
  max-parallelism = 3
  reservedSpace = "1GB"
  maxUsedSpace = "50%"
`

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "buildkitd.toml")
	if err := os.WriteFile(path, []byte(exampleFile), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	want := File{
		Debug: true,
		Registries: map[string]resolverconfig.RegistryConfig{
			"docker.io": {Mirrors: []string{"mirror.example:5000", "other.example"}},
			"mirror.example:5000": {
				PlainHTTP: &yes, Insecure: &no,
				RootCAs:      []string{filepath.Join(dir, "ca.pem"), "/abs/ca.pem"},
				TLSConfigDir: []string{filepath.Join(dir, "certs")},
				KeyPairs:     []resolverconfig.TLSKeyPair{{Key: filepath.Join(dir, "key.pem"), Certificate: filepath.Join(dir, "cert.pem")}},
			},
		},
		DNS: &config.DNSConfig{Nameservers: []string{"192.0.2.1"}},
	}
	want.Worker.OCI.MaxParallelism = 3
	want.Worker.OCI.GCReservedSpace = config.DiskSpace{Bytes: 1 << 30}
	want.Worker.OCI.GCMaxUsedSpace = config.DiskSpace{Percentage: 50}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLoadFileErrors(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"unknown key", "debug = true\n[grpc]\naddress = [\"tcp://0.0.0.0:1\"]\n", `:2:2: key "grpc" has no effect`},
		{"unknown registry key", "[registry.\"a\"]\nmirror = [\"b\"]\n", `:2:1: key "registry.a.mirror" has no effect`},
		{"syntax", "debug = true\n[registry\n", ":2:"},
		{"type", "debug = 7\n", ":1:9:"},
		{"value", "[worker.oci]\nmaxUsedSpace = \"lots\"\n", "invalid disk space lots"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "buildkitd.toml")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadFile(path)
			if err == nil || !strings.HasPrefix(err.Error(), path+":") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := LoadFile(filepath.Join(t.TempDir(), "none.toml")); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("missing file: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		//nolint:errorlint // what is wanted is the chain's link itself
		if _, isPath := err.(*os.PathError); isPath {
			return err
		}
		err = u.Unwrap()
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(exampleFile))
	f.Add([]byte("[registry.\"a\"]\nhttp = 1"))
	f.Add([]byte("[worker.oci]\n[[worker.oci.gcpolicy]]\nkeepBytes = \"10%\"\nkeepDuration = 3600"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := parseFile(b)
		if err != nil {
			line, rest, ok := strings.Cut(err.Error(), ":")
			col, _, ok2 := strings.Cut(rest, ":")
			if !ok || !ok2 || !digits(line) || !digits(col) {
				t.Errorf("error has no position: %v", err)
			}
			return
		}
		file.resolvePaths("/etc")
		for _, r := range file.Registries {
			for _, p := range slices.Concat(r.RootCAs, r.TLSConfigDir) {
				if p != "" && !filepath.IsAbs(p) {
					t.Errorf("path %q stays relative", p)
				}
			}
		}
	})
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func TestMergeRegistries(t *testing.T) {
	yes, no := true, false
	got := mergeRegistries(
		map[string]resolverconfig.RegistryConfig{
			"a": {Mirrors: []string{"file"}, PlainHTTP: &yes, Insecure: &yes},
			"b": {RootCAs: []string{"file.pem"}},
		},
		map[string]resolverconfig.RegistryConfig{
			"a": {Mirrors: []string{"flag"}, PlainHTTP: &no},
			"c": {RootCAs: []string{"flag.pem"}},
		})
	want := map[string]resolverconfig.RegistryConfig{
		"a": {Mirrors: []string{"flag", "file"}, PlainHTTP: &no, Insecure: &yes},
		"b": {RootCAs: []string{"file.pem"}},
		"c": {RootCAs: []string{"flag.pem"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := mergeRegistries(nil, nil); got != nil {
		t.Errorf("nothing merged is %v", got)
	}
}

// TestHash shows what makes a running daemon unusable for a caller.
func TestHash(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "https_proxy", "NO_PROXY"} {
		t.Setenv(name, "")
	}
	base := Config{StateDir: t.TempDir(), BuildID: "1"}
	hash := func(change func(*Config)) string {
		t.Helper()
		c := base
		change(&c)
		s, err := c.settings()
		if err != nil {
			t.Fatal(err)
		}
		return s.hash()
	}
	same := hash(func(*Config) {})
	if got := hash(func(c *Config) { c.IdleTimeout, c.Executable = 7, []string{"x"} }); got != same {
		t.Error("the idle timeout or the executable count")
	}
	yes := true
	for name, change := range map[string]func(*Config){
		"build id":    func(c *Config) { c.BuildID = "2" },
		"runc":        func(c *Config) { c.Runc = "/x" },
		"debug":       func(c *Config) { c.Debug = true },
		"storage":     func(c *Config) { c.MaxStorage = 1 },
		"parallelism": func(c *Config) { c.MaxParallelism = 1 },
		"registry": func(c *Config) {
			c.Registries = map[string]resolverconfig.RegistryConfig{"r": {PlainHTTP: &yes}}
		},
	} {
		if hash(change) == same {
			t.Errorf("a different %s does not count", name)
		}
	}
	t.Setenv("HTTPS_PROXY", "http://proxy.example")
	if hash(func(*Config) {}) == same {
		t.Error("a different proxy does not count")
	}
}

func TestSettingsErrors(t *testing.T) {
	for _, c := range []Config{{MaxStorage: -1}, {MaxParallelism: -1}, {ConfigFile: "/nonexistent.toml"}} {
		c.StateDir = t.TempDir()
		if _, err := c.settings(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

func TestGCPolicy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	no := false
	if p, err := gcPolicy(config.GCConfig{GC: &no}, 0, dir); err != nil || p != nil {
		t.Errorf("switched off: %v, %v", p, err)
	}
	p, err := gcPolicy(config.GCConfig{}, 0, dir)
	if err != nil || len(p) == 0 || p[len(p)-1].MaxUsedSpace == 0 {
		t.Errorf("default: %v, %v", p, err)
	}
	const limit = 1 << 20
	p, err = gcPolicy(config.GCConfig{}, limit, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p[1:] { // the first is for easily replaced data and has its own limit
		if r.MaxUsedSpace != limit || r.ReservedSpace > limit {
			t.Errorf("limited to %d: %+v", limit, r)
		}
	}
	rules := config.GCConfig{GCPolicy: []config.GCPolicy{{KeepBytes: config.DiskSpace{Bytes: 5}, Filters: []string{"f"}}}} //nolint:staticcheck // the old spelling
	if p, err = gcPolicy(rules, 0, dir); err != nil || len(p) != 1 || p[0].ReservedSpace != 5 || p[0].Filter[0] != "f" {
		t.Errorf("own rules: %+v, %v", p, err)
	}
}

func TestDefaultStateDir(t *testing.T) {
	dir, err := DefaultStateDir()
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(dir) || filepath.Base(dir) != "zlayer" {
		t.Errorf("got %s", dir)
	}
	if os.Geteuid() == 0 && dir != "/var/lib/zlayer" {
		t.Errorf("root gets %s", dir)
	}
}
