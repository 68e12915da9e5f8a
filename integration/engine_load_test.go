package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zlayer-dev/zlayer/engine"
)

// dockerStore stands for docker's command line and store: an image is the digest of its config, under
// its names, each a file of DIR.
const dockerStore = `#!/bin/sh
set -e
cd DIR
case "$1 $2" in
"load ")
	cat >image.tar
	echo load >>calls
	id=$(tar -xOf image.tar manifest.json | grep -o '"Config":"[^"]*"' | grep -o '[0-9a-f]\{64\}')
	for tag in $(tar -xOf image.tar manifest.json | grep -o '"RepoTags":\[[^]]*' | cut -d'[' -f2 | tr -d '"' | tr , ' '); do
		echo "sha256:$id" >"tag-$(echo "$tag" | sed 's,^docker.io/library/,,; s,/,_,g')"
	done;;
"image inspect")
	shift 4
	for tag; do cat "tag-$(echo "$tag" | sed 's,^docker.io/library/,,; s,/,_,g')"; done;;
*) exit 1;;
esac
`

// An image is loaded only if docker does not have it under its names already.
func TestEngineMemoLoad(t *testing.T) {
	m := newRemembering(t)
	bin, docker := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(strings.ReplaceAll(dockerStore, "DIR", docker)), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	loads := func() int {
		text, err := os.ReadFile(filepath.Join(docker, "calls"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(text), "load")
	}
	req := engine.Request{Context: files{"Dockerfile": oneFile(t)}.dir(t), Tags: []string{"load:1", "load:2"}, Load: true}
	first := m.mustBuild(req)
	if res := m.again(req); loads() != 1 || res.Restored || res.ConfigDigest != first.ConfigDigest {
		t.Errorf("loaded %d times, restored %v, got %s, want %s", loads(), res.Restored, res.ConfigDigest, first.ConfigDigest)
	}
	// Under one of its names is another image now, or none; there is nothing here to load it from.
	for what, change := range map[string]func(string) error{
		"moved":   func(p string) error { return os.WriteFile(p, []byte("sha256:"+strings.Repeat("a", 64)+"\n"), 0o644) },
		"removed": os.Remove,
	} {
		if err := change(filepath.Join(docker, "tag-load:2")); err != nil {
			t.Fatal(err)
		}
		before := loads()
		m.mustBuild(req)
		if loads() != before+1 {
			t.Errorf("%s: loaded %d times", what, loads()-before)
		}
		m.again(req)
		if got := readText(t, filepath.Join(docker, "tag-load:2")); got != first.ConfigDigest.String()+"\n" {
			t.Errorf("%s: docker has %q, want %s", what, got, first.ConfigDigest)
		}
	}
	// Another name that docker does not know.
	req.Tags = append(req.Tags, "load:3")
	m.mustBuild(req)
	m.again(req)
}
