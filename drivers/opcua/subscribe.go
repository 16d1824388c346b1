package opcua

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/plant"
)

// leastSampling is what no server is blamed for: it looks once in so long.
const leastSampling = 50 * time.Millisecond

// keepAlives is after how many silent intervals the server says that it is
// there: about every second.
func (o *Options) keepAlives() uint32 {
	return uint32(max(1, time.Second/o.Publishing.Std()))
}

// lifetime is after how many intervals without a request the server forgets the
// subscription: about a minute, and three keep-alives at least (OPC 10000-4,
// 5.14.2).
func (o *Options) lifetime() uint32 {
	return max(3*o.keepAlives(), uint32(time.Minute/o.Publishing.Std()))
}

// subscribe makes the subscription and its items.
func (s *session) subscribe(ctx context.Context) error {
	o := &s.d.o
	answer, err := ask[*ua.CreateSubscriptionResponse](ctx, s, &ua.CreateSubscriptionRequest{
		RequestedPublishingInterval: milliseconds(o.Publishing.Std()),
		RequestedMaxKeepAliveCount:  o.keepAlives(),
		RequestedLifetimeCount:      o.lifetime(),
		MaxNotificationsPerPublish:  chunk,
		PublishingEnabled:           true,
	})
	if err != nil {
		return fmt.Errorf("subscribe: %w", s.d.subscribes.judge(err))
	}
	s.subscription = answer.SubscriptionID
	s.interval = max(o.Publishing.Std(), duration(answer.RevisedPublishingInterval))
	keepAlive := min(float64(answer.RevisedMaxKeepAliveCount)*s.interval.Seconds(), longestKeepAlive.Seconds())
	s.silence = max(s.silence, time.Duration(3*keepAlive*float64(time.Second))+o.Timeout.Std())
	if err := s.monitor(ctx, s.items); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for _, it := range s.items {
		if it.refused != "" {
			s.refused = append(s.refused, plant.Reading{Tag: it.tag, Cause: it.refused})
		}
	}
	return nil
}

// monitor asks the server to watch items, as many in one call as it allows. What
// it refuses is a matter of that item alone: what has no deadband there is asked
// for without, and what it has no place for is polled.
func (s *session) monitor(ctx context.Context, items []*item) error {
	known := slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return it.node() == nil })
	for len(known) > 0 {
		var again []*item
		for len(known) > 0 {
			part := known[:min(len(known), s.perCall())]
			refused, err := s.monitorPart(ctx, part)
			if overmuch(err) && len(part) > 1 {
				continue // half of it from now on
			}
			if err != nil {
				return err
			}
			known, again = known[len(part):], append(again, refused...)
		}
		known = again
	}
	if s.pollAt.IsZero() && slices.ContainsFunc(items, func(it *item) bool { return it.polled }) {
		s.pollAt = time.Now()
	}
	s.review()
	return nil
}

// monitorPart makes the items of one call, and returns those that are to be asked
// for again without their deadband.
func (s *session) monitorPart(ctx context.Context, part []*item) (again []*item, err error) {
	req := &ua.CreateMonitoredItemsRequest{SubscriptionID: s.subscription, TimestampsToReturn: ua.TimestampsToReturnBoth}
	for _, it := range part {
		req.ItemsToCreate = append(req.ItemsToCreate, it.request())
	}
	answer, err := ask[*ua.CreateMonitoredItemsResponse](ctx, s, req)
	if err := s.learn(ctx, &s.d.calls, len(part), err); err != nil {
		return nil, err
	}
	if len(answer.Results) != len(part) {
		return nil, fmt.Errorf("%d answers to %d items", len(answer.Results), len(part))
	}
	for i, it := range part {
		if s.created(it, answer.Results[i]) {
			again = append(again, it)
		}
	}
	return again, nil
}

// created notes what the server made of an item, and reports whether it is to be
// asked for once more, without its deadband.
func (s *session) created(it *item, result *ua.MonitoredItemCreateResult) (again bool) {
	it.refused, it.polled, it.slow = "", false, false
	if result == nil {
		it.refused = "the server does not say whether it watches the node"
		return false
	}
	it.monitored = result.MonitoredItemID
	sampling := duration(result.RevisedSamplingInterval)
	it.patience = 2 * (max(it.sampling, sampling) + s.interval)
	status := result.StatusCode &^ 0xFFFF
	switch {
	case quality(status) != plant.Bad:
		it.slow = sampling > 2*max(it.sampling, leastSampling)
	case unfiltered[status] && it.deadband > 0 && !it.unfiltered:
		it.unfiltered = true
		return true
	case unwatched[status]:
		it.polled = true
	default:
		it.refused = cause(status)
	}
	return false
}

