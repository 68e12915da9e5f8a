package graph

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"google.golang.org/protobuf/testing/protocmp"
)

// A stage made of shared operations is the one that its own definition gives, whatever
// else is among them.
func TestStagesOfSharedOps(t *testing.T) {
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("1\n2\n3\n4\n"))
	image := llb.Image("base", at(src, 1, 1))
	one := image.Run(llb.Shlex("one"), at(src, 2, 2)).Root()
	two := image.Run(llb.Shlex("two"), at(src, 3, 3)).File(llb.Copy(one, "/a", "/a"), at(src, 4, 4))
	three := two.File(llb.Copy(image, "/b", "/b"))
	states := []llb.State{one, two, three}

	all := spec(t, "all", llb.Merge(states))
	ops, _, err := NewOps(all.Definition, nil)
	if err != nil {
		t.Fatal(err)
	}
	var alone, shared []*Stage
	for i, st := range states {
		name := fmt.Sprint(i)
		s := spec(t, name, st)
		if i > 0 {
			s.Inputs = []Input{{Stage: alone[i-1], Kind: InputCopy}}
		}
		alone = append(alone, newStage(t, s))
		s.Definition, s.Ops, s.Result = nil, ops, Result{Digest: alone[i].Head, Index: alone[i].headIndex}
		if i > 0 {
			s.Inputs = []Input{{Stage: shared[i-1], Kind: InputCopy}}
		}
		shared = append(shared, newStage(t, s))
	}
	for i := range states {
		a, s := alone[i], shared[i]
		if a.ID != s.ID || a.Head != s.Head {
			t.Errorf("stage %d is another one", i)
		}
		if diff := cmp.Diff(a.Steps, s.Steps); diff != "" {
			t.Errorf("stage %d: steps (-alone +shared):\n%s", i, diff)
		}
		ad, sd := a.Definition(), s.Definition()
		slices.SortFunc(ad.Def[:len(ad.Def)-1], slices.Compare)
		slices.SortFunc(sd.Def[:len(sd.Def)-1], slices.Compare)
		if diff := cmp.Diff(ad, sd, protocmp.Transform()); diff != "" {
			t.Errorf("stage %d: definitions (-alone +shared):\n%s", i, diff)
		}
	}
	// the image is below the first stage, so it is nobody else's
	if got := len(shared[1].Steps) + len(shared[2].Steps); got != 3 {
		t.Errorf("the later stages have %d steps, want three of their own", got)
	}
	if _, err := NewStage(Spec{Name: "x", Platform: amd64, Ops: ops, Result: Result{Digest: "sha256:00"}}); err == nil {
		t.Error("a stage was made of an operation that is not there")
	}
}
