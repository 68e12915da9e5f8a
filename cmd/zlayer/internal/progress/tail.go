package progress

import "strings"

const (
	tailLines = 20
	// tailBytes bounds a single endless line, such as a progress bar.
	tailBytes = 16 << 10
)

// tail keeps the last lines of a stream that is cut anywhere.
type tail struct{ buf []byte }

func (t *tail) write(p []byte) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailBytes {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailBytes:]...)
	}
}

// last returns at most tailLines lines without their line ends.
func (t *tail) last() []string {
	s := strings.TrimRight(string(t.buf[max(0, len(t.buf)-tailBytes):]), "\r\n")
	if s == "" {
		return nil
	}
	lines := strings.Split(s, "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	for i, l := range lines {
		lines[i] = printable(strings.TrimSuffix(l, "\r"))
	}
	return lines
}
