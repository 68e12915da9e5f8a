package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
	"github.com/zlayer-dev/zlayer/solver/memo"
)

// ChangeKind says what kind of thing makes two builds differ.
type ChangeKind string

// The kinds of changes.
const (
	ChangeFileAdded   ChangeKind = "file-added"
	ChangeFileRemoved ChangeKind = "file-removed"
	ChangeFileEdited  ChangeKind = "file-edited"
	ChangeFileMode    ChangeKind = "file-mode"
	// ChangeFiles: files differ, and there were too many to list them.
	ChangeFiles ChangeKind = "files"
	// ChangeInstruction: an instruction was edited, added or removed; with equal Before
	// and After its text is the same, and arguments or environment differ.
	ChangeInstruction ChangeKind = "instruction"
	// ChangeImage: a base image stands for another digest, or another one is named.
	ChangeImage ChangeKind = "image"
	// ChangeSource: another source, such as a git commit, is another one.
	ChangeSource ChangeKind = "source"
	// ChangeStage: another stage, which this one reads, has changed.
	ChangeStage ChangeKind = "stage"
	// ChangeConfig: the image config, the platform or the epoch is another one.
	ChangeConfig ChangeKind = "config"
	// ChangeArg: a build argument has another value, or is or was given.
	ChangeArg ChangeKind = "arg"
)

// Change is one difference. Values of arguments and the contents of files are not
// part of it.
type Change struct {
	Kind ChangeKind `json:"kind"`
	// Name is the file, the stage or the argument concerned.
	Name string `json:"name,omitempty"`
	// Before and After are what was and what is, for people: the texts of an
	// instruction, image references, modes of a file. Empty is absent.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Pos is where the build file asks for it now.
	Pos graph.Pos `json:"pos,omitzero"`
}

// StageState says how a stage compares.
type StageState string

// The states of stages.
const (
	StageSame    StageState = "same"
	StageChanged StageState = "changed"
	StageAdded   StageState = "added"
	StageRemoved StageState = "removed"
)

// WhyStage compares one stage.
type WhyStage struct {
	Name     string     `json:"name"`
	Platform string     `json:"platform"`
	Pos      graph.Pos  `json:"pos,omitzero"`
	State    StageState `json:"state"`
	// Changes are in the order of the stage's steps.
	Changes []Change `json:"changes,omitempty"`
}

// Why compares what a request would build with another build of the same.
type Why struct {
	// Against says what it is compared with, for people.
	Against string `json:"against"`
	// Same: nothing differs, so the memo would have everything.
	Same bool `json:"same"`
	// Args are differences between the build arguments.
	Args []Change `json:"args,omitempty"`
	// Stages are in graph order, those that are no longer there last.
	Stages []WhyStage `json:"stages"`
	// NoKey says why nothing is remembered of the build; empty if it is.
	NoKey string `json:"noKey,omitempty"`
}

// ErrNoRecord says that there is no earlier build to compare with.
var ErrNoRecord = errors.New("no earlier build of this target is remembered")

// Why says what is different from the last build of the same target, or from
// another: against is empty, the digest of a record, or a git reference. Nothing is
// built, and no daemon is asked. The error is ErrNoRecord where there is nothing to
// compare with. With a git reference, permission bits count as git knows them.
func (e *Engine) Why(ctx context.Context, req Request, against string) (*Why, error) {
	if against != "" && digest.Digest(against).Validate() != nil {
		req.NormalizeModes = true
	}
	r, err := e.newRun(req)
	if err != nil {
		return nil, err
	}
	defer r.close()
	j, err := r.prepareCall(req)
	if err != nil {
		return nil, err
	}
	defer j.close()
	k, err := j.compileKeys(ctx)
	if err != nil {
		return nil, j.explain(ctx, err)
	}
	if k.base == "" {
		return &Why{NoKey: k.why.Error()}, nil
	}
	now, err := j.madeOf(ctx, k)
	if err != nil {
		return nil, err
	}
	was, what, err := j.earlier(ctx, against)
	if err != nil {
		return nil, err
	}
	w := compare(was, now)
	w.Against = what
	return w, nil
}

