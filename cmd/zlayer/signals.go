package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// errSignal is the cause of a context that a signal cancelled.
var errSignal = errors.New("interrupted by a signal")

// signals cancels a context at the first SIGINT, SIGTERM or SIGHUP, which lets
// a build be taken down in order, and ends the process at the second.
type signals struct {
	ch   chan os.Signal
	pipe chan os.Signal
	got  atomic.Bool
}

func catchSignals(parent context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(parent)
	s := &signals{ch: make(chan os.Signal, 2), pipe: make(chan os.Signal, 1)}
	signal.Notify(s.ch, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// With a channel for it, a write to a closed pipe gives EPIPE instead of
	// killing the process in the middle of a build. Unlike signal.Ignore this is
	// not inherited by the programs we start.
	signal.Notify(s.pipe, syscall.SIGPIPE)
	go func() {
		for range s.ch {
			if s.got.Swap(true) {
				os.Exit(exitInterrupted)
			}
			cancel(errSignal)
		}
	}()
	return ctx, s
}

// caught reports whether a signal has come.
func (s *signals) caught() bool { return s.got.Load() }

// stop gives signals their usual effect again.
func (s *signals) stop() {
	signal.Stop(s.ch)
	signal.Stop(s.pipe)
	close(s.ch)
}
