package drivers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/backoff"
	"github.com/sluice-edge/sluice/plant"
)

// busyBackoff bounds the wait for a device that answers ErrBusy: one question
// each three seconds is no burden to a device that is there.
const busyBackoff = 3 * time.Second

// awayBackoff bounds the wait for a device that is ErrAway.
const awayBackoff = time.Second

// PollerOptions say how a device is polled.
type PollerOptions struct {
	Device plant.DeviceID
	// Endpoint is where the device is, for people, Driver the kind of its driver, as
	// the config names it.
	Endpoint, Driver string
	// Line and Unit are the device's place on a line; empty and 0 for none.
	Line string
	Unit int
	// Interval, Timeout and Tags are those of the Plan; Tags name the addresses in
	// the log.
	Interval, Timeout time.Duration
	Tags              []plant.Tag
	// Phase is where on the grid of its intervals the device is polled, counted
	// from the start of Run, so that not all devices are asked in one moment: the
	// first poll of a session is at once, the next on the grid. 0 takes the start
	// of each session for its grid.
	Phase time.Duration
	// MinBackoff and MaxBackoff bound the wait between two attempts to connect;
	// 0 means 0.5 s and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// MaxSkew is how far the device's clock may be off before that is called
	// wrong; 0 means 5 s.
	MaxSkew time.Duration
	// Rand gives the jitter of the waits; nil means the process's own source. A
	// simulation sets it, so that a run can be repeated.
	Rand *rand.Rand
}

// PollerOptions returns how a device of this plan is polled.
func (p Plan) PollerOptions(device plant.DeviceID) PollerOptions {
	return PollerOptions{Device: device, Driver: p.Driver, Endpoint: p.Endpoint, Line: p.Line, Unit: p.Unit, Interval: p.Interval, Timeout: p.Timeout, Tags: p.Tags}
}

// Validate reports options that no Poller can run with.
func (o *PollerOptions) Validate() error {
	var errs []error
	if o.Device == "" {
		errs = append(errs, config.Field("device", "the device has no name", "name it"))
	}
	if o.Interval < 0 {
		errs = append(errs, config.Field("interval", "it is negative", "write the time between two polls, for example 1s"))
	}
	if o.Timeout <= 0 {
		errs = append(errs, config.Field("timeout", "it is not above 0", "write how long the device may take to answer, for example 1s"))
	}
	if o.Phase < 0 {
		errs = append(errs, config.Field("phase", "it is negative", "leave it out"))
	}
	if o.MinBackoff < 0 || o.MaxBackoff < o.MinBackoff {
		errs = append(errs, config.Field("max_backoff", "it is less than min_backoff", "write a longer time"))
	}
	return errors.Join(errs...)
}

// Poller runs one driver: it connects, reads on a fixed grid of time, hands
// what it reads to its sinks, and connects again with growing waits when the
// device is lost. A device that is away is a state, not an error.
type Poller struct {
	options PollerOptions
	driver  Driver
	sinks   []Sink
	log     *zap.Logger
	// retry gives the waits for a device that refuses, soon those for one that is
	// away, short those behind sessions that did not last.
	retry, soon, short backoff.Backoff

	begun time.Time // set before there is a second goroutine
	// Of Run's goroutine only.
	away      time.Time // when the device was lost or found away
	announced bool      // the sinks know that it is away
	foundAt   time.Time // of this session; zero until then
	gave      bool      // this session gave values
	clock     deviceClock

	// edges is held while the sinks are told anything, and the log of a device's
	// state, so that what they hear last is so. It is taken before mu.
	edges sync.Mutex
	told  bool // the log knows that it is away

	mu     sync.Mutex
	stats  Stats
	losses losses
	usage  usage
}

// NewPoller returns a Poller of driver for sinks. It does no I/O. The options
// must be valid.
func NewPoller(o PollerOptions, driver Driver, sinks []Sink, log *zap.Logger) *Poller {
	if o.MinBackoff == 0 {
		o.MinBackoff = 500 * time.Millisecond
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = max(30*time.Second, o.MinBackoff)
	}
	if o.MaxSkew == 0 {
		o.MaxSkew = defaultMaxSkew
	}
	return &Poller{
		options: o, driver: driver, sinks: sinks,
		log:   log.With(zap.String("device", string(o.Device)), zap.String("endpoint", o.Endpoint)),
		stats: Stats{Device: o.Device, Driver: o.Driver, Line: o.Line, Unit: o.Unit, Endpoint: o.Endpoint, Subscribed: o.Interval == 0, MaxSkew: o.MaxSkew},
		retry: backoff.Backoff{Min: o.MinBackoff, Max: o.MaxBackoff, Rand: o.Rand},
		soon:  backoff.Backoff{Min: o.MinBackoff, Max: max(o.MinBackoff, min(awayBackoff, o.MaxBackoff)), Rand: o.Rand},
		short: backoff.Backoff{Min: o.MinBackoff, Max: o.MaxBackoff, Rand: o.Rand},
	}
}

