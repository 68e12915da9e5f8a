package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/system"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/dag"
	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
)

// ignoreFile is the name of what says which files of a directory take no part.
const ignoreFile = ".dockerignore"

// stageProgram makes a stage of the Go API the build.
func (j *job) stageProgram() error {
	r := &j.req
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"Context", r.Context != ""}, {"File", r.File != ""}, {"Target", r.Target != ""}, {"Runtime", r.Runtime != "" || r.RuntimeAuto},
		{"BuildContexts", len(r.BuildContexts) > 0}, {"Syntax", r.Syntax != ""}, {"NestedIgnore", r.NestedIgnore},
	} {
		if f.given {
			return inputErrorf("a request with a Stage has no %s: the stage says what to build", f.name)
		}
	}
	p, err := dag.Render(r.Stage)
	if err != nil {
		return shownMistakes(err)
	}
	shown := map[string]string{}
	for i, pos := range p.Text.Lines {
		if _, ok := shown[pos.File]; !ok && pos.File != "" {
			shown[pos.File] = shownPath(pos.File)
		}
		p.Text.Lines[i].File = shown[pos.File]
	}
	j.program = p
	j.attrs["filename"] = "Dockerfile"
	j.shownFile = shown[r.Stage.Pos().File]
	j.texts = map[string]map[string][]byte{"context": {}, "dockerfile": {"Dockerfile": p.Text.Dockerfile}}
	for _, l := range p.Locals {
		if err := j.programLocal(l); err != nil {
			return placed(l.Pos, err)
		}
	}
	for _, c := range p.Remotes {
		j.attrs["context:"+c.Name] = c.URL
	}
	for _, n := range p.Nested {
		if err := j.programNested(n); err != nil {
			return placed(n.Pos, err)
		}
	}
	return nil
}

// shownMistakes names the files of mistakes as the user would.
func shownMistakes(err error) error {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range list.Unwrap() {
			errs = append(errs, shownMistakes(e))
		}
		return errors.Join(errs...)
	}
	var pe *graph.PosError
	if errors.As(err, &pe) {
		return placed(pe.Pos, pe.Err)
	}
	return inputErrorf("%w", err)
}

// placed gives a mistake the line of Go that it is about, unless it has a place.
func placed(pos graph.Pos, err error) error {
	var pe *graph.PosError
	if errors.As(err, &pe) {
		return err
	}
	if pos.File != "" {
		pos.File = shownPath(pos.File)
	}
	return &graph.PosError{Pos: pos, Err: err, Source: goSource(pos)}
}

// programLocal offers a directory of the program.
func (j *job) programLocal(l dag.LocalContext) error {
	dir, err := j.run.paths.existingDir("directory", l.Tree.Dir)
	if err != nil {
		return err
	}
	if t := l.Tree; t.NoIgnore || len(t.Include) > 0 || len(t.Exclude) > 0 {
		var own []byte
		if !t.NoIgnore && len(t.Include) == 0 {
			own, err = os.ReadFile(filepath.Join(dir, ignoreFile))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return inputErrorf("reading the ignore file: %w", err)
			}
		}
		j.texts[l.Name] = map[string][]byte{ignoreFile: t.Rules(own)}
	}
	if !l.Tree.NoIgnore && len(l.Tree.Include) == 0 {
		if err := checkIgnoreFile(filepath.Join(dir, ignoreFile)); err != nil {
			return err
		}
	}
	j.attrs["context:"+l.Name] = "local:" + l.Name
	j.mount(l.Name, dir)
	return nil
}

// programNested finds the directory of a nested build. The program has named it, so it
// may be read, wherever it is.
func (j *job) programNested(n dag.NestedContext) error {
	dir, err := j.run.paths.existingDir("build context", n.Nested.Dir)
	if err != nil {
		return err
	}
	file, err := nestedFile(dir, n.Nested.File)
	var several *zimage.SeveralError
	if errors.As(err, &several) {
		err = several.Say("say which one with File")
	}
	if err != nil {
		return inputErrorf("%w", err)
	}
	if j.nested == nil {
		j.nested = map[string]unit{}
	}
	j.nested[n.Name] = unit{dir: dir, file: file, target: n.Nested.Target, args: n.Nested.Args}
	j.readAllowed = append(j.readAllowed, dir)
	return nil
}

