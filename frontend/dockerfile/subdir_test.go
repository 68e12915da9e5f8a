package dockerfile

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/zlayer-dev/zlayer/frontend"
)

// The build context of a build in a directory is that directory of the local source,
// limited to what is read and without what its own ignore file leaves out.
func TestSubdir(t *testing.T) {
	for name, c := range map[string]struct{ text, ignore, follow, exclude string }{
		"some files": {"FROM scratch\nCOPY *.txt /t/\nCOPY a/b /c\n", "", `["a [x]*/*.txt","a [x]*/a/b"]`, ""},
		"everything": {"FROM scratch\nCOPY . /\n", "skip\n!skip/not\n", `["a [x]*"]`, `["a [x]*/skip","!a [x]*/skip/not"]`},
		"two stages": {"FROM busybox AS one\nCOPY x /\nFROM scratch\nCOPY y /\nCOPY --from=one /x /z\n", "", `["a [x]*/x","a [x]*/y"]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := "a [x]*"
			outer := newGateway(t, map[string]string{dir + "/Dockerfile": c.text, dir + "/.dockerignore": c.ignore}, nil)
			gw := &frontend.Subdir{Client: outer, Dir: dir, Opts: map[string]string{}}
			g, err := Compile(context.Background(), gw, Options{Subdir: dir})
			if err != nil {
				t.Fatal(err)
			}
			var locals []map[string]string
			for _, s := range g.Stages() {
				for _, src := range s.Sources {
					if src.Scheme == "local" && !slices.ContainsFunc(locals, func(m map[string]string) bool { return m[pb.AttrFollowPaths] == src.Attrs[pb.AttrFollowPaths] }) {
						locals = append(locals, src.Attrs)
					}
				}
			}
			if len(locals) != 1 {
				t.Fatalf("the graph has local sources %v, want one", locals)
			}
			escape := strings.NewReplacer("[x]*", `\\[x]\\*`)
			if got, want := locals[0][pb.AttrFollowPaths], escape.Replace(c.follow); got != want {
				t.Errorf("follows %s, want %s", got, want)
			}
			if got, want := locals[0][pb.AttrExcludePatterns], escape.Replace(c.exclude); got != want {
				t.Errorf("excludes %s, want %s", got, want)
			}
		})
	}
}
