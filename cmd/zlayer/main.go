package main

import (
	"os"

	"github.com/zlayer-dev/zlayer/engine"
)

// version is the release this binary was built as, set by
// -ldflags "-X main.version=v1.2.3"; empty in other builds.
var version string

func main() {
	if engine.ReexecDaemon() {
		return
	}
	os.Exit(newApp().run(os.Args[1:]))
}
