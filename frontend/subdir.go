package frontend

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// contextName is the local source that holds the build context.
const contextName = "context"

// Subdir is a gateway client for the build of a directory of the build context: a
// build file and an ignore file are read from that directory, wherever the client's
// frontend looks for them. Everything else goes to Client.
type Subdir struct {
	gwclient.Client
	// Opts are the frontend attributes of that build.
	Opts map[string]string
	// Dir is the directory, relative to the build context, with slashes.
	Dir string
}

// BuildOpts implements gwclient.Client.
func (c *Subdir) BuildOpts() gwclient.BuildOpts {
	bo := c.Client.BuildOpts()
	bo.Opts = c.Opts
	return bo
}

// Solve implements gwclient.Client.
func (c *Subdir) Solve(ctx context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	if _, ok := fileSource(req.Definition); !ok {
		return c.Client.Solve(ctx, req)
	}
	var op pb.Op
	if err := op.UnmarshalVT(req.Definition.Def[0]); err != nil {
		return nil, err
	}
	var files []string
	if err := json.Unmarshal([]byte(op.GetSource().Attrs[pb.AttrFollowPaths]), &files); err != nil {
		return nil, fmt.Errorf("reading the paths of a source: %w", err)
	}
	for i, f := range files {
		files[i] = InDir(c.Dir, f)
	}
	ref, err := ContextFiles(ctx, c.Client, files)
	if err != nil {
		return nil, err
	}
	res := gwclient.NewResult()
	res.SetRef(&subdirRef{Reference: ref, dir: c.Dir})
	return res, nil
}

// ContextFiles fetches files of the build context, which is a local source; paths
// may have wildcards.
func ContextFiles(ctx context.Context, c gwclient.Client, paths []string) (gwclient.Reference, error) {
	bo := c.BuildOpts()
	session := bo.SessionID
	if id := bo.Opts["local-sessionid:"+contextName]; id != "" {
		session = id
	}
	def, err := llb.Local(contextName,
		llb.SessionID(session),
		llb.FollowPaths(paths),
		llb.SharedKeyHint(contextName+"-"+strings.Join(paths, ",")),
		llb.WithCustomName("[internal] load "+strings.Join(paths, " ")),
		llb.Differ(llb.DiffNone, false),
	).Marshal(ctx, llb.WithCaps(bo.LLBCaps))
	if err != nil {
		return nil, fmt.Errorf("marshalling llb: %w", err)
	}
	res, err := c.Solve(ctx, gwclient.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// InDir makes a pattern for paths in dir of one for paths relative to it; an
// exception ("!") stays one.
func InDir(dir, pattern string) string {
	if dir == "" || dir == "." {
		return pattern
	}
	not := ""
	if rest, ok := strings.CutPrefix(pattern, "!"); ok {
		not, pattern = "!", rest
	}
	return not + path.Join(literal.Replace(dir), pattern)
}

// literal escapes what would be a wildcard.
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// subdirRef is a directory of a reference.
type subdirRef struct {
	gwclient.Reference
	dir string
}

// ReadFile implements gwclient.Reference.
func (r *subdirRef) ReadFile(ctx context.Context, req gwclient.ReadRequest) ([]byte, error) {
	req.Filename = path.Join(r.dir, req.Filename)
	return r.Reference.ReadFile(ctx, req)
}

// StatFile implements gwclient.Reference.
func (r *subdirRef) StatFile(ctx context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	req.Path = path.Join(r.dir, req.Path)
	return r.Reference.StatFile(ctx, req)
}

// ReadDir implements gwclient.Reference.
func (r *subdirRef) ReadDir(ctx context.Context, req gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	req.Path = path.Join(r.dir, req.Path)
	return r.Reference.ReadDir(ctx, req)
}
