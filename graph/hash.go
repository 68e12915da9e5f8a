package graph

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"

	digest "github.com/opencontainers/go-digest"
)

// Hasher computes a digest over framed fields: a versioned domain comes first,
// every string is preceded by its length and every list by its count, so two
// different lists of fields cannot give the same bytes.
type Hasher struct {
	h hash.Hash
}

// NewHasher starts a digest in a domain. The domain names what is hashed and in
// which version of the encoding, such as "zlayer.stage.v1"; digests of different
// domains never meet.
func NewHasher(domain string) *Hasher {
	h := &Hasher{h: sha256.New()}
	h.String(domain)
	return h
}

// Int adds a number.
func (h *Hasher) Int(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.h.Write(b[:])
}

// String adds one field.
func (h *Hasher) String(s string) {
	h.Int(len(s))
	h.h.Write([]byte(s))
}

// Bytes adds one field; nil and empty count the same.
func (h *Hasher) Bytes(b []byte) {
	h.Int(len(b))
	h.h.Write(b)
}

// Strings adds a list whose order counts.
func (h *Hasher) Strings(list []string) {
	h.Int(len(list))
	for _, s := range list {
		h.String(s)
	}
}

// Map adds a map, sorted by key.
func (h *Hasher) Map(m map[string]string) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	h.Int(len(keys))
	for _, k := range keys {
		h.String(k)
		h.String(m[k])
	}
}

// Digest returns the digest of everything added so far.
func (h *Hasher) Digest() digest.Digest {
	return digest.NewDigest(digest.SHA256, h.h)
}
