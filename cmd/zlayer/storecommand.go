package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/zlayer-dev/zlayer/store"
)

// withStore runs f on the image store.
func (a *app) withStore(ctx context.Context, f func(*store.Store) error) (err error) {
	return a.withEngine(ctx, func(e builder) error {
		s, err := e.Store()
		if err != nil {
			return err
		}
		return f(s)
	})
}

// withEngine runs f on an engine and closes it.
func (a *app) withEngine(ctx context.Context, f func(builder) error) error {
	cfg, err := a.globals.config()
	if err != nil {
		return usage(err)
	}
	e, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(e), e.Close())
}

// storeCommand finishes a command that works on the image store.
func storeCommand(cmd *cobra.Command, more ...[]string) *cobra.Command {
	usesGlobals(cmd, append(more, storeFlags)...)
	return cmd
}
