package main

import (
	"io"
	"log"
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
	collectLater()
	// BuildKit's client logs what nobody can act upon; --debug brings it back.
	logrus.SetOutput(io.Discard)
	// So does the HTTP/2 server of its sessions when a build ends.
	log.SetOutput(io.Discard)
	a := newApp()
	// The scanner in BuildKit's lexer complains there about bytes that are no
	// characters, without saying where; what we say goes to a.stderr.
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	// A package of BuildKit's (moby/go-archive) ties the main goroutine to its thread, so that
	// the kernel has to switch threads each time it waits or is woken.
	code := make(chan int)
	go func() { code <- a.run(os.Args[1:]) }()
	os.Exit(<-code)
}
