package integration

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zlayer-dev/zlayer/engine"
	"github.com/zlayer-dev/zlayer/solver"
)

// emulationEnv is set for the process that has an emulator: the directory to work in.
const emulationEnv = "ZLAYER_EMULATION_CHILD"

// TestEngineEmulation runs steps for arm64 on a machine that is something else: with an emulator that
// the kernel knows, and with one that only the daemon finds. Emulators of the kernel are set up in a user
// namespace, so that nothing else on the machine has them.
func TestEngineEmulation(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		unavailable(t, "needs root, to set up an emulator")
	}
	buildkit(t) // so that what the machine lacks is found out in one place
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if dynamic(t, self) {
		unavailable(t, "the emulator is this program, and has to be linked statically: CGO_ENABLED=0")
	}
	for _, name := range []string{emulatorName, "buildkit-qemu-aarch64"} {
		if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := copyFile(self, filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(self, "-test.run=^TestEmulationChild$", "-test.v")
	cmd.Env = append(os.Environ(), emulationEnv+"="+dir, "TMPDIR="+dir)
	all := []syscall.SysProcIDMap{{Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), cannotEmulate):
		t.Skip(string(out)) // it takes a newer kernel, which no install script gives
	}
}

// dynamic reports whether a program needs libraries.
func dynamic(t *testing.T, file string) bool {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// cannotEmulate begins the reason why the machine cannot do it.
const cannotEmulate = "this kernel has no emulators for namespaces"

func copyFile(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// TestEmulationChild is the part of TestEngineEmulation in the namespace.
func TestEmulationChild(t *testing.T) {
	dir := os.Getenv(emulationEnv)
	if dir == "" {
		t.Skip("it is run by TestEngineEmulation")
	}
	context := files{"Dockerfile": "FROM scratch AS good\nCOPY good /\nRUN [\"/good\"]\nFROM scratch AS bad\nCOPY bad /\nRUN [\"/bad\"]\n"}.dir(t)
	for name, status := range map[string]int{"good": 0, "bad": 3} {
		if err := os.WriteFile(filepath.Join(context, name), arm64Program(name+" on arm64\n", status), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(what, target string) (*engine.Result, error) {
		t.Helper()
		e := openConfig(t, engine.Config{StateDir: t.TempDir(), NoDaemon: true})
		var said strings.Builder
		res, err := e.Build(t.Context(), engine.Request{Context: context, Target: target, Platforms: []string{"linux/arm64"}, Events: func(ev solver.Event) {
			if ev.Kind == solver.Output {
				said.Write(ev.Log.Data)
			}
		}})
		if want := target + " on arm64"; !strings.Contains(said.String(), want) {
			t.Errorf("%s: the step has said %q, want %q", what, said.String(), want)
		}
		return res, err
	}
	// The daemon cannot say that it has this one. A step that fails has failed all the same.
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	_, err := run("in PATH", "bad")
	if err == nil || !strings.Contains(err.Error(), "exit code: 3") || strings.Contains(err.Error(), "has no emulator") {
		t.Errorf("in PATH: a step that fails: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "bin", "buildkit-qemu-aarch64")); err != nil {
		t.Fatal(err)
	}

	const binfmt = "/proc/sys/fs/binfmt_misc"
	if err := unix.Mount("binfmt_misc", binfmt, "binfmt_misc", 0, ""); err != nil {
		t.Skipf("%s: mounting binfmt_misc: %v", cannotEmulate, err)
	}
	const magic, mask = `\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`, `\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`
	rule := ":zlayer:M::" + magic + ":" + mask + ":" + filepath.Join(dir, "bin", emulatorName) + ":F"
	if err := os.WriteFile(filepath.Join(binfmt, "register"), []byte(rule), 0o200); err != nil {
		t.Fatal(err)
	}
	if res, err := run("of the kernel", "good"); err != nil || res.Stages.Done != 1 {
		t.Errorf("of the kernel: %+v, %v", res, err)
	}
}
