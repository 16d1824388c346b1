package opcua

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/plant"
)

// pollEvery is how often values are read that nobody reports.
func (s *session) pollEvery() time.Duration { return max(leastPoll, s.d.o.Publishing.Std()) }

// pollInstead makes a session that should subscribe one that polls.
func (s *session) pollInstead(why string) {
	text := "the server cannot be subscribed to: " + why + "; all values are read each " + s.pollEvery().String() +
		" instead: make room for a subscription at the server and restart the gateway, or write poll"
	if s.d.advice.say(onSubscription, text) {
		s.d.log.Warn("the server cannot be subscribed to: its values are polled instead", zap.String("device", string(s.d.device)), zap.String("cause", why))
	}
	s.polling, s.pollAt = true, time.Now()
	s.review()
}

// awaitPoll is Read where there should be a subscription and is none.
func (s *session) awaitPoll(ctx context.Context) ([]plant.Scan, error) {
	timer := time.NewTimer(time.Until(s.pollAt))
	defer timer.Stop()
	select {
	case <-s.lost:
		s.over = true
		return nil, s.cause
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	s.pollAt = time.Now().Add(s.pollEvery())
	return s.poll(ctx)
}

// poll asks for every node once, in as few requests as the server allows.
func (s *session) poll(ctx context.Context) ([]plant.Scan, error) {
	came, err := s.readItems(ctx, s.items)
	if err != nil {
		return nil, err
	}
	scans := s.changed(ctx, came)
	if missing := s.unresolved(); len(missing) > 0 {
		scans = append(scans, plant.Scan{Device: s.d.device, Session: s.number, Received: time.Now(), Readings: missing})
	}
	return scans, nil
}

// pollRest reads what the server does not watch beside its subscription.
func (s *session) pollRest(ctx context.Context) ([]plant.Scan, error) {
	if s.pollAt.IsZero() || time.Now().Before(s.pollAt) {
		return nil, nil
	}
	s.pollAt = time.Now().Add(s.pollEvery())
	came, err := s.readItems(ctx, slices.DeleteFunc(slices.Clone(s.items), func(it *item) bool { return !it.polled }))
	if err != nil || len(came.changes) == 0 {
		return nil, err
	}
	return s.changed(ctx, came), nil
}

// judgeFront checks the server's state and its list of namespaces, as far as they
// were read.
func (s *session) judgeFront(got []*ua.DataValue) error {
	if len(got) > 0 {
		if err := running(got[0]); err != nil {
			return err
		}
	}
	if len(got) > 1 {
		return s.sameNamespaces(got[1])
	}
	return nil
}

// readItems reads the values of items and, in front of each request, the server's
// state: one that is stopped would give old values. A failure ends the session.
func (s *session) readItems(ctx context.Context, items []*item) (came publish, err error) {
	came.asked = time.Now()
	s.polled = slices.Grow(s.polled[:0], len(items))
	var front []*ua.ReadValueID
	spaces := !came.asked.Before(s.spacesAt)
	for len(items) > 0 {
		most := s.perRead()
		if front = front[:0]; most > 1 {
			front = append(front, value(standard(stateNode)))
		}
		if spaces && most > 2 {
			front = append(front, namespaceArray())
		}
		part := items[:min(len(items), most-len(front))]
		nodes := append(make([]*ua.ReadValueID, 0, len(front)+len(part)), front...)
		for _, it := range part {
			if it.node() != nil {
				nodes = append(nodes, it.whole.Load())
			}
		}
		if len(nodes) == 0 { // their namespaces are missing
			items = items[len(part):]
			continue
		}
		got, err := s.read(ctx, nodes)
		if overmuch(err) && len(nodes) > 1 {
			continue // half of it from now on
		}
		if err == nil {
			err = s.judgeFront(got[:len(front)])
		}
		if err != nil {
			s.fail(err)
			s.over = true
			<-s.lost // at once, or when a write has said why
			return publish{}, s.cause
		}
		if len(front) > 1 {
			s.spacesAt = came.asked.Add(s.d.namespacesEvery)
		}
		items = items[len(part):]
		got = got[len(front):]
		for _, it := range part {
			if it.node() == nil {
				continue
			}
			s.polled = append(s.polled, sampleOf(it.handle, got[0]))
			got = got[1:]
		}
	}
	came.changes = s.polled
	return came, nil
}
