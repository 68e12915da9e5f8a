// Package lab makes base images on the spot and serves them from a registry in this process, so
// that tests build real Dockerfiles without an image registry to reach.
//
// What it makes comes from the machine: busybox from the distribution's static busybox, Debian from
// the distribution's package mirror by debootstrap, Go from the installed toolchain, Node from
// packages of npm. Images that take long are made when they are first asked for ([Lab.Ensure]) and
// kept in the user's cache folder, found again by a hash of their recipe. The same recipe gives the
// same digest on the same machine.
//
// The names are those that Dockerfiles use (busybox:latest, debian:bookworm-slim), because the
// point is to build such Dockerfiles unchanged; images that only tests want live under lab/.
// [Lab.BuildkitdTOML] sends a BuildKit here when it looks for them. [Images] tells what there is.
//
// An image for a platform that is not the machine's has the same programs as the machine's own and
// only says otherwise: it is for tests of metadata (platform selection, indexes), and an annotation
// on its manifest says so.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Config configures Start. The zero value is right for tests.
type Config struct {
	// Registry says where and how the registry serves.
	Registry RegistryConfig
	// CacheDir keeps layers between runs and between processes; "" is zlayer/lab in the user's
	// cache folder.
	CacheDir string
	// Upstream is a registry (host:port, or a host with a path) that Ensure copies images from that
	// the lab has no recipe for; "" is none. A loopback address is asked by plain http.
	Upstream string
	// Logf is told about what takes long; nil is silent.
	Logf func(format string, args ...any)
}

// Lab is a running lab. It is safe for concurrent use.
type Lab struct {
	*Registry
	config  Config
	layers  layerStore
	recipes []recipe

	mu    sync.Mutex
	locks map[string]*sync.Mutex // one per recipe, so that slow ones do not hold up others
	done  map[string]bool        // recipes and copied images that the registry has
}

// UnavailableError says that an image cannot be made on this machine: a program, a right or the
// package mirror is missing. Tests skip on it.
type UnavailableError struct {
	Image  string // the image that was asked for
	Reason string // what is missing and how to get it
	Err    error  // the cause, if there is one
}

// Error implements error.
func (e *UnavailableError) Error() string {
	s := fmt.Sprintf("making image %s: %s", e.Image, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// unavailable makes an UnavailableError whose image Ensure fills in.
func unavailable(err error, format string, args ...any) error {
	return &UnavailableError{Reason: fmt.Sprintf(format, args...), Err: err}
}

// Start starts the lab's registry and fills it with the images that are made in no time: busybox
// and what is made from it. The others come with Ensure. Without a static busybox on the machine it
// returns an UnavailableError.
func Start(ctx context.Context, c Config) (*Lab, error) {
	if c.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("starting the lab: %w; set XDG_CACHE_HOME", err)
		}
		c.CacheDir = filepath.Join(dir, "zlayer", "lab")
	}
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	r, err := StartRegistry(c.Registry)
	if err != nil {
		return nil, err
	}
	l := &Lab{
		Registry: r,
		config:   c,
		layers:   layerStore{dir: c.CacheDir},
		recipes:  recipes(),
		locks:    map[string]*sync.Mutex{},
		done:     map[string]bool{},
	}
	for _, rc := range l.recipes {
		if rc.lazy {
			continue
		}
		if err := l.make(ctx, rc); err != nil {
			r.Close()
			return nil, fmt.Errorf("starting the lab: %w", err)
		}
	}
	r.ResetRequests()
	return l, nil
}

// Ref gives the reference of an image at the lab's own address: Ref("busybox:1.36") is
// "127.0.0.1:PORT/library/busybox:1.36". Names of other registries keep their host as a folder, as
// BuildkitdTOML has it.
func (l *Lab) Ref(image string) string { return l.Addr() + "/" + repository(image) }

