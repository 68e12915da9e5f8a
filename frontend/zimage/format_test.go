package zimage

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"indentation, quotes, gaps, comments", `# head

version:   "1"   # the version
base:    'alpine:3.20'


env: {A: "b c",   D: 3000}
# the steps
steps:
    # first
    -   run: "make"
        cache:
        -   target:   /x

    -   copy: [ a,b ]
        to: "/c"   # where

# at the end
cmd: ["x",  "y"]
`, `# head

version: "1" # the version
base: alpine:3.20

env: {A: "b c", D: 3000}
# the steps
steps:
  # first
  - run: make
    cache:
      - target: /x

  - copy: [a, b]
    to: /c # where

# at the end
cmd: [x, "y"]
`},
		{"blocks", "base: alpine\nsteps:\n    - run: |\n        a\n\n        # no comment\n        b\n    - run: >-\n        folded\n        text\n",
			"base: alpine\nsteps:\n  - run: |\n      a\n\n      # no comment\n      b\n  - run: >-\n      folded text\n"},
		{"anchors", "stages:\n   a: &a\n      base: x\n   b:\n      <<: *a\n", "stages:\n  a: &a\n    base: x\n  b:\n    <<: *a\n"},
		{"line ends", "base: alpine\r\nenv:\r\n    A: b\r\n", "base: alpine\nenv:\n  A: b\n"},
		{"formatted", "base: alpine\n", "base: alpine\n"},
		{"quotes that are needed", "base: alpine\nenv: {A: \"yes\", B: '1.10', C: '', D: 'a: b', E: \"it's\"}\n",
			"base: alpine\nenv: {A: \"yes\", B: '1.10', C: '', D: 'a: b', E: \"it's\"}\n"},
	} {
		got, err := Format([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		checkFormat(t, []byte(c.in))
	}
	if _, err := Format([]byte("base: [")); err == nil {
		t.Error("a file with mistakes: got no error")
	}
}
