package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newFrontend(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "frontend",
		Short: "Serve a BuildKit that runs this program as a frontend image",
		Long: `Serve a BuildKit that runs this program as a frontend image, which "make
frontend-image" makes. With a line "# syntax=IMAGE" at their top, ZImagefiles are
built by plain docker build and buildctl. Nested builds can then reach directories
of the build context, and nothing else.`,
		Args: exactly(),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.env("BUILDKIT_SESSION_ID") == "" {
			return usage(errors.New("frontend is run by BuildKit, in a container of the image that a syntax line names"))
		}
		return a.serve(cmd.Context())
	}
	usesGlobals(cmd)
	return cmd
}
