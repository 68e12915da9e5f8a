package dockerfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
)

// edges renders a graph as one line a stage: name(input:kind ...).
func edges(g *graph.Graph) []string {
	var out []string
	for _, s := range g.Stages() {
		var ins []string
		for _, in := range s.Inputs {
			ins = append(ins, in.Stage.Name+":"+string(in.Kind))
		}
		out = append(out, s.Name+"("+strings.Join(ins, " ")+")")
	}
	return out
}

var compileCases = map[string]struct {
	text string
	opts map[string]string
	want []string
}{
	"one stage": {
		text: "FROM busybox\nRUN true\n",
		want: []string{"stage-0()"},
	},
	"names": {
		text: "FROM busybox AS a\nRUN echo a\nFROM a AS b\nRUN echo b\nFROM busybox\nCOPY --from=b /etc /x\nRUN --mount=from=a,target=/a ls /a\n",
		want: []string{"a()", "b(a:base)", "stage-2(b:copy a:mount)"},
	},
	"numbers": {
		text: "FROM busybox\nRUN echo a\nFROM busybox\nCOPY --from=0 /etc /x\n",
		want: []string{"stage-0()", "stage-1(stage-0:copy)"},
	},
	"unnamed with flags and continuation": {
		text: "FROM --platform=$BUILDPLATFORM \\\n  busybox\nRUN echo a\n# a comment\nFROM busybox\nCOPY --from=0 /etc /x\n",
		want: []string{"stage-0()", "stage-1(stage-0:copy)"},
	},
	"name taken": {
		text: "FROM busybox\nRUN echo 0\nFROM busybox AS stage-0\nRUN echo 1\nFROM busybox\nCOPY --from=0 /etc /x\nCOPY --from=stage-0 /etc /y\n",
		want: []string{"stage-0-unnamed()", "stage-0()", "stage-2(stage-0-unnamed:copy stage-0:copy)"},
	},
	"unused stages": {
		text: "FROM busybox AS unused\nRUN false\nFROM nosuch AS broken\nFROM busybox\nRUN true\n",
		want: []string{"stage-2()"},
	},
	"byte order mark above arguments": {
		text: "\ufeff# escape=\\\nARG A=1\nFROM busybox\nRUN echo a\nFROM busybox\nCOPY --from=0 /etc /x\n",
		want: []string{"stage-0()", "stage-1(stage-0:copy)"},
	},
	"target": {
		text: "FROM busybox AS a\nRUN echo a\nFROM a AS b\nRUN echo b\nFROM b\nRUN false\n",
		opts: map[string]string{"target": "B"},
		want: []string{"a()", "b(a:base)"},
	},
	"base from argument": {
		text: "ARG WHICH=one\nARG STAGE=${WHICH}-x\nFROM busybox AS one-x\nRUN echo 1\nFROM busybox AS two-x\nRUN echo 2\nFROM $STAGE\nRUN echo 3\n",
		opts: map[string]string{"build-arg:WHICH": "two"},
		want: []string{"two-x()", "stage-2(two-x:base)"},
	},
	"platform argument": {
		text: "FROM busybox AS build-amd64\nRUN echo 1\nFROM busybox AS build-arm64\nRUN echo 2\nFROM build-${TARGETARCH}\nRUN echo 3\n",
		opts: map[string]string{"platform": "linux/arm64"},
		want: []string{"build-arm64()", "stage-2(build-arm64:base)"},
	},
	"duplicate names": {
		text: "FROM busybox AS x\nRUN echo 1\nFROM x AS y\nRUN echo 2\nFROM busybox AS x\nCOPY --from=y /etc /2\nFROM busybox\nCOPY --from=x /etc /3\n",
		want: []string{"y()", "stage-3(y:copy)"},
	},
	"diamond": {
		text: "FROM busybox AS base\nRUN echo 0\nFROM base AS l\nRUN echo l\nFROM base AS r\nRUN echo r\nFROM scratch\nCOPY --from=l /etc /l\nCOPY --from=r /etc /r\n",
		want: []string{"base()", "l(base:base)", "r(base:base)", "stage-3(l:copy r:copy)"},
	},
	"scratch": {
		text: "FROM scratch AS none\nFROM none AS none2\nFROM busybox\nCOPY --from=none2 / /x\n",
		want: []string{"none()", "stage-2(none2:copy)"}, // none2 is none
	},
	"image named like a stage later": {
		text: "FROM busybox AS alpine\nFROM alpine:3\nRUN true\n",
		want: []string{"stage-1()"},
	},
	"replaced by context": {
		text: "FROM busybox AS a\nRUN echo a\nFROM a AS b\nRUN echo b\nFROM busybox\nCOPY --from=b /etc /x\n",
		opts: map[string]string{"context:b": "docker-image://alpine:3"},
		want: []string{"stage-2()"},
	},
	"named local context": {
		text: "FROM busybox AS a\nCOPY --from=assets one /1\nFROM busybox AS b\nCOPY --from=assets two /2\nFROM scratch\nCOPY --from=a /1 /\nCOPY --from=b /2 /\n",
		opts: map[string]string{"context:assets": "local:assets"},
		want: []string{"a()", "b()", "stage-2(a:copy b:copy)"},
	},
	"context in several stages": {
		text: "FROM busybox AS a\nCOPY one /1\nFROM busybox AS b\nCOPY two /2\nFROM scratch\nCOPY --from=a /1 /\nCOPY --from=b /2 /\n",
		want: []string{"a()", "b()", "stage-2(a:copy b:copy)"},
	},
	"onbuild": {
		text: "FROM onbuild AS a\nFROM busybox AS trigger\nONBUILD COPY --from=a /app /app\nFROM trigger\n",
		want: []string{"trigger()", "stage-2(trigger:base)"},
	},
	"target stage argument": {
		text: "FROM busybox AS a\nARG TARGETSTAGE\nRUN echo $TARGETSTAGE\nFROM a AS final\nRUN echo $TARGETSTAGE\n",
		want: []string{"a()", "final(a:base)"},
	},
	"epoch": {
		text: "FROM busybox AS a\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH\nFROM a AS final\nRUN true\n",
		opts: map[string]string{"build-arg:SOURCE_DATE_EPOCH": "1700000000"},
		want: []string{"a()", "final(a:base)"},
	},
	"heredocs and escapes": {
		text: "# escape=`\nFROM busybox `\n  AS a\nRUN <<EOF\nFROM nothing\nEOF\nFROM busybox\nCOPY --from=0 /etc /x\nCOPY --from=1 <<EOT /y\nFROM x\nEOT\n",
		want: nil, // --from=1 is the stage itself
	},
	"no cache": {
		text: "FROM busybox AS a\nRUN echo a\nFROM busybox AS b\nRUN echo b\nFROM scratch\nCOPY --from=a / /a\nCOPY --from=b / /b\n",
		opts: map[string]string{"no-cache": "a"},
		want: []string{"a()", "b()", "stage-2(a:copy b:copy)"},
	},
	"byte order mark and carriage returns": {
		text: "\ufeffFROM busybox\r\nRUN echo a\r\nFROM busybox\r\nCOPY --from=0 /etc /x\r\n",
		want: []string{"stage-0()", "stage-1(stage-0:copy)"},
	},
}

