package engine

import (
	"errors"
	"testing"
)

// Messages quote build files; none may steer the terminal they end up on.
func TestMessagesAreHarmless(t *testing.T) {
	for text, want := range map[string]string{
		"unknown instruction: \x7fELF\x02\x1b[31m": `unknown instruction: \x7fELF\x02\x1b[31m`,
		"\"/\xff.txt\": not found":                 `"/\xff.txt": not found`,
		"a\rb\u202ec\u009b2J":                      `a\rb\u202ec\u009b2J`,
		"two\nlines\tand ümläuts 漢 �":              "two\nlines\tand ümläuts 漢 �",
	} {
		if got := (&trimmedError{err: errors.New(text)}).Error(); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
