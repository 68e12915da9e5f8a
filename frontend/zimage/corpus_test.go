package zimage

import (
	"os"
	"path/filepath"
	"testing"
)

// TestIntegrationCases checks that what the integration tests build converts.
func TestIntegrationCases(t *testing.T) {
	files, err := filepath.Glob("../../integration/testdata/zimage/*/ZImagefile")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 40 {
		t.Fatalf("found only %d cases", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			checkParse(t, text)
			df := convert(t, string(text), Options{})
			checkLines(t, df, text)
			if _, _, err := lower(df.Text, df.BuildArgs, linux(), ""); err != nil {
				t.Errorf("lowering: %v\n%s", err, df.Text)
			}
		})
	}
}
