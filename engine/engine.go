package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	resolverconfig "github.com/moby/buildkit/util/resolver/config"

	"github.com/zlayer-dev/zlayer/engine/daemon"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/store"
)

// Engine builds images. Its methods may be called concurrently; it connects to a
// daemon when one is first needed.
type Engine struct {
	cfg Config

	mu     sync.Mutex
	conn   *sharedConn
	store  *store.Store
	client string // see clientID
}

// InputError is a mistake in a request or in what it refers to: nothing was
// built, and trying again without changing something is of no use.
type InputError struct {
	// Err says what is wrong and what to do about it.
	Err error
}

// Error implements error.
func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap gives the mistake itself.
func (e *InputError) Unwrap() error { return e.Err }

func inputErrorf(format string, args ...any) error {
	return &InputError{Err: fmt.Errorf(format, args...)}
}

// Open returns an engine of the given configuration. It contacts no daemon and
// touches no state; the environment (ZLAYER_STATE_DIR, ZLAYER_STORE_DIR, ZLAYER_MEMO,
// BUILDKIT_HOST) is read once, here.
func Open(_ context.Context, cfg Config) (*Engine, error) {
	if cfg.StateDir == "" {
		cfg.StateDir = os.Getenv("ZLAYER_STATE_DIR")
	}
	if cfg.StoreDir == "" {
		cfg.StoreDir = os.Getenv("ZLAYER_STORE_DIR")
	}
	if cfg.Addr == "" && !cfg.NoDaemon {
		cfg.Addr = os.Getenv("BUILDKIT_HOST")
	}
	if env := os.Getenv("ZLAYER_MEMO"); len(cfg.Memo) == 0 && env != "" {
		cfg.Memo = []string{env}
	}
	if cfg.Addr != "" && cfg.NoDaemon {
		return nil, inputErrorf("an address and in-process building exclude each other: drop one of --addr and --no-daemon")
	}
	if _, err := memo.Parse(cfg.Memo...); err != nil {
		return nil, &InputError{Err: err}
	}
	return &Engine{cfg: cfg}, nil
}

// Close ends the connection to the daemon, and the daemon itself where it lives
// in this process. Builds under way fail.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	if e.conn != nil {
		errs = append(errs, e.conn.Close())
		e.conn = nil
	}
	if e.store != nil {
		errs = append(errs, e.store.Close())
		e.store = nil
	}
	return errors.Join(errs...)
}

// Store returns the image store, opening it first if need be.
func (e *Engine) Store() (*store.Store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store != nil {
		return e.store, nil
	}
	dir := e.cfg.StoreDir
	if dir == "" {
		var err error
		if dir, err = store.DefaultDir(); err != nil {
			return nil, err
		}
	}
	s, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	e.store = s
	return s, nil
}

// DaemonInfo connects to the daemon, starting it where it is ours, and tells
// what it is.
func (e *Engine) DaemonInfo(ctx context.Context) (daemon.Info, error) {
	conn, err := e.connect(ctx)
	if err != nil {
		return daemon.Info{}, err
	}
	defer e.release(conn)
	return conn.Info, nil
}

// sharedConn is a connection and how many use it.
type sharedConn struct {
	*daemon.Conn
	users   int
	dropped bool
}

// connect returns the connection that all calls of the engine share, which the caller
// releases. Callers wait for one that is being made; when its maker gives up, the next one
// makes it.
func (e *Engine) connect(ctx context.Context) (*sharedConn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn == nil {
		conn, err := e.dial(ctx)
		if err != nil {
			return nil, err
		}
		e.conn = &sharedConn{Conn: conn}
	}
	e.conn.users++
	return e.conn, nil
}

// drop forgets a connection whose daemon went away. It is closed when the last of its
// users has released it: who uses one that is closed hears of that, and not that the
// daemon has gone and can be asked for again.
func (e *Engine) drop(conn *sharedConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn == conn {
		e.conn, conn.dropped = nil, true
	}
}

