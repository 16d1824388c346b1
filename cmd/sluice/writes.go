package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// writesEvery is how often the audit log hears of writes that went as before,
	// writesPause the least time between two entries of a tag: a line acknowledges
	// once a second for years, and its entries would push out all others.
	writesEvery = time.Hour
	writesPause = time.Minute
)

// writeAudit tells the audit log what the gateway writes to PLCs: the first write
// of each tag, the first that fails and the first that succeeds again, and the
// counts of all others once an hour. Heartbeats, which change all the time, are
// left out.
type writeAudit struct {
	add func(audit.Entry) (number uint64, err error)
	log *zap.Logger
	// audited are the tags that answer records.
	audited map[plant.TagRef]bool

	mu   sync.Mutex
	tags map[plant.TagRef]*written
	news chan struct{}
}

// written is what was written to one tag since its last entry.
type written struct {
	done, failed uint64
	last, cause  string
	failing      bool
	edge         bool      // the next look makes an entry
	told         time.Time // when the last entry was made
}

func newWriteAudit(p *plan, add func(audit.Entry) (uint64, error), log *zap.Logger) *writeAudit {
	w := &writeAudit{add: add, log: log, audited: make(map[plant.TagRef]bool), tags: make(map[plant.TagRef]*written), news: make(chan struct{}, 1)}
	for _, m := range p.Machines {
		for _, r := range m.Records() {
			for _, tag := range r.Writes {
				w.audited[plant.TagRef{Device: r.Device, Tag: tag}] = true
			}
		}
	}
	return w
}

// note takes the outcome of a write. It may be called from any goroutine and does
// not wait for the disk: an acknowledgement is waited for by a PLC.
func (w *writeAudit) note(wr plant.Write, err error) {
	ref := plant.TagRef{Device: wr.Device, Tag: wr.Tag}
	if !w.audited[ref] {
		return
	}
	w.mu.Lock()
	t := w.tags[ref]
	if t == nil {
		t = &written{edge: true}
		w.tags[ref] = t
	}
	t.last = wr.Value.String()
	if err != nil {
		t.failed++
		t.cause = err.Error()
	} else {
		t.done++
	}
	t.edge = t.edge || t.failing != (err != nil)
	t.failing = err != nil
	edge := t.edge
	w.mu.Unlock()
	if edge {
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

// Run makes the entries until ctx ends, and then the last ones.
func (w *writeAudit) Run(ctx context.Context) error {
	tick := time.NewTicker(writesPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.tell(time.Now(), true)
			return nil
		case <-tick.C:
		case <-w.news:
		}
		w.tell(time.Now(), false)
	}
}

// tell makes the entries that are due, all of them at the end.
func (w *writeAudit) tell(now time.Time, all bool) {
	for _, e := range w.due(now, all) {
		if _, err := w.add(e); err != nil {
			w.log.Error("the audit log has no word of writes to a device", zap.String("tag", e.Object), zap.String("writes", e.Detail), zap.Error(err))
		}
	}
}

func (w *writeAudit) due(now time.Time, all bool) (entries []audit.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ref, t := range w.tags {
		since := now.Sub(t.told)
		if t.done+t.failed == 0 || !all && !(t.edge && since >= writesPause) && since < writesEvery {
			continue
		}
		e := audit.Entry{By: "gateway", Action: "device.write", Object: ref.String(), Outcome: audit.Done,
			Detail: fmt.Sprintf("%s, the last %s", count(int(t.done+t.failed), "write"), t.last)}
		if t.failed > 0 {
			e.Detail += fmt.Sprintf("; %d failed: %s", t.failed, t.cause)
		}
		if t.failing {
			e.Outcome = audit.Failed
		}
		entries = append(entries, e)
		*t = written{failing: t.failing, told: now}
	}
	return entries
}
