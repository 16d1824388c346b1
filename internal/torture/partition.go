//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// Limits of docs/reliability.md for the network.
const (
	// resumeWithin is how soon something arrives again once the network is back.
	resumeWithin = 30 * time.Second
	// noticeWithin is how soon a peer that is dead without a word is given up.
	noticeWithin = 45 * time.Second
	// faultPace makes the devices' intervals 50 to 100 ms: the receivers are tried
	// here, and a machine that does more than this must keep up with the plant.
	faultPace = 5
	// unpolled is how long no poll of such a device may be missing while a
	// receiver is away.
	unpolled = 2 * time.Second
)

// cabledBed is a running bed whose receivers hang on one cable.
func (t *trial) cabledBed(faults int) (*bed, *cable, error) {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true, DuplicatesPerStart: (faults + 1) * 2 * 4 * 2 * batchEvents})
	if err != nil {
		return nil, nil, err
	}
	c, err := newCable(b.brokerAt, b.erpAt)
	if err != nil {
		return nil, nil, err
	}
	t.later(c.close)
	b.pace = faultPace
	return b, c, b.working()
}

// scripted puts a broker that does as it is told in the place of the bed's.
func (t *trial) scripted(b *bed) (*script, error) {
	s, err := newScript(func(payload []byte) { b.sinks.arrive(broker, payload, false) })
	if err != nil {
		return nil, err
	}
	t.later(s.close)
	b.brokerAt = s.listener.Addr().String()
	return s, nil
}

// during lets the plant work for d, and fails if the devices are not polled
// meanwhile, or the gateway ends.
func (b *bed) during(d time.Duration) error {
	from, end := time.Now(), time.Now().Add(d)
	if err := b.until(d+waitReady, "the fault's time", func() bool { return time.Now().After(end) }); err != nil {
		return err
	}
	if _, _, worst := b.plant.reads.pauses(press, from); worst > unpolled {
		return fmt.Errorf("no poll for %v while a receiver was away", worst)
	}
	return nil
}

// resumes waits until something new arrives at both receivers after from and
// returns how long the slower one took.
func (b *bed) resumes(from time.Time, within time.Duration) (slowest time.Duration, err error) {
	for _, name := range []string{broker, erp} {
		var at time.Time
		err := b.until(within, "nothing arrives at the "+name, func() bool {
			first, ok := b.sinks.pulse.after(name, from)
			at = first
			return ok
		})
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, at.Sub(from))
	}
	return slowest, nil
}

// rounds runs one round of faults after the other, lets what was accepted arrive
// after each, and hears the oracle at the end.
func (t *trial) rounds(b *bed, round func() error) error {
	for t.next() {
		if err := round(); err != nil {
			return err
		}
		if err := b.drainedAtRest(); err != nil {
			return err
		}
	}
	t.summarise(b)
	return b.settle()
}

// partitions takes the network away, for one second to forty (T18).
func partitions(t *trial) error {
	b, c, err := t.cabledBed(t.n)
	if err != nil {
		return err
	}
	var worst time.Duration
	for t.next() {
		away := []time.Duration{time.Second, 5 * time.Second, 16 * time.Second}[t.done%3]
		if t.n > 3 {
			away = time.Second + t.upTo(39*time.Second)
		}
		if err := errors.Join(c.unplug(), b.during(away), c.heal()); err != nil {
			return fmt.Errorf("partition %d of %v: %w", t.done, away, err)
		}
		took, err := b.resumes(time.Now(), resumeWithin)
		if err != nil {
			return fmt.Errorf("after partition %d of %v: %w", t.done, away, err)
		}
		worst = max(worst, took)
		if t.n <= 3 || t.done%10 == 0 {
			if err := b.drainedAtRest(); err != nil {
				return err
			}
		}
	}
	t.say("arrives again within %v at the latest", worst.Round(time.Millisecond))
	t.summarise(b)
	return b.settle()
}

// halfOpen replaces the receivers' computer without a word: what belongs to the
// open connections is dropped, new ones come through (T19).
func halfOpen(t *trial) error {
	b, c, err := t.cabledBed(t.n)
	if err != nil {
		return err
	}
	var worst time.Duration
	err = t.rounds(b, func() error {
		from := time.Now()
		n, err := c.forget()
		if err != nil {
			return err
		}
		if n < 2 {
			return fmt.Errorf("%d connections are open to two receivers: nothing is proved", n)
		}
		took, err := b.resumes(from.Add(10*time.Millisecond), noticeWithin)
		if err := errors.Join(err, c.heal()); err != nil {
			return fmt.Errorf("half-open %d: %w", t.done, err)
		}
		worst = max(worst, took)
		return nil
	})
	if err != nil {
		return err
	}
	t.say("a peer that is dead without a word is given up within %v", worst.Round(time.Millisecond))
	return nil
}

