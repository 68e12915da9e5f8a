package graph

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
)

// simple makes a stage of its own contents that reads inputs; LLB holds none of them.
func simple(t testing.TB, name string, steps int, inputs ...*Stage) *Stage {
	t.Helper()
	st := llb.Scratch()
	for i := range steps {
		st = st.File(llb.Mkdir("/"+name+strconv.Itoa(i), 0o755), llb.WithCustomNamef("%s %d", name, i))
	}
	s := spec(t, name, st)
	for _, in := range inputs {
		s.Inputs = append(s.Inputs, Input{Stage: in, Kind: InputCopy})
	}
	return newStage(t, s)
}

func names(stages []*Stage) []string {
	out := []string{}
	for _, s := range stages {
		out = append(out, s.Name)
	}
	return out
}

func wantNames(t *testing.T, what string, got []*Stage, want ...string) {
	t.Helper()
	if !slices.Equal(names(got), want) {
		t.Errorf("%s: got %v, want %v", what, names(got), want)
	}
}

func TestGraphOrder(t *testing.T) {
	a, b := simple(t, "a", 1), simple(t, "b", 1)
	c := simple(t, "c", 1, b, a)
	d := simple(t, "d", 1, c, b, b)
	simple(t, "unused", 1, a)
	g, err := New(d, a, d)
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, "stages", g.Stages(), "b", "a", "c", "d")
	wantNames(t, "outputs", g.Outputs(), "d", "a", "d")
	wantNames(t, "inputs of d", g.Inputs(d), "c", "b")
	wantNames(t, "inputs of a", g.Inputs(a))
	wantNames(t, "dependants of b", g.Dependants(b), "c", "d")
	wantNames(t, "dependants of d", g.Dependants(d))
	if g.Stage(c.ID) != c || g.Stage("sha256:0") != nil {
		t.Error("Stage does not find stages by ID")
	}
	// What the graph hands out is the caller's own.
	g.Stages()[0], g.Outputs()[0], g.Inputs(d)[0], g.Dependants(b)[0] = nil, nil, nil, nil
	wantNames(t, "stages", g.Stages(), "b", "a", "c", "d")
	wantNames(t, "outputs", g.Outputs(), "d", "a", "d")
	wantNames(t, "inputs of d", g.Inputs(d), "c", "b")
	wantNames(t, "dependants of b", g.Dependants(b), "c", "d")
}

func TestGraphMeetsEqualStages(t *testing.T) {
	one, two := simple(t, "base", 1), simple(t, "base", 1)
	two.Name = "again"
	left, right := simple(t, "left", 1, one), simple(t, "right", 1, two)
	out := simple(t, "out", 1, left, right, one, two)
	g, err := New(out, two)
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, "stages", g.Stages(), "base", "left", "right", "out")
	wantNames(t, "outputs", g.Outputs(), "out", "base")
	wantNames(t, "inputs of right", g.Inputs(right), "base")
	wantNames(t, "inputs of out", g.Inputs(out), "left", "right", "base")
	wantNames(t, "dependants of base", g.Dependants(two), "left", "right", "out")
}

func TestGraphNeedsOutputs(t *testing.T) {
	if _, err := New(); err == nil {
		t.Error("a graph without outputs was made")
	}
	if _, err := New(nil); err == nil {
		t.Error("a graph with a nil output was made")
	}
}

func TestPriorities(t *testing.T) {
	base := simple(t, "base", 2)
	short := simple(t, "short", 1, base)
	long := simple(t, "long", 5, base)
	nothing := newStage(t, Spec{Name: "nothing", Platform: amd64})
	out := simple(t, "out", 3, short, long, nothing)
	g, err := New(out)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for id, n := range g.Priorities() {
		got[g.Stage(id).Name] = n
	}
	want := map[string]int{"out": 3, "long": 8, "short": 4, "base": 10, "nothing": 4}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("priorities (-want +got):\n%s", diff)
	}
}

// TestRandomGraphOrder checks the order and both directions of edges against the
// definition of each.
func TestRandomGraphOrder(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var stages []*Stage
		for i := range 1 + rnd.IntN(40) {
			var inputs []*Stage
			for range rnd.IntN(4) {
				if i > 0 {
					inputs = append(inputs, stages[rnd.IntN(i)])
				}
			}
			stages = append(stages, simple(t, fmt.Sprint("s", i), 1, inputs...))
		}
		g, err := New(stages[len(stages)-1], stages[rnd.IntN(len(stages))])
		if err != nil {
			t.Fatal(err)
		}
		at := map[*Stage]int{}
		for i, s := range g.Stages() {
			if _, ok := at[s]; ok {
				t.Fatalf("seed %d: %s is there twice", seed, s.Name)
			}
			at[s] = i
		}
		for _, s := range g.Stages() {
			for _, in := range g.Inputs(s) {
				if i, ok := at[in]; !ok || i >= at[s] {
					t.Errorf("seed %d: input %s does not come before %s", seed, in.Name, s.Name)
				}
				if !slices.Contains(g.Dependants(in), s) {
					t.Errorf("seed %d: %s does not know its dependant %s", seed, in.Name, s.Name)
				}
			}
			for _, u := range g.Dependants(s) {
				if !slices.Contains(g.Inputs(u), s) {
					t.Errorf("seed %d: %s does not read %s", seed, u.Name, s.Name)
				}
			}
		}
	}
}

// large makes n stages and one that reads them all.
func large(t testing.TB, n int) *Stage {
	rnd := rand.New(rand.NewPCG(1, 1))
	var stages []*Stage
	for i := range n - 1 {
		var inputs []*Stage
		for range min(i, 3) {
			inputs = append(inputs, stages[rnd.IntN(i)])
		}
		stages = append(stages, simple(t, fmt.Sprint("s", i), 1, inputs...))
	}
	return simple(t, "out", 1, stages...)
}

// BenchmarkGraph has to stay linear: look at the time per stage.
func BenchmarkGraph(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n, " stages"), func(b *testing.B) { benchmarkGraph(b, n) })
	}
}

func benchmarkGraph(b *testing.B, n int) {
	out := large(b, n)
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			if _, err := New(out); err != nil {
				b.Fatal(err)
			}
		}
	})
	g, err := New(out)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("priorities", func(b *testing.B) {
		for b.Loop() {
			g.Priorities()
		}
	})
	b.Run("print", func(b *testing.B) {
		for b.Loop() {
			if err := Fprint(discard{}, g); err != nil {
				b.Fatal(err)
			}
		}
	})
}
