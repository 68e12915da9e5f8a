package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zlayer-dev/zlayer/engine"
)

// copyAll is a build file that takes the whole context.
const copyAll = "FROM scratch\nCOPY . /\n"

func TestEngineContextDirectory(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for _, name := range []string{"Dockerfile", "dockerfile", "Containerfile"} {
		dir := files{name: copyAll, "a": "1", "sub/b": "2", "empty/": "", "link": "-> sub/b"}.dir(t)
		same(t, name, buildFiles(t, e, engine.Request{Context: dir}),
			files{name: copyAll, "a": "1", "sub/": "", "sub/b": "2", "empty/": "", "link": "-> sub/b"})
	}
	dir := files{"Containerfile": "FROM scratch\nCOPY nosuch /\n", "Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"}.dir(t)
	same(t, "Dockerfile before Containerfile", buildFiles(t, e, engine.Request{Context: dir}), files{"a": "1"})
	mustBeInput(t, buildFails(t, e, engine.Request{Context: t.TempDir()}), "no ZImagefile, Dockerfile or Containerfile in")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir + "/nosuch"}), "does not exist")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir + "/Dockerfile"}), "is a file")
}

func TestEngineContextThroughSymlink(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"real/Dockerfile": copyAll, "real/a": "1", "link": "-> real"}.dir(t)
	want := files{"Dockerfile": copyAll, "a": "1"}
	same(t, "context", buildFiles(t, e, engine.Request{Context: dir + "/link"}), want)
	same(t, "file", buildFiles(t, e, engine.Request{Context: dir + "/real", File: dir + "/link/Dockerfile"}), want)
	// A link inside that leads out is kept as a link: what it points to is not sent.
	files{"out/secret": "s", "in/Dockerfile": copyAll, "in/leak": "-> ../out/secret"}.write(t, dir)
	same(t, "link out", buildFiles(t, e, engine.Request{Context: dir + "/in"}), files{"Dockerfile": copyAll, "leak": "-> ../out/secret"})
	// Named itself, it is followed within the context only.
	files{"in/named.Dockerfile": "FROM scratch\nCOPY leak /\n"}.write(t, dir)
	err := buildFails(t, e, engine.Request{Context: dir + "/in", File: dir + "/in/named.Dockerfile"})
	mustSay(t, err, dir+"/in/named.Dockerfile:2: ")
	mustSay(t, err, "not found")
}

