package uplinktest

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/plant"
)

// RunHTTP runs the part of the suite that is about answers over HTTP.
func RunHTTP(t *testing.T, s HTTPSubject) {
	for _, c := range []struct {
		name    string
		timeout time.Duration
		run     func(*httpRig)
	}{
		{"books each event once", patient, booksOnce},
		{"keeps an event at each passing answer", patient, keepsAtPassingAnswers},
		{"gives up what is refused for good, and goes on", patient, givesUpRefused},
		{"waits as long as a 429 asks for", patient, func(r *httpRig) { r.honoursRetryAfter(http.StatusTooManyRequests) }},
		{"waits as long as a 503 asks for", patient, func(r *httpRig) { r.honoursRetryAfter(http.StatusServiceUnavailable) }},
		{"survives a storm of failures", patient, survivesStorm},
		{"sends again after a lost reply", patient, afterLostReply},
		{"bears a cut, a malformed and a trickling answer", short, bearsBadAnswers},
		{"reads no huge answer into memory", patient, bearsHugeAnswer},
		{"waits for a slow answer, and not for ever", short, bearsSlowAnswer},
		{"follows no redirect to another host", patient, followsNobody},
		{"ends with its context at once", patient, endsAtOnceWithContext},
		{"ends with Close at once", patient, endsAtOnceWithClose},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newHTTPRig(t, s, c.timeout, nil, "")) })
	}
	t.Run("trusts nobody else's certificate", func(t *testing.T) { trustsNobodyElse(t, s) })
}

func booksOnce(r *httpRig) {
	events := r.events(1, 20)
	for _, batch := range [][]plant.Event{events[:1], events[1:2], events[2:9], events[9:]} {
		r.deliver(batch)
	}
	r.once(events, true)
}

// passing are answers that say nothing about the event itself.
var passing = []int{401, 403, 408, 421, 425, 429, 500, 501, 502, 503, 504, 507, 511, 300, 304}

func keepsAtPassingAnswers(r *httpRig) {
	from := plant.Sequence(1)
	for _, status := range passing {
		if slices.Contains(r.subject.Permanent, status) || slices.Contains(r.subject.Success, status) {
			continue
		}
		events := r.events(from, 3)
		from += 3
		r.system.Faults.Add(central.Answered(status, `{"message":"not now"}`, "Content-Type", "application/json").Always())
		n, stop := r.try(events)
		if n != 0 || stop.Status == plant.Rejected || stop.Status == plant.Delivered {
			r.Errorf("%d: %d delivered, then %v", status, n, stop.Status)
		}
		if !strings.Contains(words(stop), fmt.Sprint(status)) && !strings.Contains(words(stop), "not now") {
			r.Errorf("%d: the cause %q names neither the status nor the words", status, words(stop))
		}
		r.system.Faults.Clear()
		r.deliver(events)
		r.once(events, true)
	}
}

func givesUpRefused(r *httpRig) {
	from := plant.Sequence(1)
	for _, status := range r.subject.Permanent {
		events := r.events(from, 3)
		from += 3
		r.system.Faults.Add(central.Answered(status, `{"message":"no such order"}`, "Content-Type", "application/json"))
		n, stop := r.try(events[:1])
		if n != 0 || stop.Status != plant.Rejected || !strings.Contains(words(stop), "no such order") {
			r.Errorf("%d: %d delivered, then %v with %q", status, n, stop.Status, words(stop))
		}
		r.system.Faults.Clear()
		r.deliver(events[1:])
		r.once(events[1:], true)
	}
}

func (r *httpRig) honoursRetryAfter(status int) {
	events := r.events(1, 2)
	r.system.Faults.Add(central.Answered(status, "later", "Retry-After", "7").Always())
	before := r.system.Faults.Hits()
	if n, stop := r.try(events); n != 0 || stop.Status != plant.Retry || stop.Wait < 6*time.Second || stop.Wait > 8*time.Second {
		r.Errorf("%d: asked to wait for 7 s, it says %v after %v", status, stop.Status, stop.Wait)
	}
	if asked := r.system.Faults.Hits() - before; asked != 1 {
		r.Errorf("%d: %d requests in one Send that was asked to wait", status, asked)
	}
	r.system.Faults.Clear()
	r.patiently(events)
}

