package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/util/bklog"
	"github.com/moby/buildkit/util/db"
	bolt "go.etcd.io/bbolt"
)

// bootIDFile tells one run of the machine from another.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// settleAfter is how long nobody has to be connected before what was written is
// synced to the disk. Calls that follow each other share one syncing.
const settleAfter = 10 * time.Second

// unsynced lets BuildKit's databases write without waiting for the disk while clients
// are connected: BuildKit commits a hundred times for an image, one commit after the
// other, and waiting for the disk twice in each is half the time of a build.
//
// A process that is killed loses nothing by that, since the kernel has what was
// written. A machine that stops may leave databases that contradict themselves. So a
// mark with the id of the machine's present run is on the disk for as long as anything
// may be unsynced; whoever finds one of an earlier run throws the state away, which is
// a cache (see discardUnsynced).
type unsynced struct {
	mark  string
	boot  string
	dbs   []db.Transactor
	delay time.Duration

	mu     sync.Mutex
	users  int
	off    bool // the databases do not sync
	closed bool
	timer  *time.Timer
}

// newUnsynced is for the databases of a slot, which sync until a client comes. Those
// that are not transactors are left as they are.
func newUnsynced(s slot, candidates ...any) *unsynced {
	u := &unsynced{mark: s.unsynced(), boot: bootID(), delay: settleAfter}
	for _, c := range candidates {
		if t, ok := c.(db.Transactor); ok {
			u.dbs = append(u.dbs, t)
		}
	}
	return u
}

// bootID is empty where the machine does not say.
func bootID() string {
	text, err := os.ReadFile(bootIDFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// begin notes that a client is there.
func (u *unsynced) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users++
	if u.timer != nil {
		u.timer.Stop()
	}
	if u.off || u.closed || u.boot == "" || len(u.dbs) == 0 {
		return
	}
	if err := writeSynced(u.mark, u.boot); err != nil {
		bklog.L.Warnf("databases stay synced: %v", err)
		return
	}
	u.off = true
	if err := u.sync(false); err != nil {
		bklog.L.Warnf("databases stay synced: %v", err)
	}
}

// end notes that a client has gone.
func (u *unsynced) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users--
	if u.users > 0 || !u.off || u.closed {
		return
	}
	if u.timer == nil {
		u.timer = time.AfterFunc(u.delay, u.expire)
	} else {
		u.timer.Reset(u.delay)
	}
}

// expire is the timer's function. A client may have come just before it was stopped.
func (u *unsynced) expire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users == 0 {
		u.settle()
	}
}

// close settles for good; the databases are closed after it.
func (u *unsynced) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.timer != nil {
		u.timer.Stop()
	}
	u.settle()
}

// settle has the databases sync again, from this commit on, and takes away the mark.
// A database that cannot leaves the mark where it is.
func (u *unsynced) settle() {
	if !u.off {
		return
	}
	if err := u.sync(true); err != nil {
		bklog.L.Warnf("syncing databases: %v", err)
		return
	}
	u.off = false
	if err := os.Remove(u.mark); err != nil {
		bklog.L.Warnf("syncing databases: %v", err)
	}
}

// sync switches syncing of all databases. It does so within a transaction, while
// nothing else commits; that one is synced when the others will be, and with it the
// whole file.
func (u *unsynced) sync(on bool) error {
	var errs []error
	for _, d := range u.dbs {
		errs = append(errs, d.Update(func(tx *bolt.Tx) error {
			tx.DB().NoSync = !on
			return nil
		}))
	}
	return errors.Join(errs...)
}

// listener counts the connections of l as clients.
func (u *unsynced) listener(l net.Listener) net.Listener { return &unsyncedListener{l, u} }

type unsyncedListener struct {
	net.Listener
	unsynced *unsynced
}

// Accept implements net.Listener.
func (l *unsyncedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.unsynced.begin()
	return &unsyncedConn{Conn: conn, unsynced: l.unsynced}, nil
}

type unsyncedConn struct {
	net.Conn
	unsynced *unsynced
	once     sync.Once
}

// Close implements net.Conn.
func (c *unsyncedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.unsynced.end)
	return err
}

// writeSynced writes a file that is on the disk when it returns, its name too.
func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// discardUnsynced throws away the state of a slot whose owner wrote without syncing
// when the machine stopped, and says so. The caller holds the slot's lock.
func discardUnsynced(s slot) (warning string, err error) {
	text, err := os.ReadFile(s.unsynced())
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for unsynced state: %w", err)
	}
	if boot := bootID(); boot != "" && string(text) == boot {
		return "", nil
	}
	if err := os.RemoveAll(s.root()); err != nil {
		return "", fmt.Errorf("removing unsynced state: %w", err)
	}
	if err := errors.Join(s.create(), os.Remove(s.unsynced())); err != nil {
		return "", fmt.Errorf("removing unsynced state: %w", err)
	}
	return "the machine stopped during a build, so the build cache was removed: builds begin from nothing once", nil
}
