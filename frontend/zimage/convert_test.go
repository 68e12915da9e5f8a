package zimage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/graph"
)

// TestConfigMerge checks what the top of a file does to the config of its last stage.
func TestConfigMerge(t *testing.T) {
	img, ops := build(t, `
stages:
  app:
    base: alpine
    env: {A: stage, B: stage}
    workdir: /stage
    labels: {l: stage, m: stage}
    cmd: stage
    user: first
    steps:
      - run: echo $A
env: {A: top}
workdir: top
labels: {l: top}
user: last
entrypoint: [run]
expose: [80, 53/udp]
volumes: [/v]
stopsignal: SIGINT
healthcheck: {cmd: [check], interval: 1m 30s, retries: 2}
`, nil)
	c := img.Config
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"env", c.Env, []string{"PATH=/base/bin", "A=top", "B=stage"}},
		{"workdir", c.WorkingDir, "/stage/top"},
		{"labels", c.Labels, map[string]string{"l": "top", "m": "stage"}},
		{"user", c.User, "last"},
		{"cmd", c.Cmd, []string{"/bin/sh", "-c", "stage"}},
		{"entrypoint", c.Entrypoint, []string{"run"}},
		{"ports", c.ExposedPorts, map[string]struct{}{"80/tcp": {}, "53/udp": {}}},
		{"volumes", c.Volumes, map[string]struct{}{"/v": {}}},
		{"stopsignal", c.StopSignal, "SIGINT"},
		{"healthcheck", c.Healthcheck.Test, []string{"CMD", "check"}},
		{"interval", c.Healthcheck.Interval, 90 * time.Second},
		{"retries", c.Healthcheck.Retries, 2},
	} {
		if diff := cmp.Diff(check.want, check.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", check.what, diff)
		}
	}
	for _, op := range ops {
		if e := op.GetExec(); e != nil {
			if !slices.Contains(e.Meta.Env, "A=stage") || e.Meta.User != "" {
				t.Errorf("the step runs as %q with %v, want the base's user and the stage's variables", e.Meta.User, e.Meta.Env)
			}
		}
	}
}

// TestTransientEnv checks that env beside run is there for one command and nowhere else.
func TestTransientEnv(t *testing.T) {
	img, ops := build(t, `
base: alpine
steps:
  - run: echo $SECRET
    env: {SECRET: "it's $HOME"}
  - run: [prog, arg]
    env: {SECRET: x, OTHER: "y z"}
  - run: after
`, nil)
	want := [][]string{
		{"/bin/sh", "-c", `export SECRET='it'\''s $HOME'; echo $SECRET`},
		{"env", "SECRET=x", "OTHER=y z", "prog", "arg"},
		{"/bin/sh", "-c", "after"},
	}
	if diff := cmp.Diff(want, commands(ops)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"PATH=/base/bin"}, img.Config.Env); diff != "" {
		t.Errorf("env of the image (-want +got):\n%s", diff)
	}
	for _, op := range ops {
		if e := op.GetExec(); e != nil && slices.ContainsFunc(e.Meta.Env, func(s string) bool { return strings.HasPrefix(s, "SECRET") }) {
			t.Errorf("got %v around a command, want it without SECRET", e.Meta.Env)
		}
	}
}

