package integration

import (
	"testing"
	"time"
)

// projectTime is what a project may take, on a machine with nothing in its caches but the base
// images.
const projectTime = 3 * time.Minute

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
			if took := time.Since(start); took > projectTime {
				t.Errorf("it took %v, want less than %v", took, projectTime)
			}
		})
	}
}
