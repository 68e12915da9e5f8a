package integration

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/identity"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
)

// useSecrets reads secrets in every way and shows the sum, never the value.
const useSecrets = `FROM busybox
RUN --mount=type=secret,id=file md5sum < /run/secrets/file
RUN --mount=type=secret,id=env,env=TOKEN printf %s "$TOKEN" | md5sum
RUN --mount=type=secret,id=value,target=/deep/er/value,mode=0440,uid=33 stat -c %a:%u /deep/er/value && md5sum < /deep/er/value
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent && echo absent is fine
RUN --mount=type=secret,id=file,env=A --mount=type=secret,id=value,env=A,required=true printf %s "$A" | md5sum
`

func TestEngineSecrets(t *testing.T) {
	e := openEngine(t)
	const fileValue, envValue, value = "of-a-file-8c1fd0", "of-the-environment-77a0be", "given-as-it-is-3b9e11"
	dir := files{"app/Dockerfile": useSecrets, "token": fileValue}.dir(t)
	t.Setenv("ZLAYER_TEST_TOKEN", envValue)
	var rec recorder
	req := engine.Request{Context: dir + "/app", Tags: []string{"secrets"}, Events: rec.sink, Secrets: []engine.Secret{
		{ID: "file", File: dir + "/token"},
		{ID: "env", Env: "ZLAYER_TEST_TOKEN"},
		{ID: "value", Value: []byte(value)},
	}, Attests: map[string]string{"provenance": "mode=max"}}
	res := build(t, e, req)
	for _, want := range []string{md5Of(fileValue), md5Of(envValue), md5Of(value), "440:33", "absent is fine"} {
		if !strings.Contains(rec.output(), want) {
			t.Errorf("no %s in the output %q", want, rec.output())
		}
	}
	dump := dumpEvents(t, &rec) + fmt.Sprintf("%+v", res)
	var g bytes.Buffer
	if err := graph.JSON(&g, res.Graph); err != nil {
		t.Fatal(err)
	}
	dump += g.String()
	s, err := e.Store()
	if err != nil {
		t.Fatal(err)
	}
	dump += dumpTree(t, s.Dir()) + daemonLog(t)
	for _, secret := range []string{fileValue, envValue, value} {
		if i := strings.Index(dump, secret); i >= 0 {
			t.Errorf("the value %s got out: %q", secret, dump[max(0, i-200):min(len(dump), i+100)])
		}
	}
	if !strings.Contains(dump, "secrets/file") {
		t.Error("what was searched does not even hold the build file")
	}
}

// TestEngineSecretsInErrors lets steps that have a secret fail.
func TestEngineSecretsInErrors(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	const value = "never-in-errors-19b2c4"
	dir := files{"Dockerfile": `FROM busybox
RUN --mount=type=secret,id=value,env=TOKEN test "$TOKEN" = other
`}.dir(t)
	var rec recorder
	err := buildFails(t, e, engine.Request{Context: dir, Events: rec.sink, Secrets: []engine.Secret{{ID: "value", Value: []byte(value)}}})
	if dump := fmt.Sprintf("%v %+v", err, err) + dumpEvents(t, &rec); strings.Contains(dump, value) {
		t.Errorf("the value got out: %s", dump)
	}
	mustSay(t, err, dir+"/Dockerfile:2: ")
	// A file as large as BuildKit does not take it, and one that is gone when it is asked for.
	big := files{"big": strings.Repeat("x", 500<<10+1), "dir/": ""}.dir(t)
	req := func(s ...engine.Secret) engine.Request { return engine.Request{Context: dir, Secrets: s} }
	mustBeInput(t, buildFails(t, e, req(engine.Secret{ID: "value", File: big + "/big"})), "is larger than")
	mustBeInput(t, buildFails(t, e, req(engine.Secret{ID: "value", Value: make([]byte, 500<<10+1)})), "is larger than")
	mustBeInput(t, buildFails(t, e, req(engine.Secret{ID: "value", File: big + "/nosuch"})), "does not exist")
	mustBeInput(t, buildFails(t, e, req(engine.Secret{ID: "value", File: big + "/dir"})), "is a directory")
	mustBeInput(t, buildFails(t, e, req(engine.Secret{ID: "value", Env: "ZLAYER_TEST_NOT_SET"})), "ZLAYER_TEST_NOT_SET is not set")
	mustBeInput(t, buildFails(t, e, req(engine.Secret{File: "x"})), "needs an id")
	mustBeInput(t, buildFails(t, e, req(engine.Secret{ID: "a", File: "x", Env: "x"})), "more than one source")
	mustBeInput(t, buildFails(t, e, req(engine.Secret{ID: "a", Value: []byte("x")}, engine.Secret{ID: "a", Value: []byte("x")})), "given twice")
}

