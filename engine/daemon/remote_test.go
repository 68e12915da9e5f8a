package daemon

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseAddr(t *testing.T) {
	for _, addr := range []string{
		"unix:///run/buildkit/buildkitd.sock",
		"tcp://buildkit.example:1234", "tcp://[::1]:1234",
		"ssh://me@host:2222/run/buildkitd.sock", "ssh://host",
		"docker-container://buildkitd", "docker-container://buildkitd?context=remote",
		"podman-container://buildkitd",
		"kube-pod://buildkitd-0?context=c&namespace=n&container=b",
	} {
		if _, err := parseAddr(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for addr, want := range map[string]string{
		"":                            "empty",
		"/run/buildkitd.sock":         "did you mean unix:///run/buildkitd.sock",
		"host:1234":                   "did you mean tcp://host:1234",
		"http://host":                 "unknown scheme http",
		"://x":                        "malformed",
		"unix://run/b.sock":           "unix:///path",
		"unix://":                     "unix:///path",
		"tcp://host":                  "tcp://host:1234",
		"tcp://":                      "tcp://host:1234",
		"tcp://host:1/path":           "tcp://host:1",
		"ssh://":                      "malformed",
		"ssh://me:secret@host":        "plain-text password",
		"docker-container://":         "container name",
		"kube-pod://pod?container=$x": "container",
		"tcp://%zz":                   "malformed",
	} {
		if _, err := parseAddr(addr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", addr, err, want)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"unix:///a", "tcp://h:1", "ssh://u@h", "docker-container://c", "kube-pod://p?namespace=n", "x", "a://%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		u, err := parseAddr(addr)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "BuildKit address") {
				t.Errorf("%q: error does not say what it is about: %v", addr, err)
			}
			return
		}
		if u.Host == "" && u.Path == "" {
			t.Errorf("%q is accepted and names nothing", addr)
		}
		if _, err := (Remote{Addr: addr}).options(u); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
	})
}

func TestDialErrors(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "tcp://" + l.Addr().String()
	l.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	t.Setenv("PATH", dir) // no ssh, docker, podman or kubectl
	broken := filepath.Join(dir, "broken.pem")
	if err := os.WriteFile(broken, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		remote Remote
		want   []string
	}{
		{Remote{Addr: "unix://" + dir + "/none.sock"}, []string{dir + "/none.sock", "no such file", "is it running"}},
		{Remote{Addr: closed}, []string{closed, "connection refused", "is it running"}},
		{Remote{Addr: "tcp://" + silent.Addr().String(), Timeout: 50 * time.Millisecond}, []string{"no answer within 50ms"}},
		{Remote{Addr: "ssh://host"}, []string{"ssh://host", `"ssh": executable file not found`}},
		{Remote{Addr: "docker-container://c"}, []string{"docker-container://c", `"docker": executable file not found`}},
		{Remote{Addr: "podman-container://c"}, []string{`"podman": executable file not found`}},
		{Remote{Addr: "kube-pod://p"}, []string{`"kubectl": executable file not found`}},
		{Remote{Addr: "unix:///x", CA: "ca.pem"}, []string{"TLS is for tcp://"}},
		{Remote{Addr: closed, Cert: "cert.pem"}, []string{"belong together"}},
		{Remote{Addr: closed, CA: dir + "/none.pem"}, []string{"none.pem", "no such file"}},
		{Remote{Addr: closed, CA: broken}, []string{"ca cert"}},
		{Remote{Addr: "nonsense"}, []string{"has no scheme"}},
	} {
		start := time.Now()
		c, err := Dial(context.Background(), tt.remote)
		if err == nil {
			c.Close()
			t.Errorf("%+v: connected", tt.remote)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: error %q does not say %q", tt.remote, err, w)
			}
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%+v: took %v", tt.remote, d)
		}
	}
}
