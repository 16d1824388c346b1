//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// quick are the keys of an uplink that tries again soon, so that a fault takes
// seconds.
const quick = ", backoff_min: 100ms, backoff_max: 1s"

// scriptedBed is a bed whose broker is scripted and which has a third receiver,
// behind TLS.
func (t *trial) scriptedBed() (*bed, *script, *vault, error) {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true, Sinks: []string{broker, erp, secured}, DuplicatesPerStart: 24 * 4 * 2 * batchEvents})
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := t.scripted(b)
	if err != nil {
		return nil, nil, nil, err
	}
	v, err := newVault(b.dir, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.sinks.take(secured, w, r) }))
	if err != nil {
		return nil, nil, nil, err
	}
	t.later(v.close)
	b.pace = faultPace
	b.asks, b.tells, b.ackTimeout = quick, quick, "1s"
	b.uplink = fmt.Sprintf("  %s: {driver: rest, url: \"https://%s/events\", ca: %q, batch_events: %d%s}\n", secured, v.addr, v.ca, batchEvents, quick)
	return b, s, v, nil
}

// said is one answer of a receiver.
type said struct {
	name string
	// begin makes the receiver say it, end lets it be right again.
	begin, end func() error
	// hits counts how often it was said.
	hits func() int64
	// enough is how often it must be said at least.
	enough int64
	// often is set where it is said to what succeeds, too, so that its number says
	// nothing of a loop.
	often bool
}