// earlier finds what an earlier build was made of.
func (j *job) earlier(ctx context.Context, against string) (m *made, what string, err error) {
	key := digest.Digest(against)
	switch {
	case against == "":
		text, err := os.ReadFile(j.lastFile())
		var l last
		if err != nil || json.Unmarshal(text, &l) != nil {
			return nil, "", ErrNoRecord
		}
		key, what = l.Record, "the last build"
	case key.Validate() == nil:
		what = "record " + against
	default:
		m, err := j.madeAt(ctx, against)
		return m, "git " + against, err
	}
	rec, err := j.run.memo.Get(ctx, key)
	if errors.Is(err, memo.ErrNotFound) {
		return nil, "", ErrNoRecord
	}
	if err != nil {
		return nil, "", err
	}
	parts, err := memo.Parts(ctx, j.run.memo, rec)
	if err != nil || parts == nil {
		return nil, "", fmt.Errorf("%w: its record does not say what it was made of", ErrNoRecord)
	}
	if what == "the last build" {
		what += ", of " + rec.Created.Local().Format("2006-01-02 15:04:05")
	}
	m, err = readParts(parts)
	return m, what, err
}

// compare lists the differences between two builds.
func compare(was, now *made) *Why {
	w := &Why{Same: true, Stages: []WhyStage{}}
	for _, name := range sortedArgs(was.Args, now.Args) {
		a, given := was.Args[name]
		b, gives := now.Args[name]
		if a != b {
			c := Change{Kind: ChangeArg, Name: name, Before: "a value", After: "another value"}
			if !given {
				c.Before = ""
			}
			if !gives {
				c.After = ""
			}
			w.Args = append(w.Args, c)
		}
	}
	before, gone := pairStages(was.Stages, now.Stages)
	for i, s := range now.Stages {
		ws := WhyStage{Name: s.Name, Platform: s.Platform, Pos: s.Pos, State: StageSame}
		switch b := before[i]; {
		case b == nil:
			ws.State = StageAdded
		case b.Key != s.Key:
			ws.State, ws.Changes = StageChanged, compareParts(b.Parts, s.Parts)
		}
		w.Same = w.Same && ws.State == StageSame
		w.Stages = append(w.Stages, ws)
	}
	for _, s := range gone {
		w.Same = false
		w.Stages = append(w.Stages, WhyStage{Name: s.Name, Platform: s.Platform, Pos: s.Pos, State: StageRemoved})
	}
	return w
}

// pairStages finds for each stage of now the one it was, nil for none, and those of was
// that are left. Builds that nest each other have stages of one name, such as those
// without any, so equal ones go together first, then those of one file, and then what
// only the name says.
func pairStages(was, now []madeStage) (before []*madeStage, gone []madeStage) {
	before = make([]*madeStage, len(now))
	taken := make([]bool, len(was))
	for _, fits := range []func(a, b madeStage) bool{
		func(a, b madeStage) bool { return a.Key == b.Key },
		func(a, b madeStage) bool { return a.Pos.File == b.Pos.File },
		func(madeStage, madeStage) bool { return true },
	} {
		for i, s := range now {
			for n := range was {
				if before[i] == nil && !taken[n] && was[n].Name == s.Name && was[n].Platform == s.Platform && fits(was[n], s) {
					before[i], taken[n] = &was[n], true
				}
			}
		}
	}
	for n, s := range was {
		if !taken[n] {
			gone = append(gone, s)
		}
	}
	return before, gone
}

// stepPrefix is the counting in the name of a step, which changes with steps that
// have nothing to do with it.
var stepPrefix = lazyregexp.New(`^\[[^\]]*\] `)

