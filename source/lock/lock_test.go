package lock

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zlayer-dev/zlayer/graph"
)

var (
	sum    = "sha256:" + strings.Repeat("0a", 32)
	commit = strings.Repeat("0a", 20)
)

func TestFormatAndParse(t *testing.T) {
	var f File
	f.Set(Entry{Kind: Image, Ref: "docker.io/library/alpine:3", Platform: "linux/arm64", Value: sum})
	f.Set(Entry{Kind: Image, Ref: "docker.io/library/alpine:3", Platform: "linux/amd64", Value: sum})
	f.Set(Entry{Kind: HTTP, Ref: "https://example.com/x", Value: sum})
	f.Set(Entry{Kind: Git, Ref: "https://example.com/r.git#main", Value: commit})
	want := "zlayer-lock 1\n" +
		"git https://example.com/r.git#main " + commit + "\n" +
		"http https://example.com/x " + sum + "\n" +
		"image docker.io/library/alpine:3 linux/amd64 " + sum + "\n" +
		"image docker.io/library/alpine:3 linux/arm64 " + sum + "\n"
	if got := string(f.Format()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := Parse("zlayer.lock", []byte("# a comment\n\n"+want))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(again.Format()); got != want {
		t.Errorf("read again: got\n%s\nwant\n%s", got, want)
	}
	if v, ok := again.Get(Image, "docker.io/library/alpine:3", "linux/arm64"); !ok || v != sum {
		t.Errorf("got %q, %v", v, ok)
	}
	if _, ok := again.Get(Image, "docker.io/library/alpine:3", "linux/s390x"); ok {
		t.Error("a platform that is not there was found")
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "zlayer.lock:1: a lock file begins with the line",
		"zlayer-lock 2\nx":                      "zlayer.lock:1: a lock file begins with the line",
		"zlayer-lock 1\nimage a linux/amd64":    "zlayer.lock:2: a line is one of",
		"zlayer-lock 1\nimage a linux/amd64 x":  "zlayer.lock:2: digest \"x\"",
		"zlayer-lock 1\nimage a amd64 " + sum:   "zlayer.lock:2: platform amd64 is written linux/amd64",
		"zlayer-lock 1\ngit a b":                "zlayer.lock:2: \"b\" is no commit",
		"zlayer-lock 1\nsvn a b":                "zlayer.lock:2: \"svn\" is none of",
		"zlayer-lock 1\n<<<<<<< HEAD":           "zlayer.lock:2: a merge has left a conflict",
		"zlayer-lock 1\n\nhttp  " + sum + "\n#": "zlayer.lock:3: \"\" is no reference",
		"zlayer-lock 1\nhttp a " + sum + "\nhttp a " + strings.Replace(sum, "0a", "0b", 1): "zlayer.lock:3: a is locked twice",
	} {
		_, err := Parse("zlayer.lock", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	_, err := Parse("f", []byte("zlayer-lock 1\nx\ny\n"))
	if n := strings.Count(err.Error(), "a line is one of"); n != 2 {
		t.Errorf("two mistakes were reported as %d", n)
	}
}

func TestReadAndWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	f, ok, err := Read(path, FileName)
	if err != nil || ok || len(f.Entries()) != 0 {
		t.Fatalf("got %v, %v, %v for a file that is not there", f, ok, err)
	}
	f.Set(Entry{Kind: HTTP, Ref: "https://example.com/x", Value: sum})
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("a file that has the text already was written again")
	}
	g, ok, err := Read(path, FileName)
	if err != nil || !ok || !bytes.Equal(g.Format(), f.Format()) {
		t.Errorf("got %v, %v, %v", g, ok, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What a killed process has left unfinished goes when that cannot be at work any more.
func TestWriteRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	old, fresh, other := filepath.Join(dir, "."+FileName+"-1"), filepath.Join(dir, "."+FileName+"-2"), filepath.Join(dir, ".other-1")
	for _, f := range []string{old, fresh, other} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * writing)
	for _, f := range []string{old, other} {
		if err := os.Chtimes(f, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&File{}).Write(filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]bool{old: false, fresh: true, other: true} {
		if _, err := os.Stat(f); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", f, err == nil, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("zlayer-lock 1\nimage docker.io/library/alpine:3 linux/amd64 " + sum + "\n"))
	f.Add([]byte("zlayer-lock 1\ngit https://example.com/r.git#main " + commit))
	f.Add([]byte("zlayer-lock 1\r\n# x\r\nhttp https://example.com/x " + sum + "\r\n"))
	f.Add([]byte("zlayer-lock 2"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("f", text)
		if err != nil {
			var pe *graph.PosError
			if !errors.As(err, &pe) || pe.Pos.Line < 1 || pe.Pos.Line > bytes.Count(text, []byte("\n"))+1 {
				t.Errorf("%v has no place in the file", err)
			}
			return
		}
		once := file.Format()
		again, err := Parse("f", once)
		if err != nil || !bytes.Equal(again.Format(), once) {
			t.Errorf("what was written reads differently: %v", err)
		}
	})
}
