package opcua

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// auditEvery is the time between two reads of some of the nodes that the
	// server watches for us; auditRound such reads see them all, or more if the
	// server reads fewer at once.
	auditEvery = 10 * time.Second
	auditRound = 30
	// auditLeast is how many nodes are read where a round would need fewer.
	auditLeast = 50
	// reviveAfter is how long an item that was made anew is left alone, twice as
	// long each time.
	reviveAfter = time.Minute
)

// audit compares what the subscription told last with what the server says when
// it is asked: a server may forget an item while subscription and session live,
// and a tag that never changes looks the same. One difference proves nothing,
// since a report may be on its way; one that lasts without any report does.
type audit struct {
	at   time.Time // of the next read
	next int       // the item that is next in the round
	// doubts are the items that differed, and how many reports they had by then.
	doubts map[*item]suspicion
	told   bool // the log knows that this server forgets items
}

type suspicion struct {
	reports uint64
	since   time.Time
}

// look reads a few nodes and makes the items anew that the server has forgotten.
// A failed request ends the session at the next Read.
func (s *session) look(ctx context.Context) {
	now := time.Now()
	if now.Before(s.audit.at) {
		return
	}
	s.audit.at = now.Add(s.d.auditEvery)
	items := s.auditBatch(now)
	if len(items) == 0 {
		return
	}
	nodes := make([]*ua.ReadValueID, len(items))
	for i, it := range items {
		nodes[i] = value(it.node())
	}
	got, err := s.read(ctx, nodes)
	if err == nil {
		s.tellUnreported(items, got)
		err = s.revive(ctx, s.audit.judge(items, got, now))
	}
	if err != nil && ctx.Err() == nil {
		s.fail(fmt.Errorf("compare with the subscription: %w", err))
	}
}

// tellUnreported hands over what is wrong with items of which the subscription has
// never said a word: nobody would hear of them.
func (s *session) tellUnreported(items []*item, got []*ua.DataValue) {
	for i, it := range items {
		if it.told.said {
			continue
		}
		if r := it.reading(got[i]); r.Quality == plant.Bad {
			r.Cause += "; the server watches the node and has never reported it"
			s.refused = append(s.refused, r)
		}
	}
}

// auditBatch returns the items in doubt that had time to report, and the next
// ones of the round.
func (s *session) auditBatch(now time.Time) (items []*item) {
	size := min(s.perRead(), max(auditLeast, len(s.items)/auditRound+1))
	taken := make(map[*item]bool, size)
	take := func(it *item) {
		if len(items) < size && !taken[it] && it.refused == "" && !it.polled && it.node() != nil && !now.Before(it.reviveAt) {
			taken[it] = true
			items = append(items, it)
		}
	}
	for it, doubt := range s.audit.doubts {
		if now.Sub(doubt.since) >= it.patience {
			take(it)
		}
	}
	for _, it := range s.items {
		if _, doubted := s.audit.doubts[it]; !it.told.said && !doubted {
			take(it)
		}
	}
	for range s.items {
		if len(items) == size {
			break
		}
		it := s.items[s.audit.next]
		s.audit.next = (s.audit.next + 1) % len(s.items)
		if _, doubted := s.audit.doubts[it]; !doubted {
			take(it)
		}
	}
	return items
}

// judge returns the items that differ as before although nothing was reported.
func (a *audit) judge(items []*item, got []*ua.DataValue, now time.Time) (dead []*item) {
	for i, it := range items {
		doubt, before := a.doubts[it]
		switch {
		case it.agrees(got[i]):
			delete(a.doubts, it)
		case before && doubt.reports == it.reports:
			delete(a.doubts, it)
			dead = append(dead, it)
		default:
			if a.doubts == nil {
				a.doubts = make(map[*item]suspicion)
			}
			a.doubts[it] = suspicion{reports: it.reports, since: now}
		}
	}
	return dead
}

// agrees reports whether the subscription has told what the server says now, as
// far as it was asked to.
func (it *item) agrees(now *ua.DataValue) bool {
	a, b := it.read(&it.told), it.reading(now)
	if a.Quality != b.Quality {
		return false
	}
	if a.Value == b.Value {
		return true
	}
	x, ok1 := a.Value.Float()
	y, ok2 := b.Value.Float()
	return it.deadband > 0 && ok1 && ok2 && math.Abs(x-y) <= it.deadband*math.Abs(it.scale.Float())*(1+1e-9)
}

// revive makes items anew; their first value is a snapshot, as nobody knows what
// happened meanwhile.
func (s *session) revive(ctx context.Context, dead []*item) error {
	if len(dead) == 0 {
		return nil
	}
	for left := dead; len(left) > 0; {
		part := left[:min(len(left), s.perCall())]
		req := &ua.DeleteMonitoredItemsRequest{SubscriptionID: s.subscription}
		for _, it := range part {
			req.MonitoredItemIDs = append(req.MonitoredItemIDs, it.monitored)
		}
		// The results do not matter: what is not there need not be deleted.
		_, err := ask[*ua.DeleteMonitoredItemsResponse](ctx, s, req)
		if err := s.learn(ctx, &s.d.calls, len(part), err); err != nil {
			if overmuch(err) && len(part) > 1 {
				continue // half of it from now on
			}
			return err
		}
		left = left[len(part):]
	}
	now := time.Now()
	for _, it := range dead {
		it.seen, it.told = false, sample{}
		it.revived++
		it.reviveAt = now.Add(reviveAfter << min(it.revived-1, 6))
	}
	if err := s.monitor(ctx, dead); err != nil {
		return err
	}
	for _, it := range dead {
		if it.refused != "" {
			s.refused = append(s.refused, plant.Reading{Tag: it.tag, Cause: it.refused})
		}
	}
	if !s.audit.told {
		s.audit.told = true
		s.d.log.Warn("the server had stopped reporting tags that changed: it was asked to watch them anew",
			zap.Int("tags", len(dead)), zap.String("first", string(dead[0].tag)))
	}
	return nil
}
