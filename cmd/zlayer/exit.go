package main

import (
	"errors"
	"syscall"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
)

// The exit codes, all of them.
const (
	exitOK = 0
	// exitFailed: a stage failed, or what follows a build, such as a push.
	exitFailed = 1
	// exitUsage: a mistake on the command line or in a build file. Nothing ran.
	exitUsage = 2
	// exitInterrupted: stopped by a signal.
	exitInterrupted = 130
)

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usage marks err as a mistake on the command line; nil stays nil.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// toldError is an error the user has been told about already.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

// interruptedError is whatever a command returned after a signal.
type interruptedError struct{ err error }

func (e *interruptedError) Error() string { return "interrupted: " + e.err.Error() }
func (e *interruptedError) Unwrap() error { return e.err }

// errCheckFailed: a check of the build file has findings.
var errCheckFailed = errors.New("the check found violations")

func exitCode(err error) int {
	var (
		u     *usageError
		i     *interruptedError
		input *engine.InputError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &i):
		return exitInterrupted
	case errors.As(err, &u), errors.As(err, &input), errors.Is(err, errCheckFailed), progress.BuildFileError(err):
		return exitUsage
	}
	return exitFailed
}

// brokenPipe reports whether the reader of our standard output has gone, as in
// "zlayer images | head -1". That needs no message.
func brokenPipe(err error) bool {
	var w *stdoutError
	return errors.As(err, &w) && errors.Is(err, syscall.EPIPE)
}

// stdoutError is a failure to write to standard output.
type stdoutError struct{ err error }

func (e *stdoutError) Error() string { return "writing to standard output: " + e.err.Error() }
func (e *stdoutError) Unwrap() error { return e.err }
