// Command go-services builds many images from a loop, without any build file, on an
// embedded BuildKit of its own. It needs root, runc and a static /bin/busybox, and no
// registry:
//
//	go run ./examples/go-services            # builds 200 services
//	go run ./examples/go-services            # finds that there is nothing to do
//	go run ./examples/go-services -files     # so it does for the same build in Dockerfiles
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/zlayer-dev/zlayer/engine"
)

func main() {
	if engine.ReexecDaemon() {
		return // this process was the daemon
	}
	var o options
	flag.IntVar(&o.count, "n", 200, "how many services")
	flag.StringVar(&o.dir, "dir", filepath.Join(os.TempDir(), "go-services"), "where the sources, the images and the cache go")
	flag.BoolVar(&o.files, "files", false, "build from Dockerfiles that say the same")
	flag.BoolVar(&o.quiet, "q", false, "print the sums only")
	flag.Parse()
	if err := run(context.Background(), o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	count        int
	dir          string
	files, quiet bool
}

// run builds the services and prints what came of each.
func run(ctx context.Context, o options, out io.Writer) error {
	names, err := writeSources(o.dir, o.count)
	if err != nil {
		return err
	}
	req := engine.BatchRequest{Root: o.dir}
	for _, name := range names {
		build := engine.BatchBuild{NamedRequest: engine.NamedRequest{Name: name}}
		if o.files {
			build.Request, err = fileRequest(o.dir, name)
		} else {
			build.Request = engine.Request{Stage: service(o.dir, name)}
		}
		if err != nil {
			return err
		}
		build.Tags = []string{"example.com/services/" + name}
		req.Builds = append(req.Builds, build)
	}
	e, err := engine.Open(ctx, engine.Config{
		NoDaemon: true,
		StateDir: filepath.Join(o.dir, "state"),
		StoreDir: filepath.Join(o.dir, "store"),
	})
	if err != nil {
		return err
	}
	defer e.Close()
	res, err := e.BuildAll(ctx, req)
	if res == nil {
		return err
	}
	if !o.quiet {
		for _, img := range res.Images {
			fmt.Fprintln(out, img.Name, img.State)
		}
	}
	fmt.Fprintf(out, "%d built, %d unchanged, %d failed in %v\n", res.Count(engine.BatchBuilt), res.Count(engine.BatchUnchanged),
		res.Count(engine.BatchFailed), res.Duration.Round(time.Millisecond))
	return err
}
