package zimage

import "strings"

// replaceVars puts values in the place of ${NAME}. What a value holds is not replaced again.
func replaceVars(s string, vars map[string]string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case i+1 < len(s) && (c == '$' && s[i+1] == '$' || c == '\\' && (s[i+1] == '$' || s[i+1] == '\\')):
			b.WriteString(s[i : i+2]) // an escape
			i += 2
			continue
		case strings.HasPrefix(s[i:], "${"):
			if end := strings.IndexByte(s[i:], '}'); end > 0 {
				if v, ok := vars[s[i+2:i+end]]; ok {
					b.WriteString(v)
					i += end + 1
					continue
				}
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}