// Run polls until ctx ends, then closes the driver and returns nil. It is
// called once. A device that cannot be reached never makes it return.
func (p *Poller) Run(ctx context.Context) error {
	p.begun = time.Now()
	p.update(func(s *Stats) { s.Since = p.begun })
	var beside sync.WaitGroup
	beside.Go(func() { p.watch(ctx) })
	defer beside.Wait()
	for ctx.Err() == nil {
		p.foundAt, p.gave = time.Time{}, false
		err := p.session(ctx)
		if ctx.Err() != nil {
			break
		}
		short := false
		if !p.foundAt.IsZero() {
			if short = time.Since(p.foundAt) < steadySession; !short {
				p.short.Reset()
			}
		}
		p.lost(err)
		sleep(ctx, p.pause(err, short))
	}
	return nil
}

// again is how long to wait before a device is asked again that gave err.
func (p *Poller) again(err error) time.Duration {
	if errors.Is(err, ErrAway) {
		return p.soon.Next()
	}
	wait := p.retry.Next()
	if errors.Is(err, ErrBusy) {
		wait = min(wait, max(busyBackoff, p.options.MinBackoff))
	}
	return wait
}

// Write writes one tag, for acknowledgements. It may be called from any
// goroutine, waits for the request under way and for its own, at most Timeout,
// and fails with ErrSessionOver, ErrNotConnected, ErrNotWritable, or with what
// the device said.
func (p *Poller) Write(ctx context.Context, w plant.Write) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	err := p.guard("write", func() error { return p.driver.Write(ctx, w) })
	p.update(func(s *Stats) {
		s.Writes++
		if err != nil {
			s.WriteErrors++
		}
	})
	if err != nil {
		return fmt.Errorf("drivers: write %s/%s: %w", p.options.Device, w.Tag, err)
	}
	return nil
}

// Stats returns a snapshot. It may be called from any goroutine and does not
// wait for the device.
func (p *Poller) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.BadTags, s.BadSince = maps.Clone(s.BadTags), maps.Clone(s.BadSince)
	if d, ok := p.driver.(DuplicateCounter); ok {
		s.Duplicates = d.Duplicates()
	}
	if d, ok := p.driver.(Adviser); ok && s.Connected {
		s.Advice = d.Advice()
	}
	if d, ok := p.driver.(Noticer); ok {
		s.Notices = d.Notices()
	}
	if d, ok := p.driver.(Sharer); ok && s.Line != "" {
		s.LineUsed = d.Used()
	}
	if d, ok := p.driver.(Listener); ok && s.Connected {
		if at := d.Heard(); at.After(s.LastRead) {
			s.LastRead = at
		}
	}
	return s
}

func (p *Poller) update(change func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.stats)
}

// session connects and reads until the device is lost or ctx ends.
func (p *Poller) session(ctx context.Context) error {
	number := p.stats.Session + 1 // only this goroutine changes it
	defer p.close()
	err := p.bounded(ctx, func(ctx context.Context) error {
		return p.guard("connect", func() error { return p.driver.Connect(ctx, number) })
	})
	if err != nil {
		return err
	}
	p.update(func(s *Stats) {
		s.Session = number
		if number > 1 {
			s.Reconnects++
		}
	})
	if p.options.Interval == 0 {
		for ctx.Err() == nil {
			if err := p.read(ctx, 0); err != nil {
				return err
			}
		}
		return nil
	}
	return p.poll(ctx)
}

// poll reads on a grid from the start of the session: from start to start, so
// that the interval does not grow by the time that a read takes. After a read
// that ran over, the last slot that is due starts at once, late; those before
// it are skipped.
func (p *Poller) poll(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	slot := time.Now()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		late := time.Since(slot)
		err := p.bounded(ctx, func(ctx context.Context) error { return p.read(ctx, late) })
		if err != nil {
			return err
		}
		slot = p.next(slot, first)
		if behind := time.Since(slot); behind >= p.options.Interval {
			slot = slot.Add(behind.Truncate(p.options.Interval))
			p.update(func(s *Stats) { s.Skipped += uint64(behind / p.options.Interval) })
		}
		timer.Reset(time.Until(slot))
	}
}

// next returns the slot behind one. Behind the first of a session it is the next
// of the device's phase that leaves half an interval between.
func (p *Poller) next(slot time.Time, first bool) time.Time {
	next := slot.Add(p.options.Interval)
	if !first || p.options.Phase == 0 {
		return next
	}
	off := slot.Sub(p.begun.Add(p.options.Phase)) % p.options.Interval
	if off < 0 {
		off += p.options.Interval
	}
	if next = next.Add(-off); next.Sub(slot) < p.options.Interval/2 {
		next = next.Add(p.options.Interval)
	}
	return next
}

