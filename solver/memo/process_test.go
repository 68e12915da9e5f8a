package memo_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

// TestMain lets the test binary be a writer, too: one that can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("ZLAYER_TEST_MEMO_WRITER") == "" {
		os.Exit(m.Run())
	}
	rounds, _ := strconv.Atoi(os.Getenv("ZLAYER_TEST_MEMO_ROUNDS"))
	id, _ := strconv.Atoi(os.Getenv("ZLAYER_TEST_MEMO_WRITER"))
	if err := write(os.Getenv("ZLAYER_TEST_MEMO_DIR"), id, rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write puts records of all sizes under keys that all writers share and under its
// own, and says so after each round. 0 rounds are rounds without end.
func write(dir string, id, rounds int) error {
	ctx, d := context.Background(), &memo.Dir{Path: dir}
	for i := 0; rounds == 0 || i < rounds; i++ {
		for _, key := range []int{i % 3, 1000*id + i%100} {
			r := memotest.WithParts(memotest.Record(key), 1+(i*7919)%300_000)
			r.Size, r.Names = int64(id), make([]string, id)
			if err := d.Put(ctx, r); err != nil {
				return err
			}
			got, err := d.Get(ctx, r.Key)
			if err != nil || len(got.Names) != int(got.Size) {
				return fmt.Errorf("got %+v, %w", got, err)
			}
		}
		fmt.Println(i)
	}
	return nil
}

// startWriter starts a process that writes.
func startWriter(t *testing.T, dir string, id, rounds int) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ZLAYER_TEST_MEMO_DIR="+dir, fmt.Sprint("ZLAYER_TEST_MEMO_WRITER=", id), fmt.Sprint("ZLAYER_TEST_MEMO_ROUNDS=", rounds))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, out
}

// checkFiles reads every file that has the name of a record, to its last byte.
func checkFiles(t *testing.T, d *memo.Dir) (n int) {
	t.Helper()
	for _, f := range files(t, d) {
		if strings.Contains(f, ".new-") {
			continue
		}
		b, err := os.ReadFile(f)
		must(t, err)
		r, err := memo.Decode(b)
		if err != nil || r.Key.Encoded() != filepath.Base(f) {
			t.Fatalf("%s: %+v, %v", f, r, err)
		}
		n++
	}
	return n
}

func TestDirProcesses(t *testing.T) {
	d := &memo.Dir{Path: filepath.Join(t.TempDir(), "memo")}
	var wg sync.WaitGroup
	for id := 1; id <= 8; id++ {
		cmd, out := startWriter(t, d.Path, id, 40)
		wg.Go(func() {
			_, _ = io.Copy(io.Discard, out)
			if err := cmd.Wait(); err != nil {
				t.Errorf("writer %d: %v", id, err)
			}
		})
	}
	wg.Wait()
	if n := checkFiles(t, d); n != 3+8*40 {
		t.Errorf("%d records, want %d", n, 3+8*40)
	}
	if n := len(files(t, d)); n != 3+8*40 {
		t.Errorf("%d files, want %d", n, 3+8*40)
	}
}

// TestDirKill9 kills writers in the middle of it. Whatever has the name of a record
// is one, whole; and what they left unfinished goes.
func TestDirKill9(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	c := &clock{t: time.Now()}
	d := &memo.Dir{Path: filepath.Join(t.TempDir(), "memo"), Now: c.now}
	for round := range rounds {
		var wg sync.WaitGroup
		for id := 1; id <= 3; id++ {
			cmd, out := startWriter(t, d.Path, id, 0)
			wg.Go(func() {
				lines := bufio.NewScanner(out)
				for i := 0; i <= round*id%17 && lines.Scan(); i++ {
					continue
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
				_ = cmd.Wait() // it says that it was killed
			})
		}
		wg.Wait()
		if checkFiles(t, d) == 0 {
			t.Error("nobody wrote anything")
		}
		must(t, d.Put(t.Context(), memotest.Record(0)))
	}
	left := len(files(t, d))
	c.t = c.t.Add(2 * time.Hour)
	_, err := d.Prune(t.Context(), memo.Limits{})
	must(t, err)
	whole := checkFiles(t, d)
	if n := len(files(t, d)); n != whole {
		t.Errorf("%d files, %d records", n, whole)
	}
	t.Logf("%d records, %d writers were killed in the middle of one", whole, left-whole)
}
