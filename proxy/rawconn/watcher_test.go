package rawconn

import (
	"net"
	"runtime"
	"testing"
	"time"
)

// peer sends the time at which it was told that the other side left.
type peer chan time.Time

func (p peer) Left() { p <- time.Now() }

func pair(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); c.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// TestWatcher: 60 clients leave, each behind unread bytes, one after the other. The
// watcher notices as soon as a blocked Read on another connection that is closed at the same time; at most 3
// may be later by more than 50 ms and twice what the Read took.
func TestWatcher(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("departures are watched on Linux only")
	}
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	late := 0
	for i := range 60 {
		server, client := pair(t)
		control, controlClient := pair(t)
		left := make(peer, 2)
		id, err := w.Add(server, left)
		if err != nil || id == 0 {
			t.Fatal(id, err)
		}
		if _, err := client.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		read := make(chan time.Time)
		go func() { // ends with controlClient
			_, _ = control.Read(make([]byte, 1))
			read <- time.Now()
		}()
		began := time.Now()
		_ = controlClient.Close()
		if i%2 == 0 {
			_ = client.Close()
		} else {
			_ = client.CloseWrite()
		}
		noticed, bare := (<-left).Sub(began), (<-read).Sub(began)
		if noticed > 50*time.Millisecond+2*bare {
			late++
		}
		w.Remove(id)
	}
	if late > 3 {
		t.Errorf("%d of 60 departures were noticed late", late)
	}
}

// TestWatcherRemove: after Remove nothing is told, and a connection without a socket is not watched.
func TestWatcherRemove(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("departures are watched on Linux only")
	}
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	server, client := pair(t)
	other, otherClient := pair(t)
	removed, kept := make(peer, 1), make(peer, 1)
	id, err := w.Add(server, removed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(other, kept); err != nil {
		t.Fatal(err)
	}
	w.Remove(id)
	_ = client.Close()
	_ = otherClient.Close() // its event comes after the removed one's
	<-kept
	select {
	case <-removed:
		t.Error("a removed peer was told")
	default:
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if id, err := w.Add(a, removed); id != 0 || err != nil {
		t.Errorf("a pipe: %d, %v", id, err)
	}
}

// TestConn: a socket and a pipe behave alike; Idle tells open, silent sockets from others.
func TestConn(t *testing.T) {
	server, client := pair(t)
	c := New(server)
	if open, known := c.Idle(); !open || !known {
		t.Errorf("a silent connection: %v, %v", open, known)
	}
	go func() { _, _ = client.Write([]byte("hello")) }()
	buf, n, err := c.ReadPooled(false)
	if err != nil || string((*buf)[:n]) != "hello" || len(*buf) != SmallSize {
		t.Fatalf("%q, %v", (*buf)[:n], err)
	}
	PutBuffer(buf)
	big := make([]byte, 1<<20)
	got := make(chan int)
	go func() {
		sum := 0
		for p := make([]byte, 1<<16); sum < len(big); {
			n, err := client.Read(p)
			if err != nil {
				break
			}
			sum += n
		}
		got <- sum
		_ = client.Close()
	}()
	if n, err := c.Write(big); n != len(big) || err != nil || <-got != len(big) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if buf, n, err := c.ReadPooled(true); buf != nil || n != 0 || err == nil {
		t.Errorf("at the end: %v, %d, %v", buf, n, err)
	}
	if open, known := c.Idle(); open || !known {
		t.Errorf("a closed connection: %v, %v", open, known)
	}
	a, b := net.Pipe()
	defer b.Close()
	p := New(a)
	if open, known := p.Idle(); open || known {
		t.Errorf("a pipe: %v, %v", open, known)
	}
	go func() { _, _ = b.Write([]byte("x")) }()
	if buf, n, err := p.ReadPooled(false); err != nil || n != 1 || (*buf)[0] != 'x' {
		t.Errorf("a pipe: %d, %v", n, err)
	}
}

// TestWatcherWithUnreadBytes: bytes that arrive are no departure, and the FIN behind them is still noticed.
func TestWatcherWithUnreadBytes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("departures are watched on Linux only")
	}
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	server, client := pair(t)
	other, otherClient := pair(t)
	first, second := make(peer, 1), make(peer, 1)
	for c, p := range map[*net.TCPConn]peer{server: first, other: second} {
		if _, err := w.Add(c, p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Write([]byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil { // they have arrived
		t.Fatal(err)
	}
	_ = otherClient.Close() // its event comes later than one for the bytes would
	<-second
	select {
	case <-first:
		t.Fatal("bytes were taken for a departure")
	default:
	}
	_ = client.Close()
	<-first
}
