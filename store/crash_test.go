package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// The test binary runs itself as other processes: ZLAYER_STORE_TEST names what to
// do, its arguments follow.
const childEnv = "ZLAYER_STORE_TEST"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := child(strings.Fields(what)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(args []string) error {
	s, err := Open(args[1])
	if err != nil {
		return err
	}
	defer s.Close()
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	switch args[0] {
	case "write":
		return writeForever(s, n)
	case "work":
		return work(s, n)
	}
	return errors.New("unknown child " + args[0])
}

func startChild(t *testing.T, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, " "))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// buildImage does what a build does: blobs one after another, then the import.
// Every image shares its first layer with all others. step, if any, is called
// between the parts.
func buildImage(ctx context.Context, s *Store, seed, size int, step func(), names ...string) error {
	if step == nil {
		step = func() {}
	}
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	layers := [][]byte{[]byte("the layer that all have"), make([]byte, size), make([]byte, size/2+1)}
	for _, l := range layers[1:] {
		for i := range l {
			l[i] = byte(r.Uint32())
		}
	}
	m := ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Layers: []ocispecs.Descriptor{}}
	m.SchemaVersion = 2
	config := ocispecs.Image{Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}}
	for _, l := range layers {
		d := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: digest.FromBytes(l), Size: int64(len(l))}
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		if err := sendBlob(ctx, s, l, d); err != nil {
			return err
		}
		step()
	}
	m.Config = descriptor(ocispecs.MediaTypeImageConfig, toJSON(noTB{}, config))
	if err := sendBlob(ctx, s, []byte(toJSON(noTB{}, config)), m.Config); err != nil {
		return err
	}
	step()
	root := descriptor(m.MediaType, toJSON(noTB{}, m))
	if err := sendBlob(ctx, s, []byte(toJSON(noTB{}, m)), root); err != nil {
		return err
	}
	step()
	return s.Import(ctx, root, names...)
}

// noTB is for helpers in a child, where there is no test.
type noTB struct{ testing.TB }

func (noTB) Helper()           {}
func (noTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// sendBlob writes in small pieces, to be interrupted in between.
func sendBlob(ctx context.Context, s *Store, b []byte, d ocispecs.Descriptor) error {
	w, err := content.OpenWriter(ctx, s.Content(), content.WithRef("blob-"+d.Digest.String()), content.WithDescriptor(d))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	for piece := range bytes.SplitAfterSeq(b, []byte{0}) {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if err := w.Commit(ctx, d.Size, d.Digest); !errdefs.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// writeForever imports images and says after each one which.
func writeForever(s *Store, first int) error {
	for i := first; ; i++ {
		name := fmt.Sprintf("docker.io/library/app:%d", i)
		if err := buildImage(context.Background(), s, i, 20_000, func() { fmt.Println("step") }, name, "latest"); err != nil {
			return err
		}
		fmt.Println(name)
	}
}

// A writer is killed at random moments. What it said it had imported is there;
// what is there is whole; its left-overs go.
func TestKilledWriter(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 3
	}
	dir := filepath.Join(t.TempDir(), "store")
	imported := map[string]bool{}
	for round := range rounds {
		cmd, out := startChild(t, "write", dir, strconv.Itoa(round*1_000_000))
		lines := bufio.NewScanner(out)
		note := func() {
			if strings.HasPrefix(lines.Text(), "docker.io/") {
				imported[lines.Text()] = true
			}
		}
		for n := 1 + rand.N(12); n > 0 && lines.Scan(); n-- { // six lines an image
			note()
		}
		// It writes on while we count: the kill comes anywhere in the next part.
		for spin := rand.N(2_000_000); spin > 0; {
			spin--
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			note()
		}
		_ = cmd.Wait()

		s := must[*Store](t)(Open(dir))
		if left, _ := os.ReadDir(s.private(sessionsDir)); len(left) != 0 {
			t.Errorf("round %d: sessions left: %v", round, left)
		}
		idx := must[*ocispecs.Index](t)(s.readIndex())
		there := map[string]bool{}
		for _, d := range idx.Manifests {
			there[entryName(d)] = true
		}
		for name := range imported {
			if !there[name] {
				t.Errorf("round %d: %s was imported and is gone", round, name)
			}
		}
		checkWhole(t, s)
		s.Close()
	}
	s := must[*Store](t)(Open(dir))
	defer s.Close()
	report := must[GCReport](t)(s.GC(context.Background(), GCPolicy{Grace: -1}))
	t.Logf("%d images imported, gc took %d orphans", len(imported), report.Blobs)
	checkWhole(t, s)
}

// work is one of many processes that do everything at once. Each keeps its own
// names, so at the end all of them must be there.
func work(s *Store, id int) error {
	ctx := context.Background()
	for i := range 8 {
		lease, err := s.Lease(ctx)
		if err != nil {
			return err
		}
		own := fmt.Sprintf("own%d:%d", id, i)
		// Seeds repeat between processes: they race for the same blobs.
		if err := buildImage(ctx, s, i, 3_000, nil, own, "shared"); err != nil {
			return fmt.Errorf("%s: %w", own, err)
		}
		if err := lease.Close(); err != nil {
			return err
		}
		if err := s.Tag(ctx, own, own+"-copy"); err != nil {
			return err
		}
		if _, err := s.Images(ctx, ListOptions{}); err != nil {
			return err
		}
		if i%2 == 1 {
			if _, err := s.Remove(ctx, own); err != nil {
				return err
			}
			if _, err := s.GC(ctx, GCPolicy{Grace: -1, Untagged: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestManyProcesses(t *testing.T) {
	s := openStore(t)
	const processes = 16
	var cmds []*exec.Cmd
	for i := range processes {
		cmd, _ := startChild(t, "work", s.Dir(), strconv.Itoa(i))
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	there := strings.Split(indexEntries(t, s), "\n")
	names := map[string]bool{}
	for _, line := range there {
		name, _, _ := strings.Cut(line, " ")
		names[name] = true
	}
	for id := range processes {
		for i := range 8 {
			name := fmt.Sprintf("docker.io/library/own%d:%d", id, i)
			if names[name] == (i%2 == 1) || !names[name+"-copy"] {
				t.Errorf("%s: %v, copy %v", name, names[name], names[name+"-copy"])
			}
		}
	}
	if n := checkWhole(t, s); n != processes*(8+4)+1 {
		t.Errorf("%d names, want %d", n, processes*(8+4)+1)
	}
	must[GCReport](t)(s.GC(context.Background(), GCPolicy{Grace: -1}))
	checkWhole(t, s)
}

// The same within one process: locks hold between goroutines, too.
func TestManyGoroutines(t *testing.T) {
	s := openStore(t)
	errs := make(chan error)
	for i := range 8 {
		go func() { errs <- work(s, i) }()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	checkWhole(t, s)
}
