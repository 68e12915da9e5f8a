package graph

import "testing"

func TestHasherFraming(t *testing.T) {
	different := map[string]func(*Hasher){
		"nothing":           func(h *Hasher) {},
		"ab":                func(h *Hasher) { h.String("ab") },
		"a b":               func(h *Hasher) { h.String("a"); h.String("b") },
		"empty":             func(h *Hasher) { h.String("") },
		"two empty":         func(h *Hasher) { h.String(""); h.String("") },
		"list ab c":         func(h *Hasher) { h.Strings([]string{"ab", "c"}) },
		"list a bc":         func(h *Hasher) { h.Strings([]string{"a", "bc"}) },
		"list a, list bc":   func(h *Hasher) { h.Strings([]string{"a"}); h.Strings([]string{"bc"}) },
		"list c ab":         func(h *Hasher) { h.Strings([]string{"c", "ab"}) },
		"map ab":            func(h *Hasher) { h.Map(map[string]string{"a": "b"}) },
		"map a b":           func(h *Hasher) { h.Map(map[string]string{"a": "", "b": ""}) },
		"map ba":            func(h *Hasher) { h.Map(map[string]string{"b": "a"}) },
		"number":            func(h *Hasher) { h.Int(7) },
		"negative number":   func(h *Hasher) { h.Int(-7) },
		"looks like number": func(h *Hasher) { h.String("\x00\x00\x00\x00\x00\x00\x00\x07") },
	}
	seen := map[string]string{}
	for what, f := range different {
		h := NewHasher("test.v1")
		f(h)
		d := string(h.Digest())
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q give the same digest", what, other)
		}
		seen[d] = what
	}
}

func TestHasherDomains(t *testing.T) {
	a, b := NewHasher("test.v1"), NewHasher("test.v2")
	a.String("x")
	b.String("x")
	if a.Digest() == b.Digest() {
		t.Error("digests of different domains meet")
	}
	c, d := NewHasher("test"), NewHasher("testx")
	c.String("x")
	if c.Digest() == d.Digest() {
		t.Error("a domain runs into the first field")
	}
}

func TestHasherEqualInput(t *testing.T) {
	for range 20 { // the order of a map is random
		a, b := NewHasher("d"), NewHasher("d")
		a.Map(map[string]string{"a": "1", "b": "2", "c": "3"})
		b.Map(map[string]string{"c": "3", "b": "2", "a": "1"})
		if a.Digest() != b.Digest() {
			t.Fatal("the order of a map counts")
		}
	}
	a, b, c := NewHasher("d"), NewHasher("d"), NewHasher("d")
	a.Bytes(nil)
	b.Bytes([]byte{})
	c.String("")
	if a.Digest() != b.Digest() || b.Digest() != c.Digest() {
		t.Error("nil, empty bytes and the empty string differ")
	}
}