// patiently delivers to a system that has asked for a wait which is over now: a
// Sender that keeps the wait itself may still stick to it.
func (r *httpRig) patiently(events []plant.Event) {
	r.Helper()
	r.sender.Close()
	r.sender = r.subject.Open(r, r.target)
	r.deliver(events)
	r.once(events, true)
}

func survivesStorm(r *httpRig) {
	events := r.events(1, 30)
	for i, f := range []central.Fault{
		central.Answered(500, "oops"), central.Dropped(), central.Answered(502, "<html>bad gateway</html>", "Content-Type", "text/html"),
		central.Answered(503, ""), central.Answered(504, "gateway time-out"), central.Dropped().Times(2),
	} {
		r.system.Faults.Add(f.After(i))
	}
	for _, batch := range chunks(events, 3) {
		r.deliver(batch)
	}
	r.once(events, true)
	if r.system.Faults.Hits() < 3 {
		r.Errorf("only %d faults happened: nothing is proved", r.system.Faults.Hits())
	}
}

func afterLostReply(r *httpRig) {
	events := r.events(1, 12)
	for i := range events {
		r.system.Faults.Add(central.LostReply())
		r.deliver(events[i : i+1])
	}
	r.once(events, r.subject.Once)
	if r.system.Faults.Hits() == 0 {
		r.Error("no reply was lost: nothing is proved")
	}
}

func bearsBadAnswers(r *httpRig) {
	from := plant.Sequence(1)
	for _, f := range []central.Fault{central.CutBody(), central.Malformed(), central.Trickled(time.Second)} {
		events := r.events(from, 2)
		from += 2
		r.system.Faults.Add(f)
		begun := time.Now()
		r.deliver(events) // what it claims is held against what is booked
		if took := time.Since(begun); took > 4*r.target.Timeout+2*grace {
			r.Errorf("took %v", took)
		}
		r.once(events, false)
	}
}

// hugeAnswer is far more than any system has to say.
const hugeAnswer = 256 << 20

func bearsHugeAnswer(r *httpRig) {
	events := r.events(1, 2)
	r.deliver(events[:1])
	r.system.Faults.Add(central.HugeBody(hugeAnswer))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := time.Now()
	_, _ = r.try(events[1:]) // whatever it says, it says it soon and truly
	runtime.ReadMemStats(&after)
	if took := time.Since(begun); took > r.target.Timeout+grace {
		r.Errorf("took %v", took)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		r.Errorf("an answer of %d MiB cost %d MiB", hugeAnswer>>20, used>>20)
	}
	r.deliver(events[1:])
	r.once(events, r.subject.Once)
}

func bearsSlowAnswer(r *httpRig) {
	events := r.events(1, 2)
	r.system.Faults.Add(central.Slow(r.target.Timeout / 4))
	r.deliver(events[:1])
	r.system.Faults.Add(central.Silent().Always())
	begun := time.Now()
	if n, stop := r.try(events[1:]); n != 0 || stop.Status == plant.Rejected {
		r.Errorf("%d delivered, %v by who says nothing", n, stop.Status)
	}
	if took := time.Since(begun); took > 2*r.target.Timeout+grace {
		r.Errorf("took %v", took)
	}
	r.system.Faults.Clear()
	r.deliver(events[1:])
	r.once(events, false)
}

func followsNobody(r *httpRig) {
	elsewhere := newTrap(r)
	from := plant.Sequence(1)
	for _, status := range []int{301, 302, 303, 307, 308} {
		events := r.events(from, 1)
		from++
		// It does not book, so a dialect that calls it a success is left out.
		if !slices.Contains(r.subject.Success, status) {
			r.system.Faults.Add(central.Redirected(status, elsewhere.URL+"/events").Always())
			if n, stop := r.try(events); n != 0 || stop.Status == plant.Rejected {
				r.Errorf("%d to another host: %d delivered, %v", status, n, stop.Status)
			}
			r.system.Faults.Clear()
		}
		r.deliver(events)
	}
	if came := elsewhere.visits(); came != "" {
		r.Errorf("the other host was asked:\n%s", came)
	}
}

