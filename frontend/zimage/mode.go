package zimage

import (
	"strconv"
	"strings"

	chmod "github.com/tonistiigi/dchapes-mode"
	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// fileMode is permissions: octal digits as they are written, or the symbols that chmod(1) takes.
func fileMode(what string) yamlfile.Kind[*String] {
	return modeKind(what, func(s string) string {
		if numeric(s) {
			return octalFault(s)
		}
		if _, err := chmod.Parse(s); err != nil {
			return "it must be octal digits like 0755, or symbols like u+x"
		}
		return ""
	}, "^(0o?)?[0-7]+$|^[ugoa+=,rwxXst-]+$")
}

// octal is permissions in octal digits.
func octal(what string) yamlfile.Kind[*String] {
	return modeKind(what, octalFault, "^(0o?)?[0-7]+$")
}

func numeric(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

func octalFault(s string) string {
	if v, err := strconv.ParseUint(s, 8, 32); err != nil || v > 0o7777 {
		return "it must be octal digits, at most 7777"
	}
	return ""
}

// modeKind is permissions that fault finds nothing wrong with. YAML 1.2's octal numbers are
// written with 0o, which nothing behind us understands.
func modeKind(what string, fault func(string) string, pattern string) yamlfile.Kind[*String] {
	return yamlfile.Kind[*String]{
		Decode: func(d *yamlfile.Decoder, n *yaml.Node) (*String, bool) {
			s, ok := d.Scalar(n, what)
			if !ok {
				return nil, false
			}
			spelled := s.Value
			if rest, ok := strings.CutPrefix(s.Value, "0o"); ok {
				s.Value = "0" + rest
			}
			if f := fault(s.Value); f != "" {
				d.Errorf(s.Pos, "invalid %s %q: %s", what, spelled, f)
				return nil, false
			}
			return &s, true
		},
		Encode: yamlfile.EncodeText,
		Schema: yamlfile.Schema{"type": []any{"integer", "string"}, "pattern": pattern},
	}
}
