package engine

import (
	"cmp"
	"path"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// product is the build of the same call that an image name stands for; nil when it is
// an image of a registry. A build's own names do not stand for it: what is there under
// them is what it was last.
func (j *job) product(name string) *job {
	n := j.run.normalName(name)
	if p := j.images[n]; p != nil {
		return p
	}
	if p := j.run.jobs[n]; p != nil && p != j {
		return p
	}
	return nil
}

// CacheMount is a directory that RUN steps keep between builds.
type CacheMount struct {
	// Target is the path in the step.
	Target string
	// ID is the name of the cache; empty is Target.
	ID string
	// Sharing is "shared", "private" or "locked"; empty is shared.
	Sharing string
	// ReadOnly: steps cannot write to it.
	ReadOnly bool
}

// addCacheMounts gives the RUN steps of a build the request's default caches, except
// where they have a cache of their own at the same place. Stages of other builds,
// which it is based on, stay as they are.
func (j *job) addCacheMounts(g *graph.Graph, others []*graph.Stage) (*graph.Graph, error) {
	if len(j.req.CacheMounts) == 0 {
		return g, nil
	}
	theirs := map[digest.Digest]bool{}
	for _, s := range others {
		for _, dt := range s.Definition().GetDef() {
			theirs[digest.FromBytes(dt)] = true
		}
	}
	return graph.Rewrite(g, func(was digest.Digest, op *pb.Op) (bool, error) {
		exec := op.GetExec()
		if exec == nil || theirs[was] {
			return false, nil
		}
		changed := false
		for _, m := range j.req.CacheMounts {
			if !hasCache(exec, m.Target) {
				exec.Mounts = append(exec.Mounts, m.mount(j.attrs["build-arg:BUILDKIT_CACHE_MOUNT_NS"]))
				changed = true
			}
		}
		return changed, nil
	}, graph.Rewriting{})
}

func hasCache(exec *pb.ExecOp, target string) bool {
	for _, m := range exec.Mounts {
		if m.Dest == target && m.MountType == pb.MountType_CACHE {
			return true
		}
	}
	return false
}

// mount is the cache as dockerfile2llb would have it, so that it is the same one as
// that of a build file.
func (m CacheMount) mount(namespace string) *pb.Mount {
	id := namespace + "/" + cmp.Or(m.ID, path.Clean(m.Target))
	sharing := pb.CacheSharingOpt_SHARED
	switch m.Sharing {
	case "private":
		sharing = pb.CacheSharingOpt_PRIVATE
	case "locked":
		sharing = pb.CacheSharingOpt_LOCKED
	}
	return &pb.Mount{
		Input: int64(pb.Empty), Output: int64(pb.SkipOutput), Dest: m.Target, Readonly: m.ReadOnly,
		MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: id, Sharing: sharing},
	}
}
