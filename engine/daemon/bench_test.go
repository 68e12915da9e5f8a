//go:build linux

package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
)

// BenchmarkConnect is the price of a running daemon.
func BenchmarkConnect(b *testing.B) {
	cfg := benchConfig(b)
	for b.Loop() {
		c, err := Connect(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkSpawn starts a daemon over a warm state directory.
func BenchmarkSpawn(b *testing.B) {
	cfg := benchConfig(b)
	for b.Loop() {
		b.StopTimer()
		if err := Stop(b.Context(), cfg); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		c, err := Connect(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkMemory reports the daemon's resident memory while idle, at the peak
// of twenty exports at a time, and after them.
func BenchmarkMemory(b *testing.B) {
	cfg := benchConfig(b)
	c, err := Connect(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		b.ReportMetric(rss(b, c.Info.PID, "VmRSS"), "idle-MB")
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				st := runState(fmt.Sprintf("busybox dd if=/dev/urandom of=/data bs=1M count=1 2>/dev/null; echo %d", i))
				err := build(b.Context(), c, st, client.ExportEntry{
					Type:   client.ExporterOCI,
					Output: func(map[string]string) (io.WriteCloser, error) { return discard{}, nil },
				})
				if err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		b.ReportMetric(rss(b, c.Info.PID, "VmHWM"), "peak-MB")
		b.ReportMetric(rss(b, c.Info.PID, "VmRSS"), "after-MB")
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// rss reads a line of /proc/pid/status in kB and returns it in MB.
func rss(b *testing.B, pid int, name string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), name+":")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}

// benchConfig returns the configuration of a running daemon.
func benchConfig(b *testing.B) Config {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root to run BuildKit")
	}
	cfg := Config{StateDir: b.TempDir(), IdleTimeout: time.Minute}
	c, err := Connect(b.Context(), cfg)
	if err != nil {
		b.Skip(err)
	}
	c.Close()
	b.Cleanup(func() { Stop(context.Background(), cfg) }) //nolint:errcheck // it may have left
	return cfg
}