func TestEngineRequiredSecret(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for _, mount := range []string{"id=missing,required=true", "id=missing,required=true,env=TOKEN", "id=missing,required"} {
		dir := files{"Dockerfile": "FROM busybox\nRUN --mount=type=secret," + mount + " true\n"}.dir(t)
		err := buildFails(t, e, engine.Request{Context: dir})
		mustSay(t, err, dir+"/Dockerfile:2: ")
		mustSay(t, err, `secret "missing" is required and was not given`)
		// Other secrets do not change that.
		mustSay(t, buildFails(t, e, engine.Request{Context: dir, Secrets: []engine.Secret{{ID: "other", Value: []byte("x")}}}), "missing")
	}
}

func TestEngineSSH(t *testing.T) {
	e := openEngine(t)
	sock, public := sshAgent(t)
	key, err := sshKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := files{"Dockerfile": "FROM busybox\nENV TEST=" + identity.NewID() + `
COPY inside /
RUN --mount=type=ssh /inside ssh
RUN --mount=type=ssh,id=key,target=/agent,mode=0666,uid=33 stat -c %a:%u /agent && SSH_AUTH_SOCK=/agent /inside ssh
RUN --mount=type=ssh,id=absent test -z "$SSH_AUTH_SOCK" || test ! -e "$SSH_AUTH_SOCK"
`}.dir(t)
	insideProgram(t, dir)
	t.Setenv("SSH_AUTH_SOCK", sock)
	var rec recorder
	build(t, e, engine.Request{Context: dir, Outputs: cacheOnly, Events: rec.sink, SSH: []engine.SSHAgent{{}, {ID: "key", Paths: []string{key}}}})
	out := rec.output()
	if !strings.Contains(out, "agent has "+public) || !strings.Contains(out, "666:33") || strings.Count(out, "agent has ") != 2 {
		t.Errorf("the steps saw %q, want the key %s and another", out, public)
	}
	private, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if body := strings.Split(string(private), "\n")[2]; strings.Contains(dumpEvents(t, &rec)+daemonLog(t), body) {
		t.Error("the private key got out")
	}

	need := files{"Dockerfile": "FROM busybox\nRUN --mount=type=ssh,required=true true\n"}.dir(t)
	err = buildFails(t, e, engine.Request{Context: need})
	mustSay(t, err, need+"/Dockerfile:2: ")
	mustSay(t, err, `ssh agent "default" is required and was not given`)
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, SSH: []engine.SSHAgent{{Paths: []string{dir + "/nosuch"}}}}), "/nosuch does not exist")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, SSH: []engine.SSHAgent{{Paths: []string{dir + "/Dockerfile"}}}}), "/Dockerfile is not a private key")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, SSH: []engine.SSHAgent{{Paths: []string{dir}}}}), "is a directory")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, SSH: []engine.SSHAgent{{Paths: []string{lockedKey(t)}}}}), "protected by a passphrase")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, SSH: []engine.SSHAgent{{}, {}}}), `"default" is given twice`)
	t.Setenv("SSH_AUTH_SOCK", "")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, SSH: []engine.SSHAgent{{}}}), "SSH_AUTH_SOCK is not set")
}

// sshAgent runs an agent with one key and gives its socket and the fingerprint of the key.
func sshAgent(t *testing.T) (sock, fingerprint string) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private, Comment: "lab"}); err != nil {
		t.Fatal(err)
	}
	sock = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _ = agent.ServeAgent(keys, c) }()
		}
	}()
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return sock, ssh.FingerprintSHA256(key)
}

// lockedKey is a private key with a passphrase.
func lockedKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "lab", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "locked")
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// dumpEvents renders all that the events of a build hold.
func dumpEvents(t *testing.T, rec *recorder) string {
	t.Helper()
	var b strings.Builder
	for _, ev := range rec.events {
		data, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(data)
		if ev.Log != nil {
			b.Write(ev.Log.Data)
		}
		fmt.Fprintf(&b, " %v\n", ev.Err)
		if ev.Stage != nil {
			for _, def := range ev.Stage.Definition().GetDef() {
				b.Write(def)
			}
		}
	}
	return b.String()
}

// dumpTree gives the content of all files below dir, and what is packed in them.
func dumpTree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if zr, zerr := gzip.NewReader(bytes.NewReader(data)); zerr == nil {
			if data, err = io.ReadAll(zr); err != nil {
				return err
			}
		}
		b.Write(data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// daemonLog is what the shared daemon has logged.
func daemonLog(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(fixture.conn.Info.LogPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