// answers lets each receiver give every answer of its list, one after the other,
// the receivers side by side, and looks whether what must be kept is kept, what
// is refused is put aside, and nobody is asked at full speed.
func answers(t *trial) error {
	for t.next() {
		if err := t.answersOnce(); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) answersOnce() error {
	defer t.clean()
	b, s, v, err := t.scriptedBed()
	if err != nil {
		return err
	}
	var visits atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	defer elsewhere.Close()
	if err := b.working(); err != nil {
		return err
	}
	if err := b.closedDoors(s, elsewhere.URL); err != nil {
		return err
	}
	lists := map[string][]said{broker: mqttAnswers(s), erp: httpAnswers(b), secured: tlsAnswers(v)}
	var side sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	n := 10 // of the closed doors
	for sink, list := range lists {
		n += len(list)
		side.Go(func() {
			err := b.goThrough(sink, list)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	side.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if visits.Load() > 0 {
		return fmt.Errorf("a redirect to another host was followed %d times", visits.Load())
	}
	t.say("%d answers", n)
	t.summarise(b)
	return b.settle()
}

// perSecond is how often a receiver that fails may be asked, at most, with the
// back-off of quick and four machines.
const perSecond = 20

// goThrough gives one receiver's answers.
func (b *bed) goThrough(sink string, list []said) error {
	for _, a := range list {
		before, begun := a.hits(), time.Now()
		if err := a.begin(); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		accepted := b.gateway.tapped.Load()
		err := b.until(waitReady, a.name+": it was not said, or nothing is recorded meanwhile", func() bool {
			return a.hits() >= before+a.enough && b.gateway.tapped.Load() >= accepted+20 && time.Since(begun) > 1200*time.Millisecond
		})
		asked, took := a.hits()-before, time.Since(begun)
		if err := errors.Join(err, a.end()); err != nil {
			return err
		}
		if !a.often && asked > a.enough+int64(perSecond*took.Seconds()) {
			return fmt.Errorf("%s: said %d times in %v: it is asked at full speed", a.name, asked, took)
		}
		over := time.Now()
		if err := b.until(waitDrain, a.name+" is over, and what was accepted does not arrive", func() bool {
			return b.judge.Violated() || b.judge.DrainedAt(sink, over)
		}); err != nil {
			return err
		}
	}
	return nil
}

// closedDoors are the five codes of CONNACK, and beside them 401, 403 and redirects
// to another host: after all of them but one a gateway waits a minute, since only a
// person can help. Nothing may be put
// aside; when the door is open, a start is enough.
func (b *bed) closedDoors(s *script, elsewhere string) error {
	for code := byte(1); code <= 5; code++ {
		status := []int{401, 403, 301, 302, 307}[code-1]
		connects, asked := s.faults.Load(), b.sinks.faults.Hits()
		s.behave(conduct{connack: code})
		s.restart()
		b.sinks.faults.Add(central.Answered(status, "who are you?", "Location", elsewhere).Always())
		begun, accepted := time.Now(), b.gateway.tapped.Load()
		if err := b.until(waitReady, fmt.Sprintf("CONNACK %d and %d were not said, or nothing is recorded meanwhile", code, status), func() bool {
			return s.faults.Load() > connects && b.sinks.faults.Hits() > asked && b.gateway.tapped.Load() > accepted+20 && time.Since(begun) > 1200*time.Millisecond
		}); err != nil {
			return err
		}
		// The four machines that were under way each find out for themselves, those of
		// the broker in several tries.
		if n, m := s.faults.Load()-connects, b.sinks.faults.Hits()-asked; n > 16 || m > 8 {
			return fmt.Errorf("CONNACK %d came %d times and %d came %d times in %v", code, n, status, m, time.Since(begun))
		}
		connects, asked = s.faults.Load(), b.sinks.faults.Hits()
		if err := b.during(2 * time.Second); err != nil {
			return err
		}
		again := int64(1)
		if code == 3 { // "server unavailable" passes without anybody's help
			again = 2 * perSecond
		}
		if n, m := s.faults.Load()-connects, b.sinks.faults.Hits()-asked; n > again || m > 1 {
			return fmt.Errorf("2 s later CONNACK %d came %d times more and %d %d times: the door is knocked at", code, n, status, m)
		}
		s.behave(conduct{})
		b.sinks.faults.Clear()
		b.rest()
		if err := errors.Join(b.gateway.stop(), b.start()); err != nil {
			return err
		}
		b.work()
		if err := b.drainedAtRest(); err != nil {
			return fmt.Errorf("after CONNACK %d and %d: %w", code, status, err)
		}
	}
	return nil
}

// mqttAnswers are those of a broker after which it is asked again soon: hung up at
// CONNECT, hung up at PUBLISH, no PUBACK.
func mqttAnswers(s *script) []said {
	var all []said
	add := func(name string, c conduct) {
		all = append(all, said{
			name: name, hits: s.faults.Load, enough: 1,
			begin: func() error { s.behave(c); s.restart(); return nil },
			end:   func() error { s.behave(conduct{}); return nil },
		})
	}
	add("closed at CONNECT", conduct{hangUp: true})
	add("closed at PUBLISH", conduct{cut: true})
	add("PUBACK withheld", conduct{withhold: true})
	// A window of events is under way; how often it connects says whether it loops.
	all[len(all)-1].hits, all[len(all)-1].enough = s.connects.Load, 2
	return all
}

// odd are doses that a receiver refuses for good, some in each hundred.
var odd = regexp.MustCompile(`"lot":"L\d*7"`)

// httpAnswers are those over HTTP: refusals for good of some events, all the rest
// of everything.
func httpAnswers(b *bed) []said {
	var all []said
	refused := func() int64 { return int64(b.judge.Summary().Refused) }
	for _, status := range []int{400, 413} {
		all = append(all, said{
			name: fmt.Sprint(status, " for some"), hits: refused, enough: 3,
			begin: func() error { b.sinks.refuseWith(odd, status); return nil },
			end:   func() error { b.sinks.refuse(poison); return nil },
		})
	}
	add := func(name string, f central.Fault) {
		all = append(all, said{
			name: name, hits: func() int64 { return int64(b.sinks.faults.Hits()) }, enough: 2,
			begin: func() error { b.sinks.faults.Add(f); return nil },
			end:   func() error { b.sinks.faults.Clear(); return nil },
		})
	}
	for _, status := range []int{500, 503} {
		add(strconv.Itoa(status), central.Answered(status, "not now").Always())
	}
	add("429 with Retry-After", central.TooMany(1).Always())
	add("200 with a cut body", central.CutBody().Times(10))
	add("200 with a huge body", central.HugeBody(64<<20).Times(2))
	add("no answer to what is booked", central.LostReply().Times(10))
	add("204, at last", central.Slow(time.Millisecond).Times(10))
	return all
}

// tlsAnswers are an alert in the handshake, and a certificate that runs out
// while the gateway runs.
func tlsAnswers(v *vault) []said {
	calm := func() {}
	return []said{
		{
			name: "TLS alert", hits: v.hands.Load, enough: 2,
			begin: func() error { calm = v.shake(); v.refused.Store(true); return nil },
			end:   func() error { v.refused.Store(false); calm(); return nil },
		},
		{
			name: "a certificate that has run out", hits: v.hands.Load, enough: 2,
			begin: func() error { calm = v.shake(); return v.issue(time.Now().Add(-time.Second)) },
			end:   func() error { calm(); return v.issue(time.Now().Add(time.Hour)) },
		},
	}
}

// disorder is what a broker may say that no broker should: T27.
func disorder(t *trial) error {
	for t.next() {
		if err := t.disorderOnce(); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) disorderOnce() error {
	defer t.clean()
	b, s, _, err := t.scriptedBed()
	if err != nil {
		return err
	}
	if err := b.working(); err != nil {
		return err
	}
	var list []said
	add := func(name string, enough int64, c conduct) {
		list = append(list, said{
			name: name, hits: s.faults.Load, enough: enough,
			begin: func() error { s.behave(c); return nil }, end: func() error { s.behave(conduct{}); return nil },
		})
	}
	add("each PUBACK twice", 1, conduct{twice: true})
	add("PUBACKs in reverse", 1, conduct{reversed: true})
	add("PUBACK of another packet", 1, conduct{wrong: true})
	add("PUBACK of a packet that never came, too", 1, conduct{unknown: true})
	add("PUBREC where PUBACK belongs", 1, conduct{received: true})
	add("twice, in reverse, and of one that never came", 1, conduct{twice: true, reversed: true, unknown: true})
	add("closed after CONNACK", 0, conduct{hangUpAfter: true})
	restarts := &list[len(list)-1]
	behave := restarts.begin
	restarts.begin = func() error { err := behave(); s.restart(); return err }
	list = append(list, said{
		name: "restarts with every session lost", hits: s.connects.Load, enough: 1,
		begin: func() error { s.restart(); return nil },
		end:   func() error { return nil },
	})
	for i := range list {
		list[i].often = true
	}
	if err := b.goThrough(broker, list); err != nil {
		return err
	}
	t.say("%d kinds of disorder", len(list))
	t.summarise(b)
	return b.settle()
}
