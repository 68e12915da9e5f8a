// Package greeting has the words of the sample's programs.
package greeting

import (
	"strings"

	"github.com/google/shlex"
)

// Words splits a line as a shell does and joins it again.
func Words(line string) string {
	words, err := shlex.Split(line)
	if err != nil {
		return err.Error()
	}
	return strings.Join(words, "|")
}
