//go:build linux

package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate is a self-signed one for name, as a pair and as PEM files.
type certificate struct {
	pair      tls.Certificate
	cert, key string
}

func newCertificate(t *testing.T, name string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := certificate{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	for path, b := range map[string][]byte{c.cert: certPEM, c.key: keyPEM} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c certificate) pool(t *testing.T) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(c.cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	return pool
}

// forward passes the listener's connections on to a socket.
func forward(l net.Listener, socket string) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("unix", socket)
		if err != nil {
			from.Close()
			continue
		}
		go func() { io.Copy(to, from); to.Close() }()   //nolint:errcheck // ends with the connection
		go func() { io.Copy(from, to); from.Close() }() //nolint:errcheck // ends with the connection
	}
}

// dialBuilds connects to a remote and builds there.
func dialBuilds(t *testing.T, r Remote) {
	t.Helper()
	c, err := Dial(t.Context(), r)
	if err != nil {
		t.Errorf("%s: %v", r.Addr, err)
		return
	}
	defer c.Close()
	if c.Info.Address != r.Addr || c.Info.Version == "" || c.Info.Snapshotter == "" {
		t.Errorf("%s: %+v", r.Addr, c.Info)
	}
	if err := build(t.Context(), c, runState("echo remote")); err != nil {
		t.Errorf("%s: %v", r.Addr, err)
	}
}

func TestDial(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	socket := strings.TrimPrefix(c.Info.Address, "unix://")
	dialBuilds(t, Remote{Addr: c.Info.Address})

	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go forward(plain, socket)
	dialBuilds(t, Remote{Addr: "tcp://" + plain.Addr().String()})

	server, client := newCertificate(t, "buildkit.example"), newCertificate(t, "client")
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{server.pair}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: client.pool(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	go forward(secure, socket)
	addr := "tcp://" + secure.Addr().String()
	good := Remote{Addr: addr, CA: server.cert, Cert: client.cert, Key: client.key, ServerName: "buildkit.example"}
	dialBuilds(t, good)
	for name, change := range map[string]func(*Remote){
		"no TLS":                func(r *Remote) { *r = Remote{Addr: addr} },
		"system's certificates": func(r *Remote) { *r = Remote{Addr: addr, TLS: true} },
		"another CA":            func(r *Remote) { r.CA = client.cert },
		"another name":          func(r *Remote) { r.ServerName = "" },
		"no client certificate": func(r *Remote) { r.Cert, r.Key = "", "" },
	} {
		r := good
		r.Timeout = 5 * time.Second
		change(&r)
		if c, err := Dial(t.Context(), r); err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		} else if !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: error %q does not name the address", name, err)
		}
	}
}

// TestDialThroughCommands replaces ssh, docker, podman and kubectl by scripts
// that check how they are called and are a pipe to the daemon.
func TestDialThroughCommands(t *testing.T) {
	cfg := testConfig(t)
	c := connect(t, cfg)
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string]string{
		"ssh":     "-l me -p 2222 -- host buildctl --addr unix:///sock dial-stdio",
		"docker":  "--context=far exec -i box buildctl dial-stdio",
		"podman":  "exec -i box buildctl dial-stdio",
		"kubectl": "--context=c --namespace=n exec --container=b -i pod -- buildctl dial-stdio",
	} {
		script := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = '%s' ] || { echo \"called as: $*\" >&2; exit 1; }\nexport %s='{\"Do\":\"bridge\",\"Config\":{\"StateDir\":\"%s\"}}'\nexec %s\n",
			args, clientEnv, cfg.StateDir, exe)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, addr := range []string{
		"ssh://me@host:2222/sock",
		"docker-container://box?context=far",
		"podman-container://box",
		"kube-pod://pod?context=c&namespace=n&container=b",
	} {
		dialBuilds(t, Remote{Addr: addr})
	}
	if c, err := Dial(t.Context(), Remote{Addr: "ssh://other"}); err == nil {
		c.Close()
		t.Error("connected through a failing ssh")
	} else if !strings.Contains(err.Error(), "called as: -- other") {
		t.Errorf("error %q does not say what ssh said", err)
	}
	_ = c
}
