package drivers

import "time"

// Sharer is a Driver of a device on a wire that several share.
type Sharer interface {
	// Used returns for how long the wire was busy with this device since the start:
	// with its requests, their answers and what they waited for in vain. It may be
	// called from any goroutine and does not block.
	Used() time.Duration
}

// usage works out which part of a wire's time one device takes, over the last
// minute.
type usage struct {
	at   [60]time.Time
	used [60]time.Duration
	next int
}

// look takes what was used until now, each second or so.
func (u *usage) look(now time.Time, used time.Duration) (share float64) {
	oldest := u.next
	if u.at[oldest].IsZero() {
		oldest = 0
	}
	if from := u.at[oldest]; !from.IsZero() {
		if took := now.Sub(from); took > 0 {
			share = min(max(float64(used-u.used[oldest])/float64(took), 0), 1)
		}
	}
	u.at[u.next], u.used[u.next] = now, used
	u.next = (u.next + 1) % len(u.at)
	return share
}

// watchUsage keeps a device's share of its line. It is called each second.
func (p *Poller) watchUsage(now time.Time) {
	d, ok := p.driver.(Sharer)
	if !ok || p.options.Line == "" {
		return
	}
	used := d.Used()
	p.update(func(s *Stats) { s.LineShare = p.usage.look(now, used) })
}