// release ends the use of a connection that connect gave.
func (e *Engine) release(conn *sharedConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if conn.users--; conn.dropped && conn.users == 0 {
		_ = conn.Close()
	}
}

func (e *Engine) dial(ctx context.Context) (*daemon.Conn, error) {
	switch {
	case e.cfg.Addr != "":
		return daemon.Dial(ctx, daemon.Remote{
			Addr:       e.cfg.Addr,
			CA:         e.cfg.TLS.CA,
			Cert:       e.cfg.TLS.Cert,
			Key:        e.cfg.TLS.Key,
			ServerName: e.cfg.TLS.ServerName,
		})
	case e.cfg.NoDaemon:
		return daemon.InProcess(ctx, e.cfg.Daemon())
	}
	return daemon.Connect(ctx, e.cfg.Daemon())
}

// ReexecDaemon turns the process into the embedded background daemon if it was
// started to be one, and then returns true once the daemon has ended. Programs
// that use an engine without Config.DaemonCommand call it first thing in main,
// and return when it does.
func ReexecDaemon() bool { return daemon.Reexec() }

// Daemon is the part of the configuration that the embedded daemon needs.
func (c Config) Daemon() daemon.Config {
	d := daemon.Config{
		StateDir:    c.StateDir,
		IdleTimeout: c.IdleTimeout,
		Executable:  c.DaemonCommand,
		BuildID:     c.Version,
		Runc:        c.Runc,
		ConfigFile:  c.DaemonConfig,
		Registries:  c.registries(),
		Debug:       c.Debug,

		MaxParallelism: c.MaxParallelism,
	}
	if d.ConfigFile == "" {
		d.ConfigFile = daemon.DefaultConfigFile()
	}
	return d
}

// registries turns the registry settings into BuildKit's form.
func (c Config) registries() map[string]resolverconfig.RegistryConfig {
	out := map[string]resolverconfig.RegistryConfig{}
	yes := true
	edit := func(host string, f func(*resolverconfig.RegistryConfig)) {
		rc := out[host]
		f(&rc)
		out[host] = rc
	}
	for host, mirrors := range c.Mirrors {
		edit(host, func(rc *resolverconfig.RegistryConfig) { rc.Mirrors = mirrors })
	}
	for _, host := range c.PlainHTTP {
		edit(host, func(rc *resolverconfig.RegistryConfig) { rc.PlainHTTP = &yes })
	}
	for _, host := range c.Insecure {
		edit(host, func(rc *resolverconfig.RegistryConfig) { rc.Insecure = &yes })
	}
	for host, files := range c.RegistryCAs {
		edit(host, func(rc *resolverconfig.RegistryConfig) { rc.RootCAs = files })
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// withClient calls f with a client of the daemon. A daemon that went away before
// f had any effect is asked for again: one that leaves when idle must not fail
// whoever comes at that moment. One that is too busy to begin is asked again a bit later.
func (e *Engine) withClient(ctx context.Context, f func(c *client.Client, touched func()) error) error {
	const tries = 3
	for i := 1; ; i++ {
		conn, err := e.connect(ctx)
		if err != nil {
			return err
		}
		var effect onceFlag
		err = f(conn.Client, effect.set)
		again := err != nil && i < tries && ctx.Err() == nil && askAgain(err, effect.isSet())
		pause := time.Second
		if again && daemon.Unavailable(err) {
			e.drop(conn)
			pause = 20 * time.Millisecond
		}
		e.release(conn)
		if !again {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(i) * pause):
		}
	}
}

// onceFlag is a bool that can be set from several goroutines.
type onceFlag struct {
	mu  sync.Mutex
	was bool
}

func (f *onceFlag) set() {
	f.mu.Lock()
	f.was = true
	f.mu.Unlock()
}

func (f *onceFlag) isSet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.was
}
