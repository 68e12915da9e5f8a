package memo

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// A stored record is a line of text, JSON, and the parts:
//
//	zlayer-memo 1 <length of the JSON> <length of the parts> <SHA-256 of the JSON>
//
// The line comes first so that the JSON can be read without the parts. The JSON has
// the digest of the parts. A reader knows from the line alone how long the whole is,
// so what is truncated is seen without hashing it. Fields may be added to the JSON
// of version 1 if a reader may ignore them; everything else is another version.
const (
	magic   = "zlayer-memo"
	version = 1
	// maxLine bounds the first line: 11 + 4 numbers and a digest.
	maxLine = 160
)

// errDamaged says that bytes are no record that this version of zlayer can read.
// It is unexported because no caller can do anything about it: to them the record
// is absent.
var errDamaged = errors.New("damaged")

// frame is the first line.
type frame struct {
	json, parts int64
	digest      string
}

// Encode gives the bytes that r is stored as. Equal records give equal bytes.
// It fails with [ErrTooLarge], or when r is no proper record.
func Encode(r *Record) ([]byte, error) {
	b, err := encodeHead(r)
	if err != nil {
		return nil, err
	}
	return append(b, r.Parts...), nil
}

// encodeHead is Encode without the parts, which may follow.
func encodeHead(r *Record) ([]byte, error) {
	stored := *r
	stored.Created = r.Created.UTC()
	if len(r.Parts) > 0 {
		stored.PartsDigest, stored.PartsSize = digest.FromBytes(r.Parts), int64(len(r.Parts))
	}
	if err := stored.check(); err != nil {
		return nil, fmt.Errorf("encoding record: %w", err)
	}
	if err := stored.checkText(); err != nil {
		return nil, fmt.Errorf("encoding record: %w", err)
	}
	text, err := json.Marshal(&stored)
	if err != nil {
		return nil, fmt.Errorf("encoding record: %w", err)
	}
	line := fmt.Sprintf("%s %d %d %d %s\n", magic, version, len(text), len(r.Parts), digest.FromBytes(text).Encoded())
	if n := len(line) + len(text); n > MaxRecord {
		return nil, fmt.Errorf("encoding record: %w: %d bytes, at most %d are kept", ErrTooLarge, n, MaxRecord)
	}
	return append([]byte(line), text...), nil
}

// Decode reads what Encode wrote, parts included. Everything else, down to a single
// bit, is an error.
func Decode(b []byte) (*Record, error) {
	br := bufio.NewReaderSize(bytes.NewReader(b), maxLine)
	r, f, err := decodeHead(br, int64(len(b)))
	if err != nil {
		return nil, err
	}
	if f.parts > 0 {
		r.Parts, err = decodeParts(br, r)
	}
	return r, err
}

// decodeHead reads the line and the JSON. total is the length of everything there
// is, -1 if that is not known. The record's parts are next in br.
func decodeHead(br *bufio.Reader, total int64) (*Record, frame, error) {
	f, n, err := decodeFrame(br)
	if err != nil {
		return nil, f, err
	}
	if whole := n + f.json + f.parts; total >= 0 && total != whole {
		return nil, f, fmt.Errorf("decoding record: %w: %d bytes instead of %d", errDamaged, total, whole)
	}
	text := make([]byte, f.json)
	if _, err := io.ReadFull(br, text); err != nil {
		return nil, f, truncated(err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != f.digest {
		return nil, f, fmt.Errorf("decoding record: %w: its digest is another", errDamaged)
	}
	r := &Record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, f, fmt.Errorf("decoding record: %w: %w", errDamaged, err)
	}
	if err := r.check(); err != nil {
		return nil, f, fmt.Errorf("decoding record: %w: %w", errDamaged, err)
	}
	if f.parts != 0 && f.parts != r.PartsSize {
		return nil, f, fmt.Errorf("decoding record: %w: parts of %d bytes instead of %d", errDamaged, f.parts, r.PartsSize)
	}
	r.Created = r.Created.In(time.UTC)
	return r, f, nil
}

// decodeFrame reads the line, and says how long it is.
func decodeFrame(br *bufio.Reader) (frame, int64, error) {
	head, err := br.ReadSlice('\n')
	if len(head) > maxLine || errors.Is(err, bufio.ErrBufferFull) {
		return frame{}, 0, fmt.Errorf("decoding record: %w: no such line at its beginning", errDamaged)
	}
	if err != nil {
		return frame{}, 0, truncated(err)
	}
	line := string(head)
	fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if fields[0] != magic || len(fields) < 2 {
		return frame{}, 0, fmt.Errorf("decoding record: %w: no such line at its beginning", errDamaged)
	}
	if fields[1] != strconv.Itoa(version) {
		return frame{}, 0, fmt.Errorf("decoding record: %w: of version %.20q, this zlayer knows %d", errDamaged, fields[1], version)
	}
	if len(fields) != 5 {
		return frame{}, 0, fmt.Errorf("decoding record: %w: a line of %d fields at its beginning", errDamaged, len(fields))
	}
	f := frame{digest: fields[4]}
	f.json, err = decodeLength(fields[2], MaxRecord-int64(len(line)))
	if err != nil {
		return frame{}, 0, err
	}
	f.parts, err = decodeLength(fields[3], MaxParts)
	return f, int64(len(line)), err
}

// decodeLength takes lengths as Encode writes them only: a record has one form.
func decodeLength(s string, most int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > most || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("decoding record: %w: %.20q is no length", errDamaged, s)
	}
	return n, nil
}

// decodeParts reads the parts of r.
func decodeParts(rd io.Reader, r *Record) ([]byte, error) {
	parts := make([]byte, r.PartsSize)
	if _, err := io.ReadFull(rd, parts); err != nil {
		return nil, truncated(err)
	}
	return parts, checkPartsOf(r, parts)
}

func checkPartsOf(r *Record, parts []byte) error {
	if int64(len(parts)) != r.PartsSize || digest.FromBytes(parts) != r.PartsDigest {
		return fmt.Errorf("decoding record: %w: its parts have another digest", errDamaged)
	}
	return nil
}

// truncated is for errors of reading: the end is damage, everything else trouble.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("decoding record: %w: truncated", errDamaged)
	}
	return fmt.Errorf("reading record: %w", err)
}

// believe decides about what a store has found at the key's place: err is that of
// decoding. What is damaged or of another key is absent.
func believe(key digest.Digest, r *Record, err error) (*Record, error) {
	switch {
	case errors.Is(err, errDamaged):
		return nil, fmt.Errorf("%w of %s: %w", ErrNotFound, key, err)
	case err != nil:
		return nil, err
	case r.Key != key:
		return nil, fmt.Errorf("%w of %s: what is in its place is of %s", ErrNotFound, key, r.Key)
	}
	return r, nil
}

// absent is the error for a record that is not there.
func absent(key digest.Digest) error {
	return fmt.Errorf("%w of %s", ErrNotFound, key)
}
