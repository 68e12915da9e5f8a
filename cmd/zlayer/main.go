package main

import (
	"io"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/zlayer-dev/zlayer/engine"
)

// version is the release this binary was built as, set by
// -ldflags "-X main.version=v1.2.3"; empty in other builds.
var version string

func main() {
	if engine.ReexecDaemon() {
		return
	}
	// BuildKit's client logs what nobody can act upon; --debug brings it back.
	logrus.SetOutput(io.Discard)
	os.Exit(newApp().run(os.Args[1:]))
}