func TestEngineFileElsewhere(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{
		"app/a":                     "1",
		"other/My.Dockerfile":       "FROM scratch\nCOPY a /\n",
		"app/build/link":            "-> ../../other/My.Dockerfile",
		"app/same":                  "-> build/inner",
		"app/build/inner":           "FROM scratch\nCOPY a /inner\n",
		"other/broken":              "FROM scratch\nCOPY nosuch /\n",
		"app/sub.d/Dockerfile":      "FROM scratch\nCOPY a /d\n",
		"app/no newline":            "FROM scratch\nCOPY a /s",
		"app/crlf":                  "FROM scratch\r\nCOPY a /c\r\n",
		"app/bom":                   "\ufeffFROM scratch\nCOPY a /m\n",
		"app/dangling":              "-> nowhere",
		"app/empty":                 "",
		"app/comments":              "# only\n",
		"app/Dockerfile.ünïcode":    "FROM scratch\nCOPY a /u\n",
		"app/with,comma=and;others": "FROM scratch\nCOPY a /k\n",
	}.dir(t)
	app := filepath.Join(dir, "app")
	for file, want := range map[string]string{
		"other/My.Dockerfile":       "a",
		"app/build/link":            "a",
		"app/same":                  "inner",
		"app/sub.d/Dockerfile":      "d",
		"app/no newline":            "s",
		"app/crlf":                  "c",
		"app/bom":                   "m",
		"app/Dockerfile.ünïcode":    "u",
		"app/with,comma=and;others": "k",
	} {
		same(t, file, buildFiles(t, e, engine.Request{Context: app, File: filepath.Join(dir, file)}), files{want: "1"})
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("FROM scratch\nCOPY a /p\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	same(t, "pipe", buildFiles(t, e, engine.Request{Context: app, File: fmt.Sprintf("/dev/fd/%d", r.Fd())}), files{"p": "1"})
	for file, want := range map[string]string{
		"app/sub.d":    "is a directory: name the file in it",
		"app/nosuch":   "does not exist",
		"app/dangling": "does not exist",
	} {
		mustBeInput(t, buildFails(t, e, engine.Request{Context: app, File: filepath.Join(dir, file)}), want)
	}
	for file, want := range map[string]string{
		"other/broken": ":2: ",
		"app/empty":    ":1: the build file is empty",
		"app/comments": "file with no instructions",
	} {
		err := buildFails(t, e, engine.Request{Context: app, File: filepath.Join(dir, file)})
		mustSay(t, err, want)
		if !strings.HasPrefix(err.Error(), filepath.Join(dir, file)+":") {
			t.Errorf("%s: the error does not begin with the file: %v", file, err)
		}
	}
}

func TestEngineIgnoreFiles(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{
		"Dockerfile":                copyAll,
		".dockerignore":             "a\n*.ignore\n.dockerignore\n*ockerfile*\n",
		"special":                   copyAll,
		"special.dockerignore":      "# b and the build files\nb\n*special*\n.dockerignore\nsub\nDockerfile\n!sub/keep\n",
		"a":                         "1",
		"b":                         "2",
		"x.ignore":                  "",
		"sub/keep":                  "3",
		"sub/drop":                  "4",
		"broken":                    copyAll,
		"broken.dockerignore":       "a\n# a comment\n[\n",
		"nothing":                   "FROM scratch\nCOPY a /\n",
		"nothing.dockerignore":      "**\n",
		"elsewhere/df":              copyAll,
		"elsewhere/df.dockerignore": "**\n!b\n",
	}.dir(t)
	for file, want := range map[string]map[string]bool{
		"":         {"a": false, "b": true, "sub/keep": true, "x.ignore": false, ".dockerignore": false, "Dockerfile": false, "special": true},
		"/special": {"a": true, "b": false, "sub/keep": true, "sub/drop": false, "special": false, "Dockerfile": false, "x.ignore": true},
	} {
		req := engine.Request{Context: dir}
		if file != "" {
			req.File = dir + file
		}
		got := buildFiles(t, e, req)
		for name, want := range want {
			if _, is := got[name]; is != want {
				t.Errorf("build file %q: %s is there: %v, want %v", file, name, is, want)
			}
		}
	}
	same(t, "beside a build file that is not in the context", buildFiles(t, e, engine.Request{Context: dir, File: dir + "/elsewhere/df"}), files{"b": "2"})
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, File: dir + "/nothing"}), dir+`/nothing:2: `)
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, File: dir + "/broken"}), dir+"/broken.dockerignore:3: syntax error in pattern")
}

