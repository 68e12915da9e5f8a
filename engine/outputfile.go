package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// fileOutput writes an archive next to its destination and renames it when the
// build has succeeded: a failed build leaves what was there.
func (j *job) fileOutput(o Output, e *client.ExportEntry) error {
	if o.Writer != nil {
		if o.Dest != "" {
			return inputErrorf("output %s has both a writer and a destination", o.Type)
		}
		w := o.Writer
		e.Output = func(map[string]string) (io.WriteCloser, error) { return w, nil }
		if f, ok := w.(interface{ Finish() error }); ok {
			j.outputs.finish = append(j.outputs.finish, func(context.Context, ocispecs.Descriptor) error { return f.Finish() })
		}
		return nil
	}
	if o.Dest == "" {
		return inputErrorf("output %s needs dest=FILE, or - for standard output", o.Type)
	}
	if fi, err := os.Stat(o.Dest); err == nil && fi.IsDir() {
		return inputErrorf("output %s: %s is a directory: name a file", o.Type, o.Dest)
	}
	if fi, err := os.Stat(filepath.Dir(o.Dest)); err != nil || !fi.IsDir() {
		return inputErrorf("output %s: directory %s does not exist", o.Type, filepath.Dir(o.Dest))
	}
	out := &fileWriter{dest: o.Dest}
	e.Output = func(map[string]string) (io.WriteCloser, error) { return out, out.open() }
	j.cleanup = append(j.cleanup, out.discard)
	j.outputs.finish = append(j.outputs.finish, func(context.Context, ocispecs.Descriptor) error { return out.commit() })
	return nil
}

// fileWriter is a file that gets its name when it is complete.
type fileWriter struct {
	dest string
	mu   sync.Mutex
	file *os.File
	err  error
}

func (w *fileWriter) open() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		return fmt.Errorf("output %s is written twice", w.dest)
	}
	// Devices and pipes are written as they are.
	if fi, err := os.Stat(w.dest); err == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(w.dest, os.O_WRONLY, 0)
		w.file = f
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(w.dest), "."+filepath.Base(w.dest)+".*")
	w.file = f
	return err
}

// Write implements io.Writer.
func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// Close implements io.Closer; commit is what completes the file.
func (w *fileWriter) Close() error { return nil }

func (w *fileWriter) commit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.file
	if f == nil {
		return fmt.Errorf("writing %s: nothing was exported", w.dest)
	}
	w.file = nil
	if w.err != nil {
		return errors.Join(w.err, f.Close(), os.Remove(f.Name()))
	}
	if f.Name() == w.dest {
		return f.Close()
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), w.dest)
}

func (w *fileWriter) discard() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.file
	if f == nil {
		return nil
	}
	w.file = nil
	if f.Name() == w.dest {
		return f.Close()
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// errDiffers ends the writing of what is not the same as a file.
var errDiffers = errors.New("it differs")

// fileIs reports whether a file has the content that write gives.
func fileIs(name string, write func(io.Writer) error) bool {
	if fi, err := os.Stat(name); err != nil || !fi.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	c := &comparer{r: bufio.NewReader(f)}
	if write(c) != nil {
		return false
	}
	_, err = c.r.ReadByte()
	return errors.Is(err, io.EOF)
}

// comparer takes only what a reader gives.
type comparer struct {
	r   *bufio.Reader
	buf [32 << 10]byte
}

// Write implements io.Writer.
func (c *comparer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		part := c.buf[:min(len(c.buf), len(p)-n)]
		if _, err := io.ReadFull(c.r, part); err != nil || !bytes.Equal(part, p[n:n+len(part)]) {
			return n, errDiffers
		}
		n += len(part)
	}
	return n, nil
}
