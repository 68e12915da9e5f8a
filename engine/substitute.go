package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/store"
)

// storeID is the name under which the daemon is offered the engine's own image store.
const storeID = "zlayer-store"

// substituteRef is the name of images that stand for stages; only their digest counts.
const substituteRef = "zlayer.local/stage"

// stageRecordKey is what the image of a stage is filed under in the memo.
func stageRecordKey(k graph.Key) digest.Digest {
	h := graph.NewHasher("zlayer.stage.image.v1")
	h.String(k.String())
	return h.Digest()
}

// rememberStages files the images that were exported into the store under the keys of
// the stages that they are, so that builds on top of them can start from there.
func (j *job) rememberStages(ctx context.Context, k *keys, desc ocispecs.Descriptor) {
	if j.outputs.store == nil || desc.Digest == "" {
		return
	}
	for _, s := range k.graph.Outputs() {
		m, ok := manifestFor(ctx, j.outputs.store, desc, platforms.FormatAll(s.Platform))
		if !ok {
			continue
		}
		// That it cannot be remembered costs a rebuild some day.
		_ = j.run.memo.Put(ctx, &memo.Record{
			Key: stageRecordKey(k.stages[s.ID].key), Kind: memo.KindImage, Image: descriptorOf(m),
			Tool: j.engine.cfg.Version, Created: time.Now(), Names: j.outputs.names,
		})
	}
}

// manifestFor is the manifest of a platform in an image of the store.
func manifestFor(ctx context.Context, s *store.Store, desc ocispecs.Descriptor, platform string) (ocispecs.Descriptor, bool) {
	if desc.MediaType != ocispecs.MediaTypeImageIndex && !strings.Contains(desc.MediaType, "manifest.list") {
		return desc, true
	}
	raw, err := content.ReadBlob(ctx, s.Content(), desc)
	if err != nil {
		return desc, false
	}
	var idx ocispecs.Index
	if json.Unmarshal(raw, &idx) != nil {
		return desc, false
	}
	p, err := platforms.Parse(platform)
	if err != nil {
		return desc, false
	}
	m := platforms.OnlyStrict(p)
	for _, d := range idx.Manifests {
		if d.Platform != nil && m.Match(*d.Platform) {
			return d, true
		}
	}
	return desc, false
}

// taken is a stage that the daemon need not build.
type taken struct {
	// desc is the image that the daemon reads instead.
	desc ocispecs.Descriptor
	// file: it is not the stage's, but has the one file that the stage copies.
	file *copied
}

// substitutes finds the stages that the daemon need not build because the store has
// their images, or the file they consist of, by the digest of their last operation:
// what is based on something that a daemon has never built, and that an earlier build
// has left in the store.
func (j *job) substitutes(ctx context.Context) map[digest.Digest]taken {
	k := j.compiled
	if k == nil || k.base == "" || j.req.NoCache || len(j.req.NoCacheFilter) > 0 {
		return nil
	}
	s, err := j.engine.Store()
	if err != nil {
		return nil
	}
	outputs := map[digest.Digest]bool{}
	for _, o := range k.graph.Outputs() {
		outputs[o.ID] = true
	}
	found := map[digest.Digest]taken{}
	seen := map[digest.Digest]bool{}
	var walk func(st *graph.Stage)
	walk = func(st *graph.Stage) {
		if seen[st.ID] || st.Terminal() {
			return
		}
		seen[st.ID] = true
		key := k.stages[st.ID].key
		if !outputs[st.ID] && !j.builtBy.has(key) {
			rec, err := j.run.memo.Get(ctx, stageRecordKey(key))
			if err == nil && rec.Image != nil && s.Complete(ctx, *rec.Image) == nil {
				found[st.Head] = taken{desc: *rec.Image}
				return
			}
			if t, ok := j.takeFile(ctx, st); ok {
				found[st.Head] = t
				return
			}
		}
		for _, in := range k.graph.Inputs(st) {
			walk(in)
		}
	}
	for _, o := range k.graph.Outputs() {
		walk(o)
	}
	return found
}

// substitute makes an operation the image that its result is known to be.
func substitute(op *pb.Op, sess *session.Session, desc ocispecs.Descriptor, store string) {
	op.Inputs = nil
	op.Op = &pb.Op_Source{Source: &pb.SourceOp{
		Identifier: "oci-layout://" + substituteRef + "@" + desc.Digest.String(),
		Attrs: map[string]string{
			pb.AttrOCILayoutSessionID: sess.ID(),
			pb.AttrOCILayoutStoreID:   store,
		},
	}}
}

// built remembers what a daemon has built, by the id of its state: what it has built
// it is not sent again.
type built struct {
	file string

	mu   sync.Mutex
	keys map[graph.Key]bool
}

func (b *built) has(k graph.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[k]
}

// maxBuilt bounds the keys that are remembered of a daemon.
const maxBuilt = 50_000

// builtBy reads what the daemon of a client has built. Without an id it has built
// everything: nothing is then substituted.
func (e *Engine) builtBy(ctx context.Context, c *client.Client) *built {
	workers, err := c.ListWorkers(ctx)
	dir := e.stateDir()
	if err != nil || len(workers) == 0 || dir == "" {
		return nil
	}
	h := graph.NewHasher("zlayer.worker.v1")
	h.String(workers[0].ID)
	b := &built{file: filepath.Join(dir, "daemons", h.Digest().Encoded()[:32]+".built"), keys: map[graph.Key]bool{}}
	text, err := os.ReadFile(b.file)
	if err != nil {
		return b
	}
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		b.keys[graph.Key("sha256:"+sc.Text())] = true
	}
	if len(b.keys) > maxBuilt {
		// It starts anew: the daemon's own cache has a bound, too.
		_ = os.Remove(b.file)
	}
	return b
}

// add notes stages that the daemon has now.
func (b *built) add(keys []graph.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var text strings.Builder
	for _, k := range keys {
		if !b.keys[k] {
			b.keys[k] = true
			text.WriteString(digest.Digest(k).Encoded() + "\n")
		}
	}
	if text.Len() == 0 || os.MkdirAll(filepath.Dir(b.file), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(b.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	// One write, so that processes do not mix their lines.
	_, _ = f.WriteString(text.String())
}

// noteBuilt notes that the daemon has built the stages of the job which were not taken
// from elsewhere.
func (j *job) noteBuilt(res *Result) {
	if j.builtBy == nil || j.compiled == nil || j.compiled.base == "" || !res.prepared {
		return
	}
	var keys []graph.Key
	seen := map[digest.Digest]bool{}
	var walk func(*graph.Stage)
	walk = func(st *graph.Stage) {
		if _, taken := j.taken[st.Head]; taken || seen[st.ID] {
			return
		}
		seen[st.ID] = true
		keys = append(keys, j.compiled.stages[st.ID].key)
		for _, in := range j.compiled.graph.Inputs(st) {
			walk(in)
		}
	}
	for _, o := range j.compiled.graph.Outputs() {
		walk(o)
	}
	j.builtBy.add(keys)
}

// forgetBuilt forgets what daemons have built: their caches are about to be pruned.
func (e *Engine) forgetBuilt() {
	files, _ := filepath.Glob(filepath.Join(e.stateDir(), "daemons", "*.built"))
	for _, f := range files {
		_ = os.Remove(f)
	}
}
