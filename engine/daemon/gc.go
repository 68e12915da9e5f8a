package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/util/disk"
)

// gcPolicy returns the rules by which BuildKit prunes its cache in dir, which
// need not exist yet. maxUsed, if not zero, bounds the whole cache in bytes.
func gcPolicy(cfg config.GCConfig, maxUsed int64, dir string) ([]client.PruneInfo, error) {
	if maxUsed < 0 {
		return nil, fmt.Errorf("maximum storage %d is negative: use 0 for the default", maxUsed)
	}
	if cfg.GC != nil && !*cfg.GC && maxUsed == 0 {
		return nil, nil
	}
	dstat, err := diskStat(dir)
	if err != nil {
		return nil, err
	}
	if maxUsed > 0 {
		limitStorage(&cfg, maxUsed, dstat)
	}
	rules := cfg.GCPolicy
	if len(rules) == 0 {
		rules = config.DefaultGCPolicy(cfg, dstat)
	}
	policy := make([]client.PruneInfo, len(rules))
	for i, r := range rules {
		if r.ReservedSpace == (config.DiskSpace{}) {
			r.ReservedSpace = r.KeepBytes //nolint:staticcheck // the old spelling still counts
		}
		policy[i] = client.PruneInfo{
			Filter:        r.Filters,
			All:           r.All,
			KeepDuration:  r.KeepDuration.Duration,
			ReservedSpace: r.ReservedSpace.AsBytes(dstat),
			MaxUsedSpace:  r.MaxUsedSpace.AsBytes(dstat),
			MinFreeSpace:  r.MinFreeSpace.AsBytes(dstat),
		}
	}
	return policy, nil
}

// limitStorage sets the upper bound and lowers what BuildKit would keep in any
// case (a tenth of the disk) to below it: reserved space wins over the bound.
func limitStorage(cfg *config.GCConfig, maxUsed int64, dstat disk.DiskStat) {
	if cfg.IsUnset() {
		*cfg = config.DetectDefaultGCCap(dstat)
	}
	cfg.GCMaxUsedSpace = config.DiskSpace{Bytes: maxUsed}
	if cfg.GCReservedSpace.AsBytes(dstat) > maxUsed {
		cfg.GCReservedSpace = config.DiskSpace{Bytes: maxUsed}
	}
	for i := range cfg.GCPolicy {
		r := &cfg.GCPolicy[i]
		r.MaxUsedSpace = config.DiskSpace{Bytes: maxUsed}
		if r.ReservedSpace.AsBytes(dstat) > maxUsed {
			r.ReservedSpace = config.DiskSpace{Bytes: maxUsed}
		}
	}
}

// diskStat describes the size of the file system that holds dir or will do so.
// Only the size: what is free changes all the time and would make each
// caller's configuration another one.
func diskStat(dir string) (disk.DiskStat, error) {
	for {
		d, err := disk.GetDiskStat(dir)
		if err == nil {
			return disk.DiskStat{Total: d.Total}, nil
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, os.ErrNotExist) || parent == dir {
			return disk.DiskStat{}, fmt.Errorf("looking at the state directory: %w", err)
		}
		dir = parent
	}
}
