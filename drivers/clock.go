package drivers

import (
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// clockWindow is how long values are looked at before something is said of
	// the device's clock, and clockSamples how many must have come: what a frozen
	// network delivers late at once is not the whole window.
	clockWindow  = 30 * time.Second
	clockSamples = 3
	// defaultMaxSkew is how far a clock may be off where the options say nothing.
	defaultMaxSkew = 5 * time.Second
)

// deviceClock measures how far a device's clock is from the gateway's. A value
// that has just changed carries the device's time of then, and was on its way
// for a time that is never negative: the largest difference is nearest to the
// truth. A value that did not change may be hours old and says nothing.
type deviceClock struct {
	// stamps are the last times of tags in the order in which they were first
	// seen, and places where each is: tags come in much the same order each time,
	// and then the next is where it is expected.
	stamps  []stamp
	places  map[plant.TagID]int
	begun   time.Time
	samples int
	most    time.Duration
}

// stamp is the last time of a tag, in nanoseconds since 1970.
type stamp struct {
	tag plant.TagID
	at  int64
}

// place returns where a tag's stamp is, and whether there was one. next is where
// it is expected.
func (c *deviceClock) place(tag plant.TagID, next int) (at int, seen bool) {
	if next < len(c.stamps) && c.stamps[next].tag == tag {
		return next, true
	}
	if at, seen = c.places[tag]; seen {
		return at, true
	}
	if c.places == nil {
		c.places = make(map[plant.TagID]int)
	}
	at = len(c.stamps)
	c.places[tag], c.stamps = at, append(c.stamps, stamp{tag: tag})
	return at, false
}

// look takes the readings of one scan and reports the clock's offset when a
// window is over.
func (c *deviceClock) look(in *plant.Scan) (offset time.Duration, ok bool) {
	next := 0
	for i := range in.Readings {
		v := &in.Readings[i]
		if v.Source.IsZero() {
			continue
		}
		at := v.Source.UnixNano()
		place, seen := c.place(v.Tag, next)
		next = place + 1
		last := &c.stamps[place]
		if seen && last.at == at {
			continue
		}
		last.at = at
		if !seen || in.Snapshot {
			continue // it may have changed at any time before
		}
		if d := v.Source.Sub(in.Received); c.samples == 0 || d > c.most {
			c.most = d
		}
		if c.samples == 0 {
			c.begun = in.Received
		}
		c.samples++
	}
	if c.samples < clockSamples || in.Received.Sub(c.begun) < clockWindow {
		return 0, false
	}
	offset, c.samples = c.most, 0
	return offset, true
}

// clockSeen keeps what is known of the device's clock, and logs the edges.
func (p *Poller) clockSeen(in *plant.Scan) {
	offset, ok := p.clock.look(in)
	if !ok {
		return
	}
	wrong := offset.Abs() > p.options.MaxSkew
	was := p.stats.ClockWrong // only this goroutine changes it
	p.update(func(s *Stats) {
		s.ClockOffset, s.ClockKnown, s.ClockWrong = offset, true, wrong
		if wrong != was {
			s.ClockSince = in.Received
		}
	})
	switch {
	case wrong && !was:
		p.log.Warn("the device's clock is wrong: events take the gateway's time instead; set the device's clock, best by NTP",
			zap.Duration("ahead", offset.Round(time.Millisecond)), zap.Duration("max_skew", p.options.MaxSkew))
	case !wrong && was:
		p.log.Info("the device's clock is right again", zap.Duration("ahead", offset.Round(time.Millisecond)))
	}
}
