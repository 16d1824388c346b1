package faultnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// patience bounds what must happen; reaching it is a failure.
const patience = 20 * time.Second

// shortly is how long a test looks for something that must not happen.
const shortly = 60 * time.Millisecond

// echo starts a server that sends back what it gets, and a proxy to it.
func echo(t *testing.T) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	p, err := New(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

func expectSilence(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(shortly))
	n, err := c.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
}

func TestPass(t *testing.T) {
	p := echo(t)
	c := dial(t, p)
	send(t, c, "hello")
	expect(t, c, "hello")
	if p.Conns() != 1 || p.Accepted() != 1 {
		t.Errorf("Conns = %d, Accepted = %d; want 1, 1", p.Conns(), p.Accepted())
	}
}

func TestRefuseAndBack(t *testing.T) {
	p := echo(t)
	c := dial(t, p)
	send(t, c, "x")
	expect(t, c, "x")
	p.Refuse()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("an open connection survived Refuse")
	}
	if c, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("dial while refusing: %v, want connection refused", err)
	}
	p.Pass()
	deadline := time.Now().Add(patience)
	for {
		c, err := net.Dial("tcp", p.Addr())
		if err == nil {
			send(t, c, "y")
			expect(t, c, "y")
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

func TestStallFreezesAndThaws(t *testing.T) {
	p := echo(t)
	old := dial(t, p)
	send(t, old, "a")
	expect(t, old, "a")
	p.Stall()
	send(t, old, "b")
	expectSilence(t, old)
	fresh := dial(t, p)
	send(t, fresh, "c")
	expectSilence(t, fresh)
	p.Pass()
	expect(t, old, "b")
	expect(t, fresh, "c")
}

func TestCutResets(t *testing.T) {
	p := echo(t)
	c := dial(t, p)
	send(t, c, "a")
	expect(t, c, "a")
	p.Cut()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after Cut: %v, want connection reset", err)
	}
	c = dial(t, p)
	send(t, c, "b")
	expect(t, c, "b")
}

func TestCutAfterCutsOnceAndWithinAChunk(t *testing.T) {
	for name, set := range map[string]func(*Proxy, int){"answers": (*Proxy).CutAfter, "requests": (*Proxy).CutRequestsAfter} {
		t.Run(name, func(t *testing.T) {
			p := echo(t)
			set(p, 7)
			c := dial(t, p)
			send(t, c, "12345")
			expect(t, c, "12345")
			send(t, c, "67890")
			rest, _ := io.ReadAll(c)
			// The target may get to echo nothing of what it read last.
			if !bytes.HasPrefix([]byte("67"), rest) || (name == "answers" && len(rest) != 2) {
				t.Errorf("got %q after the first 5 bytes, want 67", rest)
			}
			c = dial(t, p)
			send(t, c, "second connection")
			expect(t, c, "second connection")
		})
	}
}

func TestDelay(t *testing.T) {
	p := echo(t)
	c := dial(t, p)
	p.Delay(80 * time.Millisecond)
	start := time.Now()
	send(t, c, "a")
	expect(t, c, "a")
	if d := time.Since(start); d < 80*time.Millisecond {
		t.Errorf("answered after %v, want at least 80ms", d)
	}
}

func TestSlow(t *testing.T) {
	p := echo(t)
	c := dial(t, p)
	p.Slow(200)
	start := time.Now()
	send(t, c, "12345678901")
	expect(t, c, "12345678901")
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("11 bytes at 200/s took %v, want at least 50ms", d)
	}
	p.Slow(1)
	send(t, c, "abc")
	expect(t, c, "a")
	p.Pass() // the rest comes at once
	expect(t, c, "bc")
}

func TestCorruptAndDuplicate(t *testing.T) {
	p := echo(t)
	c := dial(t, p)
	p.Corrupt(1)
	send(t, c, "abc")
	expect(t, c, "a\x9dc")
	p.Duplicate()
	send(t, c, "abc")
	expect(t, c, "abcabc")
}

func TestTargetAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p, err := New(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return // the reset came before Dial returned
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to an absent target stayed open: %v", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, disturb := range []func(*Proxy){(*Proxy).Pass, (*Proxy).Stall, (*Proxy).Refuse, func(p *Proxy) { p.Delay(time.Hour) }, func(p *Proxy) { p.Refuse(); p.Pass() }} {
		p, err := New(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, p)
		send(t, c, "x")
		disturb(p)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if p.Conns() != 0 {
			t.Errorf("%d connections left", p.Conns())
		}
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}
