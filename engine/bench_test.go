package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zlayer-dev/zlayer/bench/monorepo"
)

// BenchmarkNestedCompile compiles 60 directories that build on one another and computes
// their keys, without a daemon.
func BenchmarkNestedCompile(b *testing.B) {
	for name, file := range map[string]string{"directories": "", "one file": monorepo.HandWritten} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			program := filepath.Join(b.TempDir(), "busybox")
			if err := os.WriteFile(program, []byte("no program"), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := monorepo.Write(dir, program); err != nil {
				b.Fatal(err)
			}
			req := Request{Context: dir, Root: dir}
			if file != "" {
				req.File = filepath.Join(dir, file)
			}
			e := openBare(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Why(b.Context(), req, ""); !errors.Is(err, ErrNoRecord) {
					b.Fatal(err)
				}
			}
		})
	}
}
