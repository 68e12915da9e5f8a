package main

import (
	"strings"
	"testing"
)

func TestServe(t *testing.T) {
	var out strings.Builder
	if err := serve(strings.NewReader("say 'a b' c\nnonsense\n"), &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "a b c\nwhat?\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
