package central

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is a misbehaviour of the receiver at some requests. Its methods return a
// changed copy.
type Fault struct {
	on    func(*http.Request) bool
	skip  int
	times int // how often; negative without end
	// before reports whether it has answered; then nothing is booked.
	before func(http.ResponseWriter, *http.Request) bool
	// after hands over what the receiver answered, having booked.
	after func(http.ResponseWriter, *http.Request, answer)
}

// answer is what the receiver would have said.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// On limits the fault to requests whose path contains part.
func (f Fault) On(part string) Fault {
	return f.Where(func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) })
}

// Where limits the fault to requests that match.
func (f Fault) Where(match func(*http.Request) bool) Fault { f.on = match; return f }

// After lets n requests pass first.
func (f Fault) After(n int) Fault { f.skip = n; return f }

// Times says how often the fault happens; a fresh one happens once.
func (f Fault) Times(n int) Fault { f.times = n; return f }

// Always makes it happen until Clear.
func (f Fault) Always() Fault { f.times = -1; return f }

// Dropped cuts the connection before anything is booked.
func Dropped() Fault {
	return Fault{times: 1, before: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }}
}

// Silent never answers and books nothing; it ends when the client gives up.
func Silent() Fault {
	return Fault{times: 1, before: func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}}
}

// Answered books nothing and answers that; header is pairs of name and value.
func Answered(status int, body string, header ...string) Fault {
	return Fault{times: 1, before: func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // who asked may be gone
		return true
	}}
}

// TooMany books nothing and asks to wait that many seconds.
func TooMany(seconds int) Fault {
	return Answered(http.StatusTooManyRequests, "Too Many Requests", "Retry-After", strconv.Itoa(seconds))
}

// Redirected books nothing and points elsewhere.
func Redirected(status int, to string) Fault { return Answered(status, "", "Location", to) }

// Slow waits before it books and answers.
func Slow(d time.Duration) Fault {
	return Fault{times: 1, before: func(_ http.ResponseWriter, r *http.Request) bool {
		wait := time.NewTimer(d)
		defer wait.Stop()
		select {
		case <-wait.C:
			return false
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}}
}

// LostReply books and cuts the connection without a word.
func LostReply() Fault {
	return Fault{times: 1, after: func(http.ResponseWriter, *http.Request, answer) { panic(http.ErrAbortHandler) }}
}

// BookedBut books and answers that in the place of what it would have said, as a
// proxy does that has lost the receiver.
func BookedBut(status int, body string) Fault {
	return Fault{times: 1, after: func(w http.ResponseWriter, _ *http.Request, _ answer) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // who asked may be gone
	}}
}

// CutBody books, promises the whole answer, and cuts after its half. An empty
// answer promises a byte that never comes.
func CutBody() Fault {
	return Fault{times: 1, after: func(w http.ResponseWriter, _ *http.Request, a answer) {
		body := a.body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(max(len(body), 1)))
		w.WriteHeader(withBody(a.status))
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}}
}

// Malformed books and answers the right status with a body that no parser takes.
func Malformed() Fault {
	return Fault{times: 1, after: func(w http.ResponseWriter, _ *http.Request, a answer) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(withBody(a.status))
		_, _ = w.Write([]byte(`{"token":"unfinished","externalId":[}` + "\x00\xff"))
	}}
}

// HugeBody books and answers n bytes of white space before what it would have
// said, so that a client without a limit reads them all.
func HugeBody(n int) Fault {
	return Fault{times: 1, after: func(w http.ResponseWriter, _ *http.Request, a answer) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(withBody(a.status))
		chunk := bytes.Repeat([]byte{' '}, 32<<10)
		for left := n; left > 0; left -= len(chunk) {
			if _, err := w.Write(chunk[:min(left, len(chunk))]); err != nil {
				return
			}
		}
		_, _ = w.Write(a.body.Bytes())
	}}
}

// Trickled books and hands the answer's body over a byte at a time.
func Trickled(pause time.Duration) Fault {
	return Fault{times: 1, after: func(w http.ResponseWriter, r *http.Request, a answer) {
		body := a.body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(a.status)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for _, b := range body {
			select {
			case <-tick.C:
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write([]byte{b})
			_ = http.NewResponseController(w).Flush()
		}
	}}
}

// withBody is the status, or 200 in the place of one that may carry no body.
func withBody(status int) int {
	if status == http.StatusNoContent || status == http.StatusNotModified {
		return http.StatusOK
	}
	return status
}

// Faults stand between the requests and a receiver. The zero Faults let all
// pass; methods may be called from any goroutine.
type Faults struct {
	mu   sync.Mutex
	list []*Fault
	hits int
}

// Add plans a fault. The first that matches a request and is not used up happens.
func (f *Faults) Add(planned ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range planned {
		f.list = append(f.list, &p)
	}
}

// Clear forgets every fault.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// Hits returns how many faults have happened.
func (f *Faults) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

func (f *Faults) next(r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.list {
		if p.times == 0 || p.on != nil && !p.on(r) {
			continue
		}
		if p.skip > 0 {
			p.skip--
			continue
		}
		if p.times > 0 {
			p.times--
		}
		f.hits++
		return p
	}
	return nil
}

// maxBody bounds what is read before a fault.
const maxBody = 16 << 20

// Serve lets the planned fault happen, or hands the request to the receiver.
func (f *Faults) Serve(w http.ResponseWriter, r *http.Request, receive http.HandlerFunc) {
	p := f.next(r)
	if p == nil {
		receive(w, r)
		return
	}
	// Only behind the whole body does net/http notice that a client has gone.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // a part of a request is no request
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if p.before != nil && p.before(w, r) {
		return
	}
	a := answer{header: http.Header{}}
	receive(&a, r)
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if p.after != nil {
		p.after(w, r, a)
		return
	}
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	if _, err := w.Write(a.body.Bytes()); err != nil && a.body.Len() > 0 {
		panic(fmt.Errorf("central: the answer after a fault: %w", err))
	}
}
