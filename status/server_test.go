package status

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

func TestGuard(t *testing.T) {
	s := New(Options{Listen: "10.1.2.3:8080", Hosts: []string{"gateway.plant.example"}}, fixed(plantAt()), zaptest.NewLogger(t))
	for _, tt := range []struct {
		name, method, path, host string
		length                   int64
		code                     int
	}{
		{"page", "GET", "/", "127.0.0.1:8080", 0, 200},
		{"head", "HEAD", "/", "127.0.0.1", 0, 200},
		{"style", "GET", "/ui/style.css", "[::1]:8080", 0, 200},
		{"localhost", "GET", "/healthz", "LocalHost:1", 0, 200},
		{"loopback network", "GET", "/healthz", "127.8.9.1", 0, 200},
		{"listen host", "GET", "/healthz", "10.1.2.3:8080", 0, 200},
		{"named host", "GET", "/healthz", "gateway.plant.EXAMPLE.", 0, 200},
		{"other address", "GET", "/healthz", "10.1.2.4:8080", 0, 421},
		{"rebound name", "GET", "/healthz", "evil.example:8080", 0, 421},
		{"localhost as a part", "GET", "/healthz", "localhost.evil.example", 0, 421},
		{"no host", "GET", "/healthz", "", 0, 421},
		{"post", "POST", "/healthz", "localhost", 0, 405},
		{"put", "PUT", "/api/v1/status", "localhost", 0, 405},
		{"delete", "DELETE", "/", "localhost", 0, 405},
		{"trace", "TRACE", "/", "localhost", 0, 405},
		{"unknown path", "GET", "/nothing", "localhost", 0, 404},
		{"folder of the style", "GET", "/ui/", "localhost", 0, 404},
		{"template", "GET", "/ui/page.html", "localhost", 0, 404},
		{"path tricks", "GET", "//ui/../healthz", "localhost", 0, 307},
		{"large body", "GET", "/healthz", "localhost", maxBodyBytes + 1, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/", nil)
			r.URL.Path, r.Host, r.ContentLength = tt.path, tt.host, tt.length
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if w.Code != tt.code {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.code)
			}
			checkHeaders(t, w.Header())
		})
	}
}

func checkHeaders(t *testing.T, got http.Header) {
	t.Helper()
	for _, h := range headers {
		if v := got.Values(h[0]); len(v) != 1 || v[0] != h[1] {
			t.Errorf("header %s is %q, want %q", h[0], v, h[1])
		}
	}
	for _, name := range []string{"Server", "X-Powered-By"} {
		if got.Get(name) != "" {
			t.Errorf("header %s tells the version: %q", name, got.Get(name))
		}
	}
}

func TestListenEverywhereTakesAddressesButNoNames(t *testing.T) {
	s := New(Options{Listen: "0.0.0.0:8080"}, fixed(plantAt()), zaptest.NewLogger(t))
	allowed := s.allowedHosts()
	if !allowed("192.168.1.5:8080") || !allowed("[fe80::1]:8080") {
		t.Error("an IP address is refused")
	}
	if allowed("evil.example:8080") {
		t.Error("a name is accepted")
	}
}

type panicking struct{}

func (panicking) Snapshot() Snapshot { panic("boom") }

func TestPanicIsA500WithoutAStack(t *testing.T) {
	s := New(Options{Listen: "127.0.0.1:0"}, panicking{}, zaptest.NewLogger(t))
	r := httptest.NewRequest(http.MethodGet, "/healthz", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != 500 || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	checkHeaders(t, w.Header())
}

// run starts a real server and stops it when the test ends.
func run(t *testing.T, source Source) (addr string, stop func()) {
	t.Helper()
	s := New(Options{Listen: "127.0.0.1:0"}, source, zaptest.NewLogger(t))
	addr, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
	t.Cleanup(stop)
	return addr, stop
}

func TestRealServer(t *testing.T) {
	addr, stop := run(t, fixed(plantAt()))
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/ui/style.css", "/nothing"} {
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		checkHeaders(t, resp.Header)
	}
	client.CloseIdleConnections()
	stop()
	if c, err := net.Dial("tcp", addr); err == nil {
		t.Error("the socket is open after Run returned")
		_ = c.Close()
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	addr, _ := run(t, fixed(wellPlant()))
	idle := make([]net.Conn, maxConnections)
	for i := range idle {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle[i] = c
	}
	late, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if _, err := io.WriteString(late, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// All slots are held by connections that say nothing; the header time-out
	// frees them, and no earlier may the late one be answered.
	began := time.Now()
	if err := late.SetDeadline(began.Add(4 * headerTimeout)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(late).ReadString('\n')
	if err != nil || !strings.Contains(line, "200") {
		t.Fatalf("got %q, %v", line, err)
	}
	if waited := time.Since(began); waited < headerTimeout/2 {
		t.Errorf("connection %d was answered after %s, while %d others were open", maxConnections+1, waited, maxConnections)
	}
}

func TestListenTwiceOnOneAddressFails(t *testing.T) {
	addr, _ := run(t, fixed(wellPlant()))
	s := New(Options{Listen: addr}, fixed(wellPlant()), zaptest.NewLogger(t))
	if _, err := s.Listen(); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v, want an error that names %s", err, addr)
	}
}

func TestClose(t *testing.T) {
	s := New(Options{Listen: "127.0.0.1:0"}, fixed(wellPlant()), zaptest.NewLogger(t))
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run without Listen returned nil")
	}
	if _, err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Run returned %v after Close", err)
	}
	if _, err := s.Listen(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Close returned %v", err)
	}
}