func TestEngineStdin(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	content := files{"Dockerfile": "FROM scratch\nCOPY a /\n", "other/df": "FROM scratch\nCOPY a /other\n", "a": "1"}
	plain := content.tar(t)
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "tar", buildFiles(t, e, engine.Request{Context: "-", Stdin: bytes.NewReader(plain)}), files{"a": "1"})
	same(t, "gzip", buildFiles(t, e, engine.Request{Context: "-", Stdin: &zipped}), files{"a": "1"})
	same(t, "tar and a file", buildFiles(t, e, engine.Request{Context: "-", File: "other/df", Stdin: bytes.NewReader(plain)}), files{"other": "1"})
	same(t, "build file", buildFiles(t, e, engine.Request{Context: "-", Stdin: strings.NewReader("FROM scratch\nCOPY <<x /x\nhello\nx\n")}), files{"x": "hello\n"})
	dir := files{"a": "1", ".dockerignore": "b\n", "b": "2"}.dir(t)
	same(t, "file from stdin, directory", buildFiles(t, e, engine.Request{Context: dir, File: "-", Stdin: strings.NewReader("FROM scratch\nCOPY . /\n")}), files{"a": "1", ".dockerignore": "b\n"})

	in := func(s string) *strings.Reader { return strings.NewReader(s) }
	mustBeInput(t, buildFails(t, e, engine.Request{Context: "-", File: "-", Stdin: in("FROM scratch\n")}), "cannot both come from standard input")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: "-", Stdin: in("")}), "standard input is empty")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: "-"}), "not there")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, File: "-"}), "not there")
	mustBeInput(t, buildFails(t, e, engine.Request{Context: "-", File: "x", Stdin: in("FROM scratch\n")}), "has no meaning")
	mustSay(t, buildFails(t, e, engine.Request{Context: "-", Stdin: in("FROM scratch\nCOPY a /\n")}), "-:2: ")
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, File: "-", Stdin: in("")}), "-:1: the build file is empty")
	mustSay(t, buildFails(t, e, engine.Request{Context: dir, File: "-", Stdin: in("FROM scratch\nBOGUS\n")}), "-:2: unknown instruction: BOGUS")
	mustSay(t, buildFails(t, e, engine.Request{Context: "-", Stdin: bytes.NewReader(files{"a": "1"}.tar(t))}), "Dockerfile")
	mustSay(t, buildFails(t, e, engine.Request{Context: "-", File: "nosuch", Stdin: bytes.NewReader(plain)}), "nosuch")
	// Cut off in the middle of a file.
	big := files{"Dockerfile": copyAll, "big": strings.Repeat("0123456789abcdef", 64<<10)}.tar(t)
	mustSay(t, buildFails(t, e, engine.Request{Context: "-", Stdin: bytes.NewReader(big[:len(big)/2])}), "unexpected EOF")
}

func TestEngineGitContext(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	url, commit := serveGit(t, files{
		"Dockerfile":        "FROM scratch\nCOPY a /\n",
		"a":                 "1",
		"sub/Dockerfile":    "FROM scratch\nCOPY b /\n",
		"sub/b":             "2",
		"sub/other/df":      "FROM scratch\nCOPY b /other\n",
		"sub/Broken":        "FROM scratch\nCOPY nosuch /\n",
		"other.Dockerfile":  "FROM scratch\nCOPY a /file\n",
		"sub/.dockerignore": "x\n",
	}.dir(t))
	for _, c := range []struct {
		ref, file string
		want      files
	}{
		{"", "", files{"a": "1"}},
		{"#main", "", files{"a": "1"}},
		{"#v1", "", files{"a": "1"}},
		{"#" + commit, "", files{"a": "1"}},
		{"#main:sub", "", files{"b": "2"}},
		{"#:sub", "", files{"b": "2"}},
		{"#side:sub", "other/df", files{"other": "2"}},
		{"", "other.Dockerfile", files{"file": "1"}},
		{"?ref=main&subdir=sub", "", files{"b": "2"}},
	} {
		same(t, c.ref+" "+c.file, buildFiles(t, e, engine.Request{Context: url + c.ref, File: c.file}), c.want)
	}
	same(t, "build file from stdin", buildFiles(t, e, engine.Request{Context: url + "#main:sub", File: "-", Stdin: strings.NewReader("FROM scratch\nCOPY b /stdin\n")}), files{"stdin": "2"})

	mustSay(t, buildFails(t, e, engine.Request{Context: url + "#nosuch"}), "nosuch")
	mustSay(t, buildFails(t, e, engine.Request{Context: url + "#main:nosuch"}), "nosuch")
	mustSay(t, buildFails(t, e, engine.Request{Context: url, File: "nosuch.Dockerfile"}), "nosuch.Dockerfile")
	mustSay(t, buildFails(t, e, engine.Request{Context: url + "#main:sub", File: "Broken"}), "Broken:2: ")
	mustSay(t, buildFails(t, e, engine.Request{Context: strings.Replace(url, "repo.git", "none.git", 1)}), "none.git")
}

