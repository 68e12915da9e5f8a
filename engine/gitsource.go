package engine

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	fstypes "github.com/tonistiigi/fsutil/types"
	"golang.org/x/sync/errgroup"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/source/gitrepo"
	"github.com/zlayer-dev/zlayer/source/lock"
)

// gitPatience bounds how long a build waits to hear what a git reference stands for.
const gitPatience = 15 * time.Second

// gitAddress takes a git source apart: where the repository is, and the reference. It
// is false for what is not looked up here: other sources, addresses with a password,
// and those that keep the directory .git, in which there is more than a commit.
func gitAddress(src graph.Source) (address, name string, ok bool) {
	if kind, _ := lockable(src); kind != lock.Git || src.Attrs[pb.AttrKeepGitDir] != "" {
		return "", "", false
	}
	address, name = repoOf(src)
	return address, name, !gitrepo.HasPassword(address)
}

// lookUpGit looks up what the git references of a graph stand for that are not locked,
// all at once. Those that cannot be looked up have no key.
func (j *job) lookUpGit(ctx context.Context, g *graph.Graph) {
	var eg errgroup.Group
	for _, s := range g.Stages() {
		for _, src := range s.Sources {
			if p, err := j.pinSource(src); err != nil || graph.Pinned(p) {
				continue
			}
			if address, name, ok := gitAddress(src); ok && !j.req.Offline {
				eg.Go(func() error {
					_, _ = j.run.git.Commit(ctx, address, name)
					return nil
				})
			}
		}
	}
	_ = eg.Wait()
}

// checkOffline refuses what a daemon would have to ask a server for, where none may be
// asked.
func (j *job) checkOffline(g *graph.Graph) error {
	if !j.req.Offline {
		return nil
	}
	for _, s := range g.Stages() {
		for _, src := range s.Sources {
			kind, ref := lockable(src)
			if kind == "" {
				continue
			}
			if p, err := j.fixSource(src); err == nil && !graph.Pinned(p) {
				return inputErrorf("%s %s is not in the lock file, what it stood for is not known here, and --offline keeps servers from being asked: lock it with zlayer lock", kind, ref)
			}
		}
	}
	return nil
}

// commitOf is the commit that a git source stood for when it was looked up; "" if it
// is not known.
func (j *job) commitOf(src graph.Source) string {
	address, name, ok := gitAddress(src)
	if !ok {
		return ""
	}
	if j.req.Offline {
		commit, err := j.run.git.Last(address, name)
		if err != nil {
			return ""
		}
		return commit
	}
	commit, _ := j.run.git.Looked(address, name)
	return commit
}

// fixSource gives a source the content that it is locked to, or that it was found to
// have.
func (j *job) fixSource(src graph.Source) (graph.Source, error) {
	p, err := j.pinSource(src)
	if err != nil || graph.Pinned(p) {
		return p, err
	}
	if commit := j.commitOf(src); commit != "" {
		return pinned(src, lock.Git, commit), nil
	}
	return src, nil
}

// fixForDaemon is fixSource in the form in which the daemon is told: a reference that
// was looked up stays one, with which less has to be fetched than with a commit, and
// the daemon refuses it should it have moved.
func (j *job) fixForDaemon(src graph.Source) (graph.Source, error) {
	p, err := j.pinSource(src)
	if err != nil || graph.Pinned(p) || j.req.Offline {
		return j.fixSource(src)
	}
	if commit := j.commitOf(src); commit != "" {
		src.Attrs = maps.Clone(src.Attrs)
		if src.Attrs == nil {
			src.Attrs = map[string]string{}
		}
		src.Attrs[pb.AttrGitChecksum] = commit
	}
	return src, nil
}

// gitFiles are the files of a git source that a definition consists of; nil if it is
// another one, or they cannot be had without a daemon.
func (j *job) gitFiles(ctx context.Context, def *pb.Definition) *gitFiles {
	if def == nil || len(def.Def) != 2 {
		return nil
	}
	var op pb.Op
	if err := op.UnmarshalVT(def.Def[0]); err != nil || op.GetSource() == nil {
		return nil
	}
	src := opSource(op.GetSource())
	if src.Scheme != "git" || src.Attrs[pb.AttrKeepGitDir] != "" {
		return nil
	}
	address, name := repoOf(src)
	if gitrepo.HasPassword(address) {
		return nil
	}
	if !j.req.Offline && !graph.Pinned(src) {
		// Whoever fails is asked again by the daemon, which tells what is wrong.
		_, _ = j.run.git.Commit(ctx, address, name)
	}
	p, err := j.fixSource(src)
	if err != nil || !graph.Pinned(p) {
		return nil
	}
	_, commit := repoOf(p)
	if sum := p.Attrs[pb.AttrGitChecksum]; sum != "" {
		commit = sum
	}
	if !gitrepo.IsCommit(commit) {
		return nil
	}
	files, err := j.run.git.Open(ctx, address, name, commit, j.req.Offline)
	if err != nil {
		return nil
	}
	_, below, _ := strings.Cut(src.Ref, "#")
	_, below, _ = strings.Cut(below, ":")
	return &gitFiles{files, strings.Trim(below, "/")}
}

// readsGit reports whether a graph reads repositories.
func readsGit(g *graph.Graph) bool {
	return slices.ContainsFunc(g.Stages(), func(s *graph.Stage) bool {
		return slices.ContainsFunc(s.Sources, func(src graph.Source) bool { return src.Scheme == "git" })
	})
}

// repoOf is the address of a git source and its reference.
func repoOf(src graph.Source) (address, name string) {
	address, frag, _ := strings.Cut(src.Ref, "#")
	name, _, _ = strings.Cut(frag, ":")
	if full := src.Attrs[pb.AttrFullRemoteURL]; full != "" {
		address = full
	}
	return address, name
}

// gitFiles are the files of a commit below a directory.
type gitFiles struct {
	*gitrepo.Files
	below string
}

// gitRef is a git repository as the result of a build of which single files are read.
// What it cannot say is left to the daemon.
type gitRef struct {
	files *gitFiles
	o     *offline
}

var _ gwclient.Reference = (*gitRef)(nil)

// ToState implements gwclient.Reference; it always fails.
func (r *gitRef) ToState() (llb.State, error) { return llb.State{}, r.o.leave() }

// Evaluate implements gwclient.Reference.
func (r *gitRef) Evaluate(context.Context) error { return nil }

// ReadFile implements gwclient.Reference.
func (r *gitRef) ReadFile(ctx context.Context, req gwclient.ReadRequest) ([]byte, error) {
	text, err := r.files.Read(ctx, r.files.below+"/"+req.Filename, maxBuildFile)
	if err != nil {
		return nil, r.missing(err)
	}
	return frontend.Cut(text, req.Range), nil
}

// StatFile implements gwclient.Reference.
func (r *gitRef) StatFile(ctx context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	size, err := r.files.Size(ctx, r.files.below+"/"+req.Path)
	if err != nil {
		return nil, r.missing(err)
	}
	return &fstypes.Stat{Path: req.Path, Mode: 0o644, Size: size}, nil
}

// ReadDir implements gwclient.Reference; it always fails.
func (r *gitRef) ReadDir(context.Context, gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, r.o.leave()
}

// missing is the error for a file: one that is not there may be one that does without,
// and everything else is for the daemon to read.
func (r *gitRef) missing(err error) error {
	left := r.o.leave()
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Frontends take an ignore file that they cannot read for one that is not there.
	r.o.run.unsure.Store(true)
	return left
}
