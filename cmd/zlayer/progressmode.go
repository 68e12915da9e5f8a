package main

import (
	"fmt"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
)

// progressMode is how progress is shown: by the flags --progress (given says that it
// is there) and --quiet, else by the environment.
func (a *app) progressMode(mode string, quiet, given bool) (progress.Mode, error) {
	from := "--progress"
	for _, name := range []string{"ZLAYER_PROGRESS", "BUILDKIT_PROGRESS"} {
		if mode == "" && a.env(name) != "" {
			mode, from = a.env(name), name
		}
	}
	if quiet {
		if given && mode != "quiet" && mode != "none" {
			return "", fmt.Errorf("--quiet and --progress=%s contradict each other: give one of them", mode)
		}
		mode = "quiet"
	}
	switch mode {
	case "":
		mode = "auto"
	case "none":
		mode = "quiet"
	case "auto", "tty", "plain", "rawjson", "quiet":
	default:
		return "", fmt.Errorf("%s=%s: use auto, tty, plain, rawjson or quiet", from, mode)
	}
	return progress.Mode(mode), nil
}
