package zimage

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReverse turns the Dockerfiles of testdata/reverse around; error.txt has what is refused.
func TestReverse(t *testing.T) {
	files, err := filepath.Glob("testdata/reverse/*/Dockerfile")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d cases: %v", len(files), err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, err := FromDockerfile("Dockerfile", text)
			written, mistakes := "", ""
			if err != nil {
				mistakes = err.Error() + "\n"
			} else {
				written = string(Marshal(f))
			}
			golden(t, filepath.Join(dir, "ZImagefile"), written)
			golden(t, filepath.Join(dir, "error.txt"), mistakes)
			checkReverse(t, text)
		})
	}
}

// TestReverseGolden turns every converted ZImagefile back: it means the same.
func TestReverseGolden(t *testing.T) {
	refused := 0
	cases := goldenCases(t)
	for _, c := range cases {
		text, err := os.ReadFile(filepath.Join(c.dir, "Dockerfile"))
		if err != nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			checkReverse(t, text)
			if _, err := FromDockerfile("Dockerfile", text); err != nil {
				t.Log(err)
				refused++
			}
		})
	}
	// Those with an argument for line feeds say something that ZImagefiles say otherwise.
	if refused > 5 {
		t.Errorf("%d conversions cannot be turned back", refused)
	}
}

func TestSpellDuration(t *testing.T) {
	for _, s := range []string{"0", "1h 30m", "90s", "500ms", "1us", "26h 1s 5ns"} {
		d, err := parseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseDuration(spellDuration(d))
		if err != nil || back != d {
			t.Errorf("%s: got %s, %v", s, back, err)
		}
	}
}
