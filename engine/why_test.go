package engine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

func val(s string) digest.Digest { return digest.FromString(s) }

func part(kind graph.PartKind, name, value string, line int, files ...madeFile) madePart {
	return madePart{Kind: kind, Name: name, Value: val(value), Pos: graph.Pos{File: "f", Line: line}, Files: files}
}

func TestCompareParts(t *testing.T) {
	const text = `[stage 2/3] COPY src /src`
	old := part(graph.PartFiles, text, "1", 2, madeFile{"a", 0o644, "x"}, madeFile{"b", 0o644, "y"}, madeFile{"c", 0o644, "z"})
	for name, c := range map[string]struct {
		was, now []madePart
		want     []string
	}{
		"files": {
			[]madePart{old},
			[]madePart{part(graph.PartFiles, strings.Replace(text, "2/3", "3/4", 1), "2", 3, madeFile{"a", 0o755, "x"}, madeFile{"b", 0o644, "other"}, madeFile{"d", 0o644, "z"})},
			[]string{"file-mode a -rw-r--r-- -rwxr-xr-x f:3", "file-edited b   f:3", "file-removed c   f:3", "file-added d   f:3"},
		},
		"files too many": {
			[]madePart{part(graph.PartFiles, text, "1", 2)},
			[]madePart{part(graph.PartFiles, text, "2", 2)},
			[]string{"files COPY src /src   f:2"},
		},
		// The numbers in front of a step change with others.
		"the count of steps is no change": {
			[]madePart{part(graph.PartInstruction, "[a 1/2] RUN x", "1", 2)},
			[]madePart{part(graph.PartInstruction, "[a 1/3] RUN x", "1", 2), part(graph.PartInstruction, "[a 2/3] RUN y", "2", 3)},
			[]string{"instruction   RUN y f:3"},
		},
		"edited": {
			[]madePart{part(graph.PartInstruction, "[1/2] RUN x", "1", 2), part(graph.PartInstruction, "[2/2] RUN same", "s", 3)},
			[]madePart{part(graph.PartInstruction, "[1/2] RUN z", "2", 5), part(graph.PartInstruction, "[2/2] RUN same", "s", 6)},
			[]string{"instruction  RUN x RUN z f:5"},
		},
		"same text, other arguments": {
			[]madePart{part(graph.PartInstruction, "[1/1] RUN $A", "1", 2)},
			[]madePart{part(graph.PartInstruction, "[1/1] RUN $A", "2", 2)},
			[]string{"instruction [1/1] RUN $A RUN $A RUN $A f:2"},
		},
		"removed": {
			[]madePart{part(graph.PartInstruction, "[1/1] RUN x", "1", 2), part(graph.PartConfig, "image config", "c", 1)},
			[]madePart{part(graph.PartConfig, "image config", "d", 1)},
			[]string{"config image config image config image config f:1", "instruction  RUN x  "},
		},
		"base image": {
			[]madePart{part(graph.PartImage, "docker.io/library/a@sha256:1", "1", 1)},
			[]madePart{part(graph.PartImage, "docker.io/library/a@sha256:2", "2", 1)},
			[]string{"image  docker.io/library/a@sha256:1 docker.io/library/a@sha256:2 f:1"},
		},
		"stage": {
			[]madePart{part(graph.PartStage, "base", "1", 4)},
			[]madePart{part(graph.PartStage, "base", "2", 4)},
			[]string{"stage base base base f:4"},
		},
		"twice the same step": {
			[]madePart{part(graph.PartInstruction, "[1/2] RUN x", "1", 2), part(graph.PartInstruction, "[2/2] RUN x", "2", 3)},
			[]madePart{part(graph.PartInstruction, "[1/2] RUN x", "1", 2), part(graph.PartInstruction, "[2/2] RUN x", "3", 3)},
			[]string{"instruction [2/2] RUN x RUN x RUN x f:3"},
		},
		"a source of another kind": {
			[]madePart{part(graph.PartSource, "https://x#1", "1", 2)},
			[]madePart{part(graph.PartImage, "x", "2", 2)},
			[]string{"image   x f:2", "source  https://x#1  "},
		},
	} {
		var got []string
		for _, ch := range compareParts(c.was, c.now) {
			got = append(got, strings.Join([]string{string(ch.Kind), ch.Name, ch.Before, ch.After, ch.Pos.String()}, " "))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
}

func TestCompare(t *testing.T) {
	stage := func(name, platform, key string) madeStage {
		return madeStage{Name: name, Platform: platform, Key: graph.Key(val(key)), Pos: graph.Pos{File: "f", Line: 1}}
	}
	was := &made{Args: map[string]digest.Digest{"GONE": val("1"), "SAME": val("s"), "EDIT": val("e")}, Stages: []madeStage{
		stage("a", "linux/amd64", "1"), stage("a", "linux/arm64", "1"), stage("old", "linux/amd64", "o"),
	}}
	now := &made{Args: map[string]digest.Digest{"NEW": val("n"), "SAME": val("s"), "EDIT": val("f")}, Stages: []madeStage{
		stage("a", "linux/amd64", "2"), stage("a", "linux/arm64", "1"), stage("new", "linux/amd64", "n"),
	}}
	w := compare(was, now)
	if w.Same {
		t.Error("they are not the same")
	}
	var got []string
	for _, c := range w.Args {
		got = append(got, c.Name+" "+c.Before+" > "+c.After)
	}
	for _, s := range w.Stages {
		got = append(got, s.Name+" "+s.Platform+" "+string(s.State))
	}
	want := []string{
		"EDIT a value > another value", "GONE a value > ", "NEW  > another value",
		"a linux/amd64 changed", "a linux/arm64 same", "new linux/amd64 added", "old linux/amd64 removed",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if w := compare(was, was); !w.Same || len(w.Args) > 0 || len(w.Stages) != 3 {
		t.Errorf("a build and itself: %+v", w)
	}
}

// What is compared survives being kept with a record, and holds no value.
func TestMadeParts(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"Dockerfile": "FROM scratch\nARG TOKEN\nCOPY x /srv/$TOKEN/1\n", "x": "x"})
	e := openBare(t)
	r, err := e.newRun(Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	j, err := r.prepareCall(Request{Context: dir, BuildArgs: map[string]string{"TOKEN": "hunter2", "ONE": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	k, err := j.compileKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := j.madeOf(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	packed := j.partsOf(t.Context(), k)
	back, err := readParts(packed)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, back); d != "" {
		t.Errorf("(-made +read)\n%s", d)
	}
	for _, s := range m.Stages {
		for _, p := range s.Parts {
			if strings.Contains(p.Name, "hunter2") || p.Kind == graph.PartInstruction && !strings.Contains(p.Name, "COPY x /srv/$TOKEN/1") {
				t.Errorf("a part is called %q", p.Name)
			}
		}
	}
	if !compare(m, back).Same {
		t.Error("what was read is not the same")
	}
	for _, bad := range [][]byte{nil, []byte("text"), packed[:len(packed)/2]} {
		if _, err := readParts(bad); err == nil {
			t.Errorf("%d bytes of parts were read", len(bad))
		}
	}
}
