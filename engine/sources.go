package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
)

// sources is the session through which the daemon reads local directories and image
// layouts, for all builds of a call: what several of them read is sent once.
type sources struct {
	mu     sync.Mutex
	dirs   localDirs
	stores map[string]content.Store
	// open are the sessions, by the client of the daemon they are for.
	open map[*client.Client]*session.Session
	// jobs are told when a directory they read cannot be read.
	jobs map[*job]context.CancelCauseFunc
}

func newSources(normalize bool) *sources {
	s := &sources{
		dirs:   localDirs{normalize: normalize},
		stores: map[string]content.Store{},
		open:   map[*client.Client]*session.Session{},
		jobs:   map[*job]context.CancelCauseFunc{},
	}
	s.dirs.abort = s.abort
	return s
}

// abort ends the builds that a directory which cannot be read was for.
func (s *sources) abort(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.jobs {
		cancel(err)
	}
}

// watch ties a job to the directories; the caller calls the function it returns when
// the job has ended.
func (s *sources) watch(ctx context.Context, j *job) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[j] = cancel
	return ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.jobs, j)
		cancel(nil)
	}
}

// addStores offers image layouts. It has no effect on sessions that are open.
func (s *sources) addStores(stores map[string]content.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, cs := range stores {
		s.stores["oci:"+id] = cs
	}
}

// session is the session with a daemon, opened first if need be.
func (s *sources) session(c *client.Client, sharedKey string) (*session.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open := s.open[c]; open != nil {
		return open, nil
	}
	// The session outlives the build that opens it; close ends it.
	ctx := context.Background()
	sess, err := session.NewSession(ctx, sharedKey)
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	sess.Allow(s.dirs.attachable())
	if len(s.stores) > 0 {
		sess.Allow(sessioncontent.NewAttachable(maps.Clone(s.stores)))
	}
	s.open[c] = sess
	go func() {
		// That the daemon has gone is seen by whoever builds on it.
		_ = sess.Run(ctx, c.Dialer())
	}()
	return sess, nil
}

func (s *sources) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.open {
		_ = sess.Close()
	}
	clear(s.open)
}

// clientKey is the part of the daemon's names for copies of directories that tells
// this machine from others.
func (e *Engine) clientKey() string {
	sum := sha256.Sum256([]byte("zlayer.client.v1\x00" + e.clientID()))
	return hex.EncodeToString(sum[:16])
}

// rawName is the name of a local source without what makes it unique.
func rawName(name string) string {
	if i := strings.LastIndex(name, "-"); i > 0 && len(name)-i-1 == 2*uniqueBytes {
		return name[:i]
	}
	return name
}

// forDaemon gives the graph of the job as the daemon of a client is to solve it: with
// the session's id and the present names of local directories in place of those it was
// compiled with, and locked sources as they are locked.
func (j *job) forDaemon(sess *session.Session) (*graph.Graph, error) {
	also := graph.Rewriting{Names: map[digest.Digest]string{}, Grafts: map[digest.Digest]graph.Graft{}}
	for head, t := range j.taken {
		if t.file != nil {
			also.Grafts[head] = t.graft(sess)
			continue
		}
		also.Names[head] = "[internal] take " + j.stageNames(head) + " from the store, " + t.desc.Digest.Encoded()[:12]
	}
	return graph.Rewrite(j.known, func(was digest.Digest, op *pb.Op) (bool, error) {
		if t, ok := j.taken[was]; ok && t.file == nil {
			substitute(op, sess, t.desc, storeID)
			return true, nil
		}
		src := op.GetSource()
		if src == nil {
			return false, nil
		}
		if name, ok := strings.CutPrefix(src.Identifier, "local://"); ok {
			return true, j.offerLocal(sess, src, name)
		}
		if src.Attrs[pb.AttrOCILayoutSessionID] == offlineSession {
			src.Attrs[pb.AttrOCILayoutSessionID] = sess.ID()
			return true, nil
		}
		s := opSource(src)
		if kind, _ := lockable(s); kind == "" {
			return false, nil
		}
		p, err := j.fixForDaemon(s)
		if err != nil {
			return false, err
		}
		changed := p.Ref != s.Ref || !maps.Equal(p.Attrs, s.Attrs)
		src.Identifier, src.Attrs = p.Scheme+"://"+p.Ref, p.Attrs
		return changed, nil
	}, also)
}

// stageNames names the stages that end in an operation.
func (j *job) stageNames(head digest.Digest) string {
	var names []string
	for _, s := range j.known.Stages() {
		if s.Head == head && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, ", ")
}

// offerLocal offers a directory to the daemon and has the source name it.
func (j *job) offerLocal(sess *session.Session, src *pb.SourceOp, name string) error {
	dir, ok := j.locals.dirOf(name)
	if !ok {
		return fmt.Errorf("local directory %s is not known", name)
	}
	unique := uniqueName(rawName(name), dir, j.locals.syncID(dir))
	j.run.sources.dirs.offer(dir, unique)
	src.Identifier = "local://" + unique
	src.Attrs[pb.AttrLocalSessionID] = sess.ID()
	src.Attrs[pb.AttrLocalUniqueID] = sess.ID()
	return nil
}

// unsupported names a capability that the graph needs and the daemon lacks, "" if it
// has them all.
func unsupported(g *graph.Graph, supports func(id string) error) string {
	asked := map[string]bool{}
	lacks := func(id string) bool {
		if asked[id] {
			return false
		}
		asked[id] = true
		return supports(id) != nil
	}
	for _, s := range g.Outputs() {
		for _, md := range s.Definition().GetMetadata() {
			for id, need := range md.Caps {
				if need && lacks(string(id)) {
					return string(id)
				}
			}
		}
	}
	for _, s := range g.Stages() {
		for _, src := range s.Sources {
			// It is not among the capabilities where we have set it.
			if id := string(pb.CapSourceGitChecksum); src.Attrs[pb.AttrGitChecksum] != "" && lacks(id) {
				return id
			}
		}
	}
	return ""
}
