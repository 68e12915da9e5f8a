package integration

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// changes lists a comparison: arguments, then what each stage that is not the same has.
func changes(dir string, w *engine.Why) []string {
	var list []string
	add := func(stage string, c engine.Change) {
		pos := strings.TrimPrefix(c.Pos.String(), dir+"/")
		list = append(list, strings.TrimSpace(strings.Join([]string{stage, string(c.Kind), c.Name, c.Before, ">", c.After, pos}, "|")))
	}
	for _, c := range w.Args {
		add("", c)
	}
	for _, s := range w.Stages {
		if s.State != engine.StageSame && s.State != engine.StageChanged {
			list = append(list, s.Name+" is "+string(s.State))
		}
		for _, c := range s.Changes {
			add(s.Name, c)
		}
	}
	return list
}

func TestEngineWhy(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	busybox := labtest.Start(t).Ref("busybox")
	tag := m.base("base:1", "one")
	dir := files{
		"Dockerfile": "FROM " + busybox + " AS tools\nARG SIZE=1\nCOPY src /src\nRUN ls /src && test -n \"$SIZE\"\n\n" +
			"FROM " + tag + "\nCOPY --from=tools /src /copied\nCOPY own /own\nLABEL a=b\n",
		"src/a": "a", "src/b": "b", "src/c": "c", "own": "own",
	}.dir(t)
	req := engine.Request{Context: dir, Outputs: cacheOnly, BuildArgs: map[string]string{"SIZE": "secret-size"}}
	if _, err := m.bare().Why(t.Context(), req, ""); !errors.Is(err, engine.ErrNoRecord) {
		t.Errorf("before the first build: got %v", err)
	}
	m.mustBuild(req)
	ask := func(req engine.Request) *engine.Why {
		t.Helper()
		w, err := m.bare().Why(t.Context(), req, "")
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "secret-size") || strings.Contains(string(text), "other-size") {
			t.Errorf("a value is told: %s", text)
		}
		if !strings.HasPrefix(w.Against, "the last build, of ") {
			t.Errorf("compared with %q", w.Against)
		}
		return w
	}
	want := func(what string, req engine.Request, want ...string) {
		t.Helper()
		w := ask(req)
		got := changes(dir, w)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
		if w.Same != (len(want) == 0) {
			t.Errorf("%s: same is %v", what, w.Same)
		}
	}
	original := files{"Dockerfile": readText(t, dir+"/Dockerfile"), "src/a": "a", "src/b": "b", "own": "own"}
	reset := func() {
		t.Helper()
		if err := os.RemoveAll(dir + "/src/new"); err != nil {
			t.Fatal(err)
		}
		original.write(t, dir)
		if err := os.Chmod(dir+"/src/c", 0o644); err != nil {
			t.Fatal(err)
		}
	}
	parent := "stage-1|stage|tools|tools|>|tools|Dockerfile:7"
	want("nothing", req)

	files{"src/a": "edited", "src/new": "new"}.write(t, dir)
	if err := errors.Join(os.Remove(dir+"/src/b"), os.Chmod(dir+"/src/c", 0o755)); err != nil {
		t.Fatal(err)
	}
	want("files", req, "tools|file-edited|src/a||>||Dockerfile:3", "tools|file-removed|src/b||>||Dockerfile:3",
		"tools|file-mode|src/c|-rw-r--r--|>|-rwxr-xr-x|Dockerfile:3", "tools|file-added|src/new||>||Dockerfile:3", parent)
	reset()
	want("nothing again", req)

	other := req
	other.BuildArgs = map[string]string{"SIZE": "other-size"}
	if got := changes(dir, ask(other)); len(got) != 3 || got[0] != "|arg|SIZE|a value|>|another value|" || !strings.HasPrefix(got[1], "tools|instruction|") || !strings.HasSuffix(got[1], "|Dockerfile:4") || got[2] != parent {
		t.Errorf("another value: got %q", got)
	}
	other.BuildArgs = nil
	if got := changes(dir, ask(other)); len(got) != 3 || got[0] != "|arg|SIZE|a value|>||" {
		t.Errorf("no value: got %q", got)
	}

	files{"Dockerfile": strings.Replace(original["Dockerfile"], "RUN ls /src", "RUN find /src", 1)}.write(t, dir)
	if got := changes(dir, ask(req)); len(got) != 2 || !strings.HasPrefix(got[0], "tools|instruction||RUN ls /src") || !strings.Contains(got[0], "|>|RUN find /src") {
		t.Errorf("an instruction: got %q", got)
	}
	files{"Dockerfile": strings.Replace(original["Dockerfile"], "a=b", "a=c", 1)}.write(t, dir)
	want("the config", req, "stage-1|config|image config|image config|>|image config|Dockerfile:6")
	files{"Dockerfile": "# a comment\n" + strings.ReplaceAll(original["Dockerfile"], "COPY own", "copy  own")}.write(t, dir)
	want("comments and spelling", req)
	files{"Dockerfile": strings.NewReplacer("AS tools", "AS renamed", "=tools", "=renamed").Replace(original["Dockerfile"])}.write(t, dir)
	if got := changes(dir, ask(req)); !slices.Contains(got, "renamed is added") || !slices.Contains(got, "tools is removed") {
		t.Errorf("another name: got %q", got)
	}
	reset()

	old := remoteDescriptor(t, m.registry, tag).Digest.String()
	m.base("base:1", "two")
	now := remoteDescriptor(t, m.registry, tag).Digest.String()
	want("a tag that has moved", req, "stage-1|config|image config|image config|>|image config|Dockerfile:6", "stage-1|image||"+tag+"@"+old+"|>|"+tag+"@"+now+"|Dockerfile:6")

	// A record by its name, and a build that has none.
	list, err := m.bare().Memo(t.Context())
	if err != nil || len(list) == 0 {
		t.Fatalf("got %v, %v", list, err)
	}
	if w, err := m.bare().Why(t.Context(), req, list[0].Key.String()); err != nil || w.Against != "record "+list[0].Key.String() || w.Same {
		t.Errorf("got %+v, %v", w, err)
	}
	target := req
	target.Target = "tools"
	if _, err := m.bare().Why(t.Context(), target, ""); !errors.Is(err, engine.ErrNoRecord) {
		t.Errorf("another target: got %v", err)
	}
	files{"Dockerfile": "FROM scratch\nADD http://127.0.0.1:1/x /x\n"}.write(t, dir)
	w, err := m.bare().Why(t.Context(), req, "")
	if err != nil || !strings.Contains(w.NoKey, "the address has no checksum") {
		t.Errorf("got %+v, %v", w, err)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What affected does not name is there already.
func TestEngineAffected(t *testing.T) {
	t.Parallel()
	m := newRemembering(t)
	dir := files{
		"base/Dockerfile": "FROM scratch\nCOPY f /base\n", "base/f": "base",
		"one/ZImagefile": "build: ../base\nsteps:\n  - {copy: f, to: /one}\n", "one/f": "one",
		"two/ZImagefile": "build: ../base\nsteps:\n  - {copy: f, to: /two}\n", "two/f": "two",
		"alone/Dockerfile": "FROM scratch\nCOPY . /alone\n", "alone/f": "alone", "alone/.dockerignore": "*.log\n",
	}.dir(t)
	var reqs []engine.NamedRequest
	for _, name := range []string{"one", "two", "alone", "base"} {
		reqs = append(reqs, engine.NamedRequest{Name: name, Request: engine.Request{
			Context: filepath.Join(dir, name), Root: dir, Tags: []string{"affected-" + name + ":1"}, NormalizeModes: true,
		}})
	}
	for _, r := range reqs {
		m.mustBuild(r.Request)
	}
	for file, want := range map[string][][]string{
		"base/f":              {{"base"}, {"one", "two"}},
		"one/f":               {{"one"}},
		"alone/x.log":         {},
		"alone/new":           {{"alone"}},
		"alone/.dockerignore": {{"alone"}},
		"nobody":              {},
	} {
		path := filepath.Join(dir, file)
		before, had := os.ReadFile(path)
		if err := os.WriteFile(path, []byte("*.log\nchanged: "+file), 0o644); err != nil {
			t.Fatal(err)
		}
		res, err := m.bare().Affected(t.Context(), reqs, engine.AffectedOptions{Files: []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(res.Levels, want, slices.Equal[[]string]) {
			t.Errorf("%s: got %v, want %v", file, res.Levels, want)
		}
		for i, img := range res.Images {
			_, err := m.bare().Build(t.Context(), reqs[i].Request)
			if (err != nil) != img.Affected {
				t.Errorf("%s: %s is affected: %v, without a daemon: %v", file, img.Name, img.Affected, err)
			}
		}
		if had != nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, before, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A file that an ignore file keeps out is there, and the message names the rule.
func TestEngineIgnoredSource(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{
		"Dockerfile":          "FROM scratch\nCOPY src/gen/x /x\n",
		".dockerignore":       "# what is made\n*.log\n\nsrc/gen\n",
		"src/gen/x":           "x",
		"own":                 "FROM scratch\nCOPY secret.log /\n",
		"own.dockerignore":    "**/*.log\n",
		"secret.log":          "log",
		"missing":             "FROM scratch\nCOPY nosuch /\n",
		"nested/ZImagefile":   "build: ../other\nsteps:\n  - {copy: f, to: /f}\n",
		"nested/f":            "f",
		"other/Dockerfile":    "FROM scratch\nCOPY kept /\n",
		"other/kept":          "kept",
		"other/.dockerignore": "*\n!Dockerfile\n",
	}.dir(t)
	for what, c := range map[string]struct {
		req  engine.Request
		want []string
	}{
		"the context's":    {engine.Request{}, []string{dir + "/Dockerfile:2: ", `"/src/gen/x": not found`, "it is there, but excluded by " + dir + "/.dockerignore:4: src/gen"}},
		"the build file's": {engine.Request{File: dir + "/own"}, []string{dir + "/own:2: ", "it is there, but excluded by " + dir + "/own.dockerignore:1: **/*.log"}},
		"a nested build's": {engine.Request{Context: dir + "/nested", Root: dir}, []string{"other/Dockerfile:2: ", "it is there, but excluded by " + dir + "/other/.dockerignore:1: *"}},
	} {
		if c.req.Context == "" {
			c.req.Context = dir
		}
		err := buildFails(t, e, c.req)
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %q, want %q", what, err, want)
			}
		}
	}
	if err := buildFails(t, e, engine.Request{Context: dir, File: dir + "/missing"}); strings.Contains(err.Error(), "excluded") {
		t.Errorf("got %v", err)
	}
}
