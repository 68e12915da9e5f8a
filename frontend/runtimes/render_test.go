package runtimes

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"

	"github.com/zlayer-dev/zlayer/frontend/zimage"
)

var update = flag.Bool("update", false, "rewrite the renderings in testdata")

// shape is a project in testdata: its files, and below want/ what is made of them. The comment of
// the archive says what is remarkable about it.
type shape struct {
	file    string
	archive *txtar.Archive
	project fstest.MapFS
	want    map[string]string
	got     map[string]string
}

// shapes reads testdata.
func shapes(t testing.TB) map[string]*shape {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 30 {
		t.Fatalf("got %d shapes and %v, want 30 at least", len(files), err)
	}
	all := map[string]*shape{}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := &shape{file: file, archive: a, project: fstest.MapFS{}, want: map[string]string{}, got: map[string]string{}}
		for _, f := range a.Files {
			if name, ok := strings.CutPrefix(f.Name, "want/"); ok {
				s.want[name] = string(f.Data)
			} else {
				s.project[f.Name] = &fstest.MapFile{Data: f.Data, Mode: 0o644}
			}
		}
		all[strings.TrimSuffix(filepath.Base(file), ".txtar")] = s
	}
	return all
}

// check compares what was made with what the archive has, or writes it there.
func (s *shape) check(t *testing.T) {
	t.Helper()
	if !*update {
		if diff := cmp.Diff(s.want, s.got); diff != "" {
			t.Errorf("the rendering has changed (-want +got; -update accepts it):\n%s", diff)
		}
		return
	}
	files := s.archive.Files[:0]
	for _, f := range s.archive.Files {
		if !strings.HasPrefix(f.Name, "want/") {
			files = append(files, f)
		}
	}
	for _, name := range []string{"detected", "error", "notes", "Dockerfile", "ZImagefile"} {
		if text, ok := s.got[name]; ok {
			files = append(files, txtar.File{Name: "want/" + name, Data: []byte(text)})
		}
	}
	s.archive.Files = files
	if err := os.WriteFile(s.file, txtar.Format(s.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRender detects and renders each project of testdata. What comes out must have no lint
// warning, compile, and mean the same as a ZImagefile.
func TestRender(t *testing.T) {
	for name, s := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			s.render(t)
			s.check(t)
		})
	}
}

func (s *shape) render(t *testing.T) {
	t.Helper()
	d, err := Detect(s.project)
	if err != nil {
		s.got["error"] = err.Error() + "\n"
		return
	}
	s.got["detected"] = describe(d)
	// an archive may name the runtime: "runtime: bun" on the first line
	if name, ok := strings.CutPrefix(strings.SplitN(string(s.archive.Comment), "\n", 2)[0], "runtime: "); ok {
		if d.Runtime, err = Get(name); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Render(d.Runtime, s.project)
	if err != nil {
		s.got["error"] = err.Error() + "\n"
		return
	}
	if len(r.Notes) > 0 {
		s.got["notes"] = strings.Join(r.Notes, "\n") + "\n"
	}
	s.got["Dockerfile"] = string(r.Dockerfile)
	if r.OS != d.Runtime.OS {
		t.Errorf("got an image for %s, want %s", r.OS, d.Runtime.OS)
	}
	platform := ocispecs.Platform{OS: r.OS, Architecture: "amd64"}
	want := lower(t, r.Dockerfile, platform)

	own, err := Init(d.Runtime, s.project, Dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	if got := lower(t, own, platform); got != want {
		t.Errorf("the user's Dockerfile is another build than the template:\n%s", own)
	}
	yaml, err := Init(d.Runtime, s.project, ZImagefile)
	if err != nil {
		t.Fatal(err)
	}
	s.got["ZImagefile"] = string(yaml)
	if got := lower(t, convert(t, yaml), platform); got != want {
		t.Errorf("the user's ZImagefile is another build than the template:\n%s", convert(t, yaml))
	}
}

func describe(d Detection) string {
	var out strings.Builder
	out.WriteString(d.Runtime.Name)
	if d.Runtime.Version != "" {
		out.WriteString(" (" + d.Runtime.Version + ")")
	}
	if d.Runtime.WASM != NotWASM {
		out.WriteString(" for " + d.Runtime.WASM.String())
	}
	for _, r := range d.Reasons {
		out.WriteString("\n  " + r)
	}
	for _, o := range d.Others {
		out.WriteString("\nor " + o.Runtime.Name + "\n  " + o.Reason)
	}
	return out.String() + "\n"
}

// convert gives the Dockerfile that a ZImagefile stands for.
func convert(t *testing.T, text []byte) []byte {
	t.Helper()
	f, err := zimage.Parse("ZImagefile", text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	d, err := zimage.Convert(f, zimage.Options{Windows: true})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for _, w := range d.Warnings {
		t.Errorf("ZImagefile: %v", w)
	}
	return d.Text
}

// lower lints a Dockerfile and gives its LLB, all of which is known by one digest, and the config
// of its image.
func lower(t *testing.T, text []byte, platform ocispecs.Platform) string {
	t.Helper()
	caps := pb.Caps.CapSet(pb.Caps.All())
	context := llb.Local("context", llb.LocalUniqueID("context"))
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", text)
	source.Definition = &llb.Definition{}
	o := dockerfile2llb.ConvertOpt{
		TargetPlatform: &platform, MetaResolver: resolver{}, LLBCaps: &caps, MainContext: &context,
		SourceMap: source,
		Config:    dockerui.Config{BuildPlatforms: []ocispecs.Platform{{OS: platform.OS, Architecture: "amd64"}}},
	}
	lint := append([]byte("# check=experimental=all\n"), bytes.TrimPrefix(text, []byte("# syntax=docker/dockerfile:1\n"))...)
	results, err := dockerfile2llb.DockerfileLint(t.Context(), lint, o)
	if err != nil {
		t.Fatal(err)
	}
	if results.Error != nil {
		t.Fatalf("%s in\n%s", results.Error.Message, text)
	}
	for _, w := range results.Warnings {
		t.Errorf("line %d: %s: %s", w.Location.Ranges[0].Start.Line, w.RuleName, w.Detail)
	}
	res, err := dockerfile2llb.Dockerfile2LLB(t.Context(), text, o)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	def, err := res.State.Marshal(t.Context(), llb.Platform(platform))
	if err != nil {
		t.Fatal(err)
	}
	if len(def.Def) < 3 {
		t.Errorf("the build has %d operations, want more", len(def.Def))
	}
	head := digest.FromBytes(def.Def[len(def.Def)-1])
	img := res.Image.Config
	if platform.OS == "linux" && (img.User == "" || img.User == "root" || strings.HasPrefix(img.User, "0")) {
		t.Errorf("the image runs as %q, want a user without rights", img.User)
	}
	cmd, err := execForm(append(append([]string{img.User, img.WorkingDir}, img.Env...), img.Cmd...))
	if err != nil {
		t.Fatal(err)
	}
	return head.String() + " " + cmd
}

// resolver knows every image that has a tag.
type resolver struct{}

func (resolver) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if !strings.Contains(ref[strings.LastIndex(ref, "/")+1:], ":") {
		return "", "", nil, errors.New(ref + " has no tag")
	}
	p := opt.ImageOpt.Platform
	return ref, digest.FromString(ref), []byte(`{"architecture":"` + p.Architecture + `","os":"` + p.OS +
		`","config":{"Env":["PATH=/usr/local/bin:/bin"],"Cmd":["base"]},"rootfs":{"type":"layers","diff_ids":[]}}`), nil
}
