package dockerfile

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/client/llb"

	"github.com/zlayer-dev/zlayer/frontend"
)

// What is lowered ahead is what is lowered once the file is parsed, for nearly every file.
func TestScannedAhead(t *testing.T) {
	texts := map[string]string{
		"continued argument": "ARG A=1 \\\n  B=2\nFROM busybox\n",
		"comments":           "# syntax=docker/dockerfile:1\n# one\n\n# two\nARG A\n# from here\nfrom busybox\n",
		"continued from":     "FROM \\\n busybox AS a\nFROM a\n",
	}
	for name, c := range compileCases {
		texts[name] = c.text
	}
	files, err := filepath.Glob("../../integration/testdata/*/*/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		dt, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts[f] = string(dt)
	}
	known, plain := 0, 0
	for name, text := range texts {
		f, err := parseFile([]byte(text), nil, &llb.EnvList{})
		if err != nil || !f.plain {
			continue
		}
		plain++
		ahead, ok := scannedAhead([]byte(text), "")
		if ok {
			known++
		}
		if ok && !bytes.Equal(ahead, f.scanned) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, ahead, f.scanned)
		}
	}
	if known < plain*9/10 {
		t.Errorf("the text is known ahead for %d of %d files", known, plain)
	}
	for _, text := range []string{
		"ARG A=\\\nFROM busybox\n",                      // no stage begins there
		"ARG SOURCE_DATE_EPOCH=context\nFROM busybox\n", // lowering begins with a look at the context
		"", // a mistake, which is for the lowering to tell
	} {
		if _, ok := scannedAhead([]byte(text), ""); ok {
			t.Errorf("known ahead: %q", text)
		}
	}
	if _, ok := scannedAhead([]byte("FROM busybox\n"), "a-stage"); ok {
		t.Error("known ahead, with an epoch that is to be looked up")
	}
}

// A lowering that is not wanted ends, and asks for no image.
func TestLoweringIsDropped(t *testing.T) {
	ctx := context.Background()
	text := "FROM example/one AS a\nRUN echo a\nFROM example/two\nCOPY --from=a /etc /x\nRUN --mount=from=example/three,target=/y true\n"
	gw := newGateway(t, map[string]string{"Dockerfile": text}, nil).(*frontend.Files)
	b, err := newBuild(ctx, gw, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, target, err := b.compiler(ctx, nil, true)
	if err != nil || target == nil || c.ahead == nil {
		t.Fatalf("nothing is lowered ahead (%v)", err)
	}
	c.ahead.drop()
	c.ahead.drop()
	if !errors.Is(c.ahead.err, errNotWanted) {
		t.Errorf("got %v, want %v", c.ahead.err, errNotWanted)
	}
	if n := gw.Client.(*gateway).resolved.Load(); n != 0 {
		t.Errorf("%d images were asked for", n)
	}
	(*lowering)(nil).drop()
}

// A named context can be an image, which would be looked up without asking.
func TestNamedContextsAreNotLoweredAhead(t *testing.T) {
	ctx := context.Background()
	gw := newGateway(t, map[string]string{"Dockerfile": "FROM busybox\n"}, map[string]string{"context:other": "docker-image://alpine:3"})
	b, err := newBuild(ctx, gw, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := b.compiler(ctx, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if c.ahead != nil {
		c.ahead.drop()
		t.Error("the file is lowered ahead")
	}
}