// TestScripts checks that the shell gets the texts of the file.
func TestScripts(t *testing.T) {
	scripts := []string{
		"set -e\n# comment\n\necho \\\n  a\ncat <<EOF\n$HOME\nEOF\n",
		"#!/bin/bash\necho x\n",
		`["json", "like"]`,
		"--mount=type=cache,target=/x y",
		"echo $((1<<2))",
		`echo back\slash "q" 'q' $X ${Y:-z} $$`,
		"echo a\necho b\\\n",
		"echo a\\",
		"EOF\n",
		"echo\ttab",
		"echo héllo ☃",
		strings.Repeat("echo long;", 10_000),
		"a\n" + strings.Repeat("echo long;", 10_000),
	}
	f := &File{Name: "ZImagefile", Base: &String{Value: "alpine"}}
	for _, s := range scripts {
		f.Steps = append(f.Steps, Step{Run: &Command{Shell: s}})
	}
	df, err := Convert(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, ops, err := lower(df.Text, nil, linux(), "")
	if err != nil {
		t.Fatal(err)
	}
	got := commands(ops)
	if len(got) != len(scripts) {
		t.Fatalf("got %d commands, want %d", len(got), len(scripts))
	}
	for i, s := range scripts {
		if want := []string{"/bin/sh", "-c"}; !slices.Equal(got[i][:2], want) || strings.TrimSpace(got[i][2]) != strings.TrimSpace(s) {
			t.Errorf("got %.200q, want the script %.200q", got[i], s)
		}
	}
}

// TestValuesSurvive checks that texts come out of BuildKit as they went in.
func TestValuesSurvive(t *testing.T) {
	for _, s := range hardTexts() {
		checkValue(t, s)
	}
}

func hardTexts() []string {
	return []string{
		"", " ", "a b", `say "hi"`, "it's", `C:\dir\new`, `back\`, `\\`, `\$`, "$HOME", "${HOME}", "$$", "$", "a$", "${", "${}",
		"# no comment", "--flag", "-", "<<EOF", "line\nline\n", "\n", "\ttab\t", "héllo ☃", "\u00a0", "\u2028", "a=b", "=", "[json]", `["a"]`,
		"'", `"`, "`", "%", "*?[a]", "{}", "\r", "a\r\n", "\ufeffbom", "a,b", "~", "\u0085", `\"`, `'"'"'`, `\\\`, "${a:-b}",
		strings.Repeat("x", 70_000), strings.Repeat("x y ", 30_000),
	}
}

// checkValue sends a text through every field whose value shows in the config or in the operations.
func checkValue(t testing.TB, s string) {
	t.Helper()
	text := String{Value: escapeText(s)}
	f := &File{Name: "ZImagefile", Base: &String{Value: "alpine"}}
	f.Env = []Pair{{Key: String{Value: "V"}, Value: text}}
	f.Labels = []Pair{{Key: String{Value: "l"}, Value: text}}
	f.Args = []Pair{{Key: String{Value: "ARGUMENT"}, Value: text}}
	f.Steps = []Step{{Env: []Pair{{Key: String{Value: "COPY_OF_ARG"}, Value: String{Value: "<$ARGUMENT>"}}}}}
	f.Cmd = &Command{Exec: []string{s}}
	df, err := Convert(f, Options{})
	if err != nil {
		t.Fatalf("%.100q: %v", s, err)
	}
	img, _, err := lower(df.Text, df.BuildArgs, linux(), "")
	if err != nil {
		t.Fatalf("%.100q: %v\n%.1000s", s, err, df.Text)
	}
	arg := "<" + s + ">"
	if s == "" {
		arg = "<>" // an empty default is none
	}
	want := []string{"PATH=/base/bin", "V=" + s, "COPY_OF_ARG=" + arg}
	if !slices.Equal(img.Config.Env, want) {
		t.Errorf("%.100q as env: got %.300q\n%.1000s", s, img.Config.Env, df.Text)
	}
	if img.Config.Labels["l"] != s {
		t.Errorf("%.100q as label: got %.300q\n%.1000s", s, img.Config.Labels["l"], df.Text)
	}
	if !slices.Equal(img.Config.Cmd, []string{s}) {
		t.Errorf("%.100q in cmd: got %.300q", s, img.Config.Cmd)
	}
	if strings.TrimSpace(s) != "" && !strings.ContainsAny(s, "\n\r") {
		checkPath(t, s)
	}
}

// checkPath sends a text through the fields that hold paths and names.
func checkPath(t testing.TB, s string) {
	t.Helper()
	path := "/p" + s
	f := &File{Name: "ZImagefile", Base: &String{Value: "alpine"}}
	f.Volumes = []String{{Value: path}}
	f.User = &String{Value: escapeText(s)}
	f.Steps = []Step{
		{Copy: []String{{Value: escapeText(path)}}, To: &String{Value: escapeText(path)}},
		{Workdir: &String{Value: escapeText(path)}},
	}
	df, err := Convert(f, Options{})
	if err != nil {
		t.Fatalf("%.100q: %v", s, err)
	}
	img, ops, err := lower(df.Text, df.BuildArgs, linux(), "")
	if err != nil {
		t.Fatalf("%.100q: %v\n%.1000s", s, err, df.Text)
	}
	if _, ok := img.Config.Volumes[path]; !ok {
		t.Errorf("%.100q as volume: got %.300q\n%.1000s", path, img.Config.Volumes, df.Text)
	}
	if img.Config.User != s {
		t.Errorf("%.100q as user: got %.300q\n%.1000s", s, img.Config.User, df.Text)
	}
	if strings.Contains(s, "/") || strings.Contains(s, ".") {
		return // paths are cleaned
	}
	if want := path + " -> " + path; !slices.Equal(copies(ops), []string{want}) {
		t.Errorf("got %.300q copied, want %.300q\n%.1000s", copies(ops), want, df.Text)
	}
	if img.Config.WorkingDir != path {
		t.Errorf("%.100q as workdir: got %.300q", path, img.Config.WorkingDir)
	}
}

// TestMounts checks that the values of mounts arrive, however strange.
func TestMounts(t *testing.T) {
	str := func(s string) *String { return &String{Value: s} }
	for _, s := range []string{"plain", "with blank", "com,ma", `quo"te`, "apos'trophe", `back\slash`, "$HOME", "${X", `\"`, "a=b", " lead", "<<EOF", `","`} {
		f := &File{Name: "ZImagefile", Base: str("alpine"), Steps: []Step{{
			Run:     &Command{Shell: "a\nb"},
			Cache:   []Mount{{Target: str("/c/" + s), ID: str(s)}},
			Mounts:  []Mount{{Type: str("bind"), Source: str("/s/" + s), Target: str("/b/" + s)}},
			Secrets: []Mount{{ID: str(s), Target: str("/k/" + s)}},
		}}}
		df, err := Convert(f, Options{})
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		_, ops, err := lower(df.Text, nil, linux(), "")
		if err != nil {
			t.Fatalf("%q: %v\n%s", s, err, df.Text)
		}
		var got []string
		for _, op := range ops {
			for _, m := range op.GetExec().GetMounts() {
				switch m.MountType {
				case pb.MountType_CACHE:
					got = append(got, fmt.Sprintf("%s %s %s", m.Dest, m.CacheOpt.ID, m.CacheOpt.Sharing))
				case pb.MountType_SECRET:
					got = append(got, m.Dest+" "+m.SecretOpt.ID)
				default:
					if m.Dest != "/" {
						got = append(got, m.Dest+" "+m.Selector)
					}
				}
			}
		}
		slices.Sort(got)
		want := []string{"/b/" + s + " /s/" + s, "/c/" + s + " /" + s + " LOCKED", "/k/" + s + " " + s}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s%s", s, diff, df.Text)
		}
	}
}

