package store

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// decompressor unwraps gzip and zstd, told by their first bytes; other input
// passes as it is.
func decompressor(r io.Reader) (io.ReadCloser, string, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		zr, err := gzip.NewReader(br)
		return zr, "gzip", err
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// The window is what a hostile frame can make us allocate.
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, "", err
		}
		return zr.IOReadCloser(), "zstd", nil
	}
	return io.NopCloser(br), "", nil
}

// unpackedSize is a layer's size without compression. It is a function of the
// layer's digest, so it is worked out once and kept beside the blobs.
func (s *Store) unpackedSize(ctx context.Context, d ocispecs.Descriptor) (int64, error) {
	path := s.private(sizesDir, d.Digest.Encoded())
	if b, err := os.ReadFile(path); err == nil {
		// The new line tells a whole number from the beginning of one.
		digits, whole := strings.CutSuffix(string(b), "\n")
		if n, err := strconv.ParseInt(digits, 10, 64); whole && err == nil && n >= 0 {
			return n, nil
		}
	}
	blob, err := s.openVerified(d)
	if err != nil {
		return 0, err
	}
	defer blob.Close()
	r, compression, err := decompressor(contextReader{ctx, blob})
	if err != nil {
		return 0, fmt.Errorf("unpacking layer %s: %w", d.Digest, err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		return 0, fmt.Errorf("unpacking layer %s: %w", d.Digest, err)
	}
	if compression != "" {
		s.rememberSize(path, n)
	}
	return n, nil
}

// rememberSize may fail (read-only store, full disk): then the next one counts
// again.
func (s *Store) rememberSize(path string, n int64) {
	if os.MkdirAll(s.private(sizesDir), 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(s.private(sizesDir), "*.tmp")
	if err != nil {
		return
	}
	_, err = fmt.Fprintf(f, "%d\n", n)
	if cerr := f.Close(); err != nil || cerr != nil || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
	}
}
