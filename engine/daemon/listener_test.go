package daemon

import (
	"errors"
	"net"
	"testing"
	"time"
)

// pipeListener hands out one end of in-memory connections.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return nil }
func (l *pipeListener) connect() net.Conn {
	a, b := net.Pipe()
	l.conns <- b
	return a
}

func TestCountingListener(t *testing.T) {
	inner := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	idle := make(chan struct{})
	l := newCountingListener(inner, time.Millisecond, func() { close(idle) })
	inner.connect()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n := l.connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if l.leave(0) {
		t.Error("it leaves although somebody is connected")
	}
	l.expire() // a timer that fired late
	if l.closed() {
		t.Error("a late timer closed it")
	}
	conn.Close()
	conn.Close() // counts once
	<-idle
	if n := l.connections(); n != 0 {
		t.Errorf("%d connections, want 0", n)
	}
	if !l.leave(0) {
		t.Error("it does not know that it has left")
	}
	// One that had come in just before is turned away.
	inner.closed = make(chan struct{})
	client := inner.connect()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after leaving: %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the late connection is still open")
	}
}

func TestCountingListenerForEver(t *testing.T) {
	inner := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	l := newCountingListener(inner, -1, func() {})
	inner.connect()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if l.closed() || l.timer != nil {
		t.Error("it has an idle timer")
	}
}
