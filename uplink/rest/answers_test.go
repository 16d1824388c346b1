package rest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// raw answers with these bytes and ends the connection.
func raw(t testing.TB, w http.ResponseWriter, answer string) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	io.WriteString(c, answer)
	c.Close()
}

// systemWide reports whether a Result keeps the whole uplink waiting.
func systemWide(r plant.Result) bool {
	var link *uplink.LinkError
	return errors.As(r.Cause, &link)
}

// TestAnswers has a row for each answer: what becomes of the event.
func TestAnswers(t *testing.T) {
	const (
		machine = false
		system  = true
	)
	later := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	for name, test := range map[string]struct {
		status int
		header map[string]string
		body   string
		raw    string

		want   plant.Status
		system bool
		wait   time.Duration // at least, and at most 2 s longer
		words  string
	}{
		"200":                        {status: 200, body: "OK", want: plant.Delivered},
		"200 with an empty body":     {status: 200, want: plant.Delivered},
		"200 with a page":            {status: 200, header: map[string]string{"Content-Type": "text/html"}, body: "<html>thanks", system: system, wait: httplink.WrongWait, words: "a web page came where an answer was expected"},
		"200 with a cut body":        {raw: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.", want: plant.Delivered},
		"200 with an endless body":   {status: 200, body: strings.Repeat("x", 1<<20), want: plant.Delivered},
		"200 cut in the headers":     {raw: "HTTP/1.1 200 OK\r\nContent-Le", system: system, words: "it does not keep to HTTP"},
		"200 without a reason":       {raw: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", want: plant.Delivered},
		"201":                        {status: 201, header: map[string]string{"Location": "http://other.example/1"}, body: `{"id":5}`, want: plant.Delivered},
		"202":                        {status: 202, want: plant.Delivered},
		"204":                        {status: 204, want: plant.Delivered},
		"207 that says nothing":      {status: 207, words: "says nothing of each event"},
		"207 with a result":          {status: 207, body: `{"results":[{"status":200}]}`, want: plant.Delivered},
		"207 with a refusal":         {status: 207, body: `[{"status":422,"error":"no such order"}]`, want: plant.Rejected, words: "422 Unprocessable Entity: no such order"},
		"300":                        {status: 300, system: system, wait: httplink.WrongWait, words: "check url"},
		"304":                        {status: 304, system: system, wait: httplink.WrongWait, words: "check url"},
		"400":                        {status: 400, body: "order: unknown\r\n\x1b[31mcode\u202e", want: plant.Rejected, words: "the receiver answers 400 Bad Request: order: unknown [31mcode?"},
		"400 with a problem":         {status: 400, header: map[string]string{"Content-Type": "application/problem+json"}, body: `{"type":"about:blank","title":"Bad order","detail":"ORD-1 is closed"}`, want: plant.Rejected, words: "Bad order: ORD-1 is closed"},
		"400 with an error object":   {status: 400, body: `{"error":{"code":7,"message":"no such machine"}}`, want: plant.Rejected, words: "no such machine"},
		"400 with a cut body":        {raw: "HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nno order", want: plant.Rejected, words: "no order"},
		"400 with a huge body":       {status: 400, body: strings.Repeat("no ", 1<<18), want: plant.Rejected, words: "no no no"},
		"401":                        {status: 401, header: map[string]string{"WWW-Authenticate": "Bearer"}, system: system, wait: httplink.WrongWait, words: "check the secret of auth"},
		"402":                        {status: 402, system: system, wait: httplink.WrongWait},
		"403":                        {status: 403, body: `{"message":"no scope events:write"}`, system: system, wait: httplink.WrongWait, words: "no scope events:write; check what auth may do"},
		"404":                        {status: 404, body: "<html><h1>Not Found", system: system, wait: httplink.WrongWait, words: "404 Not Found; check url"},
		"405":                        {status: 405, system: system, wait: httplink.WrongWait, words: "check url and method"},
		"406":                        {status: 406, system: system, wait: httplink.WrongWait},
		"407":                        {status: 407, system: system, wait: httplink.WrongWait, words: "proxy"},
		"408":                        {status: 408, system: system},
		"409":                        {status: 409, words: "set conflict: delivered"},
		"410":                        {status: 410, system: system, wait: httplink.WrongWait},
		"412":                        {status: 412, want: plant.Rejected},
		"413":                        {status: 413, want: plant.Rejected, words: "413 Request Entity Too Large"},
		"414":                        {status: 414, system: system, wait: httplink.WrongWait},
		"415":                        {status: 415, system: system, wait: httplink.WrongWait, words: "does not take CloudEvents"},
		"418":                        {status: 418, want: plant.Rejected},
		"421":                        {status: 421, system: system, wait: httplink.WrongWait},
		"422":                        {status: 422, body: `"downtime type 7 is unknown"`, want: plant.Rejected, words: "downtime type 7 is unknown"},
		"423":                        {status: 423, system: machine},
		"425":                        {status: 425, system: system},
		"426":                        {status: 426, header: map[string]string{"Upgrade": "h2c"}, system: system, wait: httplink.WrongWait},
		"429":                        {status: 429, system: system},
		"429 with seconds":           {status: 429, header: map[string]string{"Retry-After": "17"}, system: system, wait: 17 * time.Second},
		"429 with a date":            {status: 429, header: map[string]string{"Retry-After": later, "Date": time.Now().UTC().Format(http.TimeFormat)}, system: system, wait: 89 * time.Second},
		"429 with a date gone by":    {status: 429, header: map[string]string{"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, system: system},
		"429 with a week":            {status: 429, header: map[string]string{"Retry-After": "604800"}, system: system, wait: httplink.MaxWait},
		"429 with nonsense":          {status: 429, header: map[string]string{"Retry-After": "soon"}, system: system},
		"429 with a negative number": {status: 429, header: map[string]string{"Retry-After": "-5"}, system: system},
		"429 with 30 digits":         {status: 429, header: map[string]string{"Retry-After": strings.Repeat("9", 30)}, system: system, wait: httplink.MaxWait},
		"431":                        {status: 431, system: system, wait: httplink.WrongWait},
		"451":                        {status: 451, system: system, wait: httplink.WrongWait},
		"499":                        {status: 499, want: plant.Rejected, words: "the receiver answers 499"},
		"500":                        {status: 500, body: "NullPointerException", system: machine, words: "NullPointerException"},
		"500 with Retry-After":       {status: 500, header: map[string]string{"Retry-After": "5"}, system: machine, wait: 5 * time.Second},
		"501":                        {status: 501, system: system, wait: httplink.WrongWait},
		"502":                        {status: 502, system: system},
		"503":                        {status: 503, header: map[string]string{"Retry-After": "120"}, system: system, wait: 2 * time.Minute},
		"504":                        {status: 504, system: system},
		"507":                        {status: 507, system: system},
		"511":                        {status: 511, system: system, wait: httplink.WrongWait, words: "login"},
		"599":                        {status: 599, system: system},
		"999":                        {status: 999, system: system, wait: httplink.WrongWait, words: "999, which says nothing of the event"},
		"101":                        {raw: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", system: system, wait: httplink.WrongWait, words: "101 Switching Protocols"},
		"100 without end":            {raw: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), system: system, words: "it closed the connection before it answered"},
		"nothing":                    {raw: "", system: system, words: "it closed the connection before it answered"},
		"no HTTP":                    {raw: "SSH-2.0-OpenSSH_9.7\r\n\r\n", system: system, words: "it does not answer in HTTP; if it speaks TLS there, write https:// in url"},
		"huge headers":               {raw: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), system: system, words: "exceed"},
		"two lengths":                {raw: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", system: system, words: "Content-Length"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
				if test.status == 0 {
					raw(t, w, test.raw)
					return false
				}
				for name, value := range test.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
				return false
			})
			o := testOptions(r.Addr())
			o.Auth.Bearer = config.NewSecret("tok")
			results := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 3, 1))
			if len(results) != 1 {
				t.Fatalf("results %+v", results)
			}
			got := results[0]
			if got.First != 3 || got.Last != 3 || got.Status != test.want || got.Wait < test.wait || got.Wait > test.wait+2*time.Second {
				t.Errorf("%v for %d to %d, wait %v: %v", got.Status, got.First, got.Last, got.Wait, got.Cause)
			}
			if got.Status == plant.Delivered {
				return
			}
			text := got.Cause.Error()
			if systemWide(got) != test.system || !strings.Contains(text, test.words) || strings.ContainsAny(text, "\x1b\r\n\u202e") || len(text) > 700 {
				t.Errorf("for the whole system: %v; cause %q, want %q", systemWide(got), text, test.words)
			}
			if !strings.HasPrefix(text, "rest: ") {
				t.Errorf("cause %q", text)
			}
		})
	}
}

