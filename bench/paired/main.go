// Command paired times two commands as whole processes, in turn, and prints the
// median wall time and peak memory of each and the median of the pairwise ratios.
// Pairs are compared because the speed of a machine drifts; the ratio does not.
//
//	paired [-n runs] [-warmup runs] 'command a' 'command b'
//
// Each command is one string split at white space; a run that fails ends the
// comparison.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	n := flag.Int("n", 21, "counted runs of each command")
	warmup := flag.Int("warmup", 2, "runs of each that are not counted")
	flag.Parse()
	if flag.NArg() != 2 || *n < 1 {
		flag.Usage()
		os.Exit(2)
	}
	a, b, err := compare(flag.Arg(0), flag.Arg(1), *warmup, *n)
	if err != nil {
		fmt.Fprintln(os.Stderr, "paired:", err)
		os.Exit(1)
	}
	report(a, b)
}

// sample is one run of a command.
type sample struct {
	wall time.Duration
	// peak is the largest resident set in KiB.
	peak int64
}

func compare(a, b string, warmup, n int) (as, bs []sample, err error) {
	for i := range warmup + n {
		sa, err := run(a)
		if err != nil {
			return nil, nil, err
		}
		sb, err := run(b)
		if err != nil {
			return nil, nil, err
		}
		if i >= warmup {
			as, bs = append(as, sa), append(bs, sb)
		}
	}
	return as, bs, nil
}

func run(command string) (sample, error) {
	args := strings.Fields(command)
	cmd := exec.Command(args[0], args[1:]...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(start)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	var peak int64
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = ru.Maxrss
	}
	return sample{wall: wall, peak: peak}, nil
}

func report(as, bs []sample) {
	ratios := make([]float64, len(as))
	for i := range as {
		ratios[i] = float64(as[i].wall) / float64(bs[i].wall)
	}
	slices.Sort(ratios)
	wall := func(s sample) float64 { return float64(s.wall.Microseconds()) / 1000 }
	peak := func(s sample) float64 { return float64(s.peak) / 1024 }
	fmt.Printf("%-18s %10s %10s %10s\n", "", "a", "b", "a/b")
	fmt.Printf("%-18s %10.1f %10.1f %10.2f\n", "wall, median ms", median(as, wall), median(bs, wall), ratios[len(ratios)/2])
	fmt.Printf("%-18s %10.1f %10.1f\n", "wall, least ms", least(as, wall), least(bs, wall))
	fmt.Printf("%-18s %10.1f %10.1f\n", "peak, median MiB", median(as, peak), median(bs, peak))
}

func values(list []sample, f func(sample) float64) []float64 {
	out := make([]float64, len(list))
	for i, s := range list {
		out[i] = f(s)
	}
	slices.Sort(out)
	return out
}

func median(list []sample, f func(sample) float64) float64 {
	v := values(list, f)
	return v[len(v)/2]
}

func least(list []sample, f func(sample) float64) float64 { return values(list, f)[0] }
