package engine

import (
	"cmp"
	"sync"

	"github.com/containerd/platforms"

	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
	"github.com/zlayer-dev/zlayer/frontend/zimage"
	"github.com/zlayer-dev/zlayer/graph"
)

// windowsRules follows the rules for Windows content across the builds that one build file
// is based on, and the one that nothing runs on a WebAssembly file. Most files have to do
// with neither, so that stages are looked at when something has.
type windowsRules struct {
	mu sync.Mutex
	// may: the file can be one of Windows, by what it says or by what it is based on, or
	// one that stands on WebAssembly.
	may bool
	// wasm: it is a WebAssembly build.
	wasm bool
	// list gives the stages; nil where there are none to look at.
	list   func() *zimage.WindowsStages
	stages *zimage.WindowsStages
	// place turns positions into the user's; nil leaves them.
	place func(graph.Pos) graph.Pos
	// nested are the builds that stages do not know of yet.
	nested []zimage.NestedBase
	below  []*ground
}

// ground is the result of a build as builds that are based on it see it.
type ground struct {
	// odd: it may be an image of Windows, or a WebAssembly file.
	odd    bool
	bottom func() zimage.Bottom
}

// read is told of the build file.
func (r *windowsRules) read(may bool, list func() *zimage.WindowsStages) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.may, r.list, r.stages = may, list, nil
}

// readZImagefile is read of a ZImagefile, of which target is wanted.
func (r *windowsRules) readZImagefile(d *zimage.Dockerfile, target string, opt zimage.Options) {
	if d.Windows == nil {
		return
	}
	d.Windows.SetTarget(target)
	r.wasm = d.Wasm != nil
	r.read(zimage.MayBeWindows(d.Text, opt), func() *zimage.WindowsStages { return d.Windows })
}

// known gives the stages, with all builds that they are based on. The lock is held.
func (r *windowsRules) known() *zimage.WindowsStages {
	if r.stages == nil && r.list != nil {
		r.stages = r.list()
	}
	if r.stages == nil {
		return nil
	}
	for i, n := range r.nested {
		n.Bottom = r.below[i].bottom()
		_, _ = r.stages.Nest(n) // these are not of Windows
	}
	r.nested, r.below = nil, nil
	return r.stages
}

// nest checks the rules for what is based on another build.
func (r *windowsRules) nest(ref dockerfile.Reference, build *zimage.Nested, g *ground) ([]*graph.PosError, error) {
	if !ref.InFrom && ref.Kind != graph.InputBase || g == nil {
		return nil, nil
	}
	n := zimage.NestedBase{Name: ref.Name, Pos: ref.Pos}
	if build != nil {
		n.Build, n.Stage = true, build.Stage
	}
	forWindows := false
	if ref.Platform != nil {
		n.Platform = platforms.FormatAll(*ref.Platform)
		forWindows = ref.Platform.OS == "windows"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !g.odd && !r.may && !forWindows {
		r.nested, r.below = append(r.nested, n), append(r.below, g)
		return nil, nil
	}
	r.may = r.may || g.odd
	stages := r.known()
	if stages == nil {
		return nil, nil
	}
	n.Bottom = g.bottom()
	warnings, err := stages.Nest(n)
	return warnings, r.placed(err)
}

// placed gives mistakes the user's positions.
func (r *windowsRules) placed(err error) error {
	list := yamlfile.Errors(err)
	if r.place == nil || len(list) == 0 {
		return err
	}
	for i, e := range list {
		pos := r.place(e.Pos)
		list[i] = &graph.PosError{Pos: pos, Err: e.Err, Source: goSource(pos)}
	}
	return yamlfile.Join(list)
}

// ground is what the result, s, is to others.
func (r *windowsRules) ground(s *graph.Stage) *ground {
	r.mu.Lock()
	defer r.mu.Unlock()
	os := s.Platform.OS
	bottom := func() zimage.Bottom {
		var b zimage.Bottom
		if stages := r.known(); stages != nil {
			b = stages.Bottom()
		}
		b.Wasm = b.Wasm || r.wasm
		if len(b.Way) == 0 {
			b.Way = []graph.Pos{s.Pos}
		}
		// The config has the platform that was asked for, whatever the base is.
		b.OS = cmp.Or(b.OS, os)
		for i, p := range b.Way {
			if r.place != nil {
				b.Way[i] = r.place(p)
			}
		}
		return b
	}
	g := &ground{odd: os == "windows" || r.wasm}
	if !g.odd && r.may {
		b := bottom()
		g.odd = b.Windows() || b.Wasm
	}
	g.bottom = func() zimage.Bottom {
		r.mu.Lock()
		defer r.mu.Unlock()
		return bottom()
	}
	return g
}
