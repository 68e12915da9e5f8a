package graph

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	digest "github.com/opencontainers/go-digest"
)

const pinned = "docker.io/library/base@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// keyer gives a Keyer whose local sources hold what content says of each take.
func keyer(content func(Source, Take) string) *Keyer {
	return &Keyer{Local: func(_ context.Context, src Source, take Take) (digest.Digest, error) {
		return digest.FromString(content(src, take)), nil
	}}
}

func byPath(_ Source, t Take) string { return t.Path }

func keyOf(t testing.TB, k *Keyer, s *Stage) Key {
	t.Helper()
	key, _, err := k.Key(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeySaysWhatCounts(t *testing.T) {
	local := func(id string, opts ...llb.LocalOption) llb.State {
		return llb.Local("context", append(opts, llb.LocalUniqueID(id), llb.SessionID(id))...)
	}
	build := func(mod func(*Spec), run string, copies llb.State, path string) *Stage {
		st := llb.Image(pinned).File(llb.Copy(copies, path, "/app")).Run(llb.Shlex(run)).Root()
		sp := spec(t, "a", st)
		if mod != nil {
			mod(&sp)
		}
		return newStage(t, sp)
	}
	epoch := time.Unix(1, 0)
	first := keyOf(t, keyer(byPath), build(nil, "make", local("1"), "/src"))
	for what, same := range map[string]struct {
		stage *Stage
		keyer *Keyer
	}{
		"session":   {build(nil, "make", local("2"), "/src"), keyer(byPath)},
		"name":      {build(func(s *Spec) { s.Name = "b" }, "make", local("1"), "/src"), keyer(byPath)},
		"file time": {build(nil, "make", local("1", llb.SharedKeyHint("x")), "/src"), keyer(byPath)},
		"tag with the same digest": {newStage(t, spec(t, "a", llb.Image(strings.Replace(pinned, "@", ":tag@", 1)).
			File(llb.Copy(local("1"), "/src", "/app")).Run(llb.Shlex("make")).Root())), keyer(byPath)},
		"proxy": {newStage(t, spec(t, "a", llb.Image(pinned).File(llb.Copy(local("1"), "/src", "/app")).
			Run(llb.Shlex("make"), llb.WithProxy(llb.ProxyEnv{HTTPProxy: "http://user:secret@proxy"})).Root())), keyer(byPath)},
	} {
		if got := keyOf(t, same.keyer, same.stage); got != first {
			t.Errorf("%s takes part in the key", what)
		}
	}
	seen := map[Key]string{first: "nothing"}
	for what, other := range map[string]struct {
		stage *Stage
		keyer *Keyer
	}{
		"content":   {build(nil, "make", local("1"), "/src"), keyer(func(_ Source, t Take) string { return t.Path + "!" })},
		"command":   {build(nil, "make all", local("1"), "/src"), keyer(byPath)},
		"copy path": {build(nil, "make", local("1"), "/lib"), keyer(byPath)},
		"config":    {build(func(s *Spec) { s.Config = []byte(`{"x":1}`) }, "make", local("1"), "/src"), keyer(byPath)},
		"epoch":     {build(func(s *Spec) { s.Epoch = &epoch }, "make", local("1"), "/src"), keyer(byPath)},
		"platform":  {build(func(s *Spec) { s.Platform.Architecture = "arm64" }, "make", local("1"), "/src"), keyer(byPath)},
		"image": {newStage(t, spec(t, "a", llb.Image(strings.Replace(pinned, "e3b0", "e3b1", 1)).
			File(llb.Copy(local("1"), "/src", "/app")).Run(llb.Shlex("make")).Root())), keyer(byPath)},
		"scratch": {newStage(t, spec(t, "a", llb.Scratch())), keyer(byPath)},
		"mount": {newStage(t, spec(t, "a", llb.Image(pinned).Run(llb.Shlex("make"),
			llb.AddMount("/src", local("1"), llb.SourcePath("/src"), llb.Readonly)).Root())), keyer(byPath)},
		"secret id": {newStage(t, spec(t, "a", llb.Image(pinned).File(llb.Copy(local("1"), "/src", "/app")).
			Run(llb.Shlex("make"), llb.AddSecret("/s", llb.SecretID("x"))).Root())), keyer(byPath)},
	} {
		got := keyOf(t, other.keyer, other.stage)
		if was, ok := seen[got]; ok {
			t.Errorf("changing %s and changing %s give the same key", what, was)
		}
		seen[got] = what
	}
}

// TestKeyTakesOnlyWhatIsRead looks at what the keyer asks for.
func TestKeyTakesOnlyWhatIsRead(t *testing.T) {
	ctx := llb.Local("context", llb.LocalUniqueID("x"))
	st := llb.Image(pinned).
		File(llb.Copy(ctx, "/a*", "/", &llb.CopyInfo{AllowWildcard: true, ExcludePatterns: []string{"*.md"}}).Copy(ctx, "/b", "/")).
		Run(llb.Shlex("make"), llb.AddMount("/m", ctx, llb.SourcePath("/c"))).Root()
	var asked []string
	k := keyer(func(src Source, take Take) string {
		asked = append(asked, fmt.Sprint(src.Ref, " ", take.Path, " ", take.Wildcard, " ", take.Exclude))
		return take.Path
	})
	_, parts, err := k.Key(t.Context(), newStage(t, spec(t, "a", st)))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"context /a* true [*.md]", "context /b false []", "context /c false []"}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	var kinds []PartKind
	for _, p := range parts {
		kinds = append(kinds, p.Kind)
	}
	wantKinds := []PartKind{PartImage, PartInstruction, PartFiles, PartFiles, PartInstruction, PartFiles, PartConfig}
	if fmt.Sprint(kinds) != fmt.Sprint(wantKinds) {
		t.Errorf("got parts %v, want %v", kinds, wantKinds)
	}
}

func TestNoKey(t *testing.T) {
	for name, st := range map[string]llb.State{
		"image without digest": llb.Image("base"),
		"address":              llb.HTTP("https://example.com/file"),
		"git branch":           llb.Git("github.com/moby/buildkit.git", "master"),
	} {
		s := newStage(t, spec(t, "a", llb.Scratch().File(llb.Copy(st, "/", "/"))))
		var no *NoKeyError
		if _, _, err := keyer(byPath).Key(t.Context(), s); !errors.As(err, &no) {
			t.Errorf("%s: got %v, want a NoKeyError", name, err)
		}
		above := newStage(t, spec(t, "b", llb.Scratch().File(llb.Copy(st, "/", "/")).File(llb.Mkdir("/x", 0o755)), Input{Stage: s}))
		if _, _, err := keyer(byPath).Key(t.Context(), above); !errors.As(err, &no) {
			t.Errorf("on top of %s: got %v, want a NoKeyError", name, err)
		}
	}
	commit := strings.Repeat("ab", 20)
	for name, st := range map[string]llb.State{
		"checksum": llb.HTTP("https://example.com/file", llb.Checksum(digest.FromString("x"))),
		"commit":   llb.Git("github.com/moby/buildkit.git", commit),
	} {
		if _, _, err := keyer(byPath).Key(t.Context(), newStage(t, spec(t, "a", st))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyOfStagesAndWhole: a stage has the same key whether its inputs are stages of
// their own or not.
func TestKeyOfStagesAndWhole(t *testing.T) {
	base := llb.Image(pinned).File(llb.Mkdir("/base", 0o755))
	out := base.File(llb.Copy(llb.Local("context", llb.LocalUniqueID("1")), "/x", "/"))
	whole := newStage(t, spec(t, "out", out))
	part := newStage(t, spec(t, "base", base))
	split := newStage(t, spec(t, "out", out, Input{Stage: part, Kind: InputBase}))
	if a, b := keyOf(t, keyer(byPath), whole), keyOf(t, keyer(byPath), split); a != b {
		t.Errorf("got %s in one and %s in two stages", a, b)
	}
}

// TestKeyIsStable pins keys on purpose: when they change, every memo is cold.
func TestKeyIsStable(t *testing.T) {
	st := llb.Image(pinned).File(llb.Copy(llb.Local("context", llb.LocalUniqueID("1")), "/x", "/")).Run(llb.Shlex("make")).Root()
	sp := spec(t, "a", st)
	sp.Config = []byte(`{"config":{}}`)
	const want = "sha256:136a6c15f1e00f9215ed4a061c403543bc18a465bcf3f69e002d1986e66c3ac7"
	if got := keyOf(t, keyer(byPath), newStage(t, sp)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// BenchmarkKeys has to stay linear: look at the time per stage.
func BenchmarkKeys(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n, " stages"), func(b *testing.B) {
			g, err := New(large(b, n))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				k := keyer(byPath)
				for _, s := range g.Stages() {
					keyOf(b, k, s)
				}
			}
		})
	}
}