func (p *Poller) bounded(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	return do(ctx)
}

// read does one Read and hands over what it gave.
func (p *Poller) read(ctx context.Context, late time.Duration) error {
	start := time.Now()
	var scans []plant.Scan
	err := p.guard("read", func() (err error) {
		scans, err = p.driver.Read(ctx)
		return err
	})
	if err != nil {
		return err
	}
	now := time.Now()
	p.found(now)
	p.gave = p.gave || p.gives(scans)
	asOnePoll(scans)
	p.edges.Lock()
	for i := range scans {
		boundTexts(scans[i].Readings)
		p.clockSeen(&scans[i])
		in := plant.Input(scans[i]) // boxed once for all sinks
		for _, s := range p.sinks {
			s.Offer(in)
		}
	}
	p.edges.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.stats
	s.Reads++
	s.LastRead, s.LastValues, s.Late = now, now, late
	if p.options.Interval > 0 {
		s.ReadTime = now.Sub(start)
	}
	for i := range scans {
		count(s, scans[i].Readings, now)
	}
	return nil
}

// count keeps BadTags without touching the map for a tag that stays good.
func count(s *Stats, readings []plant.Reading, now time.Time) {
	s.Readings += uint64(len(readings))
	for i := range readings {
		r := &readings[i]
		switch {
		case r.Quality != plant.Good:
			s.BadReadings++
			if s.BadTags == nil {
				s.BadTags, s.BadSince = make(map[plant.TagID]string), make(map[plant.TagID]time.Time)
			}
			s.BadTags[r.Tag] = r.Cause
			if s.BadSince[r.Tag].IsZero() {
				s.BadSince[r.Tag] = now
			}
		case len(s.BadTags) > 0:
			delete(s.BadTags, r.Tag)
			delete(s.BadSince, r.Tag)
		}
	}
}

// found is called after each good read; it matters for the first of a session.
// A connection alone says little: the gateway box of a serial line accepts it
// while the device behind is off.
func (p *Poller) found(now time.Time) {
	p.retry.Reset()
	p.soon.Reset()
	if p.stats.Connected {
		return
	}
	p.foundAt = now
	p.edges.Lock()
	defer p.edges.Unlock()
	var unsteady string
	p.update(func(s *Stats) {
		s.Connected, s.Since = true, now
		unsteady = s.Unsteady.String()
	})
	switch {
	case unsteady != "": // the log knows
	case p.told:
		p.log.Info("device is back", zap.Duration("after", now.Sub(p.away).Round(time.Millisecond)))
	default:
		p.log.Info("device connected")
	}
	p.announced, p.told = false, false
	p.state(plant.DeviceState{At: now, Device: p.options.Device, Session: p.stats.Session, Connected: true, Unsteady: unsteady})
}

// lost is called after each failed attempt and each lost session; the sinks
// and the log hear of the first only, and the log of one that comes and goes only
// when that begins and ends.
func (p *Poller) lost(err error) {
	now, cause := time.Now(), "the session ended"
	if err != nil {
		cause = err.Error()
	}
	p.edges.Lock()
	defer p.edges.Unlock()
	began, unsteady := false, ""
	p.update(func(s *Stats) {
		s.Errors++
		s.LastError, s.LastErrorAt = cause, now
		if s.Connected {
			s.Connected, s.Since = false, now
			p.losses.roll(p.minute(now))
			p.losses.minutes[p.minute(now)%len(p.losses.minutes)]++
			began, _ = p.steadiness(now) // with a loss just now it cannot have calmed
		}
		unsteady = s.Unsteady.String()
	})
	if p.announced {
		return
	}
	p.announced, p.away = true, now
	switch {
	case began:
		p.log.Warn("device comes and goes: the next line about that follows when it has calmed", zap.String("cause", cause), zap.String("how_often", unsteady))
	case unsteady == "":
		p.told = true
		p.log.Warn("device is away", zap.String("cause", cause))
	}
	p.state(plant.DeviceState{At: now, Device: p.options.Device, Session: p.stats.Session, Cause: cause, Unsteady: unsteady})
}

func (p *Poller) state(d plant.DeviceState) {
	for _, s := range p.sinks {
		s.Offer(d)
	}
}

// close ends a session. Its error says nothing that the lost connection did
// not say already.
func (p *Poller) close() { _ = p.guard("close", p.driver.Close) }

// guard turns a panic of the driver into an error, so that one device's driver
// never takes the gateway down. The stack is logged once.
func (p *Poller) guard(verb string, do func() error) (err error) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		first := false
		p.update(func(s *Stats) { s.Panics++; first = s.Panics == 1 })
		if first {
			p.log.Error("driver panicked", zap.String("verb", verb), zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
		err = fmt.Errorf("the driver panicked in %s: %v", verb, r)
	}()
	return do()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
