package daemon

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxLog bounds the log file; with the one before it, a slot keeps at most
// twice as much.
const maxLog = 4 << 20

// openLog opens the log file for appending, for the owner's eyes only.
func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	return f, nil
}

// rotatingLog is a log file that starts anew when it is full. Standard output
// and error, where the Go runtime reports crashes, can follow it.
type rotatingLog struct {
	path string
	max  int64
	std  bool // descriptors 1 and 2 point to the file

	mu   sync.Mutex
	file *os.File
	size int64
}

// newRotatingLog opens the log. With std, descriptors 1 and 2 of the process
// go there as well.
func newRotatingLog(path string, max int64, std bool) (*rotatingLog, error) {
	l := &rotatingLog{path: path, max: max, std: std}
	return l, l.open()
}

func (l *rotatingLog) open() error {
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("opening log: %w", err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.size = f, fi.Size()
	if !l.std {
		return nil
	}
	for _, fd := range []int{1, 2} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("redirecting output to the log: %w", err)
		}
	}
	return nil
}

// Write appends p, which is one message, in one piece.
func (l *rotatingLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(p)) > l.max {
		if err := os.Rename(l.path, l.path+".1"); err == nil {
			// If the new file cannot be made, the old one goes on.
			_ = l.open()
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

// Close closes the log file. Descriptors 1 and 2 stay.
func (l *rotatingLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
