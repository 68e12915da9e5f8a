//go:build linux

package daemon

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/client/llb"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"
)

// TestRegistries pulls through a mirror whose certificate only the
// configuration makes trustworthy.
func TestRegistries(t *testing.T) {
	cfg := testConfig(t)
	server := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	ref, err := name.ParseReference(host + "/library/thing:1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file.OS, file.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithTransport(server.Client().Transport)); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	pull := func(cfg Config, image string) error {
		t.Helper()
		c := connect(t, cfg)
		defer c.Close()
		if err := c.Client.Prune(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		return build(t.Context(), c, llb.Image(image, llb.LinuxAmd64).File(llb.Mkfile("/pulled", 0o600, nil)))
	}
	yes, no := true, false
	mirror := map[string]resolverconfig.RegistryConfig{"docker.io": {Mirrors: []string{host}}}

	direct := cfg
	// A registry on this machine is taken for plain http unless told otherwise.
	direct.Registries = map[string]resolverconfig.RegistryConfig{host: {PlainHTTP: &no}}
	if err := pull(direct, host+"/library/thing:1"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown certificate: %v", err)
	}
	direct.Registries = map[string]resolverconfig.RegistryConfig{host: {PlainHTTP: &no, Insecure: &yes}}
	if err := pull(direct, host+"/library/thing:1"); err != nil {
		t.Errorf("insecure: %v", err)
	}
	direct.Registries = map[string]resolverconfig.RegistryConfig{host: {PlainHTTP: &no, RootCAs: []string{ca}}}
	if err := pull(direct, host+"/library/thing:1"); err != nil {
		t.Errorf("with its CA: %v", err)
	}
	// Mirror from the flags, certificate from the file.
	path := filepath.Join(t.TempDir(), "buildkitd.toml")
	content := "[registry.\"" + host + "\"]\nhttp = false\nca = [\"" + ca + "\"]\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	through := cfg
	through.Registries, through.ConfigFile = mirror, path
	if err := pull(through, "docker.io/library/thing:1"); err != nil {
		t.Errorf("through a mirror: %v", err)
	}
}
