package drivers

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// steadySession is how long a session must have lived to count as one that
	// works: the waits before the next ones begin anew behind it.
	steadySession = 5 * time.Second
	// shakyBackoff bounds the wait behind a short session that gave values: they
	// are worth a connection each few seconds, which burdens no device.
	shakyBackoff = 3 * time.Second
	// unsteadyLosses in unsteadyWindow are one too many for a PLC that starts
	// again; so are losses in unsteadyBlocks windows of the last hour.
	unsteadyLosses = 3
	unsteadyWindow = 5 * time.Minute
	unsteadyBlocks = 4
)

// Unsteady says that a device comes and goes; the zero value that it does not.
type Unsteady struct {
	// Since is when that was noticed; zero for a steady device.
	Since time.Time
	// Times is how often the device was lost within Within.
	Times  uint64
	Within time.Duration
}

// String says it for people: "it comes and goes: lost 4 times in the last 5
// minutes"; empty for a steady device.
func (u Unsteady) String() string {
	if u.Since.IsZero() {
		return ""
	}
	within := "5 minutes"
	if u.Within > unsteadyWindow {
		within = "hour"
	}
	return fmt.Sprintf("it comes and goes: lost %d times in the last %s", u.Times, within)
}

// losses counts how often a device was lost in each minute of the last hour.
type losses struct {
	minutes [60]uint64
	newest  int // counted from the start of the Poller
}

// roll forgets what is older than an hour.
func (l *losses) roll(minute int) {
	for n := min(minute-l.newest, len(l.minutes)); n > 0; n-- {
		l.minutes[(minute-n+1)%len(l.minutes)] = 0
	}
	l.newest = max(l.newest, minute)
}

// look returns how many losses the last window and the last hour have had, and in
// how many windows of the hour there was one.
func (l *losses) look(minute int) (window, hour uint64, blocks int) {
	l.roll(minute)
	const size = int(unsteadyWindow / time.Minute)
	var block uint64
	for back := range l.minutes {
		if l.newest < back {
			break // before the start
		}
		n := l.minutes[(l.newest-back)%len(l.minutes)]
		hour += n
		if back <= size {
			window += n // the minute that has begun, and whole ones
		}
		if n > 0 && block == 0 {
			blocks++
		}
		if block += n; (back+1)%size == 0 {
			block = 0
		}
	}
	return window, hour, blocks
}

// minute is now as losses count it.
func (p *Poller) minute(now time.Time) int { return int(now.Sub(p.begun) / time.Minute) }

// steadiness looks at the losses and reports whether the device has just begun to
// come and go, or has just calmed. p.mu must be held.
func (p *Poller) steadiness(now time.Time) (began, calmed bool) {
	window, hour, blocks := p.losses.look(p.minute(now))
	u := &p.stats.Unsteady
	shaky, was := window >= unsteadyLosses || blocks >= unsteadyBlocks, !u.Since.IsZero()
	switch {
	case !shaky && (!was || window == 0):
		*u = Unsteady{}
		return false, was
	case !was:
		u.Since = now
	}
	u.Times, u.Within = hour, time.Hour
	if window >= unsteadyLosses || blocks < unsteadyBlocks {
		u.Times, u.Within = window, unsteadyWindow
	}
	return !was, false
}

// watchSteadiness tells the log and the sinks when a device that came and went has
// calmed. It is called each second, beside Run's goroutine.
func (p *Poller) watchSteadiness(now time.Time) {
	p.edges.Lock()
	defer p.edges.Unlock()
	p.mu.Lock()
	_, calmed := p.steadiness(now)
	s := p.stats
	p.mu.Unlock()
	if !calmed {
		return
	}
	p.told = !s.Connected
	state := plant.DeviceState{At: now, Device: p.options.Device, Session: s.Session, Connected: s.Connected}
	if s.Connected {
		p.log.Info("device no longer comes and goes: it stays connected", zap.Uint64("reconnects_since_start", s.Reconnects))
	} else {
		state.Cause = s.LastError
		p.log.Warn("device no longer comes and goes: it is away", zap.String("cause", s.LastError), zap.Uint64("reconnects_since_start", s.Reconnects))
	}
	p.state(state)
}

// pause is how long to wait before the next attempt behind err. A short session is
// one that was found and lost again within steadySession: the device is asked less
// and less often while it comes and goes.
func (p *Poller) pause(err error, short bool) time.Duration {
	wait := p.again(err)
	if !short {
		return wait
	}
	p.mu.Lock()
	unsteady := !p.stats.Unsteady.Since.IsZero()
	p.mu.Unlock()
	if !unsteady {
		return wait
	}
	wait = p.short.Next()
	if p.gave {
		wait = min(wait, max(shakyBackoff, p.options.MinBackoff))
	}
	return wait
}

// gives reports whether a device said something of its own accord or when asked:
// what a subscription says first of all, a program without a machine says too.
func (p *Poller) gives(scans []plant.Scan) bool {
	for i := range scans {
		if p.options.Interval == 0 && (scans[i].Snapshot || scans[i].Record != "") {
			continue // a record repeats what the scan before it says
		}
		for j := range scans[i].Readings {
			if scans[i].Readings[j].Quality == plant.Good {
				return true
			}
		}
	}
	return false
}
