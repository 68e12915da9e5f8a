package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// helloTimeout bounds the handshake with a daemon that should answer within a
// millisecond.
const helloTimeout = 10 * time.Second

// leaveTimeout is how long we wait for an owner that is about to give up a slot.
const leaveTimeout = 30 * time.Second

// errNoDaemon means that nobody serves a slot's socket.
var errNoDaemon = errors.New("no daemon is running")

// mismatchError is a daemon that must not be used with this configuration.
type mismatchError struct{ info Info }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("the daemon (process %d) was started by another version or with another configuration", e.info.PID)
}

// dialer connects one caller to the daemons of one state directory.
type dialer struct {
	cfg   Config
	state string
	set   settings
	hash  string
}

func newDialer(cfg Config) (*dialer, error) {
	state, err := cfg.stateDir()
	if err != nil {
		return nil, err
	}
	set, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	return &dialer{cfg: cfg, state: state, set: set, hash: set.hash()}, nil
}

// Connect returns a connection to the background daemon that the user's
// invocations with this state directory share, and starts it if necessary.
//
// A daemon of another version or configuration is asked to leave; if others
// are using it, a second one is started beside it, with an empty cache, and
// Info.Warnings says so. A running daemon costs one round trip, starting one
// about 0.1 s.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	c, err := d.attach(ctx, mainSlot)
	if err == nil || !d.canStart(err) {
		return c, err
	}
	unlock, err := d.lockSpawn(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return d.connect(ctx)
}

// canStart reports whether an error of attach can be cured by a new daemon.
func (d *dialer) canStart(err error) bool {
	var mismatch *mismatchError
	return errors.Is(err, errNoDaemon) || errors.As(err, &mismatch)
}

// lockSpawn makes sure that only one process at a time starts daemons here.
func (d *dialer) lockSpawn(ctx context.Context) (unlock func(), err error) {
	if err := mkdirState(d.state); err != nil {
		return nil, err
	}
	f, err := lockFile(ctx, filepath.Join(d.state, "spawn.lock"))
	if err != nil {
		return nil, fmt.Errorf("waiting for another process that starts a daemon: %w", err)
	}
	return func() { f.Close() }, nil
}

// connect finds or starts a daemon. The caller holds the spawn lock.
func (d *dialer) connect(ctx context.Context) (*Conn, error) {
	c, err := d.attachOrSpawn(ctx, mainSlot)
	var mismatch *mismatchError
	if errors.As(err, &mismatch) {
		if err = d.dismiss(ctx); err == nil {
			c, err = d.attachOrSpawn(ctx, mainSlot)
		}
	}
	if !errors.Is(err, errBusy) && !errors.Is(err, errLocked) {
		return c, err
	}
	c, err2 := d.attachOrSpawn(ctx, besidePrefix+d.hash)
	if err2 != nil {
		return nil, fmt.Errorf("starting a second daemon: %w", err2)
	}
	reason := "is in use by a build with --no-daemon"
	if mismatch != nil {
		reason = fmt.Sprintf("is busy in a daemon of another version or configuration (process %d)", mismatch.info.PID)
	}
	c.Info.Warnings = append(c.Info.Warnings, "the build cache "+reason+", so this build uses a second daemon, which began with an empty cache")
	return c, nil
}

// attachOrSpawn connects to the daemon of a slot, after starting it if there
// is none. It tries again if that daemon leaves at once, as one with a very
// short idle timeout may.
func (d *dialer) attachOrSpawn(ctx context.Context, name string) (*Conn, error) {
	for attempt := 0; ; attempt++ {
		c, err := d.attach(ctx, name)
		if !errors.Is(err, errNoDaemon) || attempt == 10 {
			return c, err
		}
		_, err = spawn(ctx, d.order(name), d.cfg.Executable)
		if errors.Is(err, errLocked) {
			err = d.awaitLeave(ctx, slot{state: d.state, name: name})
		}
		if err != nil {
			return nil, err
		}
	}
}

func (d *dialer) order(name string) order {
	return order{
		StateDir: d.state, Slot: name,
		Settings: d.set, Hash: d.hash,
		IdleTimeout: d.cfg.idleTimeout(),
	}
}

// attach connects to the daemon that serves a slot: errNoDaemon if there is
// none, a mismatchError if it is not for us.
func (d *dialer) attach(ctx context.Context, name string) (*Conn, error) {
	s := slot{state: d.state, name: name}
	c, err := greet(ctx, s.socket(), s, "")
	if err != nil {
		return nil, err
	}
	if c.Info.ConfigHash != d.hash {
		c.Close()
		return nil, &mismatchError{c.Info}
	}
	return c, nil
}

