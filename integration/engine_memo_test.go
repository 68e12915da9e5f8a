package integration

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
	"github.com/zlayer-dev/zlayer/solver"
)

// remembering is a user with a memo and a store of their own.
type remembering struct {
	t            *testing.T
	state, store string
	// registry has the base images, and what is pushed.
	registry *lab.Registry
}

func newRemembering(t *testing.T) *remembering {
	t.Helper()
	buildkit(t)
	reg, err := lab.StartRegistry(lab.RegistryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	return &remembering{t: t, state: t.TempDir(), store: t.TempDir(), registry: reg}
}

// open gives an engine on the daemon that the package shares.
func (m *remembering) open() *engine.Engine {
	return m.openWith(engine.Config{Addr: fixture.conn.Info.Address})
}

// bare gives an engine that has no daemon and cannot start one.
func (m *remembering) bare() *engine.Engine {
	return m.openWith(engine.Config{DaemonCommand: []string{"/bin/false"}})
}

func (m *remembering) openWith(cfg engine.Config) *engine.Engine {
	m.t.Helper()
	cfg.StateDir, cfg.StoreDir = m.state, m.store
	e, err := engine.Open(m.t.Context(), cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { e.Close() })
	return e
}

// again builds without a daemon, which must do for what is remembered.
func (m *remembering) again(req engine.Request) *engine.Result {
	m.t.Helper()
	res := build(m.t, m.bare(), req)
	if res.Changed {
		m.t.Error("something was built")
	}
	return res
}

// mustBuild makes sure that a request cannot be answered from the memo, and builds it.
func (m *remembering) mustBuild(req engine.Request) *engine.Result {
	m.t.Helper()
	if res, err := m.bare().Build(m.t.Context(), req); err == nil {
		m.t.Errorf("it was not built: changed %v, restored %v", res.Changed, res.Restored)
	}
	res := build(m.t, m.open(), req)
	if !res.Changed {
		m.t.Error("nothing was built")
	}
	return res
}

// base pushes an image with a file of that text.
func (m *remembering) base(tag, text string) string {
	m.t.Helper()
	ref := m.registry.Addr() + "/" + tag
	build(m.t, openEngine(m.t), engine.Request{Context: files{"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": text}.dir(m.t), Tags: []string{ref}, Push: true})
	return ref
}

// asked lists the requests that the registry has answered since the last time, but for
// those that ask how to log in.
func (m *remembering) asked() []string {
	var list []string
	for _, r := range m.registry.Requests() {
		if r.Path != "/v2/" {
			list = append(list, r.Method+" "+r.Path)
		}
	}
	m.registry.ResetRequests()
	return list
}

func TestEngineMemoDoesNothingTwice(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	tag := m.base("base:1", "base")
	digest := remoteDescriptor(t, m.registry, tag).Digest.String()
	out := t.TempDir()
	for what, c := range map[string]struct {
		from string
		req  engine.Request
		want []string
	}{
		"store":     {from: "scratch", req: engine.Request{Tags: []string{"twice:1"}}},
		"digest":    {from: m.registry.Addr() + "/base@" + digest},
		"tag":       {from: tag, want: []string{"HEAD /v2/base/manifests/1"}},
		"oci":       {from: "scratch", req: engine.Request{Outputs: []engine.Output{{Type: engine.OutputOCI, Dest: out + "/oci.tar"}}}},
		"docker":    {from: "scratch", req: engine.Request{Tags: []string{"twice:2"}, Outputs: []engine.Output{{Type: engine.OutputDocker, Dest: out + "/docker.tar"}}}},
		"tar":       {from: tag, req: engine.Request{Outputs: []engine.Output{{Type: engine.OutputTar, Dest: out + "/files.tar"}}}, want: []string{"HEAD /v2/base/manifests/1"}},
		"local":     {from: "scratch", req: engine.Request{Outputs: []engine.Output{{Type: engine.OutputLocal, Dest: out + "/local"}}}},
		"cacheonly": {from: "scratch", req: engine.Request{Outputs: cacheOnly}},
		"push":      {from: "scratch", req: engine.Request{Tags: []string{m.registry.Addr() + "/pushed:1"}, Push: true}, want: []string{"HEAD /v2/pushed/manifests/1"}},
		"several":   {from: "scratch", req: engine.Request{Tags: []string{"twice:3"}, Outputs: []engine.Output{{Type: engine.OutputStore}, {Type: engine.OutputLocal, Dest: out + "/several"}}}},
	} {
		c.req.Context = files{"Dockerfile": "FROM " + c.from + "\nCOPY f /f\nLABEL of=" + what + "\n", "f": what}.dir(t)
		first := m.mustBuild(c.req)
		m.asked()
		second := m.again(c.req)
		if got := m.asked(); !slices.Equal(got, c.want) {
			t.Errorf("%s: the registry was asked %v, want %v", what, got, c.want)
		}
		if second.Restored || second.Digest != first.Digest || second.ConfigDigest != first.ConfigDigest || !slices.Equal(second.Tags, first.Tags) {
			t.Errorf("%s: got %s %v restored %v, want %s %v", what, second.Digest, second.Tags, second.Restored, first.Digest, first.Tags)
		}
		if len(first.Metadata) == 0 && first.Digest != "" || len(second.Metadata) != len(first.Metadata) {
			t.Errorf("%s: metadata %v, want %v", what, second.Metadata, first.Metadata)
		}
		// What is no input does not count: times and places of files, and who asks.
		now := time.Now()
		if err := os.Chtimes(filepath.Join(c.req.Context, "f"), now, now); err != nil {
			t.Fatal(err)
		}
		moved := t.TempDir() + "/moved"
		if err := os.Rename(c.req.Context, moved); err != nil {
			t.Fatal(err)
		}
		c.req.Context = moved
		if third := m.again(c.req); third.Digest != first.Digest {
			t.Errorf("%s: got %s after moving, want %s", what, third.Digest, first.Digest)
		}
		// What is one does.
		if err := os.WriteFile(filepath.Join(moved, "f"), []byte(what+"!"), 0o644); err != nil {
			t.Fatal(err)
		}
		m.mustBuild(c.req)
	}
	if entries, err := os.ReadDir(filepath.Join(m.state, "buildkit")); err == nil && len(entries) > 0 {
		t.Errorf("a daemon has left %v", entries)
	}
}

func TestEngineMemoRestores(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	dir := files{"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": t.Name()}.dir(t)
	out := t.TempDir()
	remove := func(path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	restored := func(req engine.Request) *engine.Result {
		t.Helper()
		res := m.again(req)
		if !res.Restored {
			t.Error("nothing was put back")
		}
		if again := m.again(req); again.Restored || again.Digest != res.Digest {
			t.Errorf("once more: restored %v, digest %s, want %s", again.Restored, again.Digest, res.Digest)
		}
		return res
	}
	inStore := engine.Request{Context: dir, Tags: []string{"restore:1"}}
	first := m.mustBuild(inStore)
	s, err := m.bare().Store()
	if err != nil {
		t.Fatal(err)
	}
	// Another name of what is there.
	other := inStore
	other.Tags = []string{"restore:2"}
	if res := restored(other); res.Digest != first.Digest || !slices.Equal(res.Tags, []string{"docker.io/library/restore:2"}) {
		t.Errorf("got %s %v", res.Digest, res.Tags)
	}
	if _, err := s.Remove(t.Context(), "restore:1"); err != nil {
		t.Fatal(err)
	}
	restored(inStore)
	if d, err := s.Resolve(t.Context(), "restore:1"); err != nil || d.Digest != first.Digest {
		t.Errorf("the name stands for %v, %v", d, err)
	}

	// Archives are written out of the store.
	oci := engine.Request{Context: dir, Tags: []string{"restore:1"}, Outputs: []engine.Output{{Type: engine.OutputOCI, Dest: out + "/oci.tar"}}}
	docker := engine.Request{Context: dir, Tags: []string{"restore:1"}, Outputs: []engine.Output{{Type: engine.OutputDocker, Dest: out + "/docker.tar"}}}
	if res := restored(oci); res.Digest != first.Digest {
		t.Errorf("the archive has %s, want %s", res.Digest, first.Digest)
	}
	remove(out + "/oci.tar")
	restored(oci)
	inDocker := m.mustBuild(docker)
	m.again(docker)
	if err := os.WriteFile(out+"/docker.tar", []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	res := build(t, m.open(), docker)
	if !res.Changed && !res.Restored {
		t.Error("an archive that was edited by hand is left as it is")
	}
	tag, err := name.NewTag("restore:1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(out+"/docker.tar", &tag)
	if err != nil {
		t.Fatalf("the archive is not one that docker loads: %v", err)
	}
	if c, err := img.ConfigName(); err != nil || c.String() != inDocker.ConfigDigest.String() || res.ConfigDigest != inDocker.ConfigDigest {
		t.Errorf("the archive has the image %v, %v; want %s", c, err, inDocker.ConfigDigest)
	}

	// A directory and an archive of files are made of the image.
	local := engine.Request{Context: dir, Outputs: []engine.Output{{Type: engine.OutputLocal, Dest: out + "/local"}}}
	m.mustBuild(local)
	m.again(local)
	if err := os.WriteFile(out+"/local/f", []byte("by hand"), 0o644); err != nil {
		t.Fatal(err)
	}
	restored(local)
	if got, _ := os.ReadFile(out + "/local/f"); string(got) != t.Name() {
		t.Errorf("the file is %q", got)
	}
	tar := engine.Request{Context: dir, Outputs: []engine.Output{{Type: engine.OutputTar, Dest: out + "/files.tar"}}}
	m.mustBuild(tar)
	remove(out + "/files.tar")
	restored(tar)

	// Where no image of them is kept, they are built.
	tar.Context = files{"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": t.Name() + " alone"}.dir(t)
	m.mustBuild(tar)
	remove(out + "/files.tar")
	m.mustBuild(tar)

	// A blob of the image is lost.
	blob := filepath.Join(m.store, "blobs", "sha256", first.ConfigDigest.Encoded())
	remove(blob)
	if res := m.mustBuild(inStore); res.Digest != first.Digest {
		t.Errorf("got %s, want %s", res.Digest, first.Digest)
	}
	if err := s.Verify(t.Context(), "restore:1"); err != nil {
		t.Error(err)
	}
}

// What was pushed is looked for in the registry, and a tag that has moved is put back
// by one request.
func TestEngineMemoPushes(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	ref := m.registry.Addr() + "/team/app:1"
	req := engine.Request{Context: files{"Dockerfile": oneFile(t)}.dir(t), Tags: []string{ref}, Push: true}
	first := m.mustBuild(req)
	puts := func() int {
		n := 0
		for _, r := range m.asked() {
			if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "HEAD ") {
				n++
				if !strings.HasPrefix(r, "PUT /v2/team/app/manifests/") {
					t.Errorf("the registry was asked to %s", r)
				}
			}
		}
		return n
	}
	check := func(what string, want int) {
		t.Helper()
		m.asked()
		res := m.again(req)
		if n := puts(); n != want || res.Restored != (want > 0) {
			t.Errorf("%s: %d requests that write, restored %v; want %d", what, n, res.Restored, want)
		}
		if got := remoteDescriptor(t, m.registry, ref).Digest.String(); got != first.Digest.String() || res.Digest != first.Digest {
			t.Errorf("%s: the registry has %s, the result %s, want %s", what, got, res.Digest, first.Digest)
		}
	}
	check("nothing happened", 0)
	// Somebody moves the tag.
	build(t, openEngine(t), engine.Request{Context: files{"Dockerfile": "FROM scratch\nLABEL other=1\n"}.dir(t), Tags: []string{ref}, Push: true})
	check("the tag has moved", 1)
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(tag, m.registry.RemoteOptions(t.Context())...); err != nil {
		t.Fatal(err)
	}
	check("the tag was deleted", 1)
	// Another tag of the same repository.
	req.Tags = []string{ref, m.registry.Addr() + "/team/app:2"}
	check("another tag", 1)
	// A repository that has nothing of it.
	req.Tags = []string{m.registry.Addr() + "/other/app:1"}
	m.mustBuild(req)
}

func TestEngineMemoWhatIsNotRemembered(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	base := labtest.Start(t).Ref("busybox")
	dir := files{"Dockerfile": "FROM " + base + "\nARG FAIL\nCOPY f /f\nRUN cat /f > /g && test -z \"$FAIL\"\n", "f": "one"}.dir(t)
	req := engine.Request{Context: dir, Tags: []string{"remember:1"}}

	failing := req
	failing.BuildArgs = map[string]string{"FAIL": "yes"}
	for range 2 {
		mustSay(t, buildFails(t, m.open(), failing), "exit code: 1")
	}
	if list, err := m.bare().Memo(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("a build that fails is remembered: %v, %v", list, err)
	}

	// A file is edited while it is built.
	edited := req
	once := false
	edited.Events = func(ev solver.Event) {
		if ev.Kind == solver.StepStarted && strings.Contains(ev.Step.Name, "RUN cat") && !once {
			once = true
			if err := os.WriteFile(filepath.Join(dir, "f"), []byte("two"), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	build(t, m.open(), edited)
	if !once {
		t.Fatal("the step did not run")
	}
	if list, err := m.bare().Memo(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("a build whose files were edited is remembered: %v, %v", list, err)
	}
	m.mustBuild(req)
	m.again(req)

	// --no-cache builds, and what it gives takes the place of what was remembered.
	fresh := req
	fresh.NoCache = true
	if _, err := m.bare().Build(t.Context(), fresh); err == nil {
		t.Error("without the cache it was not built")
	}
	renewed := build(t, m.open(), fresh)
	if !renewed.Changed {
		t.Error("without the cache nothing was built")
	}
	if got := m.again(req); got.Digest != renewed.Digest {
		t.Errorf("got %s, want that of the build without cache, %s", got.Digest, renewed.Digest)
	}

	// An attestation that was not there before.
	attested := req
	attested.Attests = map[string]string{"provenance": "mode=max"}
	first := m.mustBuild(attested)
	if second := m.again(attested); second.Digest != first.Digest || first.Digest == renewed.Digest {
		t.Errorf("attested: got %s, then %s; without %s", first.Digest, second.Digest, renewed.Digest)
	}
	if got := m.again(req); got.Digest != renewed.Digest {
		t.Errorf("without attestation: got %s, want %s", got.Digest, renewed.Digest)
	}

	off := m.openWith(engine.Config{DaemonCommand: []string{"/bin/false"}, Memo: []string{"off"}})
	if _, err := off.Build(t.Context(), req); err == nil {
		t.Error("without a memo it was not built")
	}
}

// Secrets do not count, and nothing that is kept has them.
func TestEngineMemoKeepsNoSecrets(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	base := labtest.Start(t).Ref("busybox")
	dir := files{"Dockerfile": "FROM " + base + "\nARG PLACE\nARG TOKEN\nWORKDIR /srv/$PLACE\nCOPY f /f\nRUN --mount=type=secret,id=s test -n \"$TOKEN\" && test -s /run/secrets/s\n", "f": t.Name()}.dir(t)
	req := engine.Request{
		Context: dir, Outputs: cacheOnly,
		BuildArgs: map[string]string{"TOKEN": "hunter2-in-an-argument", "PLACE": "hunter2-in-a-place"},
		Secrets:   []engine.Secret{{ID: "s", Value: []byte("hunter2-in-a-secret")}},
	}
	m.mustBuild(req)
	req.Secrets = []engine.Secret{{ID: "s", Value: []byte("another-secret")}}
	m.again(req)
	why, err := m.bare().Why(t.Context(), req, "")
	if err != nil || !why.Same {
		t.Errorf("got %+v, %v", why, err)
	}
	seen := 0
	err = filepath.WalkDir(m.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		seen++
		for _, plain := range [][]byte{text, unzipped(text)} {
			for _, secret := range []string{"hunter2-in-a-secret", "another-secret", "hunter2-in-an-argument", "hunter2-in-a-place"} {
				if bytes.Contains(plain, []byte(secret)) {
					t.Errorf("%s has %s", path, secret)
				}
			}
		}
		return err
	})
	if err != nil || seen < 4 {
		t.Errorf("%d files looked at: %v", seen, err)
	}
}

// A memo out of reach is a warning and a normal build.
func TestEngineMemoOutOfReach(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	e := m.openWith(engine.Config{Addr: fixture.conn.Info.Address, Memo: []string{"registry=127.0.0.1:1/memo"}})
	res := build(t, e, engine.Request{Context: files{"Dockerfile": oneFile(t)}.dir(t)})
	warned := 0
	for _, w := range res.Warnings {
		if strings.Contains(w.Short, "memo") {
			warned++
		}
	}
	if !res.Changed || warned != 1 {
		t.Errorf("changed %v, warnings %v", res.Changed, res.Warnings)
	}
	// One that can be read and not written.
	full := filepath.Join(t.TempDir(), "memo")
	if err := os.WriteFile(full, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	res = build(t, m.openWith(engine.Config{Addr: fixture.conn.Info.Address, Memo: []string{"local=" + full}}), engine.Request{Context: files{"Dockerfile": oneFile(t)}.dir(t)})
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0].Short, "memo") {
		t.Errorf("a memo that is a file: warnings %v", res.Warnings)
	}
	// One in a registry serves whoever has nothing but that.
	ref := m.registry.Addr() + "/shared/app:1"
	shared := []string{"registry=" + m.registry.Addr() + "/shared/memo,insecure"}
	req := engine.Request{Context: files{"Dockerfile": oneFile(t)}.dir(t), Tags: []string{ref}, Push: true}
	first := build(t, m.openWith(engine.Config{Addr: fixture.conn.Info.Address, Memo: shared}), req)
	colleague := newRemembering(t)
	got := build(t, colleague.openWith(engine.Config{DaemonCommand: []string{"/bin/false"}, Memo: shared}), req)
	if got.Changed || got.Digest != first.Digest {
		t.Errorf("changed %v, got %s, want %s", got.Changed, got.Digest, first.Digest)
	}
}
