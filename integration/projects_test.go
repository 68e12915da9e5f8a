package integration

import (
	"testing"
	"time"
)

// TestProjects builds whole projects, small but real, as TestCorpus builds its cases. Their
// Dockerfiles check themselves what they make.
func TestProjects(t *testing.T) {
	for _, c := range loadCases(t, "projects") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bound <- struct{}{}
			defer func() { <-bound }()
			start := time.Now()
			c.differential(t)
			t.Logf("it took %v", time.Since(start))
		})
	}
}
