package daemon

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// runcHint tells where runc comes from.
const runcHint = "install it (Debian, Ubuntu: apt-get install runc; Fedora: dnf install runc; Alpine: apk add runc), or set ZLAYER_RUNC to its path"

// findRunc returns the path of the OCI runtime: the one asked for, else the
// embedded one, else the first in PATH.
func findRunc(want, stateDir string) (string, error) {
	if want != "" {
		path, err := exec.LookPath(want)
		if err != nil {
			return "", fmt.Errorf("finding the OCI runtime %s: %w: %s", want, errors.Unwrap(err), runcHint)
		}
		return filepath.Abs(path)
	}
	if gz := embeddedRunc(); len(gz) > 0 {
		return unpackRunc(gz, filepath.Join(stateDir, "bin"))
	}
	for _, name := range []string{"buildkit-runc", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	// Distributions keep it where only root's PATH reaches.
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, "runc")); err == nil {
			return path, nil
		}
	}
	return "", errors.New("runc, which runs the build steps, is not installed: " + runcHint)
}

// unpackRunc writes the compressed runc below dir, under a name that changes
// with its content, and returns its path.
func unpackRunc(gz []byte, dir string) (string, error) {
	sum := sha256.Sum256(gz)
	path := filepath.Join(dir, "runc-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("unpacking runc: %w", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return "", fmt.Errorf("unpacking runc: %w", err)
	}
	f, err := os.CreateTemp(dir, "runc-*.tmp")
	if err != nil {
		return "", fmt.Errorf("unpacking runc: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	// It must be closed before it is executed, and complete before it has its name.
	err = errors.Join(err, f.Chmod(0o755), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("unpacking runc: %w", err)
	}
	return path, nil
}
