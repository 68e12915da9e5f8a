package main

import (
	"context"
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
)

// withView runs what builds: f gets an engine, and a view that shows the events it is
// given. The files that a former run may have written are removed first, so that they
// are not taken for what this one says.
func (a *app) withView(ctx context.Context, mode progress.Mode, files []string, f func(builder, *progress.View) error) (err error) {
	view, err := progress.NewView(a.stderr, mode)
	if err != nil {
		return usage(fmt.Errorf("--progress=%s: %w", mode, err))
	}
	defer view.Close()
	cfg, err := a.globals.config()
	if err != nil {
		return usage(err)
	}
	if err := removeStale(files...); err != nil {
		return err
	}
	e, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		if closing := e.Close(); err == nil && closing != nil {
			err = closing
		}
	}()
	if a.globals.debug {
		logrus.SetOutput(a.stderr)
		logrus.SetLevel(logrus.DebugLevel)
	}
	return f(e, view)
}
