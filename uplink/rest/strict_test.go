package rest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// This file holds what a receiver, or what stands before it, may do that no
// reading of the happy path shows.

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestAnswersThatHideTheirWords: what speaks of each event and cannot be
// understood is never "all taken".
func TestAnswersThatHideTheirWords(t *testing.T) {
	const refusal = `[{"status":200},{"status":422}]`
	for name, test := range map[string]struct {
		status   int
		encoding string
		body     string
		want     plant.Status
		words    string
	}{
		"packed":                    {200, "gzip", gzipped(t, refusal), plant.Retry, "is packed (gzip), which it was asked not to do"},
		"packed, 207":               {207, "br", "\x1b\x03", plant.Retry, "is packed (br)"},
		"a bomb":                    {200, "gzip", gzipped(t, `{"x":"`+strings.Repeat("x", 64<<20)+`"}`), plant.Retry, "rest: read results"},
		"packed by no coding":       {200, "identity", `[{"status":200},{"status":200}]`, plant.Delivered, ""},
		"packed, and empty":         {200, "gzip", "", plant.Delivered, ""},
		"a refusal that is packed":  {422, "gzip", gzipped(t, "no such order"), plant.Rejected, "the receiver answers 422 Unprocessable Entity"},
		"a byte order mark":         {200, "", "\ufeff" + `[{"status":503},{"status":422}]`, plant.Retry, "503"},
		"a byte order mark, object": {207, "", "\ufeff" + `{"results":[{"status":503},{"status":422}]}`, plant.Retry, "503"},
		"a list of two sorts":       {200, "", `[{"status":422},"oops"]`, plant.Retry, "no list of items"},
		"a list of other things":    {200, "", `[{"name":"a"},"oops"]`, plant.Delivered, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
				if got := q.header.Get("Accept-Encoding"); got != "identity" {
					t.Errorf("Accept-Encoding: %q", got)
				}
				w.Header().Set("Content-Type", "application/json")
				if test.encoding != "" {
					w.Header().Set("Content-Encoding", test.encoding)
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
				return false
			})
			o := testOptions(r.Addr())
			o.Batch = 2
			got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 2))
			if len(got) == 0 || got[0].Status != test.want || got[0].Cause != nil && !strings.Contains(got[0].Cause.Error(), test.words) {
				t.Fatalf("results %+v", got)
			}
			if text := fmt.Sprint(got[0].Cause); strings.Contains(text, "?") {
				t.Errorf("bytes are shown as words: %q", text)
			}
		})
	}
}

// TestAnswersThatRepeatTheEvents: a receiver may answer 201 with what it has
// made of them.
func TestAnswersThatRepeatTheEvents(t *testing.T) {
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		w.Write(q.body)
		return true
	})
	o := testOptions(r.Addr())
	o.Batch, o.MaxBody, o.Timeout = 500, 1<<20, config.Duration(5*time.Second)
	events := uplinktest.Events("M", 1, 500)
	for i := range events {
		events[i].Data = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 1200))
	}
	if got := openWith(t, o).Send(t.Context(), "M", events); delivered(got, 1) != 500 || len(r.seen()) != 1 || len(r.seen()[0].body) < 128<<10 {
		t.Errorf("%d requests, %d events, results %.300v", len(r.seen()), delivered(got, 1), got)
	}
}

// TestInterimAnswers are no answers yet.
func TestInterimAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"100":         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"102 and 103": "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
	} {
		r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool { raw(t, w, answer); return true })
		if got := openWith(t, testOptions(r.Addr())).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); delivered(got, 1) != 1 {
			t.Errorf("%s: results %+v", name, got)
		}
	}
}

// TestPlainHTTPToATLSPort is a wrong url, though the answer is 400: no event is
// at fault. The words are those of Go, nginx and Apache.
func TestPlainHTTPToATLSPort(t *testing.T) {
	for name, words := range map[string]string{
		"nginx":  "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
		"apache": "<p>Your browser sent a request that this server could not understand.<br />\nReason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
		"go":     "",
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, func(r *receiver) {
				if words == "" {
					r.tls = &tls.Config{Certificates: []tls.Certificate{uplinktest.NewAuthority(t).Issue(t, "mes", time.Now().Add(time.Hour), "127.0.0.1")}}
					return
				}
				r.answer = func(_ int, _ request, w http.ResponseWriter) bool {
					w.Header().Set("Content-Type", "text/html")
					w.WriteHeader(http.StatusBadRequest)
					io.WriteString(w, words)
					return false
				}
			})
			got := openWith(t, testOptions(r.Addr())).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			if len(got) != 1 || got[0].Status != plant.Retry || !systemWide(got[0]) || got[0].Wait != httplink.WrongWait || !strings.Contains(got[0].Cause.Error(), "write https://") {
				t.Errorf("results %+v", got)
			}
		})
	}
}

