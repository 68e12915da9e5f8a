package integration

import (
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// TestEngineSyntaxWithoutPull must not run beside tests that pull the frontend's image.
func TestEngineSyntaxWithoutPull(t *testing.T) {
	e := openEngine(t)
	l := labtest.Start(t)
	before := len(l.Requests())
	for _, ref := range []string{"docker/dockerfile:1", "docker/dockerfile:1.4", "docker.io/docker/dockerfile:1.7.1"} {
		dir := files{"Dockerfile": "# syntax=" + ref + "\nFROM scratch\nCOPY <<x /x\nhello\nx\n"}.dir(t)
		same(t, ref, buildFiles(t, e, engine.Request{Context: dir}), files{"x": "hello\n"})
	}
	dir := files{"Dockerfile": "FROM scratch\nCOPY <<x /x\nhello\nx\n"}.dir(t)
	same(t, "argument", buildFiles(t, e, engine.Request{Context: dir, Syntax: "docker/dockerfile:1"}), files{"x": "hello\n"})
	for _, r := range l.Requests()[before:] {
		if strings.Contains(r.Path, "docker/dockerfile") {
			t.Errorf("the registry was asked for the frontend: %s %s", r.Method, r.Path)
		}
	}
}

// foreignFrontend packs zlayer's own frontend as an image, which to the engine is a stranger's.
func foreignFrontend(t *testing.T, e *engine.Engine) (ref string) {
	t.Helper()
	l := labtest.Start(t)
	dir := files{"Dockerfile": "FROM scratch\nCOPY inside /\nENTRYPOINT [\"/inside\"]\n"}.dir(t)
	insideProgram(t, dir)
	ref = l.Addr() + "/foreign/frontend:1"
	build(t, e, engine.Request{Context: dir, Tags: []string{ref}, Push: true})
	return ref
}

func TestEngineForeignSyntax(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	ref := foreignFrontend(t, e)
	body := "FROM busybox AS a\nRUN echo " + t.Name() + " > /a\nFROM busybox\nCOPY --from=a /a /\nCOPY in /\nRUN cat /a /in > /both\nLABEL k=v\n"
	dir := files{"Dockerfile": body, "foreign": "# syntax=" + ref + "\n" + body, "in": "in\n", "broken": "# syntax=" + ref + "\nFROM busybox\nBOGUS\n",
		"failing": "# syntax=" + ref + "\nFROM busybox\nRUN exit 3\n"}.dir(t)
	own := build(t, e, engine.Request{Context: dir})
	var rec recorder
	theirs := build(t, e, engine.Request{Context: dir, File: dir + "/foreign", Events: rec.sink})
	forced := build(t, e, engine.Request{Context: dir, Syntax: ref})
	if theirs.Digest != own.Digest || forced.Digest != own.Digest {
		t.Errorf("our own frontend gives %s, as a stranger's it gives %s and %s", own.Digest, theirs.Digest, forced.Digest)
	}
	if theirs.Graph != nil {
		t.Errorf("got a graph of what another frontend has built")
	}
	// Options reach it.
	got := buildFiles(t, e, engine.Request{Context: dir, Syntax: ref, Target: "a"})
	if got["a"] != t.Name()+"\n" || got["both"] != "" {
		t.Errorf("target a of the foreign frontend: got a %q, both %q", got["a"], got["both"])
	}
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, File: dir + "/broken"}), dir+"/broken:3: unknown instruction: BOGUS")
	err := buildFails(t, e, engine.Request{Context: dir, File: dir + "/failing"})
	mustSay(t, err, dir+`/failing:3: process "/bin/sh -c exit 3" did not complete successfully: exit code: 3`)
}

func TestEngineSyntaxMistakes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	missing, other := l.Addr()+"/foreign/nosuch:1", l.Ref("busybox")
	dir := files{
		"Dockerfile": "FROM scratch\n",
		"missing":    "# syntax=" + missing + "\nFROM scratch\n",
		"other":      "# syntax=" + other + "\nFROM scratch\n",
	}.dir(t)
	err := buildFails(t, e, engine.Request{Context: dir, File: dir + "/missing"})
	mustSay(t, err, dir+"/missing:1: ")
	mustSay(t, err, "not found")
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, File: dir + "/other"}), dir+"/other:1: the frontend's program ended with exit code: ")
	err = buildFails(t, e, engine.Request{Context: dir, Syntax: missing})
	mustSay(t, err, missing)
	mustSay(t, err, "not found")
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, Syntax: "UPPER"}), "running the frontend UPPER: ")
}
