package wasm

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/zlayer-dev/zlayer/graph"
)

// script gathers the lines of a Dockerfile and where they come from.
type script struct {
	text  []byte
	lines []graph.Pos
}

// line writes a line of the Dockerfile.
func (s *script) line(pos graph.Pos, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for l := range strings.SplitSeq(text, "\n") {
		s.text = append(append(s.text, l...), '\n')
		s.lines = append(s.lines, pos)
	}
}

// run writes a command. Short ones are written plainly, because that is what progress shows; what a
// Dockerfile would read differently goes into a here-document.
func (s *script) run(pos graph.Pos, mounts, command string) {
	command = strings.TrimSpace(command)
	if plainCommand(command) {
		s.line(pos, "RUN %s%s", mounts, command)
		return
	}
	end := "ZLAYER"
	for strings.Contains(command, end) {
		end += "_"
	}
	s.line(pos, "RUN %s<<'%s'\n%s\n%s", mounts, end, command, end)
}

// plainCommand tells whether a Dockerfile's RUN takes the command as it is.
func plainCommand(c string) bool {
	return !strings.ContainsAny(c, "\n\r") && !strings.HasSuffix(c, `\`) && !strings.Contains(c, "<<") &&
		!strings.HasPrefix(c, "[") && !strings.HasPrefix(c, "--") && !strings.HasPrefix(c, "#") && utf8.RuneCountInString(c) < 2000
}

// quote writes a word for the shell.
func quote(word string) string {
	plain := word != ""
	for _, c := range word {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("_-+./:@%,=", c)) {
			plain = false
		}
	}
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// words writes a list of words for the shell.
func words(list ...string) string {
	quoted := make([]string, len(list))
	for i, w := range list {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}

// shell is the command for the shell.
func (c Command) shell() string {
	if c.Exec != nil {
		return words(c.Exec...)
	}
	return c.Shell
}

// cacheMount is the flag of a cache that all builds share.
func cacheMount(id, target, sharing string) string {
	return "--mount=type=cache,id=zlayer-wasm-" + id + ",target=" + target + ",sharing=" + sharing + " "
}
