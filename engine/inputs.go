package engine

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend"
	"github.com/zlayer-dev/zlayer/source"
)

// question is something that a compilation asks the world outside of its request. The
// same question can be asked again later, and as long as all answers are the same, so
// is what comes out of the compilation.
type question struct {
	Kind questionKind `json:"kind"`
	// Build is the name of the build on whose behalf it is asked.
	Build string `json:"build,omitempty"`
	// About says what is asked, in the order that the kind has.
	About string `json:"about"`
	// More is the rest of it.
	More string `json:"more,omitempty"`
}

type questionKind string

// The kinds of questions, with their About and More.
const (
	// askFile: the text of a file that a frontend reads; a directory, a name in it.
	askFile questionKind = "file"
	// askImage: the digest behind a reference; the reference, the platform.
	askImage questionKind = "image"
	// askShort: the image that a short name stands for; the name, the platform.
	askShort questionKind = "short"
	// askContext: the directory of a build: entry; that of the build, the entry.
	askContext questionKind = "context"
	// askBuildFile: the build file of a nested build; its directory, the name given.
	askBuildFile questionKind = "build-file"
	// askRead: whether nested builds may read a directory.
	askRead questionKind = "read"
	// askProduct: the request of the build of this call that a name stands for.
	askProduct questionKind = "product"
	// askTree: the content of files that a stage reads; an encoded treeQuestion.
	askTree questionKind = "tree"
	// askScanner: the image that makes SBOMs.
	askScanner questionKind = "scanner"
)

// treeQuestion is About of askTree.
type treeQuestion struct {
	Dir       string           `json:"dir"`
	Filter    source.Filter    `json:"filter,omitzero"`
	Selection source.Selection `json:"selection,omitzero"`
}

// inputs are the questions of a compilation with their answers. A nil one forgets.
type inputs struct {
	mu      sync.Mutex
	answers map[question]string
	// loose: something was asked that has no answer to be told from others, or was
	// answered in two ways.
	loose bool
}

// note adds an answer; "" is none that could be compared.
func (in *inputs) note(q question, answer string) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.add(q, answer)
}

func (in *inputs) add(q question, answer string) {
	if had, ok := in.answers[q]; answer == "" || ok && had != answer || !plain(q.About) || !plain(q.More) || !plain(answer) {
		in.loose = true
		return
	}
	if in.answers == nil {
		in.answers = map[question]string{}
	}
	in.answers[q] = answer
}

// plain reports whether a text stays what it is when it is written as JSON and read back:
// names of files may be anything, and what is not UTF-8 would become the same sign. The
// sign as such, and in the form in which encoding/json writes it, is refused as well.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.Contains(s, "\ufffd") && !strings.Contains(s, `\ufffd`)
}

// loosen says that something was looked at which is no question.
func (in *inputs) loosen() {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.loose = true
}

// merge adds all that another compilation has asked, which must have ended.
func (in *inputs) merge(of *inputs) {
	if in == nil || of == nil || in == of {
		return
	}
	of.mu.Lock()
	answers, loose := maps.Clone(of.answers), of.loose
	of.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.loose = in.loose || loose
	for q, a := range answers {
		in.add(q, a)
	}
}

// all lists the questions in the order in which they are worth asking again: what is
// near first, since the first answer that differs ends it.
func (in *inputs) all() []answered {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := make([]answered, 0, len(in.answers))
	for q, a := range in.answers {
		list = append(list, answered{q, a})
	}
	slices.SortFunc(list, func(a, b answered) int {
		for _, c := range []int{
			askOrder(a.Kind) - askOrder(b.Kind), strings.Compare(a.Build, b.Build), strings.Compare(a.About, b.About),
		} {
			if c != 0 {
				return c
			}
		}
		return strings.Compare(a.More, b.More)
	})
	return list
}

func askOrder(k questionKind) int {
	return slices.Index([]questionKind{askFile, askContext, askBuildFile, askRead, askProduct, askTree, askImage, askShort, askScanner}, k)
}

// answered is a question with its answer.
type answered struct {
	question
	Answer string `json:"answer"`
}

// asker answers questions, each once in a call.
type asker struct {
	run *run

	mu   sync.Mutex
	asks map[question]*ask
}

type ask struct {
	done   chan struct{}
	answer string
}

// answer gives the present answer; "" where there is none.
func (a *asker) answer(ctx context.Context, q question) string {
	a.mu.Lock()
	q1 := a.asks[q]
	mine := q1 == nil
	if mine {
		if a.asks == nil {
			a.asks = map[question]*ask{}
		}
		q1 = &ask{done: make(chan struct{})}
		a.asks[q] = q1
	}
	a.mu.Unlock()
	if mine {
		q1.answer = a.find(ctx, q)
		close(q1.done)
		return q1.answer
	}
	select {
	case <-ctx.Done():
		return ""
	case <-q1.done:
		return q1.answer
	}
}

