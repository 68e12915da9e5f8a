package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
)

// An index file is a header, then tables of directories and of files, the
// digests of extended attributes, and the names. All numbers are little-endian.
// The directories are sorted by path, the files of each by name, so that the
// bytes can be searched and merged as they are, without building anything.
const (
	indexMagic  = "zlstat\x00\x01" // the last byte is the version of the format
	headerSize  = 72
	dirSize     = 24
	recordSize  = 80
	headerStart = 16 // what is before it is not covered by the checksum
)

// recordSafe says that a change after the file was hashed would show in its times.
const recordSafe = 1

var errNoIndex = errors.New("not a stat index of this version, or damaged")

// checksum covers everything after it.
func checksum(data []byte) uint32 {
	return crc32.Checksum(data[headerStart:], crc32.MakeTable(crc32.Castagnoli))
}

// header is what comes first in an index file.
type header struct {
	id         [16]byte // drawn when the index was created
	generation uint64
	serial     uint64 // drawn for each writing
}

// index is a decoded index file: windows on its bytes.
type index struct {
	header
	dirs, records, xattrs, names []byte
}

// record is what an index knows of a file.
type record struct {
	size, mtime, ctime int64
	ino                uint64
	sum                sum
	perm, seen, flags  uint16
	xattr              uint32 // number of the digest, from 1; 0 is none
}

// dirRecord is what an index knows of a directory.
type dirRecord struct {
	first, count int // of its files in the table of records
	xattr        uint32
	seen         uint16
}

// decodeIndex checks a whole file, so that nothing that is found in it later can
// be out of range.
func decodeIndex(data []byte) (*index, error) {
	if len(data) < headerSize || string(data[:8]) != indexMagic {
		return nil, errNoIndex
	}
	le := binary.LittleEndian
	if le.Uint32(data[8:]) != checksum(data) {
		return nil, errNoIndex
	}
	x := &index{}
	copy(x.id[:], data[16:])
	x.generation, x.serial = le.Uint64(data[32:]), le.Uint64(data[40:])
	sizes := [4]uint64{
		uint64(le.Uint32(data[48:])) * dirSize,
		uint64(le.Uint32(data[52:])) * recordSize,
		uint64(le.Uint32(data[56:])) * uint64(len(sum{})),
		le.Uint64(data[60:]),
	}
	rest := data[headerSize:]
	for i, part := range []*[]byte{&x.dirs, &x.records, &x.xattrs, &x.names} {
		if sizes[i] > uint64(len(rest)) {
			return nil, errNoIndex
		}
		*part, rest = rest[:sizes[i]:sizes[i]], rest[sizes[i]:]
	}
	if len(rest) > 0 || !x.valid() {
		return nil, errNoIndex
	}
	return x, nil
}

// valid tells whether everything refers to what is there, in order.
func (x *index) valid() bool {
	next := 0
	for d := range x.dirCount() {
		dir := x.dir(d)
		if dir.first != next || dir.count > x.recordCount()-next || !x.hasXattr(dir.xattr) || !x.hasName(x.dirs[d*dirSize:], 4) {
			return false
		}
		if d > 0 && bytes.Compare(x.dirName(d-1), x.dirName(d)) >= 0 {
			return false
		}
		for i := next; i < next+dir.count; i++ {
			raw := x.records[i*recordSize:]
			if !x.hasName(raw, 2) || !x.hasXattr(binary.LittleEndian.Uint32(raw[12:])) {
				return false
			}
			if i > next && bytes.Compare(x.name(i-1), x.name(i)) >= 0 {
				return false
			}
		}
		next += dir.count
	}
	return next == x.recordCount()
}

// hasName tells whether the name at the beginning of raw, whose length has the
// given number of bytes, is there.
func (x *index) hasName(raw []byte, lengthSize int) bool {
	n := uint64(binary.LittleEndian.Uint16(raw[4:]))
	if lengthSize == 4 {
		n = uint64(binary.LittleEndian.Uint32(raw[4:]))
	}
	return uint64(binary.LittleEndian.Uint32(raw))+n <= uint64(len(x.names))
}

func (x *index) hasXattr(n uint32) bool { return uint64(n) <= uint64(len(x.xattrs)/len(sum{})) }

func (x *index) dirCount() int    { return len(x.dirs) / dirSize }
func (x *index) recordCount() int { return len(x.records) / recordSize }

func (x *index) dir(d int) dirRecord {
	raw, le := x.dirs[d*dirSize:][:dirSize], binary.LittleEndian
	return dirRecord{first: int(le.Uint32(raw[8:])), count: int(le.Uint32(raw[12:])), xattr: le.Uint32(raw[16:]), seen: le.Uint16(raw[20:])}
}

func (x *index) dirName(d int) []byte {
	raw := x.dirs[d*dirSize:]
	off := binary.LittleEndian.Uint32(raw)
	return x.names[off : off+binary.LittleEndian.Uint32(raw[4:])]
}

