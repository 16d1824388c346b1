package drivers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// badTagsSettle is how long tags must be bad, or all be good, before the log
	// hears of it: a PLC that boots has many bad tags for a moment.
	badTagsSettle = 10 * time.Second
	// badTagsPause is the least time between two warnings of one device, so that
	// a tag that flaps fills no disk.
	badTagsPause = 10 * time.Minute
	// badTagsNamed is how many tags one warning names.
	badTagsNamed = 5
)

// badTagLog decides when the log hears of a device's bad tags: of the edges, not
// of the readings.
type badTagLog struct {
	// told are the tags that were bad at the last warnings; nil while all are
	// good as far as the log knows.
	told map[plant.TagID]bool
	// badSince is since when a tag is bad that was not told, goodSince since when
	// all are good that were told; zero while it is not so.
	badSince, goodSince time.Time
	warned              time.Time
}

// verdict is what the log should hear.
type verdict uint8

const (
	nothing verdict = iota
	someBad
	allGood
)

// away forgets what was about to be told: a lost device says nothing of its tags.
func (b *badTagLog) away() { b.badSince, b.goodSince = time.Time{}, time.Time{} }

// look takes the tags that are bad at now.
func (b *badTagLog) look(now time.Time, bad map[plant.TagID]string) verdict {
	if len(bad) == 0 {
		b.badSince = time.Time{}
		if b.told == nil || !settled(&b.goodSince, now) {
			return nothing
		}
		b.told, b.goodSince = nil, time.Time{}
		return allGood
	}
	b.goodSince = time.Time{}
	untold := false
	for tag := range bad {
		untold = untold || !b.told[tag]
	}
	if !untold {
		b.badSince = time.Time{}
		return nothing
	}
	if !settled(&b.badSince, now) || !b.warned.IsZero() && now.Sub(b.warned) < badTagsPause {
		return nothing
	}
	if b.told == nil {
		b.told = make(map[plant.TagID]bool, len(bad))
	}
	for tag := range bad {
		b.told[tag] = true
	}
	b.warned, b.badSince = now, time.Time{}
	return someBad
}

// settled reports whether something has lasted, and notes when it began.
func settled(since *time.Time, now time.Time) bool {
	if since.IsZero() {
		*since = now
	}
	return now.Sub(*since) >= badTagsSettle
}

// watch tells the log of bad tags, and that a device has calmed, until ctx ends.
func (p *Poller) watch(ctx context.Context) {
	var state badTagLog
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.watchSteadiness(time.Now())
		p.watchUsage(time.Now())
		p.mu.Lock()
		connected, bad := p.stats.Connected, p.stats.BadTags
		var what verdict
		if connected {
			what = state.look(time.Now(), bad)
		} else {
			state.away()
		}
		if what == someBad {
			bad = maps.Clone(bad)
		}
		p.mu.Unlock()
		switch what {
		case someBad:
			p.log.Warn(fmt.Sprintf("%d of %d tags are bad", len(bad), max(len(p.options.Tags), len(bad))), zap.Strings("tags", p.describe(bad)))
		case allGood:
			p.log.Info("all tags are good again")
		}
	}
}

// describe names a few bad tags with address and cause, and counts the others.
func (p *Poller) describe(bad map[plant.TagID]string) []string {
	var lines []string
	for i, tag := range slices.Sorted(maps.Keys(bad)) {
		if i == badTagsNamed {
			return append(lines, fmt.Sprintf("and %d more", len(bad)-i))
		}
		line := string(tag)
		if at := slices.IndexFunc(p.options.Tags, func(t plant.Tag) bool { return t.ID == tag }); at >= 0 && p.options.Tags[at].Address != "" {
			line += " (" + p.options.Tags[at].Address + ")"
		}
		lines = append(lines, line+": "+bad[tag])
	}
	return lines
}
