package integration

import (
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

func TestEngineBaseImageMistakes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	private, err := lab.StartRegistry(lab.RegistryConfig{User: "ann", Password: "word"})
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	none := "sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		from string
		req  engine.Request
		want []string
	}{
		{from: l.Ref("nosuch"), want: []string{l.Ref("nosuch"), "not found"}},
		{from: l.Ref("busybox:nosuch"), want: []string{"busybox:nosuch", "not found"}},
		{from: l.Addr() + "/library/busybox@" + none, want: []string{none, "not found"}},
		{from: "127.0.0.1:1/app", want: []string{"127.0.0.1:1/", "connection refused"}},
		{from: private.Addr() + "/app", want: []string{private.Addr() + "/", "401 Unauthorized"}},
		{from: l.Ref("busybox"), req: engine.Request{Platforms: []string{"linux/s390x"}}, want: []string{"busybox", "the image is not there for this platform"}},
		{from: "--platform=linux/mips64 " + l.Ref("busybox"), want: []string{"busybox", "the image is not there for this platform"}},
		{from: "UPPER", want: []string{"UPPER", "must be lowercase"}},
		{from: "$nothing", want: []string{"base name ($nothing) should not be blank"}},
		{from: "--platform=nosuch busybox", want: []string{"nosuch"}},
	} {
		dir := files{"Dockerfile": "# comment\n\nFROM scratch AS fine\nCOPY <<x /x\nx\n\nFROM " + c.from + " AS base\nRUN true\nFROM base\nCOPY --from=fine /x /\n"}.dir(t)
		c.req.Context = dir
		err := buildFails(t, e, c.req)
		mustSay(t, err, dir+"/Dockerfile:7: ")
		for _, want := range c.want {
			mustSay(t, err, want)
		}
	}
}

// TestEngineBaseOfCopy has the mistake in COPY --from and in a mount. Of the latter BuildKit does not
// say where it is.
func TestEngineBaseOfCopy(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	missing := labtest.Start(t).Ref("nosuch")
	for step, where := range map[string]string{"COPY --from=" + missing + " /a /": "Dockerfile:3: " + missing, "RUN --mount=from=" + missing + ",target=/m true": missing} {
		dir := files{"Dockerfile": "FROM busybox\nRUN true\n" + step + "\n"}.dir(t)
		err := buildFails(t, e, engine.Request{Context: dir})
		mustSay(t, err, where+": not found")
	}
}

// TestEngineTargetMistakes names stages that are not there.
func TestEngineTargetMistakes(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": "FROM scratch AS base\nFROM bsae\n", "typo": "FROM scratch AS base\nCOPY <<x /x\nx\nFROM scratch\nCOPY --from=bsae /x /\n"}.dir(t)
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, Target: "nosuch"}), `target stage "nosuch" could not be found`)
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, NoCacheFilter: []string{"base"}, NoCache: true}), "exclude each other")
}

// TestEnginePull tells the pull modes apart by what the registry is asked.
func TestEnginePull(t *testing.T) {
	e := openEngine(t)
	l := labtest.Start(t)
	tag := l.Addr() + "/pull/base:1"
	push := func(text string) {
		t.Helper()
		dir := files{"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": text}.dir(t)
		build(t, e, engine.Request{Context: dir, Tags: []string{tag}, Push: true})
	}
	dir := files{"Dockerfile": "FROM " + tag + "\n"}.dir(t)
	got := func(mode engine.PullMode) string {
		t.Helper()
		return buildFiles(t, e, engine.Request{Context: dir, Pull: mode})["x"]
	}
	push("one")
	for _, mode := range []engine.PullMode{engine.PullDefault, engine.PullAlways, engine.PullNewer} {
		push("after " + string(mode))
		if x := got(mode); x != "after "+string(mode) {
			t.Errorf("pull %q: got %q", mode, x)
		}
	}
	last := got(engine.PullDefault)
	push("unseen")
	l.ResetRequests()
	if x := got(engine.PullNever); x != last {
		t.Errorf("pull never: got %q, want %q", x, last)
	}
	if asked := l.Requests(); len(asked) > 0 {
		t.Errorf("pull never asked the registry for %v", asked)
	}
	stranger := l.Ref("lab/single")
	other := files{"Dockerfile": "FROM " + stranger + "\n"}.dir(t)
	mustSay(t, buildFails(t, e, engine.Request{Context: other, Pull: engine.PullNever}), stranger+" has not been pulled for this platform before")
}