func (x *index) name(i int) []byte {
	raw := x.records[i*recordSize:]
	off := binary.LittleEndian.Uint32(raw)
	return x.names[off : off+uint32(binary.LittleEndian.Uint16(raw[4:]))]
}

func (x *index) record(i int) record {
	raw, le := x.records[i*recordSize:][:recordSize], binary.LittleEndian
	r := record{
		perm: le.Uint16(raw[6:]), seen: le.Uint16(raw[8:]), flags: le.Uint16(raw[10:]), xattr: le.Uint32(raw[12:]),
		size: int64(le.Uint64(raw[16:])), mtime: int64(le.Uint64(raw[24:])), ctime: int64(le.Uint64(raw[32:])), ino: le.Uint64(raw[40:]),
	}
	copy(r.sum[:], raw[48:])
	return r
}

// xattrSum is the digest with a number, nil for 0.
func (x *index) xattrSum(n uint32) *sum {
	if n == 0 {
		return nil
	}
	s := sum(x.xattrs[(int(n)-1)*len(sum{}):][:len(sum{})])
	return &s
}

// findDir looks a directory up by its path.
func (x *index) findDir(rel string) (int, bool) {
	lo, hi := 0, x.dirCount()
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch name := x.dirName(mid); {
		case string(name) == rel:
			return mid, true
		case string(name) < rel:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false
}

// indexWriter builds an index file. Directories and the files of each have to
// come in order.
type indexWriter struct {
	dirs, records, xattrs, names []byte
	numbers                      map[sum]uint32
}

// add begins a directory; its files follow.
func (w *indexWriter) add(rel string, seen uint16, xattrs *sum) {
	le := binary.LittleEndian
	w.dirs = le.AppendUint32(w.dirs, uint32(len(w.names)))
	w.dirs = le.AppendUint32(w.dirs, uint32(len(rel)))
	w.dirs = le.AppendUint32(w.dirs, uint32(len(w.records)/recordSize))
	w.dirs = le.AppendUint32(w.dirs, 0)
	w.dirs = le.AppendUint32(w.dirs, w.number(xattrs))
	w.dirs = le.AppendUint16(w.dirs, seen)
	w.dirs = le.AppendUint16(w.dirs, 0)
	w.names = append(w.names, rel...)
}

// file adds a file to the directory that was begun last.
func (w *indexWriter) file(name string, r *record, xattrs *sum) {
	if len(name) > math.MaxUint16 {
		return
	}
	le := binary.LittleEndian
	w.records = slices.Grow(w.records, recordSize)
	w.records = le.AppendUint32(w.records, uint32(len(w.names)))
	w.records = le.AppendUint16(w.records, uint16(len(name)))
	w.records = le.AppendUint16(w.records, r.perm)
	w.records = le.AppendUint16(w.records, r.seen)
	w.records = le.AppendUint16(w.records, r.flags)
	w.records = le.AppendUint32(w.records, w.number(xattrs))
	for _, n := range [...]uint64{uint64(r.size), uint64(r.mtime), uint64(r.ctime), r.ino} {
		w.records = le.AppendUint64(w.records, n)
	}
	w.records = append(w.records, r.sum[:]...)
	w.names = append(w.names, name...)
	count := w.dirs[len(w.dirs)-dirSize+12:]
	le.PutUint32(count, le.Uint32(count)+1)
}

// number stores a digest of extended attributes once.
func (w *indexWriter) number(s *sum) uint32 {
	if s == nil {
		return 0
	}
	if n, ok := w.numbers[*s]; ok {
		return n
	}
	if w.numbers == nil {
		w.numbers = map[sum]uint32{}
	}
	w.xattrs = append(w.xattrs, s[:]...)
	n := uint32(len(w.xattrs) / len(s))
	w.numbers[*s] = n
	return n
}

// encode is the file. It fails if there is more than the format can hold.
func (w *indexWriter) encode(h header) ([]byte, error) {
	if len(w.names) > math.MaxUint32 || len(w.records)/recordSize > math.MaxInt32 {
		return nil, errors.New("too many files for one index")
	}
	le := binary.LittleEndian
	size := headerSize + len(w.dirs) + len(w.records) + len(w.xattrs) + len(w.names)
	out := append(make([]byte, 0, size), indexMagic...)
	out = append(out, make([]byte, headerStart-len(indexMagic))...)
	out = append(out, h.id[:]...)
	out = le.AppendUint64(out, h.generation)
	out = le.AppendUint64(out, h.serial)
	out = le.AppendUint32(out, uint32(len(w.dirs)/dirSize))
	out = le.AppendUint32(out, uint32(len(w.records)/recordSize))
	out = le.AppendUint32(out, uint32(len(w.xattrs)/len(sum{})))
	out = le.AppendUint64(out, uint64(len(w.names)))
	out = append(out, 0, 0, 0, 0)
	out = slices.Concat(out, w.dirs, w.records, w.xattrs, w.names)
	return checksummed(out), nil
}

// checksummed sets the checksum of a file.
func checksummed(data []byte) []byte {
	binary.LittleEndian.PutUint32(data[8:], checksum(data))
	return data
}
