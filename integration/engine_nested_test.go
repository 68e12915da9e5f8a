package integration

import (
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// TestEngineNestedInherits has what nested builds take over from the outermost one, and what they
// do not.
func TestEngineNestedInherits(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	l := labtest.Start(t)
	dir := files{
		"ZImagefile":     "build: {context: mid, args: {GIVEN: given}}\n",
		"mid/ZImagefile": "args: {GIVEN: none, OUTER: none}\nbuild: deep\nsteps:\n  - run: echo $GIVEN $OUTER > /args\n",
		"mid/deep/Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=s,required=true cat /run/secrets/s > /s\n" +
			"RUN cat /proc/sys/kernel/random/uuid > /once\n",
		"arch/ZImagefile":     "build: of\n",
		"arch/of/Dockerfile":  "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n",
		"arch/of/amd64":       "amd64",
		"arch/of/arm64":       "arm64",
		"never/ZImagefile":    "build: of\n",
		"never/of/Dockerfile": "FROM " + l.Ref("lab/single") + "\n",
	}.dir(t)
	req := engine.Request{
		Context: dir, BuildArgs: map[string]string{"OUTER": "outer", "GIVEN": "outer"},
		Secrets: []engine.Secret{{ID: "s", Value: []byte(t.Name())}},
	}
	first := buildFiles(t, e, req)
	if got := first["args"]; got != "given none\n" {
		t.Errorf("arguments: got %q, want those of the directive alone", got)
	}
	if got := first["s"]; got != t.Name() {
		t.Errorf("the secret: got %q", got)
	}
	if again := buildFiles(t, e, req); again["once"] != first["once"] {
		t.Error("the nested build was not cached")
	}
	req.NoCache = true
	if anew := buildFiles(t, e, req); anew["once"] == first["once"] {
		t.Error("no-cache did not reach the nested build")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		got := buildFiles(t, e, engine.Request{Context: dir + "/arch", Platforms: []string{"linux/" + arch}})
		if got["arch"] != arch {
			t.Errorf("for %s: got %q", arch, got["arch"])
		}
	}
	err := buildFails(t, e, engine.Request{Context: dir + "/never", Pull: engine.PullNever})
	mustSay(t, err, "never/of/Dockerfile:1: ")
	mustSay(t, err, "has not been pulled for this platform before")
}
