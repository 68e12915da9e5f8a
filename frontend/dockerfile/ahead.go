package dockerfile

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	digest "github.com/opencontainers/go-digest"
)

// lowering is a lowering that goes on in a goroutine of its own. It can begin before it is
// known that it is wanted: BuildKit parses the text for itself, which for a file of
// thousands of stages takes as long as parsing it here, and the two need not wait for each
// other. Where it would look up its first image it waits until it is wanted.
type lowering struct {
	text   []byte
	wanted chan struct{} // closed when it is, or never will be
	once   sync.Once
	// resolver looks up images; nil where the lowering is not wanted.
	resolver llb.ImageMetaResolver
	refused  sync.Once

	done     chan struct{}
	res      *dockerfile2llb.Result
	err      error
	mu       sync.Mutex
	warnings []warning // with places in text
}

// lower begins to lower a text as the compiler's build.
func (c *compiler) lower(ctx context.Context, text []byte, warn bool) *lowering {
	l := &lowering{text: text, wanted: make(chan struct{}), done: make(chan struct{})}
	opt := c.convertOpt(ctx)
	opt.MetaResolver, opt.Warn = l, nil
	if warn {
		opt.Warn = func(rule, description, url, msg string, location []parser.Range) {
			l.mu.Lock() // images are looked up all at once
			defer l.mu.Unlock()
			l.warnings = append(l.warnings, warning{rule, description, url, msg, location})
		}
	}
	go func() {
		defer close(l.done)
		l.res, l.err = dockerfile2llb.Dockerfile2LLB(ctx, text, opt)
	}()
	return l
}

// finish has the lowering go on to its end. The result is the caller's alone.
func (l *lowering) finish(r llb.ImageMetaResolver) (*dockerfile2llb.Result, []warning, error) {
	l.decide(r)
	res := l.res
	l.res = nil
	return res, l.warnings, l.err
}

// drop ends a lowering that is not wanted; it has no effect on one that has ended, nor on
// nil.
func (l *lowering) drop() {
	if l != nil {
		l.decide(nil)
	}
}

func (l *lowering) decide(r llb.ImageMetaResolver) {
	l.once.Do(func() {
		l.resolver = r
		close(l.wanted)
	})
	<-l.done
}

var errNotWanted = errors.New("the lowering is not wanted")

// ResolveImageConfig implements llb.ImageMetaResolver.
func (l *lowering) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	select {
	case <-ctx.Done():
		return "", "", nil, ctx.Err()
	case <-l.wanted:
	}
	if l.resolver != nil {
		return l.resolver.ResolveImageConfig(ctx, ref, opt)
	}
	// One error ends the lowering. The stages beside get none: for each BuildKit would look
	// through all names for one that is alike.
	var err error
	l.refused.Do(func() { err = errNotWanted })
	return ref, "", []byte("{}"), err
}

// lowerAhead begins the lowering of [compiler.compileOnce] before the file is parsed; nil
// where that could be seen. What it asks for besides images is what every lowering of the
// file would.
func (c *compiler) lowerAhead(ctx context.Context, warn bool) *lowering {
	if !c.onceMayDo() {
		return nil
	}
	for k := range c.opts {
		if strings.HasPrefix(strings.ToLower(k), "context:") {
			return nil // it can be an image, which the lowering would not ask us for
		}
	}
	text, ok := scannedAhead(c.text, c.ui.BuildArgs[epochArg])
	if !ok {
		return nil
	}
	return c.lower(ctx, text, warn)
}

// scannedAhead is what the scanned text of a file will be, found by parsing what stands
// above its first stage; ok is false where that does not tell, or where lowering begins
// with a look at a source for the epoch.
func scannedAhead(text []byte, epoch string) (scanned []byte, ok bool) {
	ast, err := parser.Parse(bytes.NewReader(head(text)))
	if err != nil {
		return nil, false
	}
	stages, metaArgs, err := instructions.Parse(ast.AST, silent())
	if err != nil || len(stages) != 1 {
		return nil, false
	}
	for _, cmd := range metaArgs {
		for _, kv := range cmd.Args {
			if kv.Key == epochArg && epoch == "" {
				epoch = kv.ValueString()
			}
		}
	}
	if _, err := strconv.ParseInt(epoch, 10, 64); err != nil && epoch != "" {
		return nil, false
	}
	return withScanLine(text, lastLine(text, metaArgs)+1), true
}

// head is a text up to the end of the first line that looks like the beginning of a stage.
func head(text []byte) []byte {
	n := 0
	for line := range bytes.Lines(text) {
		n += len(line)
		if word, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); bytes.EqualFold(word, []byte("FROM")) {
			break
		}
	}
	return text[:n]
}