// oneWay loses what the receivers say: events arrive, acknowledgements do not (T20).
func oneWay(t *trial) error {
	b, c, err := t.cabledBed(t.n)
	if err != nil {
		return err
	}
	return t.rounds(b, func() error {
		if err := errors.Join(c.deafen(), b.during(2*time.Second+t.upTo(18*time.Second)), c.heal()); err != nil {
			return err
		}
		if _, err := b.resumes(time.Now(), resumeWithin); err != nil {
			return fmt.Errorf("one-way %d: %w", t.done, err)
		}
		return nil
	})
}

// resets answers every packet by a reset, refuses connections, ends each after
// its CONNACK, and has a third receiver whose name nobody knows (T21).
func resets(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true, DuplicatesPerStart: (t.n + 1) * 2 * 4 * 2 * batchEvents})
	if err != nil {
		return err
	}
	s, err := t.scripted(b)
	if err != nil {
		return err
	}
	b.pace = faultPace
	b.uplink = "  nobody: {driver: rest, url: \"http://mes.invalid/events\"}\n"
	c, err := newCable(b.brokerAt, b.erpAt)
	if err != nil {
		return err
	}
	t.later(c.close)
	if err := b.working(); err != nil {
		return err
	}
	const long = 15 * time.Second
	return t.rounds(b, func() error {
		b.rest()
		healthy, err := b.gateway.spends(3 * time.Second)
		if err != nil {
			return err
		}
		b.work()
		kinds := []string{"resets", "an end after each CONNACK"}
		kind := kinds[t.done%len(kinds)]
		before := s.connects.Load()
		if kind == kinds[0] {
			err = c.reset()
		} else {
			s.behave(conduct{hangUpAfter: true})
			s.restart()
		}
		if err := errors.Join(err, b.during(long-5*time.Second)); err != nil {
			return err
		}
		b.rest()
		sick, err := b.gateway.spends(5 * time.Second)
		if err != nil {
			return err
		}
		connects := s.connects.Load() - before
		s.behave(conduct{})
		if err := c.heal(); err != nil {
			return err
		}
		if rate := float64(connects) / long.Seconds(); rate > 2 {
			return fmt.Errorf("%s: %.1f connections a second", kind, rate)
		}
		if sick-healthy > 0.05 {
			return fmt.Errorf("%s cost %.1f %% of a core, %.1f %% when all is well", kind, 100*sick, 100*healthy)
		}
		t.say("%s: %d connections in %v, %.1f %% of a core, %.1f %% when all is well", kind, connects, long, 100*sick, 100*healthy)
		b.work()
		if _, err := b.resumes(time.Now(), 2*resumeWithin); err != nil { // the back-off goes up to a minute
			return fmt.Errorf("after %s: %w", kind, err)
		}
		return nil
	})
}

// losses loses 1, 5, 20 and 50 packets of a hundred, a minute each (T22).
func losses(t *trial) error {
	b, c, err := t.cabledBed(t.n)
	if err != nil {
		return err
	}
	return t.rounds(b, func() error {
		percent := []int{1, 5, 20, 50}[(t.done-1)%4]
		before := b.judge.Summary()
		const long = time.Minute
		if err := errors.Join(c.lose(percent), b.during(long), c.heal()); err != nil {
			return fmt.Errorf("%d %% of the packets are lost: %w", percent, err)
		}
		after := b.judge.Summary()
		if after.Arrived == before.Arrived {
			return fmt.Errorf("with %d %% of the packets lost nothing arrived in %v", percent, long)
		}
		t.say("%d %% lost: %.0f of %.0f events a second arrive", percent,
			float64(after.Arrived-before.Arrived)/long.Seconds(), float64(after.Accepted-before.Accepted)/long.Seconds())
		return nil
	})
}

// narrowed lets a backlog of two machines drain over 64 kbit/s while a third
// makes something now and then: what is fresh must not wait for the backlog (T23).
func narrowed(t *trial) error {
	b, c, err := t.cabledBed(t.n)
	if err != nil {
		return err
	}
	b.tells, b.asks = ", batch_events: 10", ""
	for t.next() {
		const events = 300
		b.rest()
		if err := errors.Join(b.drained(), c.unplug()); err != nil {
			return err
		}
		b.plant.thaw() // the two that count, and nobody else
		err := b.accepting(b.gateway.tapped.Load() + events)
		b.plant.freeze(0)
		if err != nil {
			return err
		}
		widen, err := c.narrow("64kbit")
		if err != nil {
			return err
		}
		worst, drain, err := b.freshBesideBacklog(c)
		widen()
		if err != nil {
			return err
		}
		t.say("a backlog of %d events drains over 64 kbit/s in %v; what is fresh meanwhile waits %v at most", events, drain.Round(time.Second), worst.Round(time.Millisecond))
		if worst > resumeWithin {
			return fmt.Errorf("what is fresh waits %v beside a backlog of others", worst)
		}
	}
	t.summarise(b)
	return b.settle()
}

