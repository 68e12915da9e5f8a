package runtimes

import (
	"slices"
	"strconv"
	"strings"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// version is the numbers of a version, at least one of them.
type version []int

var versionText = lazyregexp.New(`^[vV]?(\d{1,6}(?:\.\d{1,6}){0,3})`)

// parseVersion reads the numbers at the beginning of a version. rest is what follows them.
func parseVersion(s string) (v version, rest string, ok bool) {
	m := versionText().FindStringSubmatch(s)
	if m == nil {
		return nil, s, false
	}
	for part := range strings.SplitSeq(m[1], ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, s, false
		}
		v = append(v, n)
	}
	return v, s[len(m[0]):], true
}

func (v version) String() string {
	parts := make([]string, len(v))
	for i, n := range v {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, ".")
}

// less compares number by number; a missing number is 0.
func (v version) less(w version) bool {
	for i := range max(len(v), len(w)) {
		a, b := 0, 0
		if i < len(v) {
			a = v[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return a < b
		}
	}
	return false
}

// cut gives the first n numbers.
func (v version) cut(n int) version { return v[:min(n, len(v))] }

// within tells whether all versions that begin with v begin with w.
func (v version) within(w version) bool { return len(v) >= len(w) && slices.Equal(v.cut(len(w)), w) }

// constraint is one comparison of a version range.
type constraint struct {
	op      string // "", =, !=, <, <=, >, >=, ^, ~, ~=
	version version
	wild    bool // 3.12.* or 22.x
}

var constraintText = lazyregexp.New(`^(===?|!=|~=|~>|<=|>=|[=<>~^])?\s*[vV]?(\d{1,6}(?:\.\d{1,6}){0,3})((?:\.[*xX])*)(?:[-+.]?[0-9A-Za-z][0-9A-Za-z.+-]*)?$`)

// versionRange is a range as package.json and Python's manifests write it: alternatives of
// comparisons that must all hold.
type versionRange [][]constraint

var (
	rangeGap    = lazyregexp.New(`(===?|!=|~=|~>|<=|>=|[=<>~^])\s+`)
	rangeHyphen = lazyregexp.New(`(\S+)\s+-\s+(\S+)`)
)

// parseRange reads a range; ok is false for what it does not understand.
func parseRange(s string) (r versionRange, ok bool) {
	for alt := range strings.SplitSeq(strings.ReplaceAll(s, "||", "|"), "|") {
		alt = rangeHyphen().ReplaceAllString(alt, ">=$1 <=$2")
		alt = rangeGap().ReplaceAllString(alt, "$1")
		all := []constraint{}
		for _, word := range strings.FieldsFunc(alt, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' }) {
			if word == "*" || word == "x" || word == "X" {
				continue
			}
			m := constraintText().FindStringSubmatch(word)
			if m == nil {
				return nil, false
			}
			v, _, ok := parseVersion(m[2])
			if !ok {
				return nil, false
			}
			all = append(all, constraint{op: m[1], version: v, wild: m[3] != ""})
		}
		r = append(r, all)
	}
	return r, true
}

// has tells whether some version of the release line is in the range.
func (r versionRange) has(line version) bool {
	return slices.ContainsFunc(r, func(all []constraint) bool {
		return !slices.ContainsFunc(all, func(c constraint) bool { return !c.has(line) })
	})
}

func (c constraint) has(line version) bool {
	d := len(line)
	cut := c.version.cut(d)
	// beyond the line there is more that the comparison looks at
	more := slices.ContainsFunc(c.version[len(cut):], func(n int) bool { return n > 0 })
	switch c.op {
	case ">=":
		return !line.less(cut)
	case ">":
		return cut.less(line) || len(c.version) > d && !line.less(cut)
	case "<":
		return line.less(cut) || more && !cut.less(line)
	case "<=":
		return !cut.less(line) || line.within(cut)
	case "^":
		return !line.less(cut) && line.within(c.version.cut(1))
	case "~=":
		return !line.less(cut) && line.within(c.version.cut(max(1, len(c.version)-1)).cut(d))
	case "~", "~>":
		return line.within(c.version.cut(min(2, d)))
	case "!=":
		return !(line.within(c.version) && (c.wild || len(c.version) <= d && d == 1))
	}
	return line.within(cut) // pinned, or with a wildcard
}

// first is the lowest version that the range names as wanted; nil if it names none.
func (r versionRange) first() version {
	for _, all := range r {
		for _, c := range all {
			if c.op != "<" && c.op != "<=" && c.op != "!=" {
				return c.version
			}
		}
	}
	return nil
}

// line chooses a release line: the preferred one if the range has it, else the known one that is
// nearest to it, newer ones first, else the one that the range begins with. "" means that the range
// does not say.
func (r versionRange) line(preferred string, known []Runtime) string {
	want, _, _ := parseVersion(preferred)
	if r.has(want) {
		return preferred
	}
	older := ""
	for _, k := range known {
		switch v, _, ok := parseVersion(k.Version); {
		case !ok || !r.has(v):
		case want.less(v):
			return k.Version
		default:
			older = k.Version
		}
	}
	if older != "" {
		return older
	}
	if v := r.first(); len(v) >= len(want) {
		return v.cut(len(want)).String()
	}
	return ""
}
