package daemon

import (
	"net"
	"sync"
	"time"
)

// countingListener counts open connections and says when there have been none
// for a while.
//
// Its promise: a connection that Accept has handed out is never taken away by
// idleness, because the decision to leave and the counting happen under one
// lock. A client that got an answer can rely on the daemon.
type countingListener struct {
	net.Listener
	idle func() // called once, when the listener has closed itself

	mu      sync.Mutex
	open    int
	closing bool
	timeout time.Duration
	timer   *time.Timer
}

// firstConnection is how long a daemon waits at least for whoever started it.
const firstConnection = 10 * time.Second

// newCountingListener wraps l. After timeout without connections, unless it is
// negative, the listener closes and idle is called.
func newCountingListener(l net.Listener, timeout time.Duration, idle func()) *countingListener {
	c := &countingListener{Listener: l, idle: idle, timeout: timeout}
	if timeout >= 0 {
		c.timer = time.AfterFunc(max(timeout, firstConnection), c.expire)
	}
	return c
}

// Accept returns the next connection, or net.ErrClosed once the listener has
// decided to close.
func (c *countingListener) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		conn.Close()
		return nil, net.ErrClosed
	}
	c.open++
	if c.timer != nil {
		c.timer.Stop()
	}
	return &countedConn{Conn: conn, listener: c}, nil
}

// closed reports whether the listener has decided to close.
func (c *countingListener) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// connections returns how many connections are open.
func (c *countingListener) connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// leave closes the listener if at most max connections are open, and reports
// whether it did (or had done so before).
func (c *countingListener) leave(max int) bool {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return true
	}
	if c.open > max {
		c.mu.Unlock()
		return false
	}
	c.closing = true
	c.mu.Unlock()
	c.Listener.Close()
	c.idle()
	return true
}

// expire is the timer's function. The timer may have fired just before Accept
// stopped it, which leave(0) then notices.
func (c *countingListener) expire() { c.leave(0) }

func (c *countingListener) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.open == 0 && c.timer != nil && !c.closing {
		c.timer.Reset(c.timeout)
	}
}

// countedConn tells its listener when it is closed.
type countedConn struct {
	net.Conn
	listener *countingListener
	once     sync.Once
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.listener.release)
	return err
}
