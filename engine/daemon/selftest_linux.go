package daemon

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// selftestTimeout bounds the one build step of the self test.
const selftestTimeout = 60 * time.Second

// selftest runs one build step, once per runc and kernel. A runc that does not
// work looks, in a build, like a failure of the user's command.
func selftest(ctx context.Context, c *client.Client, s slot, runcPath string, rootless bool) error {
	program := exitProgram()
	if program == nil {
		return nil // not on this architecture
	}
	want, err := selftestKey(runcPath, rootless)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(s.selftest()); err == nil && bytes.Equal(have, want) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, selftestTimeout, errors.New("it did not end in a minute"))
	defer cancel()
	if err := runStep(ctx, c, program); err != nil {
		return fmt.Errorf("trying a build step with %s: %w: is this runc complete and recent? Otherwise %s", runcPath, err, runcHint)
	}
	if err := os.WriteFile(s.selftest(), want, 0o600); err != nil {
		return fmt.Errorf("recording the self test: %w", err)
	}
	return nil
}

// selftestKey identifies what the self test depends on.
func selftestKey(runcPath string, rootless bool) ([]byte, error) {
	fi, err := os.Stat(runcPath)
	if err != nil {
		return nil, fmt.Errorf("looking at runc: %w", err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("reading the kernel's version: %w", err)
	}
	return json.Marshal(map[string]any{
		"runc": runcPath, "size": fi.Size(), "modified": fi.ModTime().UnixNano(),
		"kernel": unix.ByteSliceToString(uts.Release[:]), "rootless": rootless,
	})
}

// runStep builds a RUN of the given program, and puts what it or runc printed
// into the error.
func runStep(ctx context.Context, c *client.Client, program []byte) error {
	root := llb.Scratch().File(llb.Mkfile("/exit", 0o755, program))
	step := root.Run(llb.Args([]string{"/exit"}), llb.IgnoreCache, llb.WithCustomName("zlayer self test"))
	def, err := step.Marshal(ctx, llb.LocalUniqueID("selftest"))
	if err != nil {
		return err
	}
	status := make(chan *client.SolveStatus)
	var output strings.Builder
	var eg errgroup.Group
	eg.Go(func() error {
		for st := range status {
			for _, l := range st.Logs {
				output.Write(l.Data)
			}
		}
		return nil
	})
	_, err = c.Solve(ctx, def, client.SolveOpt{Internal: true}, status)
	eg.Wait() //nolint:errcheck // it returns none
	if err == nil {
		return nil
	}
	if out := strings.TrimSpace(output.String()); out != "" {
		return fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// exitProgram returns an ELF executable that does nothing but exit(0), or nil
// for architectures we have no code for.
func exitProgram() []byte {
	var machine uint16
	var code []byte
	switch runtime.GOARCH {
	case "amd64":
		machine = 62
		code = []byte{
			0xb8, 0x3c, 0, 0, 0, // mov $60, %eax (exit)
			0x31, 0xff, // xor %edi, %edi
			0x0f, 0x05, // syscall
		}
	case "arm64":
		machine = 183
		code = []byte{
			0x00, 0x00, 0x80, 0xd2, // mov x0, #0
			0xa8, 0x0b, 0x80, 0xd2, // mov x8, #93 (exit)
			0x01, 0x00, 0x00, 0xd4, // svc #0
		}
	default:
		return nil
	}
	const (
		base   = 0x400000
		ehsize = 64
		phsize = 56
	)
	size := uint64(ehsize + phsize + len(code))
	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, v := range []any{
		uint16(2), machine, uint32(1), // executable, architecture, version
		uint64(base + ehsize + phsize), uint64(ehsize), uint64(0), // entry, program headers, section headers
		uint32(0), uint16(ehsize), uint16(phsize), uint16(1), uint16(0), uint16(0), uint16(0),
		// the only program header: load the file, readable and executable
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000),
	} {
		binary.Write(&b, binary.LittleEndian, v) //nolint:errcheck // a buffer takes everything
	}
	b.Write(code)
	return b.Bytes()
}
