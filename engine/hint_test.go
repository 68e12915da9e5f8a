package engine

import (
	"path/filepath"
	"testing"
)

func TestPatternLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".dockerignore")
	writeFiles(t, filepath.Dir(file), map[string]string{".dockerignore": "# src\n*.md\n\n /src/ \n!src/kept\nsrc\n"})
	for pattern, want := range map[string]int{"*.md": 2, "src": 6, "!src/kept": 5, "other": 0} {
		if got := patternLine(file, pattern); got != want {
			t.Errorf("%s: got line %d, want %d", pattern, got, want)
		}
	}
	if got := patternLine(file+".nosuch", "src"); got != 0 {
		t.Errorf("a file that is not there has the pattern at line %d", got)
	}
}

func TestOutOfReach(t *testing.T) {
	for text, want := range map[string]bool{
		`Head "http://127.0.0.1:1/v2/a/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused`: true,
		`lookup r.example on 10.0.0.1:53: no such host`:                                                 true,
		`dial tcp 10.0.0.1:443: i/o timeout`:                                                            true,
		`unexpected status from HEAD request to https://r.example/v2/a: 503 Service Unavailable`:        true,
		`GET https://r.example/v2/a/manifests/1: unexpected status code 502 Bad Gateway`:                true,
		`HEAD https://r.example/v2/a/manifests/1: unsupported status code 500`:                          true,
		`r.example/a:1: not found`: false,
		`process "/bin/sh -c exit 503" did not complete successfully: exit code: 1`: false,
	} {
		if got := outOfReach().MatchString(text); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}