func compileCase(t *testing.T, text string, opts map[string]string) (*graph.Graph, *gateway, error) {
	t.Helper()
	gw := newGateway(t, map[string]string{"Dockerfile": text, "one": "1", "two": "2", ".dockerignore": "*.md\n"}, opts)
	g, err := Compile(context.Background(), gw, Options{})
	return g, gw.(*frontend.Files).Client.(*gateway), err
}

func TestCompile(t *testing.T) {
	for name, c := range compileCases {
		t.Run(name, func(t *testing.T) {
			g, gw, err := compileCase(t, c.text, c.opts)
			if c.want == nil {
				if err == nil {
					t.Fatalf("compiled to %v, want an error", edges(g))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := edges(g); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if len(gw.solves) > 0 {
				t.Errorf("compiling asked the daemon to solve %d times", len(gw.solves))
			}
		})
	}
}

// Solving stage by stage must run the very operations that the whole consists
// of; anything else would be built twice or cached differently.
func TestStagesAreParts(t *testing.T) {
	for name, c := range compileCases {
		if c.want == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			gw := newGateway(t, map[string]string{"Dockerfile": c.text, "one": "1", "two": "2"}, c.opts)
			b, err := newBuild(ctx, gw, Options{})
			if err != nil {
				t.Fatal(err)
			}
			opt := b.convertOpt(ctx)
			if len(b.ui.TargetPlatforms) > 0 {
				opt.TargetPlatform = &b.ui.TargetPlatforms[0]
			}
			whole, err := dockerfile2llb.Dockerfile2LLB(ctx, b.src.Data, opt)
			if err != nil {
				t.Fatal(err)
			}
			def, err := b.marshal(ctx, whole.State)
			if err != nil {
				t.Fatal(err)
			}
			ops := map[digest.Digest]bool{}
			for _, dt := range def.Def {
				ops[digest.FromBytes(dt)] = true
			}
			g, err := Compile(ctx, gw, Options{})
			if err != nil {
				t.Fatal(err)
			}
			covered := map[digest.Digest]bool{}
			for _, s := range g.Stages() {
				for _, st := range s.Steps {
					if !ops[st.Digest] {
						t.Errorf("stage %s has a step that the whole has not: %s", s.Name, st.Name)
					}
					covered[st.Digest] = true
				}
			}
			// The last entry of a definition only points at the result.
			if got, want := len(covered), max(len(def.Def)-1, 0); got != want {
				t.Errorf("the stages have %d operations, the whole %d", got, want)
			}
		})
	}
}

