package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/engine/daemon"
	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// fakeApp is an app whose engine builds nothing. The environment variable ENGINE
// says how builds end; the request is written to the file REQUEST.
func fakeApp() *app {
	a := newApp()
	a.open = func(ctx context.Context, c engine.Config) (builder, error) {
		e, err := engine.Open(ctx, c)
		return &fakeEngine{Engine: e, config: c}, err
	}
	a.daemon = fakeDaemon{}
	return a
}

// fakeEngine has a real store.
type fakeEngine struct {
	*engine.Engine
	config engine.Config
}

const fakeFile = "FROM busybox AS a\nRUN false\nFROM busybox\nRUN nope\n"

func fakeStageError(line int, text string) *solver.StageError {
	return &solver.StageError{
		Stage: &graph.Stage{}, Vertex: digest.FromString("step"),
		Pos: graph.Pos{File: "Dockerfile", Line: line}, Source: []byte(fakeFile), Err: errors.New(text),
	}
}

func (f *fakeEngine) Build(ctx context.Context, r engine.Request) (*engine.Result, error) {
	if err := f.note(r); err != nil {
		return nil, err
	}
	one := fakeStageError(2, `process "/bin/sh -c false" did not complete successfully: exit code: 1`)
	two := fakeStageError(4, `process "/bin/sh -c nope" did not complete successfully: exit code: 127`)
	switch os.Getenv("ENGINE") {
	case "", "unchanged", "restored":
		return f.succeed(r)
	case "fail":
		f.events(r, one)
		r.Events(solver.Event{Kind: solver.StageDone})
		return nil, one
	case "fail2":
		f.events(r, one)
		r.Events(solver.Event{Kind: solver.StageFailed})
		r.Events(solver.Event{Kind: solver.StageSkipped})
		return nil, multierror.Append(nil, one, two)
	case "buildfile":
		return nil, &graph.PosError{Pos: graph.Pos{File: "Dockerfile", Line: 2, Column: 1}, Source: []byte(fakeFile), Err: errors.New("unknown instruction: RUNN (did you mean RUN?)")}
	case "input":
		return nil, &engine.InputError{Err: errors.New("build context ./nope does not exist")}
	case "broken":
		return nil, errors.New("connecting to the daemon: no such file")
	case "hang", "deaf":
		return nil, f.hang(ctx)
	}
	return nil, fmt.Errorf("ENGINE=%s is not known to the test", os.Getenv("ENGINE"))
}

// hang waits to be cancelled; deaf, it goes on even then. On descriptor 3 it says
// when it is ready for a signal.
func (f *fakeEngine) hang(ctx context.Context) error {
	pipe := os.NewFile(3, "ready")
	if _, err := pipe.WriteString("."); err != nil {
		return err
	}
	<-ctx.Done()
	if os.Getenv("ENGINE") != "deaf" {
		return context.Cause(ctx)
	}
	if _, err := pipe.WriteString("."); err != nil {
		return err
	}
	select {}
}

func (f *fakeEngine) events(r engine.Request, failure *solver.StageError) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	end := start.Add(time.Second)
	s := solver.StepStatus{Digest: digest.FromString("step"), Name: "[a 1/1] RUN false", Started: &start}
	r.Events(solver.Event{Kind: solver.StepStarted, Time: start, Step: &s})
	r.Events(solver.Event{Kind: solver.Output, Time: start, Step: &s, Log: &solver.Log{Stream: 1, Data: []byte("hello from the step\n")}})
	done := s
	done.Completed = &end
	kind := solver.StageDone
	if failure != nil {
		done.Error, kind = failure.Err.Error(), solver.StageFailed
	}
	r.Events(solver.Event{Kind: solver.StepDone, Time: end, Step: &done})
	r.Events(solver.Event{Kind: kind, Time: end, Stage: &graph.Stage{}})
	r.Events(solver.Event{Kind: solver.Warning, Time: end, Warning: &solver.WarningInfo{
		Level: 1, Short: "JSONArgsRecommended: use JSON (line 3)", Pos: graph.Pos{File: "Dockerfile", Line: 3}, Source: []byte(fakeFile), URL: "https://docs.example/rule",
	}})
}

func (f *fakeEngine) succeed(r engine.Request) (*engine.Result, error) {
	f.events(r, nil)
	res := &engine.Result{Changed: os.Getenv("ENGINE") == "", Restored: os.Getenv("ENGINE") == "restored", Metadata: map[string]string{
		"containerimage.buildinfo": "eyJhIjoxfQ==",
		"note":                     "text",
	}}
	image := len(r.Outputs) == 0
	for _, o := range r.Outputs {
		image = image || o.Type == engine.OutputStore || o.Type == engine.OutputImage || o.Type == engine.OutputOCI
		if o.Writer != nil {
			if _, err := io.WriteString(o.Writer, "archive\n"); err != nil {
				return nil, fmt.Errorf("writing the archive: %w", err)
			}
		}
	}
	if image {
		res.Digest, res.ConfigDigest = digest.FromString("manifest"), digest.FromString("config")
		res.Descriptor = []byte(`{"digest":"` + res.Digest.String() + `"}`)
		for _, t := range r.Tags {
			res.Tags = append(res.Tags, "docker.io/library/"+t)
		}
	}
	return res, nil
}