// TestCopyFromStage checks where relative paths in stages start.
func TestCopyFromStage(t *testing.T) {
	_, ops := build(t, `
stages:
  a: {base: alpine, workdir: /one}
  b: {base: a, steps: [{workdir: two}]}
  c: {base: alpine}
  final:
    base: scratch
    workdir: /dst
    steps:
      - {copy: [x, /y], from: b, to: ./}
      - {copy: z, from: c, to: z}
      - {copy: ctx, to: .}
`, nil)
	want := []string{"/one/two/x -> /dst/", "/y -> /dst/", "/z -> /dst/z", "/ctx -> /dst"}
	if diff := cmp.Diff(want, copies(ops)); diff != "" {
		// BuildKit keeps the slash of "./" and may add one for "."
		got := copies(ops)
		for i := range got {
			got[i] = strings.TrimSuffix(got[i], "/")
			want[i] = strings.TrimSuffix(want[i], "/")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("copies (-want +got):\n%s", diff)
		}
	}
}

func TestImageWorkdir(t *testing.T) {
	df := convert(t, `
args: {IMG: golang}
stages:
  a: {base: "$IMG:1", workdir: sub}
  b: {base: scratch, steps: [{copy: x, from: a, to: /}]}
`, Options{ImageWorkdir: func(ref string) (string, bool) { return "/go", ref == "golang:1" }})
	if want := "COPY --from=a /go/sub/x /"; !strings.Contains(string(df.Text), want) {
		t.Errorf("got\n%swant %s", df.Text, want)
	}
}

// TestNested checks what is handed on for nested builds.
func TestNested(t *testing.T) {
	df := convert(t, `
args: {V: "1"}
stages:
  base:
    build: {context: ../base, file: Dockerfile.prod, target: prod, args: {A: "$V", B: 2}}
  app:
    build: other
`, Options{BuildArgs: map[string]string{"V": "3"}})
	want := []Nested{
		{Context: "zlayer-nested-base", Stage: "base", Dir: "../base", File: "Dockerfile.prod", Target: "prod",
			Args: map[string]string{"A": "3", "B": "2"}, Pos: graph.Pos{File: "ZImagefile", Line: 5, Column: 12}},
		{Context: "zlayer-nested-app", Stage: "app", Dir: "other", Pos: graph.Pos{File: "ZImagefile", Line: 7, Column: 12}},
	}
	if diff := cmp.Diff(want, df.Builds); diff != "" {
		t.Errorf("nested builds (-want +got):\n%s", diff)
	}
	if name, err := df.Target("app"); err != nil || name != "app" {
		t.Errorf("Target: got %q, %v", name, err)
	}
	if _, err := df.Target("ap"); err == nil || !strings.Contains(err.Error(), "did you mean app") {
		t.Errorf("Target of an unknown stage: got %v", err)
	}
}

