// Command lab serves the integration lab's images for work by hand.
//
//	go run ./integration/lab/cmd/lab list
//	go run ./integration/lab/cmd/lab serve [-addr 127.0.0.1:5055] [IMAGE...|all]
//
// serve makes the named images besides those that take no time, prints the buildkitd.toml that sends
// a BuildKit here, and serves until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/zlayer-dev/zlayer/integration/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	const usage = "usage: lab list | lab serve [-addr HOST:PORT] [-blobs DIR] [-upstream REGISTRY] [IMAGE...|all]"
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	c := lab.Config{Logf: func(format string, a ...any) { fmt.Fprintf(os.Stderr, "lab: "+format+"\n", a...) }}
	flags.StringVar(&c.Registry.Addr, "addr", "127.0.0.1:5055", "where to listen")
	flags.StringVar(&c.Registry.BlobDir, "blobs", "", "folder for pushed blobs (default: memory)")
	flags.StringVar(&c.Upstream, "upstream", os.Getenv("ZLAYER_TEST_REGISTRY"), "registry to copy other images from")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "serve":
		return serve(ctx, c, flags.Args())
	case "list":
		list()
		return nil
	}
	return errors.New(usage)
}

func serve(ctx context.Context, c lab.Config, images []string) error {
	l, err := lab.Start(ctx, c)
	if err != nil {
		return err
	}
	defer l.Close()
	if len(images) == 1 && images[0] == "all" {
		images = nil
		for _, i := range lab.Images() {
			images = append(images, i.Names[0])
		}
	}
	for _, image := range images {
		var u *lab.UnavailableError
		if err := l.Ensure(ctx, image); errors.As(err, &u) && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "lab: not available:", err)
		} else if err != nil {
			return err
		}
	}
	fmt.Printf("# the lab serves at %s until interrupted; buildkitd.toml:\n%s", l.Addr(), l.BuildkitdTOML())
	<-ctx.Done()
	return nil
}

func list() {
	for _, i := range lab.Images() {
		when := ""
		if i.Lazy {
			when = " (made when asked for)"
		}
		fmt.Printf("%s%s\n    %s\n", strings.Join(i.Names, " "), when, i.About)
	}
}
