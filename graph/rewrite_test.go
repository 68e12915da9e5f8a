package graph

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// rename gives local sources another name.
func rename(to string) ChangeOp {
	return func(_ digest.Digest, op *pb.Op) (bool, error) {
		src := op.GetSource()
		if src == nil || !strings.HasPrefix(src.Identifier, "local://") {
			return false, nil
		}
		src.Identifier = "local://" + to
		return true, nil
	}
}

func localGraph(t *testing.T, name string) *Graph {
	t.Helper()
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("FROM x\nCOPY a /\n"))
	base := llb.Image(pinned).File(llb.Copy(llb.Local(name, llb.LocalUniqueID("1")), "a", "/"), at(src, 2, 2), llb.WithCustomName("copy"))
	out := base.Run(llb.Shlex("make"), llb.WithCustomName("make")).Root()
	b := newStage(t, spec(t, "base", base))
	g, err := New(newStage(t, spec(t, "out", out, Input{Stage: b, Kind: InputBase})))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestRewriteIsAsIfItHadBeenSoFromTheStart(t *testing.T) {
	got, err := Rewrite(localGraph(t, "context"), rename("other"), Rewriting{})
	if err != nil {
		t.Fatal(err)
	}
	want := localGraph(t, "other")
	for i, s := range got.Stages() {
		w := want.Stages()[i]
		if s.ID != w.ID || s.Name != w.Name {
			t.Errorf("stage %s has ID %s, want %s", s.Name, s.ID, w.ID)
		}
		if !slices.EqualFunc(s.Steps, w.Steps, func(a, b Step) bool { return a.Digest == b.Digest && a.Name == b.Name && a.Pos == b.Pos }) {
			t.Errorf("stage %s has steps %v, want %v", s.Name, s.Steps, w.Steps)
		}
	}
	if in := got.Inputs(got.Outputs()[0]); len(in) != 1 || in[0].Name != "base" {
		t.Errorf("the edge is lost: %v", in)
	}
}

func TestRewriteNothing(t *testing.T) {
	g := localGraph(t, "context")
	got, err := Rewrite(g, func(digest.Digest, *pb.Op) (bool, error) { return false, nil }, Rewriting{})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range got.Stages() {
		if s.ID != g.Stages()[i].ID {
			t.Errorf("stage %s has another ID", s.Name)
		}
	}
}

// TestRewriteReplaces takes a stage from elsewhere: what it was made of must be gone.
func TestRewriteReplaces(t *testing.T) {
	g := localGraph(t, "context")
	head := g.Stages()[0].Head
	got, err := Rewrite(g, func(was digest.Digest, op *pb.Op) (bool, error) {
		if was != head {
			return false, nil
		}
		op.Op = &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://" + pinned}}
		op.Inputs = nil
		return true, nil
	}, Rewriting{Names: map[digest.Digest]string{head: "taken"}})
	if err != nil {
		t.Fatal(err)
	}
	out := got.Outputs()[0]
	if n := len(out.Definition().Def); n != 3 {
		t.Errorf("the definition has %d entries, want the image, the step and the end", n)
	}
	base := got.Inputs(out)[0]
	if len(base.Sources) != 1 || base.Sources[0].Scheme != "docker-image" {
		t.Errorf("the replaced stage reads %v", base.Sources)
	}
	if names := stepNames(base); len(names) != 1 || names[0] != "taken" {
		t.Errorf("the replaced stage has steps %v", names)
	}
	if names := stepNames(out); len(names) != 1 || names[0] != "make" {
		t.Errorf("the reader has steps %v", names)
	}
}

// TestRewriteGrafts has a step read something else: what it read must be gone, and the step
// must stay.
func TestRewriteGrafts(t *testing.T) {
	g := localGraph(t, "context")
	copied := g.Stages()[0].Head
	graft := func(input int) (*Graph, error) {
		return Rewrite(g, func(digest.Digest, *pb.Op) (bool, error) { return false, nil }, Rewriting{Grafts: map[digest.Digest]Graft{
			copied: {Input: input, Name: "grafted", Source: &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://" + pinned + "x"}}}},
		}})
	}
	for n, in := range g.Stages()[0].Op(copied).Inputs {
		if s := g.Stages()[0].Op(digest.Digest(in.Digest)).GetSource(); !strings.HasPrefix(s.Identifier, "local://") {
			continue
		}
		got, err := graft(n)
		if err != nil {
			t.Fatal(err)
		}
		base := got.Inputs(got.Outputs()[0])[0]
		if names := stepNames(base); !slices.Equal(names, []string{"docker-image://" + pinned, "grafted", "copy"}) && !slices.Equal(names, []string{"grafted", "docker-image://" + pinned, "copy"}) {
			t.Errorf("the stage has steps %q", names)
		}
		if def, err := NewStage(Spec{Name: "again", Platform: base.Platform, Definition: base.Definition()}); err != nil || def.Head != base.Head {
			t.Errorf("its definition does not hold together: %v", err)
		}
	}
	if _, err := graft(2); err == nil {
		t.Error("an input that is not there was replaced")
	}
}

func TestRewriteFails(t *testing.T) {
	boom := errors.New("boom")
	if _, err := Rewrite(localGraph(t, "context"), func(digest.Digest, *pb.Op) (bool, error) { return false, boom }, Rewriting{}); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}