// programRoot is the directory that builds nested in a program may read beside their
// own: that of the process, or of its git work tree.
func (j *job) programRoot() string {
	wd, err := os.Getwd()
	if err == nil {
		wd, err = filepath.EvalSymlinks(wd)
	}
	if err != nil {
		return ""
	}
	return wd
}

// programUnit is the nested build that a program calls by the name.
func (c *composer) programUnit(u unit, ref dockerfile.Reference) (unit, bool) {
	if u.job == nil {
		return unit{}, false
	}
	n, ok := u.job.nested[ref.Name]
	return n, ok
}

// convertProgram gives the Dockerfile of the program, if the unit is one.
func (c *conversion) convertProgram() *frontend.Text {
	if c.unit.job == nil || c.unit.job.program == nil {
		return nil
	}
	t := c.unit.job.program.Text
	return &t
}

// programState makes a stage of a state of LLB that a program calls by the name; ok is
// false when there is none.
func (c *composer) programState(ctx context.Context, u unit, ref dockerfile.Reference) (s *graph.Stage, ok bool, err error) {
	if u.job == nil || u.job.program == nil {
		return nil, false, nil
	}
	list := u.job.program.States
	i := slices.IndexFunc(list, func(s dag.StateContext) bool { return s.Name == ref.Name })
	if i < 0 {
		return nil, false, nil
	}
	p := c.job.run.platform()
	if ref.Platform != nil {
		p = *ref.Platform
	}
	s, err = stateStage(ctx, u.job, c.gw, list[i], p)
	var ie *InputError
	if errors.As(err, &ie) {
		err = ie
	}
	if err != nil {
		return nil, true, placed(list[i].Pos, err)
	}
	return s, true, nil
}

// stateStage makes a stage of a state.
func stateStage(ctx context.Context, j *job, gw gwclient.Client, sc dag.StateContext, p ocispecs.Platform) (*graph.Stage, error) {
	session := gw.BuildOpts().SessionID
	def, err := sc.State.State.Marshal(ctx, llb.Platform(p), llb.LocalUniqueID(session))
	if err != nil {
		return nil, fmt.Errorf("marshalling the state: %w", err)
	}
	config, err := stateConfig(ctx, sc.State, p)
	if err != nil {
		return nil, err
	}
	s, err := graph.NewStage(graph.Spec{Name: sc.Name, Pos: shownPos(sc.Pos), Platform: p, Definition: graph.Definition(def), Config: config})
	if err != nil {
		return nil, err
	}
	g, err := graph.New(s)
	if err != nil {
		return nil, err
	}
	g, err = graph.Rewrite(g, func(_ digest.Digest, op *pb.Op) (bool, error) {
		src := op.GetSource()
		if src == nil {
			return false, nil
		}
		name, ok := strings.CutPrefix(src.Identifier, "local://")
		if !ok {
			return false, nil
		}
		dir, ok := sc.State.Locals[name]
		if !ok {
			return false, inputErrorf("the state reads the local source %q: say in Locals which directory that is", name)
		}
		if dir, err = existingDir("directory", dir); err != nil {
			return false, err
		}
		j.offer(name, dir)
		src.Identifier = "local://" + j.localName(name, dir)
		src.Attrs[pb.AttrLocalSessionID] = session
		return true, nil
	}, graph.Rewriting{})
	if err != nil {
		return nil, err
	}
	return g.Outputs()[0], nil
}

func shownPos(p graph.Pos) graph.Pos {
	if p.File != "" {
		p.File = shownPath(p.File)
	}
	return p
}

// stateConfig is the image config of a state.
func stateConfig(ctx context.Context, s dag.State, p ocispecs.Platform) ([]byte, error) {
	img := ocispecs.Image{Platform: p, RootFS: ocispecs.RootFS{Type: "layers"}}
	if s.Config != nil {
		img.Config = *s.Config
		return json.Marshal(img)
	}
	env, err := s.State.Env(ctx, llb.Platform(p))
	if err != nil {
		return nil, fmt.Errorf("reading the environment of the state: %w", err)
	}
	img.Config.Env = env.ToArray()
	if _, ok := env.Get("PATH"); !ok {
		img.Config.Env = append([]string{"PATH=" + system.DefaultPathEnv(p.OS)}, img.Config.Env...)
	}
	if img.Config.WorkingDir, err = s.State.GetDir(ctx, llb.Platform(p)); err != nil {
		return nil, fmt.Errorf("reading the working directory of the state: %w", err)
	}
	return json.Marshal(img)
}
