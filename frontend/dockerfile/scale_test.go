package dockerfile

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// shapes are Dockerfiles of n stages.
var shapes = map[string]func(n int) string{
	// each stage starts from the one before
	"from": func(n int) string {
		var b strings.Builder
		b.WriteString("FROM busybox AS s0\nRUN echo 0\n")
		for i := 1; i < n; i++ {
			fmt.Fprintf(&b, "FROM s%d AS s%d\nRUN echo %d\n", i-1, i, i)
		}
		return b.String()
	},
	// each stage copies from the one before
	"copy": func(n int) string {
		var b strings.Builder
		b.WriteString("FROM busybox AS s0\nRUN echo 0\n")
		for i := 1; i < n; i++ {
			fmt.Fprintf(&b, "FROM busybox AS s%d\nCOPY --from=s%d /etc /x\nRUN echo %d\n", i, i-1, i)
		}
		return b.String()
	},
	// stages that have nothing to do with each other, a hundred of which are gathered by
	// one, and so on
	"wide": func(n int) string {
		var b strings.Builder
		var open []string
		gather := func(name string, from []string) {
			fmt.Fprintf(&b, "FROM scratch AS %s\n", name)
			for i, f := range from {
				fmt.Fprintf(&b, "COPY --from=%s /etc /x%d\n", f, i)
			}
		}
		for i := range n - n/100 - 1 {
			name := fmt.Sprintf("s%d", i)
			fmt.Fprintf(&b, "FROM busybox AS %s\nRUN echo %d\n", name, i)
			open = append(open, name)
		}
		for level := 0; len(open) > 1; level++ {
			var next []string
			for i := 0; i < len(open); i += 100 {
				name := fmt.Sprintf("g%d-%d", level, i/100)
				gather(name, open[i:min(i+100, len(open))])
				next = append(next, name)
			}
			open = next
		}
		return b.String()
	},
	// a base, stages upon it in pairs that the next one joins
	"diamond": func(n int) string {
		var b strings.Builder
		b.WriteString("FROM busybox AS s0\nRUN echo 0\n")
		top, i := 0, 1
		for ; i+2 < n; i += 3 {
			fmt.Fprintf(&b, "FROM s0 AS s%d\nCOPY --from=s%d /etc /x\nRUN echo %d\n", i, top, i)
			fmt.Fprintf(&b, "FROM s0 AS s%d\nCOPY --from=s%d /etc /x\nRUN echo %d\n", i+1, top, i+1)
			fmt.Fprintf(&b, "FROM s0 AS s%d\nCOPY --from=s%d /etc /x\nCOPY --from=s%d /etc /y\n", i+2, i, i+1)
			top = i + 2
		}
		fmt.Fprintf(&b, "FROM s%d\n", top)
		return b.String()
	},
}

// What compiling allocates grows with the number of stages and no faster. Chains of FROM are left
// out: in BuildKit's lowering every stage of a chain looks through all below it, and each has the
// history of all below it in its config.
func TestCompileIsLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, shape := range []string{"wide", "diamond", "copy"} {
		small, large := compileBytes(t, shape, 300), compileBytes(t, shape, 1200)
		if ratio := float64(large) / float64(small); ratio > 5 {
			t.Errorf("%s: four times the stages take %.1f times the memory (%d and %d bytes)", shape, ratio, small, large)
		}
	}
}

// compileBytes is what compiling n stages allocates.
func compileBytes(t *testing.T, shape string, n int) uint64 {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir, "Dockerfile", shapes[shape](n))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	g, err := Compile(context.Background(), open(dir, nil), Options{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := len(g.Stages()); got < n-1 {
		t.Fatalf("%s: %d stages of %d", shape, got, n)
	}
	return after.TotalAlloc - before.TotalAlloc
}

func BenchmarkCompileStages(b *testing.B) {
	for _, shape := range []string{"wide", "diamond", "copy", "from"} {
		for _, n := range []int{1000, 2000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", shape, n), func(b *testing.B) {
				dir := b.TempDir()
				writeFile(b, dir, "Dockerfile", shapes[shape](n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Compile(context.Background(), open(dir, nil), Options{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
