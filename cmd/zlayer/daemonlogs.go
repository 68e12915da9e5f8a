package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func newDaemonLogs(a *app) *cobra.Command {
	var (
		follow bool
		lines  int
	)
	cmd := &cobra.Command{
		Use:     "logs [flags]",
		Short:   "Print the daemon's log",
		Example: "  zlayer daemon logs -n 50 -f",
		Args:    exactly(),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what is added until interrupted")
	cmd.Flags().IntVarP(&lines, "lines", "n", 0, "begin with the last `N` lines (default all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("lines") && lines < 0 {
			return usage(fmt.Errorf("--lines %d is negative", lines))
		}
		c, err := a.daemonConfig()
		if err != nil {
			return err
		}
		path, err := a.daemon.LogPath(c)
		if err != nil {
			return err
		}
		l := &logReader{path: path, out: stdoutWriter{a.stdout}}
		defer l.close()
		from := -1
		if cmd.Flags().Changed("lines") {
			from = lines
		}
		if err := l.start(from); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no log at %s: no daemon has run here", path)
			}
			return err
		}
		if !follow {
			return nil
		}
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		return l.follow(cmd.Context(), ticker.C)
	}
	usesGlobals(cmd, stateFlags)
	return cmd
}

// logReader prints a log file that is written to and, when it is full, renamed
// and begun anew.
type logReader struct {
	path string
	out  io.Writer
	file *os.File
}

// start prints the last lines of the file, all for less than 0.
func (l *logReader) start(lines int) error {
	var err error
	if l.file, err = os.Open(l.path); err != nil {
		return err
	}
	if lines >= 0 {
		if err := seekLines(l.file, lines); err != nil {
			return err
		}
	}
	_, err = io.Copy(l.out, l.file)
	return err
}

// follow prints what is added, at each tick, until ctx ends.
func (l *logReader) follow(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick:
		}
		if _, err := io.Copy(l.out, l.file); err != nil {
			return err
		}
		if err := l.reopen(); err != nil {
			return err
		}
	}
}

// reopen goes over to a new file once there is one. The old one has been read to
// its end by then, but for what was added since: that is read first.
func (l *logReader) reopen() error {
	now, err := os.Stat(l.path)
	if err != nil {
		return nil // between the renaming and the new file, or for good: nothing to add
	}
	old, err := l.file.Stat()
	if err != nil || os.SameFile(now, old) {
		return err
	}
	next, err := os.Open(l.path)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(l.out, l.file); err != nil {
		next.Close()
		return err
	}
	l.close()
	l.file = next
	_, err = io.Copy(l.out, l.file)
	return err
}

func (l *logReader) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// seekLines goes to where the last n lines of f begin.
func seekLines(f *os.File, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	buf := make([]byte, 32<<10)
	left := n + 1 // the line end before the first line
	pos := end
	for pos > 0 {
		chunk := buf[:min(int64(len(buf)), pos)]
		pos -= int64(len(chunk))
		if _, err := f.ReadAt(chunk, pos); err != nil {
			return err
		}
		if pos+int64(len(chunk)) == end && chunk[len(chunk)-1] != '\n' {
			left-- // the last line is not complete and counts
		}
		for i := bytes.LastIndexByte(chunk, '\n'); i >= 0; i = bytes.LastIndexByte(chunk[:i], '\n') {
			if left--; left == 0 {
				_, err := f.Seek(pos+int64(i)+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
