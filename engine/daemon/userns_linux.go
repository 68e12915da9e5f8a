package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	subid "github.com/moby/sys/user"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Rootless operation. Somebody who is not root gets a user namespace in which
// they are, with the ids that /etc/subuid and /etc/subgid give them. A Go
// process cannot enter one by itself, and a process that was executed before
// its ids were mapped has lost its capabilities. Hence two steps: the spawned
// process, stageInit, waits for the mapping and executes the daemon, which is
// then root. If possible there is a process namespace around both: whatever
// the daemon leaves behind when it is killed dies with it.

// stage is the part that a spawned process plays.
type stage int

const (
	stageDaemon stage = iota // serve
	stageInit                // be the first process of the namespaces
)

// minSubIDs is what images need: ids below 65536.
const minSubIDs = 65535

// idMap is one line for newuidmap: size ids from inside on are outside on.
type idMap struct{ inside, outside, size int64 }

// userNS holds the tools and ids for a user namespace of this user.
type userNS struct {
	newuidmap, newgidmap string
	uids, gids           []idMap
}

// needsUserNS reports whether this user cannot mount as it is.
func needsUserNS() bool { return os.Geteuid() != 0 }

// findUserNS looks for what a user namespace takes, and says exactly what is
// missing.
func findUserNS() (*userNS, error) {
	u, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("finding out who you are: %w", err)
	}
	var ns userNS
	var missing []string
	for _, tool := range []struct {
		name string
		path *string
	}{{"newuidmap", &ns.newuidmap}, {"newgidmap", &ns.newgidmap}} {
		if *tool.path, err = exec.LookPath(tool.name); err != nil {
			missing = append(missing, fmt.Sprintf("the program %s (Debian, Ubuntu: apt-get install uidmap; Fedora: dnf install shadow-utils)", tool.name))
		}
	}
	for _, ids := range []struct {
		file string
		own  int
		maps *[]idMap
	}{{"/etc/subuid", os.Geteuid(), &ns.uids}, {"/etc/subgid", os.Getegid(), &ns.gids}} {
		ranges, err := subid.ParseSubIDFileFilter(ids.file, func(s subid.SubID) bool {
			return s.Name == u.Username || s.Name == u.Uid
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("reading %s: %w", ids.file, err)
		}
		m, n := mapIDs(ids.own, ranges)
		if n < minSubIDs {
			missing = append(missing, fmt.Sprintf("a range of %d ids in %s (as root: echo %s:100000:65536 >> %s, with a range nobody else has)", minSubIDs+1, ids.file, u.Username, ids.file))
		}
		*ids.maps = m
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("building without root needs %s; or run as root, or use another BuildKit with --addr", strings.Join(missing, " and "))
	}
	return &ns, nil
}

// mapIDs maps own to 0 and the ranges to what follows. It returns the number
// of ids in the ranges as well.
func mapIDs(own int, ranges []subid.SubID) ([]idMap, int64) {
	m := []idMap{{0, int64(own), 1}}
	next := int64(1)
	for _, r := range ranges {
		if r.Count > 0 {
			m = append(m, idMap{next, r.SubID, r.Count})
			next += r.Count
		}
	}
	return m, next - 1
}

// attributes makes a command start in new namespaces.
func (ns *userNS) attributes(attr *syscall.SysProcAttr, withPID bool) {
	attr.Cloneflags |= syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	if withPID {
		attr.Cloneflags |= syscall.CLONE_NEWPID
	}
}

// write gives the process its ids.
func (ns *userNS) write(pid int) error {
	for _, m := range []struct {
		tool string
		maps []idMap
	}{{ns.newuidmap, ns.uids}, {ns.newgidmap, ns.gids}} {
		args := []string{strconv.Itoa(pid)}
		for _, l := range m.maps {
			for _, n := range []int64{l.inside, l.outside, l.size} {
				args = append(args, strconv.FormatInt(n, 10))
			}
		}
		if out, err := exec.Command(m.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("mapping ids with %s: %w: %s", m.tool, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// explainClone adds to an error from starting a process in a user namespace
// what usually forbids it.
func explainClone(err error) error {
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EACCES) {
		return err
	}
	return fmt.Errorf("%w: user namespaces are not allowed here: see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, in a container its seccomp profile; or run as root", err)
}

// runInit is the first process of the namespaces: it starts the daemon once
// ids are mapped, passes signals on, collects orphans and ends with the daemon.
func runInit(pipe *os.File, o order) {
	fail := func(err error) { sendReport(pipe, report{Error: err.Error()}) }
	life := os.NewFile(lifeFD, "life")
	if n, err := life.Read(make([]byte, 1)); n != 1 {
		fail(fmt.Errorf("waiting for mapped ids: %w", err))
		return
	}
	o.Stage = stageDaemon
	b, err := json.Marshal(o)
	if err != nil {
		fail(err)
		return
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), orderEnv+"="+string(b))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{pipe, life}
	// Being killed ourselves must not leave the daemon alone, should there be
	// no process namespace. The thread must live as long as we do for that.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		fail(explainClone(fmt.Errorf("starting the daemon: %w", err)))
		return
	}
	pipe.Close()
	life.Close()
	go func() {
		for s := range signals {
			cmd.Process.Signal(s) //nolint:errcheck // it may have ended
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if pid == cmd.Process.Pid || (err != nil && !errors.Is(err, syscall.EINTR)) {
			return
		}
	}
}

// enterNamespace does what is left to do inside of the namespaces. It returns
// nil to go on.
func enterNamespace(o *order) *report {
	if !o.Namespaced {
		return nil
	}
	// Our mounts are nobody else's, while new ones outside remain visible.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return &report{Error: explainClone(fmt.Errorf("making mounts private: %w", err)).Error()}
	}
	if o.NoProcessSandbox {
		return nil
	}
	err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil {
		logrus.Warnf("mounting proc: %v", err)
		return &report{NoProc: true}
	}
	return nil
}
