//go:build linux

package main

import (
	"slices"
	"sync"
	"time"
)

// pulse notes when something happens again and again, by name. The zero pulse
// notes nothing yet; its methods may be called from any goroutine.
type pulse struct {
	mu    sync.Mutex
	times map[string][]time.Time
}

// most bounds what a pulse keeps: a quarter of an hour of reads every 10 ms.
const mostBeats = 90_000

// beat notes that it happens now.
func (p *pulse) beat(name string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = map[string][]time.Time{}
	}
	all := p.times[name]
	if len(all) >= mostBeats {
		all = slices.Delete(all, 0, mostBeats/2)
	}
	p.times[name] = append(all, now)
}

// since returns the times after from.
func (p *pulse) since(name string, from time.Time) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.times[name]
	i, _ := slices.BinarySearchFunc(all, from, time.Time.Compare)
	return slices.Clone(all[i:])
}

// after returns when the first one after from was; false: there was none yet.
func (p *pulse) after(name string, from time.Time) (time.Time, bool) {
	if all := p.since(name, from); len(all) > 0 {
		return all[0], true
	}
	return time.Time{}, false
}

// pauses describes the time between the beats after from: the middle one, the
// one that 99 of 100 stay below, and the longest, up to now.
func (p *pulse) pauses(name string, from time.Time) (middle, most, worst time.Duration) {
	all := append(p.since(name, from), time.Now())
	var gaps []time.Duration
	for i := 1; i < len(all); i++ {
		gaps = append(gaps, all[i].Sub(all[i-1]))
	}
	if len(gaps) == 0 {
		return 0, 0, time.Since(from)
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2], gaps[len(gaps)*99/100], gaps[len(gaps)-1]
}
