//go:build unix

package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The socket is private, replaces one that a killed process left, and is gone
// after a stop; a path that is too long for a socket works on Linux.
func TestSocket(t *testing.T) {
	for _, name := range []string{"short", strings.Repeat("long", 40)} {
		folder := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if name != "short" && runtime.GOOS != "linux" {
			if _, err := Listen(folder); err == nil || !strings.Contains(err.Error(), "shorter buffer path") {
				t.Error(err)
			}
			continue
		}
		if _, err := Dial(t.Context(), folder); !errors.Is(err, ErrNotRunning) {
			t.Errorf("no socket: %v", err)
		}
		left, err := Listen(folder)
		if err != nil {
			t.Fatal(err)
		}
		// As a kill leaves it: the file is there, nobody listens.
		if err := left.(*socket).UnixListener.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Dial(t.Context(), folder); !errors.Is(err, ErrNotRunning) {
			t.Errorf("a socket that was left: %v", err)
		}
		l, err := Listen(folder)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(filepath.Join(folder, SocketName))
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%v, %v", info, err)
		}
		by := make(chan string, 1)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case by <- peer(r):
			default:
			}
			_, _ = io.WriteString(w, "{}")
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Serve(ctx, l, h) }()
		c, err := Dial(t.Context(), folder)
		if err != nil {
			t.Fatal(err)
		}
		if got := <-by; runtime.GOOS == "linux" && got != Me() {
			t.Errorf("the peer is %q, want %q", got, Me())
		}
		cancel()
		if err := errors.Join(<-ended, c.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if entries, err := os.ReadDir(folder); err != nil || len(entries) != 0 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	}
}

// Garbage on the socket costs the one who sends it, and nobody else.
func TestGarbage(t *testing.T) {
	folder := t.TempDir()
	b := openBed(t, folder, false)
	l, err := Listen(folder)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, b.server.Handler()) }()
	for _, garbage := range []string{"\x00\xff", "GET / HTTP/1.1\r\n\r\n", "POST /v1/resend HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat("{", maxRequest+10), strings.Repeat("A", 1<<17)} {
		c, err := dial(t.Context(), folder)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, garbage)
		answer, _ := io.ReadAll(io.LimitReader(c, 1<<16))
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%.40q is answered %.80q", garbage, answer)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	c, err := Dial(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := errors.Join(<-ended, c.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
