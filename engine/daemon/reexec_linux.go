package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"
)

// orderEnv carries an order, in JSON, to a process that is to become a daemon.
const orderEnv = "ZLAYER_DAEMON_ORDER"

// Descriptors that a spawned process finds open.
const (
	reportFD = 3 // it writes one report there
	lifeFD   = 4 // end of file means that whoever needs it has gone
	firstFD  = 5
)

// report is the one message of a spawned process to whoever spawned it.
type report struct {
	Error string
	// Locked means that the slot has another owner.
	Locked bool
	// NoProc means that proc cannot be mounted in a new process namespace.
	NoProc bool
}

// reexecs is set once Reexec has been called in a process that is no daemon.
// Without it, spawning would run the whole program again, with all it does
// before it happens to come to this package.
var reexecs atomic.Bool

// Reexec must be called first thing in main, and in TestMain, of a program
// that uses Connect or InProcess and leaves Config.Executable empty. In a
// process that was spawned to be a daemon it serves until the daemon leaves
// and returns true; main should then return. Otherwise it returns false at
// once.
func Reexec() bool {
	v, ok := os.LookupEnv(orderEnv)
	if !ok {
		reexecs.Store(true)
		return false
	}
	os.Unsetenv(orderEnv)
	closeInherited()
	pipe := os.NewFile(reportFD, "report")
	var o order
	if err := json.Unmarshal([]byte(v), &o); err != nil {
		sendReport(pipe, report{Error: fmt.Sprintf("reading %s: %v", orderEnv, err)})
		return true
	}
	if o.Stage == stageInit {
		runInit(pipe, o)
	} else {
		runDaemon(pipe, o)
	}
	return true
}

// closeInherited closes what the caller's caller happened to have open, such
// as the pipe of a shell that waits for it to be closed. Everything that the
// Go runtime has opened in this process is marked close-on-exec, so what is
// not has come from outside. Our own descriptors become close-on-exec.
func closeInherited() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < reportFD {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		if fd >= firstFD {
			unix.Close(fd)
		} else {
			unix.CloseOnExec(fd)
		}
	}
}

// runDaemon serves the order's slot in this process, which belongs to it
// alone: its output, signals, umask and log settings are changed.
func runDaemon(pipe *os.File, o order) {
	log, err := newRotatingLog(o.slot().log(), maxLog, true)
	if err != nil {
		sendReport(pipe, report{Error: err.Error()})
		return
	}
	logrus.SetOutput(log)
	logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: time.RFC3339Nano})
	if o.Settings.Debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	// BuildKit relies on it: modes of files would depend on who started us.
	unix.Umask(0)
	fscopy.UmaskIsZero = true
	if r := enterNamespace(&o); r != nil {
		sendReport(pipe, *r)
		return
	}

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	hurry := watch(cancel, o.Bound)
	err = serve(ctx, o, func(Info) { sendReport(pipe, report{}) }, hurry)
	if err != nil {
		logrus.Errorf("daemon failed: %v", err)
		// After readiness nobody reads this any more.
		sendReport(pipe, report{Error: err.Error(), Locked: errors.Is(err, errLocked)})
	}
}

// watch cancels on SIGTERM and SIGINT and, if bound, when the parent closes
// the life pipe. The returned channel closes at the second
// signal.
func watch(cancel context.CancelCauseFunc, bound bool) <-chan struct{} {
	signal.Ignore(syscall.SIGHUP)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	hurry := make(chan struct{})
	go func() {
		s := <-signals
		cancel(fmt.Errorf("signal: %s", s))
		<-signals
		close(hurry)
	}()
	if bound {
		go func() {
			os.NewFile(lifeFD, "life").Read(make([]byte, 1)) //nolint:errcheck // it only ever ends
			cancel(errors.New("the caller has gone"))
		}()
	}
	return hurry
}

// sendReport writes r and closes the pipe; later reports go nowhere.
func sendReport(pipe *os.File, r report) {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("daemon: report cannot be encoded: %v", err))
	}
	pipe.Write(append(b, '\n')) //nolint:errcheck // if nobody reads it, nobody cares
	pipe.Close()
}
