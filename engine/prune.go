package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/buildkit/client"
)

// PruneOptions say which part of the daemon's build cache goes. The zero value
// takes everything that is not in use, but for what is BuildKit's own.
type PruneOptions struct {
	// All takes also what is BuildKit's own, such as the images of frontends, and
	// what is shared with others.
	All bool
	// OlderThan spares what was used within that time.
	OlderThan time.Duration
	// Keep spares that many bytes, the most recently used.
	Keep int64
	// Filters are BuildKit's (containerd's filter syntax); a record must match one.
	Filters []string
}

// PruneReport says what went.
type PruneReport struct {
	// Records is a number of cache records, Bytes what was in them.
	Records int   `json:"records"`
	Bytes   int64 `json:"bytes"`
}

// Prune deletes build cache. Builds that run keep what they need.
func (e *Engine) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	opts := []client.PruneOption{client.WithKeepOpt(o.OlderThan, 0, o.Keep, 0)}
	if o.All {
		opts = append(opts, client.PruneAll)
	}
	if len(o.Filters) > 0 {
		opts = append(opts, client.WithFilter(o.Filters))
	}
	var r PruneReport
	err := e.withClient(ctx, func(c *client.Client, touched func()) error {
		records, counted := make(chan client.UsageInfo), make(chan struct{})
		go func() {
			defer close(counted)
			for u := range records {
				touched()
				r.Records++
				r.Bytes += u.Size
			}
		}()
		err := c.Prune(ctx, records, opts...)
		close(records)
		<-counted
		return err
	})
	e.forgetBuilt()
	if err != nil {
		return r, fmt.Errorf("pruning the build cache: %w", err)
	}
	return r, nil
}
