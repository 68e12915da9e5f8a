// Package monorepo writes a source tree of 60 directories that build on one another,
// three levels deep and by both kinds of build files, and the one Dockerfile that a
// person would write instead. Tests count what is built of it, a benchmark times it.
package monorepo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The numbers of directories; with the root they are 60. Each has one RUN but the root.
const (
	Bases = 20
	Mids  = 15
	Tops  = 24
	// Runs is how many RUN steps the whole has when nothing is built twice.
	Runs = Bases + Mids + Tops
)

// HandWritten is the name of the Dockerfile in the root that has all stages.
const HandWritten = "Dockerfile.hand"

// Write fills dir; busybox is the path of a static one. The root's build file is a
// ZImagefile. Its result and that of [HandWritten] are the same image.
func Write(dir, busybox string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return fmt.Errorf("reading a busybox: %w", err)
	}
	w := &writer{dir: dir}
	var hand strings.Builder
	for i := range Bases {
		name := fmt.Sprintf("b%02d", i)
		at := "bases/" + name
		run := "/bin/busybox --install /bin && echo " + name + " > /out"
		if i%2 == 0 {
			w.file(at+"/Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \""+run+"\"]\n")
		} else {
			w.file(at+"/ZImagefile", "base: scratch\nsteps:\n  - {copy: busybox, to: /bin/busybox}\n  - run: [/bin/busybox, sh, -c, \""+run+"\"]\n")
		}
		w.file(at+"/busybox", string(program))
		fmt.Fprintf(&hand, "FROM scratch AS %s\nCOPY %s/busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"%s\"]\n", name, at, run)
	}
	w.level(&hand, "mids", "m", Mids, func(i int) (base, other string) {
		return fmt.Sprintf("bases/b%02d", i%Bases), fmt.Sprintf("bases/b%02d", (i+5)%Bases)
	})
	w.level(&hand, "tops", "t", Tops, func(i int) (base, other string) {
		return fmt.Sprintf("mids/m%02d", i%Mids), fmt.Sprintf("mids/m%02d", (i+4)%Mids)
	})
	var root strings.Builder
	root.WriteString("stages:\n")
	for i := range Tops {
		fmt.Fprintf(&root, "  t%02d: {build: tops/t%02d}\n", i, i)
	}
	root.WriteString("  all:\n    base: scratch\n    steps:\n")
	hand.WriteString("FROM scratch AS all\n")
	for i := range Tops {
		fmt.Fprintf(&root, "      - {copy: /out, from: t%02d, to: /t%02d}\n", i, i)
		fmt.Fprintf(&hand, "COPY --from=t%02d /out /t%02d\n", i, i)
	}
	w.file("ZImagefile", root.String())
	w.file(HandWritten, hand.String())
	w.file(".git/HEAD", "ref: refs/heads/main\n") // the root that nested builds may read
	return w.err
}

// level writes directories that are each built on one directory and copy from another.
func (w *writer) level(hand *strings.Builder, folder, letter string, n int, reads func(int) (base, other string)) {
	for i := range n {
		name := fmt.Sprintf("%s%02d", letter, i)
		base, other := reads(i)
		run := "cat /out /other /own > /sum && echo " + name + " >> /sum && mv /sum /out"
		w.file(folder+"/"+name+"/own", "own "+name+"\n")
		w.file(folder+"/"+name+"/ZImagefile", fmt.Sprintf(
			"stages:\n  other: {build: ../../%s}\n  it:\n    build: ../../%s\n    steps:\n      - {copy: /out, from: other, to: /other}\n      - {copy: own, to: /own}\n      - run: %s\n",
			other, base, run))
		fmt.Fprintf(hand, "FROM %s AS %s\nCOPY --from=%s /out /other\nCOPY %s/%s/own /own\nRUN %s\n",
			filepath.Base(base), name, filepath.Base(other), folder, name, run)
	}
}

// writer writes files until something fails.
type writer struct {
	dir string
	err error
}

func (w *writer) file(name, text string) {
	if w.err != nil {
		return
	}
	path := filepath.Join(w.dir, name)
	if w.err = os.MkdirAll(filepath.Dir(path), 0o755); w.err == nil {
		w.err = os.WriteFile(path, []byte(text), 0o755)
	}
}
