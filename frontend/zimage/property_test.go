package zimage

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"
)

// TestProperties holds the corpus against what FuzzParse holds arbitrary texts against.
func TestProperties(t *testing.T) {
	for _, c := range goldenCases(t) {
		t.Run(c.name, func(t *testing.T) { checkParse(t, c.text) })
	}
}

// FuzzParse: mistakes have a place in the file; what parses can be written and parses to the same;
// a comment changes nothing; what converts has a place for every line.
func FuzzParse(f *testing.F) {
	for _, c := range goldenCases(f) {
		if len(c.text) < 10_000 {
			f.Add(c.text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) { checkParse(t, text) })
}

func checkParse(t testing.TB, text []byte) {
	t.Helper()
	f, err := Parse("ZImagefile", text)
	if err != nil {
		checkErrors(t, err, text)
		if out, err := Format(text); err == nil {
			t.Errorf("formatted to %q, want an error", out)
		}
		return
	}
	written := Marshal(f)
	g, err := Parse("ZImagefile", written)
	if err != nil {
		t.Fatalf("what was written does not parse: %v\n%s", err, written)
	}
	if diff := cmp.Diff(string(written), string(Marshal(g))); diff != "" {
		t.Errorf("written, parsed, written (-want +got):\n%s", diff)
	}
	checkFormat(t, text)
	df, err := Convert(f, Options{Windows: true})
	if err != nil {
		checkErrors(t, err, text)
		return
	}
	again, err := Convert(g, Options{Windows: true})
	if err != nil {
		t.Fatalf("what was written does not convert: %v\n%s", err, written)
	}
	if diff := cmp.Diff(string(df.Text), string(again.Text)); diff != "" {
		t.Errorf("conversion of what was written (-want +got):\n%s", diff)
	}
	if df.Wasm != nil {
		return
	}
	checkLines(t, df, text)
	if !bytes.HasPrefix(text, []byte("%")) && !bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		commented, err := Parse("ZImagefile", append([]byte("# a comment\n\n"), text...))
		if err != nil {
			t.Fatalf("with a comment: %v", err)
		}
		other, err := Convert(commented, Options{Windows: true})
		if err != nil {
			t.Fatalf("with a comment: %v", err)
		}
		if !bytes.Equal(df.Text, other.Text) {
			t.Errorf("a comment changes the conversion:\n%s\n%s", df.Text, other.Text)
		}
	}
}

func checkFormat(t testing.TB, text []byte) {
	t.Helper()
	out, err := Format(text)
	if err != nil {
		t.Fatalf("formatting: %v", err)
	}
	again, err := Format(out)
	if err != nil {
		t.Fatalf("formatting what was formatted: %v\n%s", err, out)
	}
	if !bytes.Equal(out, again) {
		t.Errorf("formatting twice differs: %s", cmp.Diff(string(out), string(again)))
	}
}

// FuzzValue: a text comes out of BuildKit as it went into the file, whatever it is.
func FuzzValue(f *testing.F) {
	for _, s := range hardTexts() {
		if len(s) < 1000 {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			t.Skip()
		}
		checkValue(t, s)
	})
}

// FuzzScript: so does a script, but for blanks around it.
func FuzzScript(f *testing.F) {
	f.Add("echo a", "x")
	f.Add("#!/bin/sh\nEOF\n", "it's")
	f.Add("[1]", "")
	f.Add("a\\", "\\")
	f.Fuzz(func(t *testing.T, script, value string) {
		if !utf8.ValidString(script) || !utf8.ValidString(value) || strings.ContainsRune(script+value, 0) || strings.TrimSpace(script) == "" {
			t.Skip()
		}
		env := []Pair{{Key: String{Value: "V"}, Value: String{Value: value}}}
		file := &File{Name: "ZImagefile", Base: &String{Value: "alpine"}, Steps: []Step{
			{Run: &Command{Shell: script}},
			{Run: &Command{Shell: script}, Env: env},
			{Run: &Command{Exec: []string{script}}},
		}}
		df, err := Convert(file, Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, ops, err := lower(df.Text, nil, linux(), "")
		if err != nil {
			t.Fatalf("%v\n%s", err, df.Text)
		}
		got := commands(ops)
		if len(got) != 3 {
			t.Fatalf("got %q", got)
		}
		prelude := "export V=" + shellQuote(value) + "; "
		// blanks of other alphabets are no blanks for the shell
		trim := func(s string) string { return strings.Trim(s, " \t\n") }
		if len(got[0]) != 3 || trim(got[0][2]) != trim(script) {
			t.Errorf("got %q, want %q", got[0], script)
		}
		if len(got[1]) != 3 || trim(got[1][2]) != trim(prelude+script) && trim(got[1][2]) != trim(prelude+trim(script)) {
			t.Errorf("got %q, want %q", got[1], prelude+script)
		}
		if len(got[2]) != 1 || got[2][0] != script {
			t.Errorf("got %q, want %q", got[2], script)
		}
	})
}

// FuzzFromDockerfile: mistakes have a place, and what can be turned around means the same.
func FuzzFromDockerfile(f *testing.F) {
	files, err := filepath.Glob("testdata/*/Dockerfile")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("testdata/reverse/*/Dockerfile")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, more...) {
		dt, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(dt) < 10_000 {
			f.Add(dt)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) { checkReverse(t, text) })
}

// checkReverse turns a Dockerfile around and back, and compares what BuildKit makes of both.
func checkReverse(t testing.TB, text []byte) {
	t.Helper()
	f, err := FromDockerfile("Dockerfile", text)
	if err != nil {
		checkErrors(t, err, text)
		return
	}
	g, err := Parse("ZImagefile", Marshal(f))
	if err != nil {
		t.Fatalf("what was written does not parse: %v\n%s", err, Marshal(f))
	}
	args := map[string]string{newlineArg: "\n"}
	img, ops, err := lower(text, args, linux(), "")
	if err != nil {
		return // BuildKit does not build it
	}
	df, err := Convert(g, Options{Windows: true})
	if err != nil {
		return // it needs what conversions refuse
	}
	img2, ops2, err := lower(df.Text, args, linux(), "")
	if err != nil {
		t.Fatalf("lowering: %v\n%s\n%s\n%s", err, text, Marshal(f), df.Text)
	}
	img.History, img2.History = nil, nil
	if diff := cmp.Diff(img, img2); diff != "" {
		t.Errorf("config (-want +got):\n%s\n%s\n%s", diff, text, df.Text)
	}
	if diff := cmp.Diff(trimmed(ops), trimmed(ops2)); diff != "" {
		t.Errorf("commands (-want +got):\n%s\n%s\n%s", diff, text, df.Text)
	}
	if diff := cmp.Diff(copies(ops), copies(ops2)); diff != "" {
		t.Errorf("copies (-want +got):\n%s\n%s\n%s", diff, text, df.Text)
	}
}

// trimmed are the commands without line ends behind scripts, of which heredocs have one more.
func trimmed(ops []*pb.Op) [][]string {
	out := commands(ops)
	for _, args := range out {
		args[len(args)-1] = strings.TrimRight(args[len(args)-1], "\n")
	}
	return out
}