// freshBesideBacklog heals the cable and makes a dose every two seconds until the
// backlog is gone.
func (b *bed) freshBesideBacklog(c *cable) (worst, drain time.Duration, err error) {
	begun := time.Now()
	if err := c.heal(); err != nil {
		return 0, 0, err
	}
	if _, err := b.resumes(begun, resumeWithin); err != nil {
		return 0, 0, err
	}
	for !b.judge.Drained() {
		if time.Since(begun) > 10*time.Minute {
			return 0, 0, errors.New("the backlog does not drain in 10 min")
		}
		made, tapped := time.Now(), b.gateway.tapped.Load()
		b.plant.dose()
		if err := b.accepting(tapped + 1); err != nil {
			return 0, 0, err
		}
		if err := b.until(2*resumeWithin, "a dose does not arrive", func() bool { return b.judge.Has(erp, mixer) }); err != nil {
			return 0, 0, err
		}
		worst = max(worst, time.Since(made))
		pause(2 * time.Second)
	}
	return worst, time.Since(begun), nil
}

// jitter delays answers, hands them over a byte at a time, and cuts them (T24).
func jitter(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true, DuplicatesPerStart: 40 * 4 * 2 * batchEvents})
	if err != nil {
		return err
	}
	toBroker, toERP, err := t.proxied(b)
	if err != nil {
		return err
	}
	if err := b.working(); err != nil {
		return err
	}
	both := func(do func(*faultnet.Proxy)) { do(toBroker); do(toERP) }
	return t.rounds(b, func() error {
		for i := range 10 {
			kind := t.rand.IntN(4)
			if i < 4 {
				kind = i
			}
			for _, p := range []*faultnet.Proxy{toBroker, toERP} {
				switch kind {
				case 0:
					p.Delay(200*time.Millisecond + t.upTo(800*time.Millisecond))
				case 1:
					p.Slow(50 + t.rand.IntN(400)) // writes of one byte
				case 2:
					p.Delay(5 * time.Second) // as long as an acknowledgement is waited for
				case 3:
					p.CutAfter(t.rand.IntN(300))
				}
			}
			if err := b.during(time.Second + t.upTo(3*time.Second)); err != nil {
				return err
			}
		}
		both((*faultnet.Proxy).Pass)
		_, err := b.resumes(time.Now(), resumeWithin)
		return err
	})
}

// proxied puts a proxy before each receiver of a bed that is not started yet.
func (t *trial) proxied(b *bed) (toBroker, toERP *faultnet.Proxy, err error) {
	if toBroker, err = faultnet.New(b.brokerAt); err != nil {
		return nil, nil, err
	}
	t.later(func() { _ = toBroker.Close() })
	if toERP, err = faultnet.New(b.erpAt); err != nil {
		return nil, nil, err
	}
	t.later(func() { _ = toERP.Close() })
	b.brokerAt, b.erpAt, b.pace = toBroker.Addr(), toERP.Addr(), faultPace
	return toBroker, toERP, nil
}

// slowConsumer has receivers that answer a byte a second, read nothing, or
// acknowledge after 50 s: the gateway's memory must stay flat, and polling even (T25).
func slowConsumer(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true, DuplicatesPerStart: 40 * 4 * 2 * batchEvents})
	if err != nil {
		return err
	}
	s, err := t.scripted(b)
	if err != nil {
		return err
	}
	toBroker, toERP, err := t.proxied(b)
	if err != nil {
		return err
	}
	if err := b.working(); err != nil {
		return err
	}
	const long = 60 * time.Second
	return t.rounds(b, func() error {
		pause(10 * time.Second) // what memory a gateway at work needs, it has now
		healthy := time.Now()
		if err := b.during(10 * time.Second); err != nil {
			return err
		}
		middle, most, _ := b.plant.reads.pauses(press, healthy)
		before, err := b.gateway.rss()
		if err != nil {
			return err
		}
		kind := []string{"a byte a second", "nothing is read", "PUBACK after 50 s"}[t.done%3]
		switch t.done % 3 {
		case 0:
			toBroker.Slow(1)
			toERP.Slow(1)
		case 1:
			toBroker.Stall()
			toERP.Stall()
		case 2:
			s.behave(conduct{late: 50 * time.Second})
			toERP.Delay(50 * time.Second)
		}
		begun := time.Now()
		if err := b.during(long); err != nil {
			return err
		}
		slowMiddle, slowMost, worst := b.plant.reads.pauses(press, begun)
		after, err := b.gateway.rss()
		if err != nil {
			return err
		}
		toBroker.Pass()
		toERP.Pass()
		s.behave(conduct{})
		t.say("%s for %v: memory %d → %d MiB, a poll every %v (99 %%: %v, worst %v), %v (99 %%: %v) when all is well",
			kind, long, before>>20, after>>20, slowMiddle, slowMost, worst, middle, most)
		if after-before > 10<<20 {
			return fmt.Errorf("%s: the memory grew from %d to %d MiB", kind, before>>20, after>>20)
		}
		if slowMiddle > middle*11/10 {
			return fmt.Errorf("%s: a poll every %v, every %v when all is well", kind, slowMiddle, middle)
		}
		if _, err := b.resumes(time.Now(), 2*resumeWithin); err != nil {
			return err
		}
		return nil
	})
}
