package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestResolve(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	ggcr := randomIndex(t, "linux/amd64", "linux/arm64")
	idx := putIndex(t, s, ggcr)
	img := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	importAs(t, s, idx, "multi:1", "ghcr.io/me/multi:2")
	importAs(t, s, img, "single", img.Digest.Encoded()[:6]+"x", idx.Digest.Encoded()[:12])
	child := must[*v1.IndexManifest](t)(ggcr.IndexManifest()).Manifests[2].Digest.String()
	var m ocispecs.Manifest
	if err := s.readJSON(img, maxManifestBytes, &m); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ ref, want string }{
		{"multi:1", idx.Digest.String()},
		{"docker.io/library/multi:1", idx.Digest.String()},
		{"ghcr.io/me/multi:2", idx.Digest.String()},
		{"single", img.Digest.String()},
		{"single:latest", img.Digest.String()},
		{"single@" + img.Digest.String(), img.Digest.String()},
		{"multi@" + idx.Digest.String(), idx.Digest.String()},
		{"multi:1@" + idx.Digest.String(), idx.Digest.String()},
		{img.Digest.String(), img.Digest.String()},
		{img.Digest.String()[:20], img.Digest.String()},
		{img.Digest.Encoded(), img.Digest.String()},
		{img.Digest.Encoded()[:9], img.Digest.String()},
		{child, child},
		{m.Config.Digest.String(), img.Digest.String()},
		{m.Config.Digest.Encoded()[:12], img.Digest.String()},
		{idx.Digest.Encoded()[:12], img.Digest.String()}, // the name goes first
	} {
		d, err := s.Resolve(ctx, tt.ref)
		if err != nil || d.Digest.String() != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.ref, d.Digest, err, tt.want)
		}
	}
	for _, ref := range []string{
		"multi", "other", "single@" + idx.Digest.String(), "multi:2@" + idx.Digest.String(),
		someDigest, "sha256:0000", "abcdef0123456789",
	} {
		if _, err := s.Resolve(ctx, ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want not found", ref, err)
		}
	}
}

func TestReferenceErrors(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	d := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	importAs(t, s, d, "app:1", "app:2", "localhost:5000/app:3")
	idx := putIndex(t, s, randomIndex(t, "linux/amd64", "linux/arm64"))
	importAs(t, s, idx, "multi")
	var m ocispecs.Index
	if err := s.readJSON(idx, maxManifestBytes, &m); err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	show := func(what string, err error) {
		text := fmt.Sprint(err)
		for digest, name := range map[string]string{
			d.Digest.String(): "<app>", idx.Digest.String(): "<multi>", m.Manifests[0].Digest.String(): "<child>",
		} {
			what, text = strings.ReplaceAll(what, digest, name), strings.ReplaceAll(text, digest, name)
		}
		fmt.Fprintf(&report, "%s\n\t%s\n", what, text)
	}
	for _, ref := range []string{"", "App", "app", "nothing", "app:1 ", "a//b", "sha256:zz", someDigest, "sha256:"} {
		_, err := s.Resolve(ctx, ref)
		show(fmt.Sprintf("resolve %q", ref), err)
	}
	_, err := s.Remove(ctx, d.Digest.String())
	show("remove "+d.Digest.String(), err)
	_, err = s.Remove(ctx, m.Manifests[0].Digest.String())
	show("remove "+m.Manifests[0].Digest.String(), err)
	show("tag app:1 as X", s.Tag(ctx, "app:1", "X"))
	show("tag nothing as x", s.Tag(ctx, "nothing", "x"))
	show("import as a@digest", s.Import(ctx, d, "a@"+someDigest))
	_, err = s.Image(ctx, "multi", nil)
	show("image of multi", err)
	_, err = s.Image(ctx, "multi", &ocispecs.Platform{OS: "linux", Architecture: "riscv64"})
	show("image of multi for riscv64", err)
	_, err = s.Index(ctx, "app:1")
	show("index of app:1", err)
	_, err = s.Push(ctx, d.Digest.String(), PushOptions{})
	show("push "+d.Digest.String(), err)
	show("save nothing", s.Save(ctx, nil, nil, SaveOptions{}))
	show("save as zip", s.Save(ctx, nil, []string{"app:1"}, SaveOptions{Format: "zip"}))
	golden(t, "reference_errors", report.String())
}

func TestAmbiguousPrefix(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	for i := range 40 {
		importAs(t, s, putImage(t, s, randomImage(t, 10, 1, "linux/amd64")), fmt.Sprintf("app:%d", i))
	}
	// 40 digests: two share their first digit.
	seen := map[byte]int{}
	for _, e := range must[*ocispecs.Index](t)(s.readIndex()).Manifests {
		seen[e.Digest.Encoded()[0]]++
	}
	for c, n := range seen {
		_, err := s.Resolve(ctx, "sha256:"+string(c))
		if n == 1 && err != nil || n > 1 && (err == nil || !strings.Contains(err.Error(), "ambiguous")) {
			t.Errorf("%d digests start with %c: got %v", n, c, err)
		}
	}
}

func TestTagAndRemove(t *testing.T) {
	s, ctx := openStore(t), context.Background()
	d := putImage(t, s, randomImage(t, 100, 1, "linux/amd64"))
	importAs(t, s, d, "app")
	for _, src := range []string{"app", d.Digest.Encoded()[:10]} {
		if err := s.Tag(ctx, src, "other"); err != nil {
			t.Fatal(err)
		}
	}
	got := must[Removed](t)(s.Remove(ctx, "app"))
	if want := (Removed{Name: "docker.io/library/app:latest", Digest: d.Digest}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = must[Removed](t)(s.Remove(ctx, d.Digest.Encoded()[:8]))
	if want := (Removed{Name: "docker.io/library/other:latest", Digest: d.Digest, Last: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := s.Remove(ctx, "app"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	// A platform's manifest can have a name of its own.
	idx := putIndex(t, s, randomIndex(t, "linux/amd64", "linux/arm64"))
	importAs(t, s, idx, "multi")
	img := must[v1.Image](t)(s.Image(ctx, "multi", &ocispecs.Platform{OS: "linux", Architecture: "arm64"}))
	h := must[v1.Hash](t)(img.Digest()).String()
	if err := s.Tag(ctx, h, "arm"); err != nil {
		t.Fatal(err)
	}
	if d := must[ocispecs.Descriptor](t)(s.Resolve(ctx, "arm")); d.Digest.String() != h {
		t.Errorf("got %s, want %s", d.Digest, h)
	}
}