// find asks.
func (a *asker) find(ctx context.Context, q question) string {
	switch q.Kind {
	case askTree:
		return a.run.treeAnswer(ctx, q.About)
	case askContext:
		dir, err := directiveDir(q.About, q.More)
		return found(dir, "", err)
	case askBuildFile:
		file, err := nestedFile(q.About, q.More)
		return found(file, "", err)
	}
	if j := a.run.builds[q.Build]; j != nil {
		return j.find(ctx, q)
	}
	return ""
}

// find asks on behalf of a build.
func (j *job) find(ctx context.Context, q question) string {
	switch q.Kind {
	case askFile:
		dir, more := q.About, fileQuestion{}
		if json.Unmarshal([]byte(q.More), &more) != nil {
			return ""
		}
		f := frontend.Files{Replace: j.nestedIgnore(more.ContextDir, more.FileDir)}
		return f.Sum(ctx, dir, more.Name)
	case askImage:
		p, err := platformOf(q.More)
		if err != nil {
			return ""
		}
		_, d, _, err := j.newOffline().ResolveImageConfig(ctx, q.About, sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: p}})
		return found("", d, err)
	case askShort:
		p, err := platformOf(q.More)
		if err != nil {
			return ""
		}
		ref, d, _, err := newShortNames(j, j.newOffline()).resolve(ctx, q.About, sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: p}})
		return found(ref, d, err)
	case askRead:
		return found("allowed", "", j.mayRead(q.About))
	case askProduct:
		return j.productAnswer(q.About)
	case askScanner:
		s, err := j.scannerDigest(ctx)
		return found(s, "", err)
	}
	return ""
}

// found is the answer that something was found; "" if not.
func found(ref string, d digest.Digest, err error) string {
	if err != nil {
		return ""
	}
	return ref + "@" + d.String()
}

// fileQuestion is More of askFile. The directories are those of the build, which nested
// ignore files depend on; empty where they do not count.
type fileQuestion struct {
	Name       string `json:"name"`
	ContextDir string `json:"context,omitempty"`
	FileDir    string `json:"file,omitempty"`
}

// sawFile gives what notes the files that the frontend reads for a job, in a build of
// the given directories.
func (in *inputs) sawFile(j *job, contextDir, fileDir string) func(dir, name, sum string) {
	if in == nil {
		return nil
	}
	if !j.req.NestedIgnore {
		contextDir, fileDir = "", ""
	}
	return func(dir, name, sum string) {
		more, err := json.Marshal(fileQuestion{name, contextDir, fileDir})
		if err != nil {
			sum = ""
		}
		in.note(question{askFile, j.name, dir, string(more)}, sum)
	}
}

// productAnswer says which request a name stands for.
func (j *job) productAnswer(name string) string {
	p := j.product(name)
	if p == nil {
		return "none"
	}
	return string(p.traceKey())
}

// treeAnswer is the content of what an encoded treeQuestion is about.
func (r *run) treeAnswer(ctx context.Context, about string) string {
	var q treeQuestion
	if json.Unmarshal([]byte(about), &q) != nil {
		return ""
	}
	view, err := r.trees.View(q.Dir, q.Filter)
	if err != nil {
		return ""
	}
	c, err := view.Digest(ctx, q.Selection)
	if err != nil {
		return ""
	}
	return c.Digest.String()
}

// noteTree notes the content of what a stage reads.
func (in *inputs) noteTree(dir string, f source.Filter, s source.Selection, d digest.Digest) {
	if in == nil {
		return
	}
	about, err := json.Marshal(treeQuestion{dir, f, s})
	if err != nil {
		in.loosen()
		return
	}
	in.note(question{Kind: askTree, About: string(about)}, d.String())
}

// notingGateway notes which images a compilation asks about.
type notingGateway struct {
	gwclient.Client
	job *job
	in  *inputs
}

// ResolveImageConfig implements gwclient.Client.
func (g *notingGateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	full, d, config, err := g.Client.ResolveImageConfig(ctx, ref, opt)
	switch {
	case opt.ImageOpt == nil || opt.OCILayoutOpt != nil:
		g.in.loosen()
	default:
		g.in.note(question{askImage, g.job.name, ref, formatPlatform(opt.ImageOpt.Platform)}, found("", d, err))
	}
	return full, d, config, err
}

// ResolveSourceMetadata implements gwclient.Client.
func (g *notingGateway) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	g.in.loosen()
	return g.Client.ResolveSourceMetadata(ctx, op, opt)
}

// Solve implements gwclient.Client.
func (g *notingGateway) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	g.in.loosen()
	return g.Client.Solve(ctx, req)
}

// resolveShort looks up an image by a short name, and notes what was found.
func (c *composer) resolveShort(ctx context.Context, name string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	ref, d, config, err := c.short.resolve(ctx, name, opt)
	if opt.ImageOpt == nil {
		c.inputs.loosen()
	} else {
		c.inputs.note(question{askShort, c.job.name, name, formatPlatform(opt.ImageOpt.Platform)}, found(ref, d, err))
	}
	return ref, d, config, err
}

func formatPlatform(p *ocispecs.Platform) string {
	if p == nil {
		return ""
	}
	return platforms.FormatAll(*p)
}

// platformOf is the inverse of formatPlatform.
func platformOf(s string) (*ocispecs.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, err
	}
	return &p, nil
}