// TestTooLargeForNow: a 413 with Retry-After is no refusal (RFC 9110 section
// 15.5.14).
func TestTooLargeForNow(t *testing.T) {
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return false
	})
	got := openWith(t, testOptions(r.Addr())).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
	if len(got) != 1 || got[0].Status != plant.Retry || got[0].Wait != 7*time.Second || systemWide(got[0]) {
		t.Errorf("results %+v", got)
	}
}

// TestRefusedBeforeItIsRead: a receiver that does not read what is too large,
// answers and hangs up, is understood all the same.
func TestRefusedBeforeItIsRead(t *testing.T) {
	address := serving(t, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(testTimeout))
		if _, err := http.ReadRequest(bufio.NewReaderSize(c, 16)); err != nil {
			t.Error(err)
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	})
	o := testOptions(address)
	o.MaxBody, o.Timeout = 8<<20, config.Duration(5*time.Second)
	s := openWith(t, o)
	large := uplinktest.Events("M", 1, 1)
	large[0].Data = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 4<<20))
	for range 20 {
		got := s.Send(t.Context(), "M", large)
		if systemWide(got[0]) { // the network has thrown the answer away
			got = s.Send(t.Context(), "M", large)
		}
		if len(got) != 1 || got[0].Status != plant.Rejected || !strings.Contains(got[0].Cause.Error(), "413") {
			t.Fatalf("results %+v", got)
		}
	}
}

// TestTheSameBodyAfterALostAnswer: until it is known what became of a body, the
// same events go out in the same body with the same key, though more have come.
func TestTheSameBodyAfterALostAnswer(t *testing.T) {
	r := answering(t, func(n int, _ request, w http.ResponseWriter) bool {
		if n == 1 {
			raw(t, w, "HTTP/1.1 2")
		}
		return true
	})
	o := testOptions(r.Addr())
	o.Batch = 20
	s := openWith(t, o)
	if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 3)); len(got) != 1 || !systemWide(got[0]) {
		t.Fatalf("results %+v", got)
	}
	if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 9)); delivered(got, 1) != 9 {
		t.Fatalf("results %+v", got)
	}
	var keys []string
	for _, q := range r.seen() {
		keys = append(keys, strings.ReplaceAll(q.header.Get("Idempotency-Key"), "gw/M/", ""))
	}
	if want := "[0000000000000007-1..0000000000000007-3/3 0000000000000007-1..0000000000000007-3/3 0000000000000007-4..0000000000000007-9/6]"; fmt.Sprint(keys) != want {
		t.Errorf("keys %v\nwant %s", keys, want)
	}
	if q := r.seen(); string(q[0].body) != string(q[1].body) {
		t.Error("the body of the repeat is another one")
	}
}

// TestTLSThroughAProxy: events go through a tunnel that the proxy cannot read,
// and a proxy that opens none is named.
func TestTLSThroughAProxy(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	r := newReceiver(t, func(r *receiver) {
		r.tls = &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, "mes", time.Now().Add(time.Hour), "127.0.0.1")}}
	})
	var refuse bool
	proxy := answering(t, nil)
	proxy.answer = func(_ int, q request, w http.ResponseWriter) bool {
		if refuse {
			w.WriteHeader(http.StatusForbidden)
			return false
		}
		up, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Error(err)
			return false
		}
		down, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return false
		}
		io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { io.Copy(up, down); up.Close() }()
		io.Copy(down, up)
		down.Close()
		return false
	}
	o := testOptions(r.Addr())
	o.URL, o.Proxy, o.CA = "https://"+r.Addr()+"/events", "http://"+proxy.Addr(), ours.CA()
	o.Auth.Bearer = config.NewSecret("hunter2")
	s := openWith(t, o)
	if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 2)); delivered(got, 1) != 2 {
		t.Fatalf("results %+v", got)
	}
	s.Close()
	if q := proxy.seen(); len(q) != 1 || q[0].method != http.MethodConnect || q[0].header.Get("Authorization") != "" {
		t.Errorf("the proxy saw %+v", q)
	}
	refuse = true
	if got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); len(got) != 1 || !systemWide(got[0]) || !strings.Contains(got[0].Cause.Error(), "the proxy answers 403 Forbidden") {
		t.Errorf("results %+v", got)
	}
}
