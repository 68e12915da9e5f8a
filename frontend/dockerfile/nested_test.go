package dockerfile

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
)

// nestedBase compiles a build of another directory, whose local source has a name
// of its own.
func nestedBase(t *testing.T, text, local string) *graph.Stage {
	t.Helper()
	gw := newGateway(t, map[string]string{"Dockerfile": text, "one": "1"}, nil)
	g, err := Compile(context.Background(), gw, Options{
		Name:  local + "/Dockerfile",
		Local: func(name string) string { return local + "-" + name },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g.Outputs()[0]
}

func TestNested(t *testing.T) {
	base := nestedBase(t, "FROM busybox AS tools\nRUN echo tools\nFROM busybox\nCOPY --from=tools /etc /etc\nCOPY one /one\nENV FROM_BASE=yes\nWORKDIR /base\n", "base")
	var asked []string
	gw := newGateway(t, map[string]string{"Dockerfile": "ARG B=example/base\nFROM $B AS app\nCOPY one /app\nRUN echo $FROM_BASE\nFROM busybox\nCOPY --from=example/base:latest /one /x\nCOPY --from=app /app /app\nCOPY --from=alpine:3 /y /y\n", "one": "1"}, nil)
	g, err := Compile(context.Background(), gw, Options{Nested: func(_ context.Context, ref Reference) (*graph.Stage, error) {
		asked = append(asked, ref.Name+" "+string(ref.Kind)+" "+ref.Pos.String())
		if strings.HasPrefix(ref.Name, "example/base") {
			return base, nil
		}
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantAsked := []string{"example/base base Dockerfile:2", "busybox base Dockerfile:5", "alpine:3 copy Dockerfile:8"}
	if !slices.Equal(asked, wantAsked) {
		t.Errorf("asked for %q, want %q", asked, wantAsked)
	}
	want := []string{"tools()", "stage-1(tools:copy)", "app(stage-1:base)", "stage-1(stage-1:copy app:copy)"}
	if got := edges(g); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	locals := map[string]int{}
	for _, s := range g.Stages() {
		for _, src := range s.Sources {
			if src.Scheme == "local" {
				locals[src.Ref]++
			}
		}
	}
	if len(locals) != 2 || locals["base-context"] == 0 || locals["context"] == 0 {
		t.Errorf("got local sources %v", locals)
	}
	for _, st := range g.Stages()[0].Steps {
		if st.Pos.Line > 0 && st.Pos.File != "base/Dockerfile" {
			t.Errorf("step %s is at %s", st.Name, st.Pos)
		}
	}
}

func TestNestedConfig(t *testing.T) {
	base := nestedBase(t, "FROM busybox\nENV FROM_BASE=yes\nWORKDIR /base\n", "base")
	gw := newGateway(t, map[string]string{"Dockerfile": "FROM base\nRUN echo $FROM_BASE\n"}, nil)
	g, err := Compile(context.Background(), gw, Options{Nested: func(context.Context, Reference) (*graph.Stage, error) { return base, nil }})
	if err != nil {
		t.Fatal(err)
	}
	config := string(g.Outputs()[0].Config)
	if !strings.Contains(config, "FROM_BASE=yes") || !strings.Contains(config, `"WorkingDir":"/base"`) {
		t.Errorf("the base's config is not inherited: %s", config)
	}
}

func TestNestedFailure(t *testing.T) {
	gw := newGateway(t, map[string]string{"Dockerfile": "FROM example/base\n"}, nil)
	stop := errors.New("cycle")
	_, err := Compile(context.Background(), gw, Options{Nested: func(context.Context, Reference) (*graph.Stage, error) { return nil, stop }})
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestText(t *testing.T) {
	original := "base: busybox\nsteps:\n  - run: echo one\n  - run: echo two\n"
	text := &frontend.Text{
		Original:   []byte(original),
		Language:   "YAML",
		Dockerfile: []byte("FROM busybox AS main\n\nRUN echo one\nRUN echo two\n"),
		Lines:      []graph.Pos{{Line: 1, Column: 7}, {}, {Line: 3, Column: 5}, {Line: 4, Column: 5}},
	}
	gw := newGateway(t, map[string]string{"Dockerfile": "not read"}, nil)
	g, err := Compile(context.Background(), gw, Options{Name: "app/ZImagefile", Convert: func(context.Context, string, []byte) (*frontend.Text, error) { return text, nil }})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, st := range g.Outputs()[0].Steps {
		got = append(got, st.Pos.String())
	}
	if want := []string{"app/ZImagefile:1:7", "app/ZImagefile:3:5", "app/ZImagefile:4:5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	text.Dockerfile = []byte("FROM busybox AS main\n\nRUN echo one\nNONSENSE\n")
	_, err = Compile(context.Background(), gw, Options{Name: "app/ZImagefile", Convert: func(context.Context, string, []byte) (*frontend.Text, error) { return text, nil }})
	srcs := errdefs.Sources(err)
	if len(srcs) == 0 {
		t.Fatalf("got %v", err)
	}
	if s := srcs[0]; s.Info.Filename != "app/ZImagefile" || string(s.Info.Data) != original || s.Ranges[0].Start.Line != 4 || s.Ranges[0].Start.Character != 4 {
		t.Errorf("got %v", s)
	}
}
