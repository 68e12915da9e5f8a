package zimage

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/frontend/yamlfile/yamlfiletest"
	"github.com/zlayer-dev/zlayer/graph"
)

var update = flag.Bool("update", false, "rewrite the expected conversions and errors")

// goldenCase is a folder of testdata: a ZImagefile with the Dockerfile that it stands for, or with
// the mistakes that it has. options.json has the Options of the conversion.
type goldenCase struct {
	name string
	dir  string
	text []byte
	opt  Options
}

func goldenCases(t testing.TB) []goldenCase {
	t.Helper()
	var cases []goldenCase
	for _, dir := range yamlfiletest.Folders(t, "ZImagefile", 60) {
		c := goldenCase{dir: dir, name: filepath.Base(dir)}
		c.text = yamlfiletest.Read(t, filepath.Join(dir, "ZImagefile"), &c.opt)
		cases = append(cases, c)
	}
	return cases
}

// convert gives the Dockerfile, or the mistakes in the way they are printed.
func (c *goldenCase) convert() (*File, *Dockerfile, error) {
	f, err := Parse("ZImagefile", c.text)
	if err != nil {
		return nil, nil, err
	}
	if f.Mode() == ModeRuntime {
		template, err := os.ReadFile(filepath.Join(c.dir, "template"))
		if err != nil {
			return f, nil, err
		}
		df, err := Overlay(f, template, c.opt)
		return f, df, err
	}
	df, err := Convert(f, c.opt)
	return f, df, err
}

func TestGolden(t *testing.T) {
	for _, c := range goldenCases(t) {
		t.Run(c.name, func(t *testing.T) {
			_, df, err := c.convert()
			text, mistakes := "", ""
			if err != nil {
				mistakes = err.Error() + "\n"
				checkErrors(t, err, c.text)
			} else if df.Wasm == nil {
				text = string(df.Text)
				checkLines(t, df, c.text)
				c.lower(t, df)
			}
			for _, w := range warnings(df) {
				mistakes += "warning: " + w.Error() + "\n"
			}
			golden(t, filepath.Join(c.dir, "Dockerfile"), text)
			golden(t, filepath.Join(c.dir, "error.txt"), mistakes)
		})
	}
}

func warnings(df *Dockerfile) []*graph.PosError {
	if df == nil {
		return nil
	}
	return df.Warnings
}

// lower checks that BuildKit takes every stage of the Dockerfile.
func (c *goldenCase) lower(t *testing.T, df *Dockerfile) {
	t.Helper()
	p := linux()
	if c.opt.Windows {
		p = ocispecs.Platform{OS: "windows", Architecture: "amd64"}
	}
	if _, _, err := lower(df.Text, merged(c.opt.BuildArgs, df.BuildArgs), p, ""); err != nil {
		t.Errorf("lowering: %v\n%s", err, df.Text)
	}
}

// golden compares with a file, which is absent where nothing is expected.
func golden(t *testing.T, file, got string) {
	t.Helper()
	yamlfiletest.Golden(t, *update, file, got)
}

// checkErrors checks that every mistake has a place in the file, and that they are in its order.
func checkErrors(t testing.TB, err error, text []byte) {
	t.Helper()
	list := yamlfile.Errors(err)
	if len(list) == 0 {
		t.Fatalf("got %v, want errors with positions", err)
	}
	lines := 1 + bytes.Count(text, []byte("\n"))
	last := 0
	for _, e := range list {
		if e.Pos.Line < 1 || e.Pos.Line > lines || e.Pos.EndLine > lines {
			t.Errorf("%v: not a place in a file of %d lines", e, lines)
		}
		if e.Pos.Line < last {
			t.Errorf("%v: not in the order of the file", e)
		}
		last = e.Pos.Line
		if !bytes.Equal(e.Source, text) {
			t.Errorf("%v: without the text of the file", e)
		}
	}
}

// checkLines checks that every line of a conversion comes from a line of the file.
func checkLines(t testing.TB, df *Dockerfile, text []byte) {
	t.Helper()
	got := strings.Split(strings.TrimSuffix(string(df.Text), "\n"), "\n")
	if len(got) != len(df.Lines) {
		t.Fatalf("got places for %d lines, want %d", len(df.Lines), len(got))
	}
	lines := 1 + bytes.Count(text, []byte("\n"))
	for i, p := range df.Lines {
		if p.IsZero() {
			if got[i] != "" && got[i] != "ARG "+newlineArg {
				t.Errorf("line %d has no place: %s", i+1, got[i])
			}
			continue
		}
		if p.Line < 1 || p.Line > lines || p.EndLine > lines || p.EndLine != 0 && p.EndLine < p.Line {
			t.Errorf("line %d comes from %v-%d, which is not in a file of %d lines", i+1, p, p.EndLine, lines)
		}
	}
}