// atOnce is how soon a Send that is told to end must end. The best of some tries
// counts: a pause of a loaded machine is no fault of the Sender's.
const atOnce = 100 * time.Millisecond

func (r *httpRig) endsAtOnce(what string, end func(cancel context.CancelFunc)) {
	r.Helper()
	best := time.Duration(math.MaxInt64)
	for try := range 5 {
		events := r.events(plant.Sequence(1+try), 1)
		r.system.Faults.Add(central.Silent().Always())
		before := r.system.Faults.Hits()
		ctx, cancel := context.WithCancel(r.Context())
		ended := make(chan []plant.Result)
		go func() { ended <- r.send(ctx, events) }()
		for deadline := time.Now().Add(10 * time.Second); r.system.Faults.Hits() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				r.Fatal("the system was not asked within 10 s")
			}
		}
		begun := time.Now()
		end(cancel)
		for _, one := range <-ended {
			if one.Status != plant.Retry {
				r.Errorf("%s: %v", what, one.Status)
			}
		}
		cancel()
		best = min(best, time.Since(begun))
		r.system.Faults.Clear()
		if best < atOnce {
			return
		}
	}
	r.Errorf("a Send ends %v after %s, want less than %v", best, what, atOnce)
}

func endsAtOnceWithContext(r *httpRig) {
	r.endsAtOnce("the end of its context", func(cancel context.CancelFunc) { cancel() })
	r.deliver(r.events(50, 2))
}

func endsAtOnceWithClose(r *httpRig) {
	r.endsAtOnce("Close", func(context.CancelFunc) {
		if err := r.sender.Close(); err != nil {
			r.Errorf("Close: %v", err)
		}
	})
	r.sender = r.subject.Open(r, r.target)
	r.deliver(r.events(50, 2))
}

// trustsNobodyElse lets the system show certificates that are not good; nothing
// may be sent then, and the words must say what is wrong.
func trustsNobodyElse(t *testing.T, s HTTPSubject) {
	ours, other := NewAuthority(t), NewAuthority(t)
	hour := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name  string
		pair  tls.Certificate
		most  uint16
		words []string // one of them
	}{
		{"expired", ours.Issue(t, "old", time.Now().Add(-time.Minute), "127.0.0.1"), 0, []string{"expired"}},
		{"of another host", ours.Issue(t, "elsewhere", hour, "mes.example"), 0, []string{"127.0.0.1"}},
		{"of another authority", other.Issue(t, "stranger", hour, "127.0.0.1"), 0, []string{"authority"}},
		{"TLS 1.1", ours.Issue(t, "ancient", hour, "127.0.0.1"), tls.VersionTLS11, []string{"version"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			secure := &tls.Config{Certificates: []tls.Certificate{c.pair}, MinVersion: tls.VersionTLS10, MaxVersion: c.most}
			r := newHTTPRig(t, s, patient, secure, ours.CA())
			events := r.events(1, 2)
			n, stop := r.try(events)
			if n != 0 || stop.Status == plant.Rejected {
				t.Errorf("%d delivered, %v", n, stop.Status)
			}
			if !slices.ContainsFunc(c.words, func(w string) bool { return strings.Contains(words(stop), w) }) {
				t.Errorf("the cause is %q, want one of %q", words(stop), c.words)
			}
			for i := range events {
				if r.system.Booked(&events[i]) != 0 {
					t.Errorf("event %d was sent", events[i].Sequence)
				}
			}
		})
	}
	t.Run("the right one", func(t *testing.T) {
		pair := ours.Issue(t, "good", hour, "127.0.0.1")
		r := newHTTPRig(t, s, patient, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, ours.CA())
		events := r.events(1, 3)
		r.deliver(events)
		r.once(events, true)
	})
}
