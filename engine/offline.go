package engine

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/source/image"
)

// errNeedsDaemon says that something can be found out only with a daemon.
var errNeedsDaemon = errors.New("this needs a daemon")

// offline is the gateway that builds are compiled against before any daemon is
// asked: it knows what BuildKit of our own version can do, resolves images by
// itself, and solves nothing.
type offline struct {
	run  *run
	job  *job
	opts map[string]string

	mu       sync.Mutex
	warnings []offlineWarning
	asked    map[string]bool
	// left: something was asked for that only a daemon can do.
	left bool
}

type offlineWarning struct {
	digest digest.Digest
	msg    string
	opts   gwclient.WarnOpts
}

var _ gwclient.Client = (*offline)(nil)

// offlineSession stands for the session's id, which takes no part in keys.
const offlineSession = "zlayer"

// newOffline is the gateway for a job.
func (j *job) newOffline() *offline {
	return &offline{run: j.run, job: j, opts: maps.Clone(j.attrs), asked: map[string]bool{}}
}

// Solve implements gwclient.Client.
func (o *offline) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	f := o.job.gitFiles(ctx, req.Definition)
	if f == nil {
		return nil, o.leave()
	}
	res := gwclient.NewResult()
	res.SetRef(&gitRef{f, o})
	return res, nil
}

// NewContainer implements gwclient.Client.
func (o *offline) NewContainer(context.Context, gwclient.NewContainerRequest) (gwclient.Container, error) {
	return nil, o.leave()
}

// Inputs implements gwclient.Client.
func (o *offline) Inputs(context.Context) (map[string]llb.State, error) {
	return map[string]llb.State{}, nil
}

// BuildOpts implements gwclient.Client.
func (o *offline) BuildOpts() gwclient.BuildOpts {
	return gwclient.BuildOpts{
		Opts:      o.opts,
		SessionID: offlineSession,
		Product:   product,
		LLBCaps:   o.run.llbCaps,
		Caps:      o.run.gatewayCaps,
		Workers:   []gwclient.WorkerInfo{{ID: "offline", Platforms: []ocispecs.Platform{o.run.platform()}}},
	}
}

// ResolveImageConfig implements gwclient.Client.
func (o *offline) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	switch {
	case opt.OCILayoutOpt != nil:
		return o.layoutConfig(ctx, ref, opt.OCILayoutOpt)
	case opt.ImageOpt == nil:
		return "", "", nil, o.leave()
	}
	r, err := o.job.resolver()
	if err != nil {
		return "", "", nil, err
	}
	var res image.Resolved
	err = o.job.often(ctx, func() error {
		var err error
		res, err = r.Resolve(ctx, ref, opt.ImageOpt.Platform)
		return err
	})
	if err != nil {
		return "", "", nil, taggedError{err, errLookUp}
	}
	return ref, res.Digest, res.Config, nil
}

// ResolveSourceMetadata implements gwclient.Client.
func (o *offline) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, o.leave()
}

// layoutConfig reads the config of an image in a local OCI layout.
func (o *offline) layoutConfig(ctx context.Context, ref string, opt *sourceresolver.ResolveOCILayoutOpt) (string, digest.Digest, []byte, error) {
	cs, ok := o.job.layouts[opt.Store.StoreID]
	if !ok {
		return "", "", nil, o.leave()
	}
	p := platforms.Normalize(o.run.platform())
	if opt.Platform != nil {
		p = *opt.Platform
	}
	return readLayoutConfig(ctx, cs, ref, p)
}

// Warn implements gwclient.Client.
func (o *offline) Warn(_ context.Context, d digest.Digest, msg string, opts gwclient.WarnOpts) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.warnings = append(o.warnings, offlineWarning{d, msg, opts})
	return nil
}

// leave is the answer to what only a daemon can do.
func (o *offline) leave() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = true
	return errNeedsDaemon
}

// tag marks the error of a compilation as one of those that a daemon may not meet,
// should whoever asked in vain have kept only its text.
func (o *offline) tag(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil && o.left && !errors.Is(err, errNeedsDaemon) {
		return taggedError{err, errNeedsDaemon}
	}
	return err
}

// ask notes a file that was read or looked for.
func (o *offline) ask(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked[path] = true
}