// request describes the item to the server. Without a filter a new timestamp
// alone is no change; with a deadband that has to be said (OPC 10000-4, 7.22.2).
func (it *item) request() *ua.MonitoredItemCreateRequest {
	p := &ua.MonitoringParameters{
		ClientHandle: it.handle, SamplingInterval: milliseconds(it.sampling),
		QueueSize: uint32(it.queue), DiscardOldest: true,
	}
	if it.deadband > 0 && !it.unfiltered {
		p.Filter = ua.NewExtensionObject(&ua.DataChangeFilter{
			Trigger: ua.DataChangeTriggerStatusValue, DeadbandType: uint32(ua.DeadbandTypeAbsolute), DeadbandValue: it.deadband,
		})
	}
	return &ua.MonitoredItemCreateRequest{ItemToMonitor: value(it.node()), MonitoringMode: ua.MonitoringModeReporting, RequestedParameters: p}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// duration reads a time of the server; one that makes no sense is 0.
func duration(milliseconds float64) time.Duration {
	if !(milliseconds > 0 && milliseconds < float64(time.Hour/time.Millisecond)) {
		return 0
	}
	return time.Duration(milliseconds * float64(time.Millisecond))
}

// await returns the next publish, or records that are due without one.
func (s *session) await(ctx context.Context) ([]plant.Scan, error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if len(s.refused) > 0 {
			scan := plant.Scan{Device: s.d.device, Session: s.number, Snapshot: true, Received: time.Now(), Readings: s.refused}
			s.refused = nil
			return []plant.Scan{scan}, nil
		}
		// What arrived before the connection was lost is handed over first.
		select {
		case came := <-s.published:
			return s.reported(ctx, came), nil
		default:
		}
		timer.Reset(time.Until(s.nextTime()))
		select {
		case came := <-s.published:
			return s.reported(ctx, came), nil
		case <-s.lost:
			s.over = true
			return nil, s.cause
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			if scans := s.due(ctx, nil); len(scans) > 0 {
				return scans, nil
			}
			if scans, err := s.pollRest(ctx); err != nil || len(scans) > 0 {
				return scans, err
			}
			s.again(ctx)
			s.look(ctx)
		}
	}
}

// nextTime is when something is to be done without a publish.
func (s *session) nextTime() time.Time {
	next := s.retryAt
	if !s.pollAt.IsZero() && s.pollAt.Before(next) {
		next = s.pollAt
	}
	if s.audit.at.Before(next) {
		next = s.audit.at
	}
	for _, r := range s.records {
		if r.offered && r.repeatAt.Before(next) {
			next = r.repeatAt
		}
	}
	return next
}

// again asks for the items that were refused. Where a namespace is missing, a
// change of the list of namespaces ends the session. A failure shows in lost.
func (s *session) again(ctx context.Context) {
	if time.Now().Before(s.retryAt) {
		return
	}
	s.retryAt = time.Now().Add(s.d.retry)
	missing := slices.DeleteFunc(slices.Clone(s.items), func(it *item) bool { return it.refused == "" || it.node() == nil })
	if len(missing) == 0 {
		return
	}
	if err := s.monitor(ctx, missing); err != nil && ctx.Err() == nil {
		s.fail(err)
	}
}

// reported is changed for what the subscription says, which is then done with.
func (s *session) reported(ctx context.Context, came publish) []plant.Scan {
	scans := s.changed(ctx, came)
	s.client.channel.rooms.give(came.changes)
	return scans
}

