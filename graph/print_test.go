package graph

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var printers = map[string]func(io.Writer, *Graph) error{
	"graph.txt": Fprint, "graph.dot": Dot, "graph.mmd": Mermaid, "graph.json": JSON,
}

// sample is a graph with every kind of edge, names that meet and awkward characters.
func sample(t testing.TB) *Graph {
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("..."))
	golang := llb.Image("docker.io/library/golang:1.26", at(src, 1, 1))
	deps := golang.File(llb.Mkdir("/deps", 0o755), at(src, 2, 2), llb.WithCustomName("[deps 2/2] RUN go mod download"))
	assets := llb.Scratch().File(llb.Mkdir("/\"assets\"", 0o755), at(src, 4, 5), llb.WithCustomName("RUN <<EOF\nmkdir \"assets\" & <more>\nEOF"))
	build := deps.Run(llb.Shlex("make"), at(src, 7, 8), llb.WithCustomName("[build 1/1] RUN make"), llb.AddMount("/assets", assets, llb.Readonly)).Root()

	sDeps := newStage(t, place(spec(t, "deps", deps), 1))
	sAssets := newStage(t, place(spec(t, `assets "&" more`, assets), 4))
	sBuild := newStage(t, place(spec(t, "build", build,
		Input{Stage: sDeps, Kind: InputBase, Pos: Pos{File: "Dockerfile", Line: 6}},
		Input{Stage: sAssets, Kind: InputMount, Pos: Pos{File: "Dockerfile", Line: 7}},
	), 6))
	out := llb.Scratch().File(llb.Copy(build, "/app", "/app"), at(src, 10, 10), llb.WithCustomName("COPY --from=build /app /app")).
		File(llb.Copy(build, "/doc", "/doc"), at(src, 11, 11), llb.WithCustomName("COPY --from=build /doc /doc"))
	in := []Input{{Stage: sBuild, Kind: InputCopy, Pos: Pos{File: "Dockerfile", Line: 10}}, {Stage: sBuild, Kind: InputCopy, Pos: Pos{File: "Dockerfile", Line: 11}}}
	sOut := newStage(t, place(spec(t, "stage-3", out, in...), 9))
	arm := place(spec(t, "stage-3", out, in...), 9)
	arm.Platform = ocispecs.Platform{OS: "linux", Architecture: "arm64"}
	withConfig := place(spec(t, "stage-3", out, in...), 9)
	withConfig.Config = []byte("{}")
	g, err := New(sOut, newStage(t, arm), newStage(t, withConfig))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func place(s Spec, line int) Spec {
	s.Pos = Pos{File: "Dockerfile", Line: line}
	return s
}

func TestPrintGolden(t *testing.T) {
	g := sample(t)
	for name, print := range printers {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			if err := print(&got, g); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s is out of date; go test -update rewrites it (-want +got):\n%s", file, diff)
			}
		})
	}
}

func TestJSONIsWhole(t *testing.T) {
	g := sample(t)
	var text strings.Builder
	if err := JSON(&text, g); err != nil {
		t.Fatal(err)
	}
	var got Picture
	if err := json.Unmarshal([]byte(text.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Stages) != len(g.Stages()) || len(got.Outputs) != 3 {
		t.Errorf("got %d stages, %d outputs", len(got.Stages), len(got.Outputs))
	}
	for i, s := range g.Stages() {
		if js := got.Stages[i]; js.ID != s.ID || len(js.Steps) != len(s.Steps) || len(js.Inputs) != len(s.Inputs) {
			t.Errorf("stage %s: got %+v", s.Name, js)
		}
	}
}

type brokenPipe struct{}

var errPipe = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errPipe }

func TestPrintReportsWriteErrors(t *testing.T) {
	g := sample(t)
	for name, print := range printers {
		if err := print(brokenPipe{}, g); !errors.Is(err, errPipe) {
			t.Errorf("%s: got %v, want %v", name, err, errPipe)
		}
	}
}

func TestShortID(t *testing.T) {
	for in, want := range map[string]string{
		"sha256:0123456789abcdef": "0123456789ab", "sha256:01": "01", "": "", "0123456789abcdef": "0123456789ab",
	} {
		if got := ShortID(digest.Digest(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
