package memo

import (
	"context"
	"slices"
	"time"
)

// item is what there is to remove: of a store, by a name that the store knows.
type item struct {
	name string
	size int64
	used time.Time
}

// prune removes items until the limits hold. remove says whether the item is gone;
// one that stays, since somebody used it in between, counts as left.
func prune(ctx context.Context, items []item, l Limits, now time.Time, remove func(item) (bool, error)) (Pruned, error) {
	slices.SortFunc(items, func(a, b item) int { return a.used.Compare(b.used) })
	p := Pruned{Left: len(items)}
	for _, it := range items {
		p.LeftBytes += it.size
	}
	for _, it := range items {
		old := l.MaxAge > 0 && now.Sub(it.used) > l.MaxAge
		if !l.All && !old && (l.MaxSize <= 0 || p.LeftBytes <= l.MaxSize) {
			break
		}
		if err := ctx.Err(); err != nil {
			return p, err
		}
		gone, err := remove(it)
		if err != nil {
			return p, err
		}
		if gone {
			p.Removed++
			p.Left--
			p.RemovedBytes += it.size
			p.LeftBytes -= it.size
		}
	}
	return p, nil
}
