package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/bklog"
	"github.com/moby/sys/userns"
	"google.golang.org/grpc"
)

// order is what a process needs to know to serve a slot.
type order struct {
	StateDir    string
	Slot        string
	Settings    settings
	Hash        string
	IdleTimeout time.Duration
	Stage       stage
	// Namespaced says that the process is in namespaces made for it.
	Namespaced bool
	// Bound says that the process leaves when its parent does.
	Bound bool
	// Private says that the process serves its parent only.
	Private bool
	// NoProcessSandbox makes build steps share the daemon's process namespace.
	NoProcessSandbox bool
}

func (o order) slot() slot { return slot{state: o.StateDir, name: o.Slot} }

// owned is an engine together with the slot it owns.
type owned struct {
	slot   slot
	lock   *os.File
	engine *engine
	info   Info
}

// own takes the slot, cleans up after its previous owner and starts an engine
// in it that has proven to work. errLocked means that the slot has an owner.
func own(ctx context.Context, o order, intercept grpc.UnaryServerInterceptor) (_ *owned, err error) {
	stampVersion()
	apicaps.ExportedProduct = "buildkit" // what error messages ask to be updated
	s := o.slot()
	lock, err := s.acquire()
	if err != nil {
		return nil, err
	}
	w := &owned{slot: s, lock: lock}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	runcPath, err := findRunc(o.Settings.Runc, s.state)
	if err != nil {
		return nil, err
	}
	warnings, err := preflight(s)
	if err != nil {
		return nil, err
	}
	err = reap(ctx, s, runcPath)
	if s.name == mainSlot {
		err = errors.Join(err, sweep(ctx, s.state, runcPath))
	}
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	lost, err := discardUnsynced(s)
	if err != nil {
		return nil, err
	}
	if lost != "" {
		warnings = append(warnings, lost)
	}
	w.engine, err = newEngine(ctx, s, o.Settings, runcPath, o.NoProcessSandbox, intercept)
	if err != nil {
		return nil, err
	}
	rootless := userns.RunningInUserNS()
	w.info = Info{
		Version:     buildkitVersion().Version,
		BuildID:     o.Settings.BuildID,
		ConfigHash:  o.Hash,
		PID:         os.Getpid(),
		StateDir:    s.state,
		LogPath:     s.log(),
		Rootless:    rootless,
		Snapshotter: w.engine.snapshotter,
		Runc:        runcPath,
		Started:     time.Now(),
		Warnings:    append(warnings, w.engine.warnings...),
	}
	if err := w.selftest(ctx, rootless); err != nil {
		return nil, errors.Join(err, w.close(0))
	}
	return w, nil
}

func (w *owned) selftest(ctx context.Context, rootless bool) error {
	c, err := w.engine.inMemory(ctx)
	if err != nil {
		return fmt.Errorf("starting BuildKit: %w", err)
	}
	defer c.Close()
	return selftest(ctx, c, w.slot, w.info.Runc, rootless)
}

// close stops the engine, removes what it may have left, and gives up the slot.
func (w *owned) close(grace time.Duration) error {
	err := w.engine.close(grace)
	ctx := context.Background() // cleaning up is not to be cancelled
	if w.slot.temporary() {
		err = errors.Join(err, removeSlot(ctx, w.slot, w.info.Runc))
	} else {
		err = errors.Join(err, reap(ctx, w.slot, w.info.Runc))
	}
	return errors.Join(err, w.lock.Close())
}

// serve owns the slot and serves it on its socket until ctx is done, a client
// says stop, or nobody has been connected for a while. ready is called when
// the socket accepts connections. hurry, when closed, ends the grace that
// running builds get. Its error is nil if it left in an orderly way.
func serve(ctx context.Context, o order, ready func(Info), hurry <-chan struct{}) error {
	g := &greeter{}
	w, err := own(ctx, o, g.intercept)
	if err != nil {
		return err
	}
	leave, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	path := w.slot.socket()
	if o.Private {
		path = w.slot.private() // where nobody else looks for a daemon
	}
	socket, err := listenSocket(path)
	if err != nil {
		return errors.Join(err, w.close(0))
	}
	w.info.Address = "unix://" + path
	l := newCountingListener(socket, o.IdleTimeout, func() { stop(errors.New("nobody needs us")) })
	g.info, g.listener = w.info, l
	g.stop = func() { stop(errors.New("a client asked to")) }
	served := make(chan error, 1)
	go func() { served <- w.engine.server.Serve(w.engine.unsynced.listener(l)) }()
	bklog.L.Infof("serving %s (process %d, BuildKit %s, %s, %s)", w.info.Address, w.info.PID, w.info.Version, w.info.Snapshotter, w.info.Runc)
	ready(w.info)

	select {
	case <-leave.Done():
	case err = <-served:
	}
	if leave.Err() == nil && !l.closed() {
		err = fmt.Errorf("serving %s: %w", w.info.Address, err)
	} else {
		err = nil
	}
	l.leave(math.MaxInt)
	<-leave.Done() // whoever closed the listener says so
	bklog.L.Infof("leaving with %d connections open: %v", l.connections(), context.Cause(leave))
	closed := make(chan struct{})
	defer close(closed)
	go func() {
		select {
		case <-hurry:
			w.engine.server.Stop()
		case <-closed:
		}
	}()
	grace := stopGrace
	if o.Private {
		grace = 0 // its only client has gone
		if !w.slot.temporary() {
			err = errors.Join(err, w.pruneSometimes())
		}
	}
	return errors.Join(err, w.close(grace))
}

// pruneInterval is how often engines that live for one build only collect
// garbage; BuildKit itself does so a while after it has started.
const pruneInterval = time.Hour

// pruneSometimes collects garbage unless that was done lately. The stamp is
// taken first: a slow or failing prune should not be repeated by every build.
func (w *owned) pruneSometimes() error {
	stamp := filepath.Join(w.slot.dir(), "pruned")
	if fi, err := os.Stat(stamp); err == nil && time.Since(fi.ModTime()) < pruneInterval {
		return nil
	}
	if err := os.WriteFile(stamp, nil, 0o600); err != nil {
		return err
	}
	now := time.Now()
	if err := os.Chtimes(stamp, now, now); err != nil {
		return err
	}
	return w.engine.prune(context.Background())
}
