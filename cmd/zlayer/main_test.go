package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sirupsen/logrus"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/solver/memo"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	if engine.ReexecDaemon() {
		return
	}
	testscript.Main(m, map[string]func(){
		"zlayer":    func() { os.Exit(testedApp().run(os.Args[1:])) },
		"mkarchive": makeArchive,
		"mkrecord":  makeRecord,
		"mkwasm":    makeWasm,
	})
}

// testedApp is the real app where ENGINE is real, and one that builds nothing elsewhere.
func testedApp() *app {
	if os.Getenv("ENGINE") != "real" {
		return fakeApp()
	}
	// As in main.
	logrus.SetOutput(io.Discard)
	log.SetOutput(io.Discard)
	return newApp()
}

// TestScripts runs the command line against an engine that only notes what it is
// asked for, and against a real image store and a real registry.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Condition:           machine,
		Setup: func(env *testscript.Env) error {
			reg := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
			env.Defer(reg.Close)
			env.Defer(func() { stopDaemon(env) })
			env.Setenv("REGISTRY", reg.Listener.Addr().String())
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("ZLAYER_STORE_DIR", env.WorkDir+"/store")
			env.Setenv("ZLAYER_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("REQUEST", env.WorkDir+"/request")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"interrupt": interrupt,
			"upon":      upon,
		},
	})
}

// exits runs a command and compares its exit code: exits CODE COMMAND [ARG...].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// interrupt runs a command and sends it SIGINT each time it says that it is ready
// for one, on descriptor 3: interrupt CODE N COMMAND [ARG...]. What it prints on
// standard error goes to the file err.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt CODE N COMMAND [ARG...]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	errs, err := os.Create(ts.MkAbs("err"))
	ts.Check(err)
	defer errs.Close()
	ready, theirs, err := os.Pipe()
	ts.Check(err)
	defer ready.Close()
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = ts.MkAbs("."), errs, []*os.File{theirs}
	cmd.Env = append(os.Environ(), "ENGINE="+ts.Getenv("ENGINE"), "ZLAYER_STORE_DIR="+ts.Getenv("ZLAYER_STORE_DIR"))
	ts.Check(cmd.Start())
	theirs.Close()
	for range n {
		if _, err := ready.Read(make([]byte, 1)); err != nil {
			_ = cmd.Wait()
			ts.Fatalf("it ended by itself: %v\n%s", cmd.ProcessState, ts.ReadFile("err"))
		}
		ts.Check(cmd.Process.Signal(os.Interrupt))
	}
	_ = cmd.Wait()
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// makeArchive writes an image as docker save does: mkarchive FILE NAME [SIZE], with a
// layer of SIZE blocks.
func makeArchive() {
	blocks := 1
	if len(os.Args) > 3 {
		var err error
		if blocks, err = strconv.Atoi(os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	img, err := testImage(blocks)
	if err == nil {
		var tag name.Tag
		if tag, err = name.NewTag(os.Args[2]); err == nil {
			err = tarball.WriteToFile(os.Args[1], tag, img)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// testImage is an image of one layer, the same each time.
func testImage(blocks int) (v1.Image, error) {
	layer := static.NewLayer(make([]byte, 1024*blocks), types.DockerUncompressedLayer)
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	return mutate.ConfigFile(img, file)
}

// makeRecord remembers a build in the directory of a memo: mkrecord DIR NAME.
func makeRecord() {
	d := &memo.Dir{Path: os.Args[1]}
	err := d.Put(context.Background(), &memo.Record{
		Key: digest.FromString(os.Args[2]), Kind: memo.KindImage, Image: &ocispecs.Descriptor{Digest: digest.FromString("image")},
		Names: []string{"docker.io/library/" + os.Args[2]}, Created: time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