// greet connects to whoever serves the slot at socket and shakes hands.
func greet(ctx context.Context, socket string, s slot, stop string) (*Conn, error) {
	conn, pid, err := dialSocket(socket)
	if gone(err) || errors.Is(err, syscall.ENOTDIR) {
		return nil, errNoDaemon
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the daemon: %w", err)
	}
	c, err := clientOn(ctx, "unix://"+socket, conn)
	if err != nil {
		return nil, fmt.Errorf("connecting to the daemon: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helloTimeout,
		fmt.Errorf("process %d does not answer: see %s, and kill it if need be", pid, s.log()))
	defer cancel()
	info, err := hello(ctx, c, stop)
	if err == nil {
		info.PID = pid
		return &Conn{Client: c, Info: info, close: c.Close}, nil
	}
	c.Close()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connecting to the daemon: %w", context.Cause(ctx))
	case errors.Is(err, errBusy):
		return nil, err
	case Unavailable(err):
		return nil, errNoDaemon // it left before it saw us
	}
	return nil, fmt.Errorf("connecting to the daemon: %w", err)
}

// goneAfter is how long a daemon may take to see that a client has gone: one that has
// just been left says that it is busy.
const goneAfter = 300 * time.Millisecond

// dismiss asks the shared daemon to leave if nobody uses it, and waits until
// it has. errBusy and errLocked mean that somebody stays.
func (d *dialer) dismiss(ctx context.Context) error {
	s := slot{state: d.state, name: mainSlot}
	c, err := greet(ctx, s.socket(), s, stopIfIdle)
	for end := time.Now().Add(goneAfter); errors.Is(err, errBusy) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(goneAfter / 10):
		}
		c, err = greet(ctx, s.socket(), s, stopIfIdle)
	}
	if errors.Is(err, errNoDaemon) {
		return d.awaitLeave(ctx, s)
	}
	if err != nil {
		return err
	}
	c.Close()
	return awaitUnlock(ctx, s, leaveTimeout)
}

// awaitLeave waits for the owner of a slot who does not serve its socket. Such
// a one is about to leave, unless it is there for one caller only: errLocked.
func (d *dialer) awaitLeave(ctx context.Context, s slot) error {
	if conn, _, err := dialSocket(s.private()); err == nil {
		conn.Close()
		return errLocked
	}
	return awaitUnlock(ctx, s, leaveTimeout)
}

// awaitUnlock waits until a slot has no owner, else errLocked.
func awaitUnlock(ctx context.Context, s slot, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errLocked)
	defer cancel()
	f, err := lockFile(ctx, s.lock())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// InProcess returns a connection to a BuildKit for this caller alone, which
// Close, or the end of the caller, ends. For lack of the shared daemon it
// starts anew each time, in 0.1 s and more.
//
// It runs in a child process, because BuildKit needs its own umask and
// temporary directory, and for users other than root a user namespace, none of
// which a Go program can have besides its own. It uses the cache in the state
// directory, after asking an idle daemon there to leave. While a daemon or
// another caller uses that cache, it works with an empty one of its own, and
// Info.Warnings says so.
func InProcess(ctx context.Context, cfg Config) (*Conn, error) {
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	unlock, err := d.lockSpawn(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	warning := ""
	err = d.dismiss(ctx)
	var c *Conn
	if err == nil {
		c, err = d.private(ctx, mainSlot)
	}
	if errors.Is(err, errBusy) || errors.Is(err, errLocked) {
		warning = "the build cache in " + d.state + " is in use by a daemon or another build, so this build began with an empty one: leave out --no-daemon to share it"
		c, err = d.private(ctx, privatePrefix+rand.Text()[:8])
	}
	if err != nil {
		return nil, err
	}
	if warning != "" {
		c.Info.Warnings = append(c.Info.Warnings, warning)
	}
	return c, nil
}

// private starts a daemon for this process in a slot.
func (d *dialer) private(ctx context.Context, name string) (*Conn, error) {
	o := d.order(name)
	o.Private, o.Bound, o.IdleTimeout = true, true, -1
	p, err := spawn(ctx, o, d.cfg.Executable)
	if err != nil {
		return nil, err
	}
	s := o.slot()
	c, err := greet(ctx, s.private(), s, "")
	if err != nil {
		p.life.Close()
		<-p.done
		return nil, err
	}
	c.close = func() error {
		err := c.Client.Close()
		p.life.Close()
		<-p.done
		return err
	}
	return c, nil
}
