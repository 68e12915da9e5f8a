package main

import (
	"context"
	"errors"
	"io"
	"os"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/term"

	"github.com/zlayer-dev/zlayer/cmd/zlayer/internal/progress"
	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/store"
)

// app is what commands see of the world outside. Tests put their own into it.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// lookup finds environment variables.
	lookup func(string) (string, bool)
	// open makes the engine; nothing is contacted by it.
	open func(context.Context, engine.Config) (builder, error)
	// daemon controls the background daemon.
	daemon daemonControl
	// serve serves the BuildKit that runs this process as a frontend.
	serve func(context.Context) error

	globals globals
	// started: flags and arguments were in order and the command itself runs.
	started bool
}

// builder is what commands need of an engine.
type builder interface {
	Build(context.Context, engine.Request) (*engine.Result, error)
	BuildPipeline(context.Context, *engine.Pipeline, engine.PipelineOptions) (*engine.BatchResult, error)
	Call(context.Context, engine.Request, engine.Call) (*engine.CallResult, error)
	Outlook(context.Context, engine.Request) (*graph.Picture, error)
	OutlookPipeline(context.Context, *engine.Pipeline, engine.PipelineOptions) (*graph.Picture, error)
	LastBuild(engine.Request) (*engine.LastBuild, error)
	LastPipeline(*engine.Pipeline) (*engine.LastBuild, error)
	Prune(context.Context, engine.PruneOptions) (engine.PruneReport, error)
	Lock(context.Context, []engine.Request, engine.LockOptions) (*engine.LockResult, error)
	LockPipeline(context.Context, *engine.Pipeline, engine.PipelineOptions, engine.LockOptions) (*engine.LockResult, error)
	Why(ctx context.Context, req engine.Request, against string) (*engine.Why, error)
	Affected(context.Context, []engine.NamedRequest, engine.AffectedOptions) (*engine.Affected, error)
	Memo(context.Context) ([]engine.MemoRecord, error)
	PruneMemo(context.Context, engine.MemoLimits) (engine.MemoPruned, error)
	Store() (*store.Store, error)
	StoredWasm(context.Context, string) ([]byte, error)
	ImportWasm(context.Context, []byte, engine.WasmImport) (digest.Digest, error)
	PullWasm(context.Context, string) ([]byte, digest.Digest, error)
	Close() error
}

// newApp is the real world.
func newApp() *app {
	return &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		lookup: os.LookupEnv,
		open:   func(ctx context.Context, c engine.Config) (builder, error) { return engine.Open(ctx, c) },
		daemon: backgroundDaemon{},
		serve:  engine.ServeFrontend,
	}
}

// run executes a command line and returns the exit code.
func (a *app) run(args []string) int {
	ctx, signals := catchSignals(context.Background())
	defer signals.stop()
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usage(err)
	}
	if err != nil && signals.caught() {
		err = &interruptedError{err}
	}
	return a.finish(cmd.CommandPath(), err)
}

// finish tells the user how it ended.
func (a *app) finish(command string, err error) int {
	code := exitCode(err)
	var told *toldError
	switch {
	case err == nil, brokenPipe(err), errors.As(err, &told):
	case code == exitInterrupted:
		a.note("zlayer: interrupted")
	default:
		progress.PrintError(a.stderr, err, a.style())
	}
	var u *usageError
	if errors.As(err, &u) && !errors.As(err, &told) {
		a.note("See '" + command + " --help'.")
	}
	return code
}

// note writes one line to standard error. There is nobody to tell when that
// fails.
func (a *app) note(line string) { _, _ = io.WriteString(a.stderr, progress.Lines(line)+"\n") }

// env returns an environment variable, empty without one.
func (a *app) env(name string) string {
	v, _ := a.lookup(name)
	return v
}

// style says how text on standard error may look.
func (a *app) style() progress.Style {
	return progress.Style{Color: isTerminal(a.stderr) && a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"}
}

// isTerminal reports whether f, a reader or writer, is a terminal.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
