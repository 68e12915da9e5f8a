package source

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"
)

// matcher decides about paths by patterns as patternmatcher does when it walks a
// tree (MatchesUsingParentResults). What a pattern matches is left to
// patternmatcher; what is done here is to ask it only where a pattern can match
// at all, and from many goroutines.
type matcher struct {
	patterns   []pattern
	exclusions bool // some pattern begins with !
	// prefixOnly says that patterns which lead into a directory (those to include;
	// the exceptions of those to exclude) are plain paths, so that a directory that
	// none of them leads into is not walked.
	includePrefixes, exceptionPrefixes bool

	mu   sync.Mutex
	memo map[*dirNode]*folded // what is left of directories, for those that exclude
}

type pattern struct {
	text      string // cleaned, without !
	lead      string // text without a trailing /** or /*, with a slash
	exclusion bool
	plain     bool     // nothing but what the fields below understand
	depth     int      // how many components a match has; 0 if any number
	first     []string // components that a match has to begin with
	tail      string   // what the last component of a match ends with
	part      string   // what a match has in it, "" if unknown
	one       *patternmatcher.PatternMatcher
}

// matchState is what is known of the patterns in a directory.
type matchState struct {
	hit  []bool // matched this directory or one above it
	live []bool // may still match something below
	// constant says that everything below has the same answer, value.
	constant, value bool
}

func newMatcher(patterns []string) (*matcher, error) {
	all, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, err
	}
	m := &matcher{includePrefixes: true, exceptionPrefixes: true, memo: map[*dirNode]*folded{}, exclusions: all.Exclusions()}
	for _, lib := range all.Patterns() {
		p, err := newPattern(lib)
		if err != nil {
			return nil, err
		}
		m.patterns = append(m.patterns, p)
		switch special := strings.ContainsAny(p.lead, `*[]?^\`); {
		case special && p.exclusion:
			m.exceptionPrefixes = false
		case special:
			m.includePrefixes = false
		}
	}
	return m, nil
}

func newPattern(lib *patternmatcher.Pattern) (pattern, error) {
	// a matcher of this pattern alone tells what it matches
	one, err := patternmatcher.New([]string{"x"})
	if err != nil {
		return pattern{}, err
	}
	one.Patterns()[0] = lib
	p := pattern{text: lib.String(), exclusion: lib.Exclusion(), one: one}
	lead := strings.TrimSuffix(p.text, string(filepath.Separator)+"**")
	p.lead = strings.TrimSuffix(lead, string(filepath.Separator)+"*") + string(filepath.Separator)
	p.plain = !strings.ContainsFunc(p.text, func(r rune) bool { return !isPlain(r) && !strings.ContainsRune("*?/", r) })
	if p.plain {
		parts := strings.Split(p.text, "/")
		if !strings.Contains(p.text, "**") {
			p.depth = len(parts)
		}
		for _, part := range parts {
			if strings.ContainsAny(part, "*?") {
				break
			}
			p.first = append(p.first, part)
		}
		p.tail = p.text[strings.LastIndexAny(p.text, "*?/")+1:]
	}
	p.part = literal(p.text)
	// compiles the pattern, so that it can be used concurrently afterwards
	if _, err := p.match("x"); err != nil {
		return pattern{}, fmt.Errorf("pattern %q: %w", p.text, err)
	}
	return p, nil
}

// isPlain tells that a character means itself in patterns, whatever is around it.
func isPlain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@+,=~ ", r)
}

// literal is the longest run of characters in the last component of a pattern
// that a match must have in it, "" if the pattern has anything unusual.
func literal(text string) string {
	if strings.Contains(text, "[]") || strings.Contains(text, "[^]") {
		return ""
	}
	longest, run, class := "", "", false
	for i, r := range text {
		switch {
		case class:
			class = r != ']'
		case isPlain(r):
			if run += string(r); len(run) > len(longest) {
				longest = run
			}
			continue
		case r == '/':
			longest = ""
		case r == '[':
			class = true
		case r != '*' && r != '?':
			return ""
		}
		if class && !isPlain(r) && r != '[' && (r != '^' || text[i-1] != '[') {
			return ""
		}
		run = ""
	}
	return longest
}

// match tells whether the pattern, taken alone and without !, matches the path
// itself.
func (p *pattern) match(path string) (bool, error) {
	// The function is deprecated for how it combines patterns and parents; here
	// there is one pattern and no parent.
	changed, err := p.one.MatchesUsingParentResult(path, p.exclusion) //nolint:staticcheck // see above
	return changed != p.exclusion, err
}

// canMatchBelow tells whether the pattern may match something below the directory
// that dir are the components of.
func (p *pattern) canMatchBelow(dir []string) bool {
	if !p.plain {
		return true
	}
	if p.depth > 0 && p.depth <= len(dir) {
		return false
	}
	n := min(len(p.first), len(dir))
	return slices.Equal(p.first[:n], dir[:n])
}

// start is the state at the root.
func (m *matcher) start() *matchState {
	if m == nil {
		return nil
	}
	return m.enter("", make([]bool, len(m.patterns)))
}

// enter is the state in a directory, of which the patterns in hit are known to
// match it or one above it.
func (m *matcher) enter(dir string, hit []bool) *matchState {
	var parts []string
	if dir != "" {
		parts = strings.Split(dir, "/")
	}
	s := &matchState{hit: hit, live: make([]bool, len(m.patterns)), constant: true}
	for i := range m.patterns {
		switch {
		case hit[i]:
			s.value = !m.patterns[i].exclusion
		case m.patterns[i].canMatchBelow(parts):
			s.live[i] = true
			s.constant = false
		}
	}
	return s
}

// target is a path that is matched, spelled out only when it has to be.
type target struct{ dir, name, full string }

func (t *target) path() string {
	if t.full == "" {
		t.full = t.name
		if t.dir != "" {
			t.full = t.dir + "/" + t.name
		}
	}
	return t.full
}

// has tells whether a text without slashes is in the path.
func (t *target) has(text string) bool {
	return strings.Contains(t.name, text) || strings.Contains(t.dir, text)
}

// match tells whether a path in a directory with state s matches. For a
// directory, hit receives what enter needs.
func (m *matcher) match(s *matchState, t *target, hit []bool) (bool, error) {
	if s.constant {
		copy(hit, s.hit)
		return s.value, nil
	}
	matched := false
	for i := range m.patterns {
		p := &m.patterns[i]
		h := s.hit[i]
		if !h {
			if p.exclusion != matched || !s.live[i] || !strings.HasSuffix(t.name, p.tail) || !t.has(p.part) {
				continue
			}
			var err error
			if h, err = p.match(t.path()); err != nil {
				return false, fmt.Errorf("pattern %q: %w", p.text, err)
			}
		}
		if h {
			matched = !p.exclusion
			if hit != nil {
				hit[i] = true
			}
		}
	}
	return matched, nil
}

// leadsInto tells whether a pattern of the wanted sort leads into a directory.
func (m *matcher) leadsInto(dir string, exceptions bool) bool {
	dir = filepath.FromSlash(dir) + string(filepath.Separator)
	return slices.ContainsFunc(m.patterns, func(p pattern) bool {
		return p.exclusion == exceptions && strings.HasPrefix(p.lead, dir)
	})
}
