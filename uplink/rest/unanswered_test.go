package rest

import (
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// serving accepts connections on loopback until the test ends.
func serving(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// TestAnEndWithoutAnAnswerNamesWho: what closes the connection, or speaks TLS where
// plain HTTP was expected, is named with its address and what to write.
func TestAnEndWithoutAnAnswerNamesWho(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	pair := ours.Issue(t, "server", time.Now().Add(time.Hour), "127.0.0.1")
	alert := func(c net.Conn) { // what a server of TLS says to HTTP
		_, _ = c.Read(make([]byte, 1<<10))
		_, _ = c.Write([]byte{0x15, 3, 1, 0, 2, 2, 0x46, '\n'})
	}
	silent := func(c net.Conn) {
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}).Handshake() // it fails, which is all that it says
	}
	closing := func(c net.Conn) { _, _ = c.Read(make([]byte, 16<<10)) }
	for name, x := range map[string]struct {
		serve       func(net.Conn)
		proxy       bool
		url, reason string
	}{
		"proxy that alerts, to HTTPS":  {alert, true, "https://mes.example/x", "the proxy http://ADDR does not answer in HTTP; if it is called by TLS, write https:// in proxy"},
		"proxy that closes, to HTTPS":  {closing, true, "https://mes.example/x", "the proxy http://ADDR closed the connection before it answered; if it is called by TLS, write https:// in proxy"},
		"proxy that closes, to HTTP":   {closing, true, "http://mes.example/x", "the proxy http://ADDR closed the connection before it answered; if it is called by TLS, write https:// in proxy"},
		"proxy of Go's TLS, to HTTPS":  {silent, true, "https://mes.example/x", "write https:// in proxy"},
		"receiver that alerts":         {alert, false, "http://ADDR/x", "POST http://ADDR/x: it does not answer in HTTP; if it speaks TLS there, write https:// in url"},
		"receiver that closes":         {closing, false, "http://ADDR/x", "POST http://ADDR/x: it closed the connection before it answered"},
		"receiver that closes for TLS": {closing, false, "https://ADDR/x", "POST https://ADDR/x: it closed the connection before it answered"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serving(t, x.serve)
			o := testOptions(addr)
			o.URL, o.CA = strings.ReplaceAll(x.url, "ADDR", addr), ""
			if x.proxy {
				o.Proxy = "http://" + addr
			}
			got := openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			if want := strings.ReplaceAll(x.reason, "ADDR", addr); len(got) != 1 || got[0].Status != plant.Retry || !systemWide(got[0]) || !strings.HasSuffix(got[0].Cause.Error(), want) {
				t.Errorf("got %v, want %q", got[0].Cause, want)
			}
		})
	}
}

// TestAnAnswerThatIsCutIsSaidSo: what ends in the middle, does not end, or is no
// HTTP, in words of people; nothing counts as delivered.
func TestAnAnswerThatIsCutIsSaidSo(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"results\":["
	answer := func(text string, hold bool) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 16<<10))
			_, _ = c.Write([]byte(text))
			if hold { // until the other side gives up
				_, _ = c.Read(make([]byte, 1))
			}
		}
	}
	for name, x := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"cut":           {answer(head, false), "cannot be read: the connection ended in the middle of it"},
		"without end":   {answer(head, true), "cannot be read: it did not end within 1s"},
		"two lengths":   {answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n\r\n{}", false), "it does not keep to HTTP: http: message cannot contain multiple Content-Length headers"},
		"endless heads": {answer("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 128<<10), true), "it does not keep to HTTP: server response headers exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(serving(t, x.serve))
			o.Results = resultsRequired
			if name == "without end" {
				o.Timeout = config.Duration(time.Second)
			}
			got := openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			if len(got) != 1 || got[0].Status != plant.Retry || !strings.Contains(got[0].Cause.Error(), x.want) {
				t.Errorf("got %v, want %q", got[0].Cause, x.want)
			}
		})
	}
}
