package lab_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/zlayer-dev/zlayer/integration/lab"
	"github.com/zlayer-dev/zlayer/integration/lab/labtest"
)

// start starts a lab of the test's own.
func start(t *testing.T, c lab.Config) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), c)
	if err != nil {
		var u *lab.UnavailableError
		if errors.As(err, &u) && !labtest.InCI() {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pull gets the image for the machine's platform, or for another one.
func pull(t *testing.T, l *lab.Lab, image string, platform ...string) v1.Image {
	t.Helper()
	p := &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if len(platform) > 0 {
		var err error
		if p, err = v1.ParsePlatform(platform[0]); err != nil {
			t.Fatal(err)
		}
	}
	img, err := remote.Image(ref(t, l.Ref(image)), append(l.RemoteOptions(t.Context()), remote.WithPlatform(*p))...)
	if err != nil {
		t.Fatalf("pulling %s: %v", image, err)
	}
	return img
}

func ref(t *testing.T, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func config(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// files unpacks the image's file system in memory, whiteouts applied.
func files(t *testing.T, img v1.Image) map[string]*tar.Header {
	t.Helper()
	rc := mutate.Extract(img)
	defer rc.Close()
	found := map[string]*tar.Header{}
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(h.Name, "/")] = h
	}
}

func content(t *testing.T, img v1.Image, name string) string {
	t.Helper()
	rc := mutate.Extract(img)
	defer rc.Close()
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err != nil {
			t.Fatalf("looking for %s: %v", name, err)
		}
		if h.Name == name {
			data, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
	}
}

// digests names every manifest of an image, so that two labs can be compared.
func digests(t *testing.T, l *lab.Lab, images []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, image := range images {
		d, err := remote.Head(ref(t, l.Ref(image)), l.RemoteOptions(t.Context())...)
		if err != nil {
			t.Fatalf("%s: %v", image, err)
		}
		all[image] = d.Digest.String()
	}
	return all
}

// eager lists the images that are there from the start, under all their names.
func eager() []string {
	var names []string
	for _, i := range lab.Images() {
		if !i.Lazy {
			names = append(names, i.Names...)
		}
	}
	return names
}

func TestImagesPullBackWholeByDigest(t *testing.T) {
	l := start(t, lab.Config{CacheDir: t.TempDir()})
	for _, image := range eager() {
		if !l.Has(t.Context(), image) {
			t.Fatalf("%s is not there", image)
		}
		d, err := remote.Get(ref(t, l.Ref(image)), l.RemoteOptions(t.Context())...)
		if err != nil {
			t.Fatalf("%s: %v", image, err)
		}
		byDigest := ref(t, l.Ref(image)).Context().Digest(d.Digest.String())
		if d.MediaType.IsImage() {
			img, err := remote.Image(byDigest, l.RemoteOptions(t.Context())...)
			if err != nil {
				t.Fatalf("%s: %v", image, err)
			}
			if err := validate.Image(img); err != nil {
				t.Errorf("%s: %v", image, err)
			}
			continue
		}
		index, err := remote.Index(byDigest, l.RemoteOptions(t.Context())...)
		if err != nil {
			t.Fatalf("%s: %v", image, err)
		}
		if err := validate.Index(index); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
}

func TestSameRecipeSameDigest(t *testing.T) {
	// two caches, so that every layer is made twice
	a := start(t, lab.Config{CacheDir: t.TempDir()})
	b := start(t, lab.Config{CacheDir: t.TempDir()})
	da, db := digests(t, a, eager()), digests(t, b, eager())
	for image, d := range da {
		if db[image] != d {
			t.Errorf("%s is %s in one lab and %s in another", image, d, db[image])
		}
	}
	if len(da) < 10 {
		t.Errorf("only %d images compared", len(da))
	}
}

func TestCacheIsUsedAndRepairsItself(t *testing.T) {
	cache := t.TempDir()
	first := start(t, lab.Config{CacheDir: cache})
	want := digests(t, first, []string{"busybox"})
	blobs, err := filepath.Glob(filepath.Join(cache, "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("blobs in the cache: %v, %v", blobs, err)
	}
	before, err := os.Stat(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	start(t, lab.Config{CacheDir: cache})
	after, err := os.Stat(blobs[0])
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("a second lab made %s again (%v)", blobs[0], err)
	}
	for _, b := range blobs {
		if err := os.Truncate(b, 10); err != nil {
			t.Fatal(err)
		}
	}
	third := start(t, lab.Config{CacheDir: cache})
	if got := digests(t, third, []string{"busybox"}); got["busybox"] != want["busybox"] {
		t.Errorf("after damage: got %s, want %s", got["busybox"], want["busybox"])
	}
	if err := validate.Image(pull(t, third, "busybox")); err != nil {
		t.Errorf("after damage: %v", err)
	}
}

func TestBusybox(t *testing.T) {
	l := labtest.Start(t)
	img := pull(t, l, "busybox:1.36")
	c := config(t, img)
	if got := strings.Join(c.Config.Cmd, " "); got != "sh" {
		t.Errorf("cmd: got %q, want sh", got)
	}
	fs := files(t, img)
	for name, mode := range map[string]int64{"tmp": 0o1777, "root": 0o700, "bin/busybox": 0o755, "etc/shadow": 0o640, "etc/passwd": 0o644} {
		if h := fs[name]; h == nil || h.Mode != mode {
			t.Errorf("%s: got %+v, want mode %o", name, h, mode)
		}
	}
	for _, applet := range []string{"sh", "cat", "wget", "httpd", "tar", "sha256sum"} {
		if h := fs["bin/"+applet]; h == nil || h.Linkname != "bin/busybox" {
			t.Errorf("bin/%s is no link to busybox: %+v", applet, h)
		}
	}
	for _, user := range []string{"root:x:0:0:", "daemon:x:1:1:", "www-data:x:33:33:", "nobody:x:65534:65534:"} {
		if !strings.Contains(content(t, img, "etc/passwd"), user) {
			t.Errorf("no user %s in /etc/passwd", user)
		}
	}
}

func TestForeignPlatformSaysWhatItIs(t *testing.T) {
	l := labtest.Start(t)
	for _, platform := range []string{"linux/amd64", "linux/arm64/v8", "linux/arm/v7"} {
		img := pull(t, l, "busybox", platform)
		c := config(t, img)
		if got := c.Platform().String(); got != platform {
			t.Errorf("got %s, want %s", got, platform)
		}
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if foreign := c.Architecture != runtime.GOARCH; foreign != (m.Annotations["dev.zlayer.lab.note"] != "") {
			t.Errorf("%s: annotations %v", platform, m.Annotations)
		}
	}
}

func TestFixtures(t *testing.T) {
	l := labtest.Start(t)
	if c := config(t, pull(t, l, "lab/onbuild")); len(c.Config.OnBuild) < 5 {
		t.Errorf("triggers: %q", c.Config.OnBuild)
	}
	c := config(t, pull(t, l, "lab/everything")).Config
	if c.User == "" || c.StopSignal == "" || c.Healthcheck == nil || len(c.Shell) == 0 || len(c.Volumes) == 0 ||
		len(c.ExposedPorts) == 0 || len(c.Entrypoint) == 0 || len(c.Cmd) == 0 || c.WorkingDir == "" || len(c.Labels) == 0 {
		t.Errorf("a field is empty: %+v", c)
	}
	img := pull(t, l, "lab/layers")
	if got := content(t, img, "layers/replaced"); got != "new\n" {
		t.Errorf("layers/replaced: got %q", got)
	}
	fs := files(t, img)
	for name, want := range map[string]bool{
		"layers/kept": true, "layers/removed": false, "layers/gone": false, "layers/gone/file": false,
		"layers/folder/first": false, "layers/folder/second": true, "layers/odd/dangling": true,
	} {
		if got := fs[name] != nil; got != want {
			t.Errorf("%s: there %v, want %v", name, got, want)
		}
	}
	for image, want := range map[string]string{
		"lab/single":       "application/vnd.oci.image.manifest.v1+json",
		"lab/docker-types": "application/vnd.docker.distribution.manifest.v2+json",
		"busybox":          "application/vnd.oci.image.index.v1+json",
	} {
		d, err := remote.Head(ref(t, l.Ref(image)), l.RemoteOptions(t.Context())...)
		if err != nil || string(d.MediaType) != want {
			t.Errorf("%s: got %v, %v, want %s", image, d, err, want)
		}
	}
}

func TestRef(t *testing.T) {
	l := labtest.Start(t)
	for image, want := range map[string]string{
		"busybox":                   "/library/busybox:latest",
		"busybox:1.36":              "/library/busybox:1.36",
		"lab/onbuild":               "/lab/onbuild:latest",
		"docker.io/busybox:1":       "/library/busybox:1",
		"docker.io/library/busybox": "/library/busybox:latest",
		"docker.io/lab/onbuild":     "/lab/onbuild:latest",
		"gcr.io/lab/busybox":        "/gcr.io/lab/busybox:latest",
	} {
		if got := l.Ref(image); got != l.Addr()+want {
			t.Errorf("%s: got %s, want %s", image, got, want)
		}
	}
}

func TestHoldsWhatIsPushed(t *testing.T) {
	for name, c := range map[string]lab.RegistryConfig{
		"memory":   {},
		"disk":     {BlobDir: t.TempDir()},
		"password": {User: "lab", Password: "secret"},
		"tls":      {TLS: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := lab.StartRegistry(c)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			img, err := random.Image(1000, 3)
			if err != nil {
				t.Fatal(err)
			}
			target := ref(t, r.Addr()+"/some/image:tag")
			if err := remote.Write(target, img, r.RemoteOptions(t.Context())...); err != nil {
				t.Fatal(err)
			}
			back, err := remote.Image(target, r.RemoteOptions(t.Context())...)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(back); err != nil {
				t.Error(err)
			}
			if len(r.Requests()) == 0 {
				t.Error("no request was remembered")
			}
			if (r.CA() != nil) != c.TLS || (c.TLS && !bytes.Contains(r.CA(), []byte("BEGIN CERTIFICATE"))) {
				t.Errorf("certificate: %q", r.CA())
			}
			if _, err := remote.Image(target, remote.WithContext(t.Context())); (err != nil) != (c.User != "" || c.TLS) {
				t.Errorf("pulling without credentials and certificate: %v", err)
			}
		})
	}
}

func TestUpstream(t *testing.T) {
	upstream := start(t, lab.Config{})
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	cf := config(t, img).DeepCopy()
	cf.OS, cf.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref(t, upstream.Ref("rust:1")), img, upstream.RemoteOptions(t.Context())...); err != nil {
		t.Fatal(err)
	}
	l := start(t, lab.Config{CacheDir: t.TempDir(), Upstream: upstream.Addr()})
	if l.Has(t.Context(), "rust:1") {
		t.Fatal("the image is there before it is asked for")
	}
	if err := l.Ensure(t.Context(), "rust:1"); err != nil {
		t.Fatal(err)
	}
	if err := upstream.Close(); err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pull(t, l, "rust:1")); err != nil {
		t.Error(err)
	}
	var u *lab.UnavailableError
	if err := l.Ensure(t.Context(), "nosuch:1"); !errors.As(err, &u) || u.Image != "nosuch:1" {
		t.Errorf("an image that nobody has: got %v", err)
	}
}

func TestBuildkitdTOML(t *testing.T) {
	l := labtest.Start(t)
	got := l.BuildkitdTOML()
	for _, want := range []string{`[registry."docker.io"]`, `mirrors = ["` + l.Addr() + `"]`, `mirrors = ["` + l.Addr() + `/gcr.io"]`, `[registry."` + l.Addr() + `"]`, "http = true"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