// TestRefusalOfOneMachine: 403 and 404 keep the whole uplink waiting, unless
// something else was taken just now, which shows that the settings are right.
func TestRefusalOfOneMachine(t *testing.T) {
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		if strings.Contains(string(q.body), `"subject":"B"`) {
			w.WriteHeader(http.StatusNotFound)
			return false
		}
		return true
	})
	s := openWith(t, testOptions(r.Addr()))
	if got := s.Send(t.Context(), "B", uplinktest.Events("B", 1, 2)); len(got) != 1 || !systemWide(got[0]) {
		t.Errorf("at first %+v", got)
	}
	if got := s.Send(t.Context(), "A", uplinktest.Events("A", 1, 2)); delivered(got, 1) != 2 {
		t.Fatalf("results %+v", got)
	}
	if got := s.Send(t.Context(), "B", uplinktest.Events("B", 1, 2)); len(got) != 1 || got[0].Status != plant.Retry || systemWide(got[0]) || got[0].Wait != httplink.WrongWait {
		t.Errorf("after another machine's event %+v", got)
	}
}

// TestConflict: a 409 is given time, then it is a refusal, or what the config
// says.
func TestConflict(t *testing.T) {
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool { w.WriteHeader(http.StatusConflict); return false })
	s := openWith(t, testOptions(r.Addr()))
	for _, first := range []plant.Sequence{1, 2} {
		for try := 1; try <= conflictTries; try++ {
			want := plant.Retry
			if try == conflictTries {
				want = plant.Rejected
			}
			got := s.Send(t.Context(), "M", uplinktest.Events("M", first, 2))
			if len(got) != 1 || got[0].First != first || got[0].Status != want || systemWide(got[0]) {
				t.Errorf("event %d, try %d: %+v", first, try, got)
			}
		}
	}
	o := testOptions(r.Addr())
	o.Conflict = conflictDelivered
	if got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 3)); delivered(got, 1) != 3 {
		t.Errorf("with conflict: delivered %+v", got)
	}
	o.Batch = 4
	if got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 4)); delivered(got, 1) != 4 {
		t.Errorf("a batch with conflict: delivered %+v", got)
	}
}