// repository is the path of an image below the lab's address: docker.io is the root, other
// registries are folders.
func repository(image string) string {
	first, rest, found := strings.Cut(image, "/")
	switch {
	case !found:
		image = "library/" + image
	case first == "docker.io" && !strings.Contains(rest, "/"):
		image = "library/" + rest
	case first == "docker.io":
		image = rest
	}
	if !strings.Contains(image, "@") && !strings.Contains(image[strings.LastIndex(image, "/")+1:], ":") {
		image += ":latest"
	}
	return image
}

// Has tells whether the registry serves the image now, made by the lab or pushed by someone.
func (l *Lab) Has(ctx context.Context, image string) bool {
	ref, err := name.ParseReference(l.Ref(image))
	if err != nil {
		return false
	}
	_, err = remote.Head(ref, l.RemoteOptions(ctx)...)
	return err == nil
}

// Ensure makes the images unless the lab has them, which takes up to a minute for one that is not
// in the cache. It returns an UnavailableError for an image that this machine cannot make, and for
// one that the lab has no recipe for when there is no Upstream.
func (l *Lab) Ensure(ctx context.Context, images ...string) error {
	for _, image := range images {
		if err := l.ensure(ctx, image); err != nil {
			var u *UnavailableError
			if errors.As(err, &u) && u.Image == "" {
				u.Image = image
			}
			return err
		}
	}
	return nil
}

func (l *Lab) ensure(ctx context.Context, image string) error {
	repo := repository(image)
	for _, rc := range l.recipes {
		for _, n := range rc.names {
			if repository(n) == repo {
				return l.make(ctx, rc)
			}
		}
	}
	if l.Has(ctx, image) {
		return nil
	}
	return l.copyUpstream(ctx, repo)
}

// make makes the images of one recipe, once. A caller whose context ends leaves the work to the
// next one.
func (l *Lab) make(ctx context.Context, rc recipe) error {
	id := rc.names[0]
	unlock := l.lock(id)
	defer unlock()
	if l.isDone(id) {
		return nil
	}
	made, err := rc.make(ctx, l)
	if err != nil {
		return err
	}
	for _, n := range rc.names {
		if err := l.push(ctx, n, made); err != nil {
			return fmt.Errorf("filling the lab with %s: %w", n, err)
		}
	}
	l.setDone(id)
	return nil
}

func (l *Lab) lock(id string) (unlock func()) {
	l.mu.Lock()
	m := l.locks[id]
	if m == nil {
		m = &sync.Mutex{}
		l.locks[id] = m
	}
	l.mu.Unlock()
	m.Lock()
	return m.Unlock
}

func (l *Lab) isDone(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done[id]
}

func (l *Lab) setDone(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[id] = true
}

// product is what a recipe gives: an index or a single image.
type product struct {
	index v1.ImageIndex
	image v1.Image
}

// push puts the product into the registry. The layers are served from the cache, so only manifests
// and configs travel.
func (l *Lab) push(ctx context.Context, image string, p product) error {
	ref, err := name.ParseReference(l.Ref(image))
	if err != nil {
		return err
	}
	if p.index != nil {
		return remote.WriteIndex(ref, p.index, l.RemoteOptions(ctx)...)
	}
	return remote.Write(ref, p.image, l.RemoteOptions(ctx)...)
}

// otherRegistries are the registries besides docker.io that Dockerfiles name most.
var otherRegistries = []string{"gcr.io", "ghcr.io", "mcr.microsoft.com", "quay.io"}

// BuildkitdTOML is the part of a buildkitd.toml that sends pulls from docker.io and the other
// well-known registries to the lab. A mirror that lacks an image makes BuildKit ask the registry
// itself.
func (l *Lab) BuildkitdTOML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[registry.\"docker.io\"]\n  mirrors = [%q]\n", l.Addr())
	for _, host := range otherRegistries {
		fmt.Fprintf(&b, "[registry.%q]\n  mirrors = [%q]\n", host, l.Addr()+"/"+host)
	}
	fmt.Fprintf(&b, "[registry.%q]\n  http = true\n", l.Addr())
	return b.String()
}