func TestEngineHTTPContext(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := t.TempDir()
	url := serveFiles(t, dir)
	files{
		"context.tar": string(files{"Dockerfile": "FROM scratch\nCOPY a /\n", "df": "FROM scratch\nCOPY a /df\n", "a": "1"}.tar(t)),
		"Remotefile":  "FROM scratch\nCOPY <<x /x\nhello\nx\n",
		"Broken":      "FROM scratch\nBOGUS\n",
		"page.html":   "<html><body>hello</body></html>\n",
	}.write(t, dir)
	same(t, "archive", buildFiles(t, e, engine.Request{Context: url + "/context.tar"}), files{"a": "1"})
	same(t, "archive and file", buildFiles(t, e, engine.Request{Context: url + "/context.tar", File: "df"}), files{"df": "1"})
	same(t, "build file from stdin", buildFiles(t, e, engine.Request{Context: url + "/context.tar", File: "-", Stdin: strings.NewReader("FROM scratch\nCOPY a /stdin\n")}), files{"stdin": "1"})
	same(t, "build file", buildFiles(t, e, engine.Request{Context: url + "/Remotefile"}), files{"x": "hello\n"})

	mustSay(t, buildFails(t, e, engine.Request{Context: url + "/nosuch"}), "404")
	mustSay(t, buildFails(t, e, engine.Request{Context: url + "/Broken"}), url+"/Broken:2: unknown instruction: BOGUS")
	mustSay(t, buildFails(t, e, engine.Request{Context: url + "/page.html"}), url+"/page.html:1: ")
	mustSay(t, buildFails(t, e, engine.Request{Context: "http://127.0.0.1:1/x.tar"}), "connection refused")
}

func TestEngineOddFiles(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{
		"Dockerfile": "FROM scratch\nCOPY . /\n",
		"name with spaces, ünïcode and \"quotes\"": "1",
		"new\nline":              "2",
		strings.Repeat("n", 255): "3",
	}.dir(t)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := buildFiles(t, e, engine.Request{Context: dir})
	for name, want := range map[string]string{"name with spaces, ünïcode and \"quotes\"": "1", "new\nline": "2", strings.Repeat("n", 255): "3"} {
		if got[name] != want {
			t.Errorf("%q: got %q, want %q", name, got[name], want)
		}
	}
	// BuildKit makes an empty file of a socket and keeps a fifo; neither is opened, which would hang.
	if got["socket"] != "" || got["fifo"] != "" {
		t.Errorf("got %q and %q for socket and fifo", got["socket"], got["fifo"])
	}
}

// TestEngineUnreadableFile has a file that even root cannot read: one of the kernel's that is only
// for writing.
func TestEngineUnreadableFile(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	dir := files{"Dockerfile": copyAll, "closed": "1"}.dir(t)
	closed := filepath.Join(dir, "closed")
	if os.Getuid() != 0 {
		if err := os.Chmod(closed, 0); err != nil {
			t.Fatal(err)
		}
	} else {
		if err := unix.Mount("/proc/self/clear_refs", closed, "", unix.MS_BIND, ""); err != nil {
			unavailable(t, "mounting: %v", err)
		}
		defer func() { _ = unix.Unmount(closed, unix.MNT_DETACH) }()
	}
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir}), "reading a local directory: read "+closed)
}

func TestEngineManyFiles(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	const n = 5000
	f := files{"Dockerfile": "FROM scratch\nCOPY d42 /\n"}
	for i := range n {
		f[fmt.Sprintf("d%d/%d", i%50, i)] = fmt.Sprint(i)
	}
	dir := f.dir(t)
	got := buildFiles(t, e, engine.Request{Context: dir})
	if len(got) != n/50 || got["42"] != "42" {
		t.Errorf("got %d files and %q", len(got), got["42"])
	}
	// A second build after one change sends that.
	files{"d42/42": "changed"}.write(t, dir)
	if got := buildFiles(t, e, engine.Request{Context: dir}); len(got) != n/50 || got["42"] != "changed" {
		t.Errorf("after a change: got %d files and %q", len(got), got["42"])
	}
}

// TestEngineTwinContexts builds two directories whose files agree in name, size and time: neither
// must be given the other's content.
func TestEngineTwinContexts(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	root := t.TempDir()
	for _, side := range []string{"left", "right"} {
		dir := filepath.Join(root, side, "app")
		files{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": side[:4]}.write(t, dir)
		if err := settleTimes(dir); err != nil {
			t.Fatal(err)
		}
		same(t, side, buildFiles(t, e, engine.Request{Context: dir}), files{"a": side[:4]})
	}
}
