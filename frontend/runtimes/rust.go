package runtimes

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// rust is what the template of Rust is executed with.
type rust struct {
	*common
	// Nightly says that the project needs a compiler from the nightly channel.
	Nightly bool
	// Debian is the release of Debian that both images are made of, DebianNumber its number.
	Debian, DebianNumber string
	Build                string   // the command
	Programs             []string // paths of what it makes
	CacheID              string
}

// rust looks at a project of Rust.
func (c *common) rust() (*rust, error) {
	root, err := c.cargoTOML("Cargo.toml")
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, errors.New("there is no Cargo.toml: run cargo init")
	}
	r := &rust{common: c, Nightly: c.Version == "nightly", Debian: "trixie", DebianNumber: "13"}
	if v, _, ok := parseVersion(c.Version); ok && len(v) > 1 && v.less(version{1, 89}) {
		r.Debian, r.DebianNumber = "bookworm", "12" // there are no images of it on a later one
	}
	bins, err := r.bins(root)
	if err != nil {
		return nil, err
	}
	if len(bins) == 0 {
		return nil, errors.New("there is no program in Cargo.toml, src/main.rs or src/bin: a library is not an image")
	}
	release, err := r.release()
	if err != nil {
		return nil, err
	}
	words := []string{"cargo", "build", "--release"}
	if c.has("Cargo.lock") {
		words = append(words, "--locked")
	} else {
		c.note("there is no Cargo.lock: each build may use other versions; commit it")
	}
	if root.Workspace {
		words = append(words, "--workspace")
	}
	for _, b := range bins {
		words = append(words, "--bin", b)
		r.Programs = append(r.Programs, release+"/"+b)
	}
	r.Build = strings.Join(words, " ")
	r.CacheID = "cargo-target-" + cmpOr(root.Name, bins[0])
	if !crateName().MatchString(r.CacheID) {
		r.CacheID = "cargo-target"
	}
	run := r.choose(root, bins)
	c.Cmd = []string{"/usr/local/bin/" + run}
	return r, nil
}

// bins lists the programs of the package and of the workspace.
func (r *rust) bins(root *cargoTOML) ([]string, error) {
	all := root.bins(r.project, ".")
	for _, dir := range r.members(root.Members, "Cargo.toml") {
		if slices.Contains(root.Exclude, dir) || dir == "." {
			continue
		}
		member, err := r.cargoTOML(path.Join(dir, "Cargo.toml"))
		if err != nil {
			return nil, err
		}
		all = append(all, member.bins(r.project, dir)...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// release gives the directory that cargo puts programs into.
func (r *rust) release() (string, error) {
	name := r.first(".cargo/config.toml", ".cargo/config")
	if name == "" {
		return "target/release", nil
	}
	data, err := r.read(name)
	if err != nil {
		return "", err
	}
	raw, err := parseTOML(name, data)
	if err != nil {
		return "", err
	}
	target := buildTarget(raw)
	if target == "" {
		return "target/release", nil
	}
	r.note("%s builds for %s: the image is for that platform only", name, target)
	return "target/" + target + "/release", plain(target)
}

// choose gives the program that the image runs.
func (r *rust) choose(root *cargoTOML, bins []string) string {
	run := bins[0]
	for _, name := range []string{"server", root.Name, root.DefaultRun} {
		if slices.Contains(bins, name) {
			run = name
		}
	}
	if len(bins) > 1 && root.DefaultRun == "" {
		r.note("the project has %d programs, all of them in /usr/local/bin: the image runs %s", len(bins), run)
	}
	return run
}