// TestLines checks that every line of a script leads to its line in the file.
func TestLines(t *testing.T) {
	text := `base: alpine
env:
  A: "1"
  B: "2"
steps:
  - run: |
      first

      third
    cache:
      - target: /x
  - copy:
    - a
    - b
    to: /c
`
	df := convert(t, text, Options{})
	lines := strings.Split(string(df.Text), "\n")
	for want, p := range map[string]graph.Pos{
		"FROM alpine": {Line: 1, Column: 7},
		`ENV A=1 \`:   {Line: 3, Column: 3},
		"    B=2":     {Line: 4, Column: 3},
		"RUN --mount=type=cache,target=/x,sharing=locked <<EOF": {Line: 6, Column: 5, EndLine: 11},
		"first":       {Line: 7},
		"third":       {Line: 9},
		"EOF":         {Line: 6, Column: 5, EndLine: 11},
		"COPY a b /c": {Line: 12, Column: 5, EndLine: 15},
	} {
		p.File = "ZImagefile"
		i := slices.Index(lines, want)
		if i < 0 {
			t.Errorf("no line %q in\n%s", want, df.Text)
		} else if df.Pos(i+1) != p {
			t.Errorf("%q comes from %v-%d, want %v-%d", want, df.Pos(i+1), df.Pos(i+1).EndLine, p, p.EndLine)
		}
	}
	if p := df.Pos(0); !p.IsZero() {
		t.Errorf("got %v for a line that is not there", p)
	}
}

func TestErrorsAreAllReported(t *testing.T) {
	_, err := Parse("f", []byte("base: [a]\nenv: x\ncmd: {}\nbogus: 1\n"))
	if list := yamlfile.Errors(err); len(list) != 4 {
		t.Errorf("got %d errors, want 4: %v", len(list), err)
	}
	if list := yamlfile.Errors(fmt.Errorf("building: %w", err)); len(list) != 4 {
		t.Errorf("got %d errors of a wrapped error, want 4", len(list))
	}
	if yamlfile.Errors(nil) != nil || yamlfile.Errors(fmt.Errorf("other")) != nil {
		t.Error("got errors where there are none")
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "k%d: 1\n", i)
	}
	if _, err := Parse("f", []byte(many.String())); len(yamlfile.Errors(err)) != 100 {
		t.Errorf("got %d errors, want %d", len(yamlfile.Errors(err)), 100)
	}
}

func TestTooLarge(t *testing.T) {
	_, err := Parse("f", bytes.Repeat([]byte("# comment\n"), 16<<20/10+1))
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v, want a complaint about the size", err)
	}
}

func TestWasm(t *testing.T) {
	f, err := Parse("f", []byte("runtime: wasm-component\nlabels: {a: b}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Mode() != ModeWasm || f.Runtime != nil || f.Wasm.Target.Value != "preview2" {
		t.Errorf("got mode %v, runtime %v, wasm %+v", f.Mode(), f.Runtime, f.Wasm)
	}
	df, err := Convert(f, Options{})
	if err != nil || df.Wasm != f.Wasm || df.Text != nil {
		t.Errorf("got %+v, %v", df, err)
	}
}

// TestAgrees compares with the Dockerfile that a person would write.
func TestAgrees(t *testing.T) {
	img, ops := build(t, `
args: {V: "1"}
base: img:$V
env: {A: "$V", P: "/x:$PATH"}
workdir: /w
steps:
  - run: make
  - copy: a
    to: b
cmd: [x]
`, map[string]string{"V": "2"})
	want, wantOps, err := lower([]byte("ARG V=1\nFROM img:$V\nARG V\nENV A=$V P=/x:$PATH\nWORKDIR /w\nRUN make\nCOPY a b\nCMD [\"x\"]\n"), map[string]string{"V": "2"}, linux(), "")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(img)
	expected, _ := json.Marshal(want)
	if diff := cmp.Diff(string(expected), string(got)); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(commands(wantOps), commands(ops)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(copies(wantOps), copies(ops)); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
}

func BenchmarkTenThousandStages(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		text := manyStages(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				f, err := Parse("f", text)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := Convert(f, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func manyStages(n int) []byte {
	var text strings.Builder
	text.WriteString("stages:\n  s0: {base: alpine, workdir: /w}\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&text, "  s%d:\n    base: s%d\n    env: {N: %d}\n    steps:\n      - run: echo %d\n      - {copy: x, from: s%d, to: /y}\n", i, i/2, i, i, i-1)
	}
	return []byte(text.String())
}

func TestTenThousandStages(t *testing.T) {
	f, err := Parse("f", manyStages(10_000))
	if err != nil {
		t.Fatal(err)
	}
	df, err := Convert(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(df.Text, []byte("FROM ")); got != 10_000 {
		t.Errorf("got %d stages", got)
	}
}