func partText(p madePart) string { return stepPrefix().ReplaceAllString(p.Name, "") }

// compareParts lists the differences between the parts of a stage: first what both
// have and is different, then, in pairs, what only one of them has.
func compareParts(was, now []madePart) []Change {
	type id struct {
		kind graph.PartKind
		text string
	}
	old := map[id][]madePart{}
	for _, p := range was {
		k := id{p.Kind, partText(p)}
		old[k] = append(old[k], p)
	}
	var changes []Change
	var fresh []madePart
	for _, p := range now {
		k := id{p.Kind, partText(p)}
		if len(old[k]) == 0 {
			fresh = append(fresh, p)
			continue
		}
		before := old[k][0]
		old[k] = old[k][1:]
		if before.Value != p.Value {
			changes = append(changes, changedPart(before, p)...)
		}
	}
	gone := map[graph.PartKind][]madePart{}
	for _, p := range was {
		k := id{p.Kind, partText(p)}
		if len(old[k]) > 0 {
			gone[p.Kind] = append(gone[p.Kind], old[k][0])
			old[k] = old[k][1:]
		}
	}
	for _, p := range fresh {
		c := Change{Kind: changeKind(p.Kind), After: partText(p), Pos: p.Pos}
		if g := gone[p.Kind]; len(g) > 0 {
			c.Before, gone[p.Kind] = partText(g[0]), g[1:]
		}
		if p.Kind != graph.PartFiles { // what it is copied by has changed, and is listed
			changes = append(changes, c)
		}
	}
	for _, p := range was {
		if g := gone[p.Kind]; len(g) > 0 && g[0].Name == p.Name && p.Kind != graph.PartFiles {
			changes = append(changes, Change{Kind: changeKind(p.Kind), Before: partText(p)})
			gone[p.Kind] = g[1:]
		}
	}
	return changes
}

func changeKind(k graph.PartKind) ChangeKind {
	switch k {
	case graph.PartFiles:
		return ChangeFiles
	case graph.PartImage:
		return ChangeImage
	case graph.PartSource:
		return ChangeSource
	case graph.PartStage:
		return ChangeStage
	case graph.PartConfig:
		return ChangeConfig
	}
	return ChangeInstruction
}

// changedPart says how a part differs that two builds have.
func changedPart(was, now madePart) []Change {
	if now.Kind != graph.PartFiles {
		return []Change{{Kind: changeKind(now.Kind), Name: now.Name, Before: partText(was), After: partText(now), Pos: now.Pos}}
	}
	if was.Files == nil || now.Files == nil {
		return []Change{{Kind: ChangeFiles, Name: partText(now), Pos: now.Pos}}
	}
	return compareFiles(was.Files, now.Files, now.Pos)
}

// compareFiles merges two lists that are sorted by path.
func compareFiles(was, now []madeFile, pos graph.Pos) []Change {
	var changes []Change
	add := func(kind ChangeKind, name, before, after string) {
		changes = append(changes, Change{Kind: kind, Name: name, Before: before, After: after, Pos: pos})
	}
	for len(was) > 0 || len(now) > 0 {
		switch {
		case len(was) == 0 || len(now) > 0 && strings.Compare(now[0].Path, was[0].Path) < 0:
			add(ChangeFileAdded, now[0].Path, "", "")
			now = now[1:]
		case len(now) == 0 || strings.Compare(was[0].Path, now[0].Path) < 0:
			add(ChangeFileRemoved, was[0].Path, "", "")
			was = was[1:]
		default:
			a, b := was[0], now[0]
			if a.Sum != b.Sum {
				add(ChangeFileEdited, b.Path, "", "")
			} else if a.Mode != b.Mode {
				add(ChangeFileMode, b.Path, os.FileMode(a.Mode).String(), os.FileMode(b.Mode).String())
			}
			was, now = was[1:], now[1:]
		}
	}
	return changes
}
