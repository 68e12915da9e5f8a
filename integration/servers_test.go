package integration

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// serveFiles serves a directory over http and gives its URL.
func serveFiles(t *testing.T, dir string) string {
	t.Helper()
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s.URL
}

// serveGit commits the directory to a new repository, which it serves over git's
// smart http protocol. It gives the URL and the id of the commit, which is the
// same on every machine. The branch side has one more commit than main; v1 is the
// tag of main.
func serveGit(t *testing.T, dir string) (url, commit string) {
	t.Helper()
	url, commit, _ = serveGitRepo(t, dir)
	return url, commit
}

// serveGitRepo is serveGit; more commits the directory again, on main.
func serveGitRepo(t *testing.T, dir string) (url, commit string, more func() string) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		unavailable(t, "git is not installed")
	}
	bare := filepath.Join(t.TempDir(), "repo.git")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(git, args...)
		cmd.Env = gitEnv(t)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q", "--bare", "-b", "main", bare)
	run("-C", bare, "config", "uploadpack.allowAnySHA1InWant", "true")
	work := []string{"--git-dir=" + bare, "--work-tree=" + dir}
	in := func(args ...string) string { t.Helper(); return run(append(work, args...)...) }
	in("config", "core.bare", "false")
	in("add", "-A", "-f", ".")
	in("commit", "-q", "-m", "first")
	commit = in("rev-parse", "HEAD")
	in("tag", "v1")
	in("checkout", "-q", "-b", "side")
	in("commit", "-q", "--allow-empty", "-m", "second")
	in("checkout", "-q", "main")
	in("config", "core.bare", "true")

	execPath := run("--exec-path")
	s := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(execPath, "git-http-backend"),
		Env:  append(gitEnv(t), "GIT_PROJECT_ROOT="+filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1"),
	})
	t.Cleanup(s.Close)
	return s.URL + "/repo.git", commit, func() string {
		t.Helper()
		in("config", "core.bare", "false")
		defer in("config", "core.bare", "true")
		in("add", "-A", "-f", ".")
		in("commit", "-q", "-m", "more")
		return in("rev-parse", "HEAD")
	}
}

// gitEnv keeps git from the user's configuration and makes commits reproducible.
func gitEnv(t *testing.T) []string {
	date := fileTime.Format("2006-01-02T15:04:05Z")
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=lab", "GIT_AUTHOR_EMAIL=lab@example.com", "GIT_AUTHOR_DATE=" + date,
		"GIT_COMMITTER_NAME=lab", "GIT_COMMITTER_EMAIL=lab@example.com", "GIT_COMMITTER_DATE=" + date,
	}
}

// sshKey writes a private key, which BuildKit offers to a RUN step as an agent.
func sshKey(dir string) (string, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "lab")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "id")
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		return "", fmt.Errorf("writing an ssh key: %w", err)
	}
	return name, nil
}

// unzipped is what is packed by gzip anywhere in a text, else nothing.
func unzipped(text []byte) []byte {
	var out []byte
	for i := range text {
		if !bytes.HasPrefix(text[i:], []byte{0x1f, 0x8b, 8}) {
			continue
		}
		if z, err := gzip.NewReader(bytes.NewReader(text[i:])); err == nil {
			z.Multistream(false)
			plain, _ := io.ReadAll(z)
			out = append(out, plain...)
		}
	}
	return out
}