// changed turns a publish into scans, in the order of what happened. The first
// good value of each tag in a session is a snapshot, and no scan has a tag twice.
func (s *session) changed(ctx context.Context, came publish) []plant.Scan {
	changes := came.changes
	s.inOrder(changes)
	now := time.Now()
	// What Read returns is valid until the next Read, so the room is used again.
	scans, readings := s.scans[:0], slices.Grow(s.readings[:0], len(changes))
	from := 0 // where the newest scan begins
	for i := range changes {
		c := &changes[i]
		it := s.item(c.handle)
		if it == nil {
			s.stray(c.handle)
			continue
		}
		lossy := overflowed(c)
		if lossy {
			s.overflow(it)
		}
		r := it.read(c)
		it.told = *c
		it.reports++
		if it.deadband > 0 && it.unfiltered && it.within(&r) {
			continue
		}
		snapshot := !it.seen
		if snapshot && r.Quality != plant.Bad {
			it.seen = true
			s.pin(it)
		}
		if n := len(scans); n == 0 || scans[n-1].Snapshot != snapshot || scans[n-1].Overflow != lossy || it.scan == s.scanned {
			s.scanned++
			from = len(readings)
			scans = append(scans, plant.Scan{Device: s.d.device, Session: s.number, Snapshot: snapshot, Overflow: lossy, Asked: came.asked, Received: now})
		}
		it.scan = s.scanned
		readings = append(readings, r)
		scans[len(scans)-1].Readings = readings[from:len(readings):len(readings)]
		s.observe(it, r)
	}
	s.readings = readings
	s.scans = s.due(ctx, scans)
	return s.scans
}

// stray tells once a session that the server reports what nobody has asked for:
// the values of some tag come late, by comparing with what the server has.
func (s *session) stray(handle uint32) {
	if s.strayed {
		return
	}
	s.strayed = true
	if s.d.advice.say(onStray, fmt.Sprintf("the server reports values under a number that no tag has (client handle %d): they are not taken, and the tags that they belong to are late by 10 s and more: restart the server, update its firmware, or write poll", handle)) {
		s.d.log.Warn("the server reports values under a number that no tag has: they are not taken",
			zap.String("device", string(s.d.device)), zap.Uint32("handle", handle))
	}
}

// item returns the item of a handle, nil if there is none.
func (s *session) item(handle uint32) *item {
	if handle == 0 || uint64(handle) > uint64(len(s.items)) {
		return nil
	}
	return s.items[handle-1]
}

// inOrder sorts changes of several tags by the device's time. Changes of one tag
// are in order already; if a clock says otherwise, nothing is sorted.
func (s *session) inOrder(changes []sample) {
	s.ordered++
	repeated := false
	for i := range changes {
		c := &changes[i]
		it := s.item(c.handle)
		if it == nil {
			continue
		}
		seen := it.ordered == s.ordered
		if !c.sourced || seen && c.at.Before(it.newest) {
			return
		}
		repeated = repeated || seen
		it.ordered, it.newest = s.ordered, c.at
	}
	if repeated {
		slices.SortStableFunc(changes, func(a, b sample) int { return a.at.Compare(b.at) })
	}
}

// within reports whether a reading stays within the deadband that the server does
// not apply. What is no number has none, and says so.
func (it *item) within(r *plant.Reading) bool {
	if r.Quality == plant.Bad {
		it.passed = plant.Value{}
		return false
	}
	now, ok := r.Value.Float()
	if !ok || r.Value.Type() == plant.Text {
		*r = plant.Reading{Tag: r.Tag, Source: r.Source, Cause: "the node is no number, so it can have no deadband: remove deadband"}
		return false
	}
	before, known := it.passed.Float()
	if known && r.Quality == plant.Good && math.Abs(now-before) <= it.deadband*math.Abs(it.scale.Float())*(1+1e-9) {
		return true
	}
	it.passed = r.Value
	return false
}

// overflowed reports whether the server says of a value that it has lost those
// before it: its queue was too short, or it had no time to look.
func overflowed(c *sample) bool {
	const bits = 0x480 // InfoType DataValue and Overflow (OPC 10000-4, 7.39.1)
	return c.status&bits == bits || c.status&^0xFFFF == ua.StatusGoodOverload
}

// overflow tells of it once a session.
func (s *session) overflow(it *item) {
	if it.overflowed {
		return
	}
	it.overflowed = true
	s.review()
	s.d.log.Warn("the server lost values of a tag: raise queue or shorten publishing",
		zap.String("device", string(s.d.device)), zap.String("tag", string(it.tag)), zap.Int("queue", it.queue))
}

// unresolved are the tags of namespaces that the server does not have.
func (s *session) unresolved() (missing []plant.Reading) {
	for _, it := range s.items {
		if it.node() == nil {
			missing = append(missing, plant.Reading{Tag: it.tag, Cause: it.refused})
		}
	}
	return missing
}

// queueFor is how many values a tag may have between two publishes, twice.
func queueFor(publishing, sampling time.Duration) int {
	return min(maxQueue, 2*int(math.Ceil(float64(publishing)/float64(max(sampling, time.Millisecond)))))
}
