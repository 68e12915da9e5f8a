package source

import (
	"io/fs"
	"slices"

	"github.com/zlayer-dev/zlayer/graph"
)

// kind is the type of an entry as BuildKit sends it.
type kind uint8

const (
	kindFile kind = 1 + iota
	kindDir
	kindLink
	kindFifo
	kindChar
	kindBlock
)

// typeBits are the bits of fs.FileMode for a kind.
func (k kind) typeBits() fs.FileMode {
	switch k {
	case kindDir:
		return fs.ModeDir
	case kindLink:
		return fs.ModeSymlink
	case kindFifo:
		return fs.ModeNamedPipe
	case kindChar:
		return fs.ModeDevice | fs.ModeCharDevice
	case kindBlock:
		return fs.ModeDevice
	default:
		return 0
	}
}

// stat is what lstat tells of an entry.
type stat struct {
	size, mtime, ctime int64 // times in ns
	ino, dev, rdev     uint64
	linked             bool // has more than one hard link
	socket             bool
	perm               uint16 // permission bits with setuid, setgid and sticky, as in unix
	kind               kind
}

// sameVersion tells whether two looks at a file saw the same version of it.
func (s *stat) sameVersion(o *stat) bool {
	return s.kind == o.kind && s.size == o.size && s.mtime == o.mtime && s.ctime == o.ctime && s.ino == o.ino
}

const (
	permSetuid = 0o4000
	permSetgid = 0o2000
	permSticky = 0o1000
)

// fileMode makes unix permission bits Go's.
func fileMode(perm uint16) fs.FileMode {
	m := fs.FileMode(perm) & fs.ModePerm
	if perm&permSetuid != 0 {
		m |= fs.ModeSetuid
	}
	if perm&permSetgid != 0 {
		m |= fs.ModeSetgid
	}
	if perm&permSticky != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// unixPerm is the reverse of fileMode.
func unixPerm(m fs.FileMode) uint16 {
	perm := uint16(m & fs.ModePerm)
	if m&fs.ModeSetuid != 0 {
		perm |= permSetuid
	}
	if m&fs.ModeSetgid != 0 {
		perm |= permSetgid
	}
	if m&fs.ModeSticky != 0 {
		perm |= permSticky
	}
	return perm
}

// NormalizedMode is the mode that a run with [Options.NormalizeModes] hashes in
// place of m: 0755 for directories and what its owner may execute, else 0644, as
// git knows them; links keep theirs. What is sent to the daemon has to be
// normalized by the same function.
func NormalizedMode(m fs.FileMode) fs.FileMode {
	switch {
	case m&fs.ModeSymlink != 0:
		return m
	case m.IsDir() || m&0o100 != 0:
		return m.Type() | 0o755
	default:
		return m.Type() | 0o644
	}
}

// countedPerm is the permission bits of an entry that count.
func (t *Trees) countedPerm(k kind, perm uint16) uint16 {
	if k == kindLink {
		return 0 // a link has none that anything obeys
	}
	if t.opts.NormalizeModes {
		return unixPerm(NormalizedMode(k.typeBits() | fileMode(perm)))
	}
	return perm
}

// xattrSum is the digest of extended attributes, nil if there are none that count.
func xattrSum(attrs map[string][]byte) *sum {
	if len(attrs) == 0 {
		return nil
	}
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	h := graph.NewHasher("zlayer.xattrs.v1")
	h.Int(len(names))
	for _, name := range names {
		h.String(name)
		h.Bytes(attrs[name])
	}
	s := sumOf(h)
	return &s
}