func (f *fakeEngine) Call(_ context.Context, r engine.Request, c engine.Call) (*engine.CallResult, error) {
	if err := f.note(r); err != nil {
		return nil, err
	}
	return &engine.CallResult{
		JSON:   []byte(`{"call":"` + string(c) + `"}`),
		Text:   []byte("the answer to " + string(c)),
		Failed: os.Getenv("ENGINE") == "fail",
	}, nil
}

func (f *fakeEngine) Prune(_ context.Context, o engine.PruneOptions) (engine.PruneReport, error) {
	return engine.PruneReport{Records: 3, Bytes: 1 << 20}, writeValue(o)
}

// Lock, Why and Affected are the real ones, and noted.
func (f *fakeEngine) Lock(ctx context.Context, r []engine.Request, o engine.LockOptions) (*engine.LockResult, error) {
	if err := writeValue(f.config, r[0], o); err != nil {
		return nil, err
	}
	return f.Engine.Lock(ctx, r, o)
}

func (f *fakeEngine) Outlook(ctx context.Context, r engine.Request) (*graph.Picture, error) {
	if err := f.note(r); err != nil {
		return nil, err
	}
	return f.Engine.Outlook(ctx, r)
}

func (f *fakeEngine) Why(ctx context.Context, r engine.Request, against string) (*engine.Why, error) {
	if err := f.note(r); err != nil {
		return nil, err
	}
	return f.Engine.Why(ctx, r, against)
}

func (f *fakeEngine) Affected(ctx context.Context, r []engine.NamedRequest, o engine.AffectedOptions) (*engine.Affected, error) {
	if err := writeValue(f.config, r[0].Request, o); err != nil {
		return nil, err
	}
	return f.Engine.Affected(ctx, r, o)
}

// note writes what the engine was opened with and asked for.
func (f *fakeEngine) note(r engine.Request) error { return writeValue(f.config, r) }

// writeValue writes the fields of structs that are not zero, one a line, to the
// file REQUEST.
func writeValue(list ...any) error {
	path := os.Getenv("REQUEST")
	if path == "" {
		return nil
	}
	var b strings.Builder
	for _, v := range list {
		rv := reflect.ValueOf(v)
		for i := range rv.NumField() {
			f := rv.Field(i)
			switch {
			case f.IsZero(), f.Kind() == reflect.Func, (f.Kind() == reflect.Map || f.Kind() == reflect.Slice) && f.Len() == 0:
				continue
			}
			text, err := fieldText(f.Interface())
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s: %s\n", rv.Type().Field(i).Name, text)
		}
	}
	// What differs from one test directory to the next is told by its name.
	text := strings.NewReplacer(os.Getenv("WORK"), "$WORK", os.Getenv("REGISTRY"), "$REGISTRY").Replace(b.String())
	return os.WriteFile(path, []byte(text), 0o600)
}

func fieldText(v any) (string, error) {
	switch v := v.(type) {
	case io.Reader:
		text, err := io.ReadAll(v)
		return fmt.Sprintf("%q", text), err
	case []engine.Output:
		var parts []string
		for _, o := range v {
			s := fmt.Sprintf("%s %q %v", o.Type, o.Dest, o.Attrs)
			if o.Writer != nil {
				s += " writer"
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, "; "), nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// fakeDaemon runs when the file daemon is in the state directory.
type fakeDaemon struct{}

func (fakeDaemon) path(c daemon.Config) string { return c.StateDir + "/daemon" }

func (d fakeDaemon) info(c daemon.Config) daemon.Info {
	return daemon.Info{
		Version: "v0", PID: 7, Address: "unix://" + c.StateDir + "/sock", StateDir: c.StateDir, LogPath: d.path(c) + ".log",
		Snapshotter: "overlayfs", Runc: "/usr/bin/runc", Started: time.Now(), Connections: 2, Warnings: []string{"something is slow"},
	}
}

func (d fakeDaemon) Start(_ context.Context, c daemon.Config) (daemon.Info, error) {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return daemon.Info{}, err
	}
	return d.info(c), errors.Join(writeValue(c), os.WriteFile(d.path(c), nil, 0o600))
}

func (d fakeDaemon) Serve(_ context.Context, c daemon.Config, ready func(daemon.Info)) error {
	ready(d.info(c))
	return writeValue(c)
}

func (d fakeDaemon) Status(_ context.Context, c daemon.Config) (daemon.Info, error) {
	if _, err := os.Stat(d.path(c)); err != nil {
		return daemon.Info{}, daemon.ErrNotRunning
	}
	return d.info(c), nil
}

func (d fakeDaemon) Stop(_ context.Context, c daemon.Config) error {
	if os.Remove(d.path(c)) != nil {
		return daemon.ErrNotRunning
	}
	return nil
}

func (d fakeDaemon) LogPath(c daemon.Config) (string, error) { return d.path(c) + ".log", nil }
