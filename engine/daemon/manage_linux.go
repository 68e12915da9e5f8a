package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// ErrNotRunning is returned by Status and Stop if there is no daemon.
var ErrNotRunning = errors.New("no daemon is running")

// Status describes the shared daemon of cfg's state directory, of whatever
// version or configuration it is, and never starts one: ErrNotRunning.
func Status(ctx context.Context, cfg Config) (Info, error) {
	state, err := cfg.stateDir()
	if err != nil {
		return Info{}, err
	}
	s := slot{state: state, name: mainSlot}
	c, err := greet(ctx, s.socket(), s, "")
	if errors.Is(err, errNoDaemon) {
		return Info{}, ErrNotRunning
	}
	if err != nil {
		return Info{}, err
	}
	return c.Info, c.Close()
}

// Stop ends the shared daemon of cfg's state directory, and those beside it,
// and returns when they are gone. Running builds get ten seconds to finish and
// are cancelled then. ErrNotRunning if there was none.
func Stop(ctx context.Context, cfg Config) error {
	state, err := cfg.stateDir()
	if err != nil {
		return err
	}
	stopped := false
	slots := []slot{{state: state, name: mainSlot}}
	beside, err := filepath.Glob(filepath.Join(globQuote(state), besidePrefix+"*"))
	if err != nil {
		return fmt.Errorf("looking for daemons: %w", err)
	}
	for _, dir := range beside {
		slots = append(slots, slot{state: state, name: filepath.Base(dir)})
	}
	for _, s := range slots {
		c, err := greet(ctx, s.socket(), s, stopNow)
		if errors.Is(err, errNoDaemon) {
			continue
		}
		if err != nil {
			return fmt.Errorf("stopping the daemon: %w", err)
		}
		c.Close()
		stopped = true
		if err := awaitUnlock(ctx, s, leaveTimeout); err != nil {
			if errors.Is(err, errLocked) {
				err = fmt.Errorf("it does not end: see %s, or kill process %d", s.log(), c.Info.PID)
			}
			return fmt.Errorf("stopping the daemon: %w", err)
		}
	}
	if !stopped {
		return ErrNotRunning
	}
	return nil
}

// LogPath returns the path of the shared daemon's log. The file need not
// exist; an older part of it may be beside it, with ".1" appended.
func LogPath(cfg Config) (string, error) {
	state, err := cfg.stateDir()
	if err != nil {
		return "", err
	}
	return slot{state: state, name: mainSlot}.log(), nil
}

// Serve is the shared daemon's main loop in the foreground, for a supervisor
// that wants to see it: it serves until ctx is done, somebody calls Stop, or
// the idle timeout has passed. ready is called when the daemon accepts
// connections. Like Connect it needs Reexec, because the daemon itself is a
// child process.
func Serve(ctx context.Context, cfg Config, ready func(Info)) error {
	d, err := newDialer(cfg)
	if err != nil {
		return err
	}
	unlock, err := d.lockSpawn(ctx)
	if err != nil {
		return err
	}
	o := d.order(mainSlot)
	o.Bound = true
	p, err := spawn(ctx, o, d.cfg.Executable)
	unlock()
	if errors.Is(err, errLocked) {
		return fmt.Errorf("%s has a daemon already: stop it with: zlayer daemon stop", d.state)
	}
	if err != nil {
		return err
	}
	defer p.life.Close()
	c, err := d.attach(ctx, mainSlot)
	if err != nil {
		return err
	}
	info := c.Info
	c.Close()
	ready(info)
	select {
	case <-ctx.Done():
		p.life.Close()
	case <-p.done:
	}
	<-p.done
	return nil
}