// TestSlowAnswers: every phase has an end, and a body that nobody needs holds
// nobody up.
func TestSlowAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, gone <-chan struct{})
		want   plant.Status
		words  string
	}{
		"no headers": {func(_ http.ResponseWriter, gone <-chan struct{}) { <-gone }, plant.Retry, "no answer within 1s"},
		"no body": {func(w http.ResponseWriter, gone <-chan struct{}) {
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusOK)
			http.NewResponseController(w).Flush()
			<-gone
		}, plant.Delivered, ""},
		"a refusal without its body": {func(w http.ResponseWriter, gone <-chan struct{}) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			io.WriteString(w, "no such order")
			http.NewResponseController(w).Flush()
			<-gone
		}, plant.Rejected, "no such order"},
		"a drip": {func(w http.ResponseWriter, gone <-chan struct{}) {
			for {
				io.WriteString(w, "x")
				http.NewResponseController(w).Flush()
				select {
				case <-gone:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}, plant.Delivered, ""},
	} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool { test.answer(w, gone); return false })
			defer close(gone)
			o := testOptions(r.Addr())
			o.Timeout = config.Duration(time.Second)
			begun := time.Now()
			got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			if len(got) != 1 || got[0].Status != test.want || got[0].Cause != nil && !strings.Contains(got[0].Cause.Error(), test.words) {
				t.Errorf("results %+v", got)
			}
			if took := time.Since(begun); took > testTimeout {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestConnectionIsKept over answers of every sort whose body was read to its
// end.
func TestConnectionIsKept(t *testing.T) {
	statuses := []int{200, 400, 500, 503, 204, 429, 404, 422}
	r := answering(t, func(n int, _ request, w http.ResponseWriter) bool {
		w.WriteHeader(statuses[n-1])
		if statuses[n-1] != 204 {
			io.WriteString(w, strings.Repeat("x", 30<<10))
		}
		return false
	})
	s := openWith(t, testOptions(r.Addr()))
	for i := range statuses {
		s.Send(t.Context(), "M", uplinktest.Events("M", plant.Sequence(i+1), 1))
	}
	for _, q := range r.seen() {
		if q.remote != r.seen()[0].remote {
			t.Errorf("another connection: %s after %s", q.remote, r.seen()[0].remote)
		}
	}
}

// TestKeptConnectionThatJustEnded: a receiver that ends a kept connection while
// a request is on its way is not taken for one that is away.
func TestKeptConnectionThatJustEnded(t *testing.T) {
	r := answering(t, func(n int, _ request, w http.ResponseWriter) bool {
		if n == 2 {
			raw(t, w, "")
		}
		return n != 2
	})
	s := openWith(t, testOptions(r.Addr()))
	if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 3)); delivered(got, 1) != 3 {
		t.Fatalf("results %+v", got)
	}
	q := r.seen()
	if len(q) != 4 || q[1].header.Get("Idempotency-Key") != q[2].header.Get("Idempotency-Key") || string(q[1].body) != string(q[2].body) || q[1].remote == q[2].remote {
		t.Errorf("%d requests", len(q))
	}
	always := answering(t, func(_ int, _ request, w http.ResponseWriter) bool { raw(t, w, ""); return false })
	if got := openWith(t, testOptions(always.Addr())).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); len(got) != 1 || !systemWide(got[0]) || len(always.seen()) != 1 {
		t.Errorf("%d requests, results %+v", len(always.seen()), got)
	}
}

// TestSlowReceiverIsNotInterrupted: a Send ends before its time is over rather
// than leave an event in doubt.
func TestSlowReceiverIsNotInterrupted(t *testing.T) {
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
		<-time.After(120 * time.Millisecond)
		return true
	})
	s := openWith(t, testOptions(r.Addr()))
	rest := uplinktest.Events("M", 1, 12)
	for deadline := time.Now().Add(20 * time.Second); len(rest) > 0 && time.Now().Before(deadline); {
		func() {
			ctx, cancel := contextWithin(t, testTimeout+300*time.Millisecond)
			defer cancel()
			got := s.Send(ctx, "M", rest)
			n := delivered(got, rest[0].Sequence)
			if last := got[len(got)-1]; n < len(rest) && (last.Status != plant.Retry || systemWide(last) || !strings.Contains(fmt.Sprint(last.Cause), "slow")) {
				t.Errorf("results %+v", got)
			}
			rest = rest[n:]
		}()
	}
	if got := r.Arrivals(); len(got) != 12 {
		t.Errorf("%d arrivals of 12 events", len(got))
	}
}
