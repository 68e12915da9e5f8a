package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// checkout is the files of a git commit, in a directory of their own.
type checkout struct {
	// root is the work tree, dir what stands for it; both without links.
	root, dir string
}

// newCheckout writes the files of a commit of the repository that path is in. They
// are what git would check out: with its conversions, without files it ignores.
func newCheckout(ctx context.Context, path, ref string) (*checkout, error) {
	root, err := git(ctx, path, nil, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, inputErrorf("%s is in no git work tree: %w", shownPath(path), err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return nil, err
	}
	commit, err := git(ctx, root, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	if err != nil {
		return nil, inputErrorf("git does not know %q: fetch it first, or name a branch, tag or commit that is here", ref)
	}
	dir, err := os.MkdirTemp("", "zlayer-at-")
	if err != nil {
		return nil, err
	}
	c := &checkout{root: root}
	if c.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	index := []string{"GIT_INDEX_FILE=" + filepath.Join(c.dir, ".git-index")}
	if _, err := git(ctx, root, index, "read-tree", commit); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if _, err := git(ctx, root, index, "checkout-index", "--all", "--force", "--prefix="+c.dir+"/"); err != nil {
		return nil, errors.Join(err, c.close())
	}
	// What ends the search for the root of a build, as it does in the work tree.
	if err := errors.Join(os.Remove(filepath.Join(c.dir, ".git-index")), os.Mkdir(filepath.Join(c.dir, ".git"), 0o755)); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *checkout) close() error { return os.RemoveAll(c.dir) }

// path is where a file or directory of the work tree is in the checkout; what is
// elsewhere stays where it is.
func (c *checkout) path(p string) string {
	if p == "" {
		return p
	}
	abs, err := filepath.Abs(p)
	if err != nil {
		return p
	}
	// The end of the path may not be there now; the part that is may have links.
	rest := ""
	for dir := abs; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			abs = filepath.Join(real, rest)
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if !within(c.root, abs) {
		return p
	}
	rel, err := filepath.Rel(c.root, abs)
	if err != nil {
		return p
	}
	return filepath.Join(c.dir, rel)
}

// request is a request for what was there at the commit.
func (c *checkout) request(j *job) Request {
	req := j.req
	if j.contextDir != "" {
		req.Context = c.path(req.Context)
	}
	if req.File != "" && req.File != "-" {
		req.File = c.path(req.File)
	}
	req.BuildContexts = maps.Clone(req.BuildContexts)
	for name, v := range req.BuildContexts {
		if fi, err := os.Stat(v); err == nil && fi.IsDir() {
			req.BuildContexts[name] = c.path(v)
		}
	}
	req.Outputs = slices.Clone(req.Outputs)
	for i := range req.Outputs {
		req.Outputs[i].Dest = c.path(req.Outputs[i].Dest)
	}
	req.Root = c.path(j.root())
	if req.LockFile != "" {
		req.LockFile = c.path(req.LockFile)
	}
	req.lockLater = true
	return req
}

// madeAt says what the request was made of at a commit.
func (j *job) madeAt(ctx context.Context, ref string) (*made, error) {
	if j.contextDir == "" {
		return nil, inputErrorf("only a build context that is a directory can be compared with a commit")
	}
	c, err := newCheckout(ctx, j.contextDir, ref)
	if err != nil {
		return nil, err
	}
	defer c.close()
	then, err := j.run.prepareCall(c.request(j))
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", ref, err)
	}
	defer then.close()
	k, err := then.compileKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", ref, then.explain(ctx, err))
	}
	if k.base == "" {
		return nil, fmt.Errorf("at %s: %w", ref, k.why)
	}
	return then.madeOf(ctx, k)
}

// git runs git in a directory and returns what it prints, without the last newline.
func git(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			return "", fmt.Errorf("git %s: %s", args[0], text)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}
