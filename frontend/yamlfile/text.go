package yamlfile

import (
	"slices"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// TextNode is the node of a text, in the style in which it reads best and comes back unchanged.
func TextNode(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	switch {
	case s == "" || strings.Trim(s, " ") != s || slices.Contains(oldBooleans(), strings.ToLower(s)) || strings.ContainsFunc(s, awkward):
		n.Style = yaml.DoubleQuotedStyle
	case strings.Contains(s, "\n"):
		n.Style = yaml.DoubleQuotedStyle
		if literal(s) {
			n.Style = yaml.LiteralStyle
		}
	}
	return n
}

// oldBooleans are words that YAML 1.1 takes for booleans, which readers of other makes still do.
func oldBooleans() []string { return []string{"y", "n", "yes", "no", "on", "off"} }

// awkward characters need an escape, or look like nothing.
func awkward(r rune) bool {
	return r != '\n' && !unicode.IsPrint(r)
}

// literal reports whether a text survives as a literal block.
func literal(s string) bool {
	if strings.HasPrefix(s, "\n") || strings.HasPrefix(s, " ") || strings.HasSuffix(s, "\n\n") {
		return false
	}
	for line := range strings.Lines(s) {
		if line = strings.TrimSuffix(line, "\n"); strings.TrimRight(line, " ") != line {
			return false
		}
	}
	return true
}