func TestPlatformsShareStages(t *testing.T) {
	g, gw, err := compileCase(t,
		"FROM --platform=$BUILDPLATFORM busybox AS tools\nRUN echo tools\nFROM busybox\nCOPY --from=tools /etc /x\n",
		map[string]string{"platform": "linux/amd64,linux/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"tools()", "stage-1(tools:copy)", "stage-1(tools:copy)"}
	if got := edges(g); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := gw.resolved.Load(); n != 2 {
		t.Errorf("resolved images %d times, want once per platform", n)
	}
}

func TestCompileIsStable(t *testing.T) {
	text := compileCases["diamond"].text
	var first []*graph.Stage
	for range 5 {
		g, _, err := compileCase(t, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = g.Stages()
			continue
		}
		for i, s := range g.Stages() {
			if s.ID != first[i].ID {
				t.Errorf("stage %s: id changed between compiles", s.Name)
			}
		}
	}
}

func TestMistakesHavePositions(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		line int32
	}{
		"unknown instruction": {"FROM busybox\nRNU x\n", 2},
		"circular":            {"FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /y /\n", 2},
		"missing image":       {"FROM busybox\nFROM nosuch\n", 2},
		"bad flag":            {"FROM busybox\nCOPY --frm=x a b\n", 2},
		"bad platform":        {"FROM --platform=a/b/c/d busybox\n", 1},
		// those that BuildKit does not place
		"check directive": {"# escape=`\n# check=skipp=all\nFROM busybox\n", 2},
		"no stages":       {"ARG A=1\nARG B=2\n", 1},
		"stage index":     {"FROM busybox\nFROM busybox\nCOPY --from=0 /x /\nCOPY --from=7 /x /\n", 4},
		"variable":        {"ARG A=a\nFROM busybox AS a\nFROM busybox\nCOPY --from=$A /x /\n", 4},
		"mount":           {"FROM busybox\nRUN true\nRUN --mount=from=nosuch,target=/n true\n", 3},
	} {
		t.Run(name, func(t *testing.T) {
			gw := newGateway(t, map[string]string{"Dockerfile": c.text}, nil)
			_, err := Build(context.Background(), gw)
			if err == nil {
				t.Fatal("no error")
			}
			srcs := errdefs.Sources(err)
			if len(srcs) == 0 || len(srcs[0].Ranges) == 0 {
				t.Fatalf("no position in %v", err)
			}
			if got := srcs[0].Ranges[0].Start.Line; got != c.line {
				t.Errorf("got line %d, want %d: %v", got, c.line, err)
			}
			if string(srcs[0].Info.Data) != c.text {
				t.Error("the source text is not that of the file")
			}
		})
	}
}

func TestWarningsComeOnce(t *testing.T) {
	text := "FROM busybox as a\nRUN echo a\nFROM busybox\nCOPY --from=a /x /\nCMD echo\n"
	_, gw, err := compileCase(t, text, map[string]string{"platform": "linux/amd64,linux/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, w := range gw.warnings {
		if seen[w] {
			t.Errorf("warned twice: %s", w)
		}
		seen[w] = true
	}
	if len(seen) != 2 {
		t.Errorf("got warnings %v, want casing and json arguments", gw.warnings)
	}
}

func TestUnknownCapability(t *testing.T) {
	gw := newGateway(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"},
		map[string]string{"frontend.caps": "moby.buildkit.frontend.inputs,example.cap"})
	_, err := Build(context.Background(), gw)
	var want *errdefs.UnsupportedFrontendCapError
	if !errors.As(err, &want) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseFile(f *testing.F) {
	for _, c := range compileCases {
		f.Add(c.text)
	}
	seeds, err := filepath.Glob("../../integration/testdata/*/*/Dockerfile")
	if err != nil || len(seeds) < 200 {
		f.Fatalf("found %d seeds in the corpus of the integration tests, want hundreds (%v)", len(seeds), err)
	}
	for _, name := range seeds {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(text) < 8<<10 { // the fuzzer is slow on long ones
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		gw := newGateway(t, map[string]string{"Dockerfile": text, "one": "1"}, nil)
		g, err := Compile(context.Background(), gw, Options{})
		if err != nil || g == nil {
			return
		}
		for _, s := range g.Stages() {
			if s.Pos.Line < 0 || s.Pos.Line > strings.Count(text, "\n")+1 {
				t.Errorf("stage %s at line %d of a file with %d", s.Name, s.Pos.Line, strings.Count(text, "\n")+1)
			}
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	var text strings.Builder
	text.WriteString("FROM busybox AS base\nRUN echo base\n")
	for i := range 50 {
		name := "s" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		text.WriteString("FROM base AS " + name + "\nCOPY one /1\nRUN echo " + name + "\n")
	}
	text.WriteString("FROM scratch\n")
	for i := range 50 {
		name := "s" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		text.WriteString("COPY --from=" + name + " /1 /" + name + "\n")
	}
	dir := b.TempDir()
	writeFile(b, dir, "Dockerfile", text.String())
	for b.Loop() {
		if _, err := Compile(context.Background(), open(dir, nil), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
