package graph

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
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
	wrong := Spec{Name: "x", Platform: amd64, Ops: ops, Result: Result{Digest: "sha256:00"}}
	if _, err := NewStage(wrong); err == nil {
		t.Error("a stage was made of an operation that is not there")
	}
	if _, err := NewStages(1, func(int, []*Stage) Spec { return wrong }); err == nil {
		t.Error("stages were made of an operation that is not there")
	}
}

// What belongs to a stage is what none of those that it reads has, however the two share
// operations.
func TestStepsAreNobodyElses(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		images := []llb.State{llb.Image("a"), llb.Image("b"), llb.Image("c").File(llb.Mkdir("/shared", 0o755))}
		var states []llb.State
		var reads [][]int
		for i := range 12 {
			st, read := images[rnd.IntN(len(images))], []int(nil)
			if i > 0 && rnd.IntN(2) == 0 {
				n := rnd.IntN(i)
				st, read = states[n], append(read, n)
			}
			for range rnd.IntN(4) {
				if from := rnd.IntN(i + 1); from < i {
					st, read = st.File(llb.Copy(states[from], "/a", "/b")), append(read, from)
				} else {
					st = st.File(llb.Copy(images[rnd.IntN(len(images))], "/a", "/c"))
				}
			}
			states, reads = append(states, st.Run(llb.Shlexf("step %d", rnd.IntN(8))).Root()), append(reads, read)
		}
		ops, _, err := NewOps(spec(t, "all", llb.Merge(states)).Definition, nil)
		if err != nil {
			t.Fatal(err)
		}
		var stages []*Stage
		var specs []Spec
		below := make([]map[*Stage]bool, len(states))
		for i, st := range states {
			s := spec(t, fmt.Sprint(i), st)
			alone := newStage(t, s)
			s.Definition, s.Ops, s.Result = nil, ops, Result{Digest: alone.Head, Index: alone.headIndex}
			below[i] = map[*Stage]bool{}
			for _, n := range reads[i] {
				s.Inputs = append(s.Inputs, Input{Stage: stages[n], Kind: InputCopy})
				below[i][stages[n]] = true
				maps.Copy(below[i], below[n])
			}
			stages, specs = append(stages, newStage(t, s)), append(specs, s)
			var want, got []digest.Digest
			for _, at := range stages[i].near {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(below[i])), func(in *Stage) bool { return slices.Contains(in.near, at) }) {
					want = append(want, ops.ops[at].digest)
				}
			}
			for _, st := range stages[i].Steps {
				got = append(got, st.Digest)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, stage %d: got steps %v, want %v", seed, i, got, want)
			}
		}
		// many at once are the same
		n := 20 * len(specs)
		many, err := NewStages(n, func(i int, made []*Stage) Spec {
			s := specs[i%len(specs)]
			s.Inputs = slices.Clone(s.Inputs)
			for j, from := range reads[i%len(specs)] {
				s.Inputs[j].Stage = made[i-i%len(specs)+from]
			}
			return s
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range many {
			want := stages[i%len(specs)]
			if diff := cmp.Diff(want.Steps, s.Steps); diff != "" || s.ID != want.ID {
				t.Fatalf("seed %d, stage %d of many: got %s, want %s (-want +got):\n%s", seed, i, s.ID, want.ID, diff)
			}
		}
	}
}

// What builds on a stage has the very operations of the stage, with their names and places.
func TestStateIsTheStage(t *testing.T) {
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("1\n2\n3\n"))
	image := llb.Image("base", at(src, 1, 1))
	both := image.Run(llb.Shlex("one"), at(src, 2, 2), llb.WithCustomName("the first"))
	mounted := both.AddMount("/second", llb.Image("other"))
	s := newStage(t, spec(t, "stage", mounted.File(llb.Copy(both.Root(), "/a", "/a"), at(src, 3, 3))))
	for _, st := range []*Stage{s, newStage(t, spec(t, "second result", mounted))} {
		def, err := st.State().Marshal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, want := def.ToPB(), st.Definition()
		for _, d := range []*pb.Definition{got, want} {
			end := string(digest.FromBytes(d.Def[len(d.Def)-1]))
			delete(d.Metadata, end) // says what the marshalling was told
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-stage +state):\n%s", st.Name, diff)
		}
	}
	empty := newStage(t, spec(t, "empty", llb.Scratch()))
	if out := empty.State().Output(); out != nil && out.Vertex(t.Context(), &llb.Constraints{}) != nil {
		t.Error("the state of an empty stage has an operation")
	}
}
