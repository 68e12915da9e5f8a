package wasm

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// reader goes through a part of a binary. Positions are those of the whole.
type reader struct {
	data []byte
	at   int
	// end bounds the part, 0 stands for all of data.
	end int
}

var errShort = errors.New("it ends too early")

func (r *reader) limit() int {
	if r.end > 0 {
		return r.end
	}
	return len(r.data)
}

func (r *reader) done() bool { return r.at >= r.limit() }

func (r *reader) byte() (byte, error) {
	if r.done() {
		return 0, errShort
	}
	b := r.data[r.at]
	r.at++
	return b, nil
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() (uint32, error) {
	v, err := r.unsigned(32)
	return uint32(v), err
}

// unsigned reads an unsigned LEB128 number of at most the bits.
func (r *reader) unsigned(bits int) (uint64, error) {
	var v uint64
	for shift := 0; shift < bits; shift += 7 {
		b, err := r.byte()
		if err != nil {
			return 0, err
		}
		if rest := bits - shift; rest < 7 && b>>rest != 0 {
			return 0, fmt.Errorf("a number has more than %d bits", bits)
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, fmt.Errorf("a number has more than %d bits", bits)
}

// s33 skips a signed LEB128 number of at most 33 bits.
func (r *reader) s33() error {
	for range 5 {
		b, err := r.byte()
		if err != nil {
			return err
		}
		if b < 0x80 {
			return nil
		}
	}
	return errors.New("a number has more than 33 bits")
}

// name reads a text.
func (r *reader) name() (string, error) {
	n, err := r.u32()
	if err != nil {
		return "", err
	}
	if int64(n) > int64(r.limit()-r.at) {
		return "", errShort
	}
	b := r.data[r.at : r.at+int(n)]
	if !utf8.Valid(b) {
		return "", errors.New("a name is not UTF-8")
	}
	r.at += int(n)
	return string(b), nil
}

// section reads the head of a section and gives a reader of its content, after which r goes on.
func (r *reader) section() (id byte, content *reader, err error) {
	if id, err = r.byte(); err != nil {
		return 0, nil, err
	}
	size, err := r.u32()
	if err != nil {
		return 0, nil, err
	}
	if int64(size) > int64(r.limit()-r.at) {
		return 0, nil, fmt.Errorf("section %d of %d bytes: %w", id, size, errShort)
	}
	content = &reader{data: r.data[:r.at+int(size)], at: r.at, end: r.at + int(size)}
	return id, content, nil
}

// vec reads a count and calls item so often.
func (r *reader) vec(item func() error) error {
	n, err := r.u32()
	if err != nil {
		return err
	}
	for range n {
		if r.done() {
			return errShort
		}
		if err := item(); err != nil {
			return err
		}
	}
	return nil
}

// whole reports an error unless all of the part has been read.
func (r *reader) whole() error {
	if !r.done() {
		return fmt.Errorf("a section has %d bytes too many", r.limit()-r.at)
	}
	return nil
}
