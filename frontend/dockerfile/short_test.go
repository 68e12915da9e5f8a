package dockerfile

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	digest "github.com/opencontainers/go-digest"
)

func TestShort(t *testing.T) {
	for name, want := range map[string]bool{
		"alpine": true, "alpine:3.20": true, "org/app": true, "org/app:1@sha256:00": true, "a/b/c.d:1": true,
		"ghcr.io/app": false, "localhost/app": false, "localhost:5000/app": false, "host:1/app": false, "docker.io/alpine": false,
	} {
		if got := Short(name); got != want {
			t.Errorf("Short(%q) = %t", name, got)
		}
	}
}

// Short names, and they alone, are given to Resolve, as the file has them; what it
// answers is what the stages read.
func TestResolveShortNames(t *testing.T) {
	text := "ARG TAG=3\nFROM busybox\nRUN echo\nFROM alpine:$TAG AS named\nRUN echo\n" +
		"FROM docker.io/library/onbuild AS whole\nRUN echo\nFROM onbuild AS both\nRUN echo\n" +
		"FROM scratch\nCOPY --from=0 / /a\nCOPY --from=named / /b\nCOPY --from=whole / /c\nCOPY --from=both / /d\nCOPY --from=tools/x /e /e\n"
	gw := newGateway(t, map[string]string{"Dockerfile": text}, nil)
	var mu sync.Mutex
	asked := map[string]bool{}
	g, err := Compile(context.Background(), gw, Options{
		Resolve: func(ctx context.Context, name string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
			mu.Lock()
			asked[name] = true
			mu.Unlock()
			_, dgst, config, err := gw.ResolveImageConfig(ctx, "docker.io/library/busybox:latest", opt)
			return "example.com/own/" + name, dgst, config, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 3 || !asked["busybox"] || !asked["alpine:3"] || !asked["tools/x"] {
		t.Errorf("asked for %v", asked)
	}
	var refs []string
	for _, s := range g.Stages() {
		for _, src := range s.Sources {
			ref := src.Ref
			if i := slices.Index([]byte(ref), '@'); i > 0 {
				ref = ref[:i]
			}
			refs = append(refs, ref)
		}
	}
	slices.Sort(refs)
	want := []string{"context", "docker.io/library/onbuild:latest", "example.com/own/alpine:3", "example.com/own/busybox", "example.com/own/tools/x"}
	if !slices.Equal(refs, want) {
		t.Errorf("the graph reads %v, want %v", refs, want)
	}
}
