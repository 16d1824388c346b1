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
		return fmt.Errorf("subscribe: %w", err)
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
// it refuses is a matter of that item alone.
func (s *session) monitor(ctx context.Context, items []*item) error {
	known := slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return it.node() == nil })
	for part := range slices.Chunk(known, s.maxItems) {
		req := &ua.CreateMonitoredItemsRequest{SubscriptionID: s.subscription, TimestampsToReturn: ua.TimestampsToReturnBoth}
		for _, it := range part {
			req.ItemsToCreate = append(req.ItemsToCreate, it.request())
		}
		answer, err := ask[*ua.CreateMonitoredItemsResponse](ctx, s, req)
		if err != nil {
			return err
		}
		if len(answer.Results) != len(part) {
			return fmt.Errorf("%d answers to %d items", len(answer.Results), len(part))
		}
		for i, it := range part {
			result := answer.Results[i]
			it.monitored, it.refused = result.MonitoredItemID, ""
			it.patience = 2 * (max(it.sampling, duration(result.RevisedSamplingInterval)) + s.interval)
			if status := result.StatusCode; quality(status) == plant.Bad {
				it.refused = cause(status)
			}
		}
	}
	return nil
}

// request describes the item to the server. Without a filter a new timestamp
// alone is no change; with a deadband that has to be said (OPC 10000-4, 7.22.2).
func (it *item) request() *ua.MonitoredItemCreateRequest {
	p := &ua.MonitoringParameters{
		ClientHandle: it.handle, SamplingInterval: milliseconds(it.sampling),
		QueueSize: uint32(it.queue), DiscardOldest: true,
	}
	if it.deadband > 0 {
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
			return s.changed(ctx, came), nil
		default:
		}
		timer.Reset(time.Until(s.nextTime()))
		select {
		case came := <-s.published:
			return s.changed(ctx, came), nil
		case <-s.lost:
			s.over = true
			return nil, s.cause
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			if scans := s.due(ctx, nil); len(scans) > 0 {
				return scans, nil
			}
			s.again(ctx)
			s.look(ctx)
		}
	}
}

// nextTime is when something is to be done without a publish.
func (s *session) nextTime() time.Time {
	next := s.retryAt
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

// again asks for the items that were refused. A failure shows in lost.
func (s *session) again(ctx context.Context) {
	if time.Now().Before(s.retryAt) {
		return
	}
	s.retryAt = time.Now().Add(s.d.retry)
	missing := slices.DeleteFunc(slices.Clone(s.items), func(it *item) bool { return it.refused == "" })
	if len(missing) == 0 {
		return
	}
	if slices.ContainsFunc(missing, func(it *item) bool { return it.node() == nil }) {
		if err := s.open(ctx, s.client.UpdateNamespaces); err != nil {
			s.fail(err)
			return
		}
		for _, it := range missing {
			it.resolve(s.client.Namespaces())
		}
	}
	if err := s.monitor(ctx, missing); err != nil && ctx.Err() == nil {
		s.fail(err)
	}
}

// changed turns a publish into scans, in the order of what happened. The first
// good value of each tag in a session is a snapshot, and no scan has a tag twice.
func (s *session) changed(ctx context.Context, came publish) []plant.Scan {
	changes := came.changes
	inOrder(changes)
	now := time.Now()
	var scans []plant.Scan
	for i, c := range changes {
		if c == nil || c.ClientHandle == 0 || int(c.ClientHandle) > len(s.items) {
			continue
		}
		it := s.items[c.ClientHandle-1]
		s.overflow(it, c.Value)
		r := it.reading(c.Value)
		it.told = c.Value
		it.reports++
		snapshot := !it.seen
		it.seen = it.seen || r.Quality != plant.Bad
		if n := len(scans); n == 0 || scans[n-1].Snapshot != snapshot || it.scan == s.scanned {
			s.scanned++
			scans = append(scans, plant.Scan{
				Device: s.d.device, Session: s.number, Snapshot: snapshot, Asked: came.asked, Received: now,
				Readings: make([]plant.Reading, 0, min(len(changes)-i, len(s.items))),
			})
		}
		it.scan = s.scanned
		last := &scans[len(scans)-1]
		last.Readings = append(last.Readings, r)
		s.observe(it, r)
	}
	return s.due(ctx, scans)
}

// inOrder sorts changes of several tags by the device's time. Changes of one tag
// are in order already; if a clock says otherwise, nothing is sorted.
func inOrder(changes []*ua.MonitoredItemNotification) {
	last := make(map[uint32]time.Time, len(changes))
	repeated := false
	for _, c := range changes {
		if c == nil || c.Value == nil || c.Value.SourceTimestamp.IsZero() {
			return
		}
		before, seen := last[c.ClientHandle]
		if c.Value.SourceTimestamp.Before(before) {
			return
		}
		repeated = repeated || seen
		last[c.ClientHandle] = c.Value.SourceTimestamp
	}
	if repeated {
		slices.SortStableFunc(changes, func(a, b *ua.MonitoredItemNotification) int {
			return a.Value.SourceTimestamp.Compare(b.Value.SourceTimestamp)
		})
	}
}

// overflow tells once a session that the server's queue of a tag was too short.
func (s *session) overflow(it *item, d *ua.DataValue) {
	const bits = 0x480 // InfoType DataValue and Overflow (OPC 10000-4, 7.39.1)
	if it.overflowed || d == nil || d.Status&bits != bits {
		return
	}
	it.overflowed = true
	s.d.log.Warn("the server lost values of a tag: raise queue or shorten publishing",
		zap.String("device", string(s.d.device)), zap.String("tag", string(it.tag)), zap.Int("queue", it.queue))
}

// poll asks for every node once, in as few requests as the server allows.
func (s *session) poll(ctx context.Context) ([]plant.Scan, error) {
	came := publish{asked: time.Now()}
	state := []*ua.ReadValueID{value(standard(stateNode))}
	for part := range slices.Chunk(s.items, max(1, s.maxRead-len(state))) {
		nodes := slices.Clone(state)
		for _, it := range part {
			if it.node() != nil {
				nodes = append(nodes, value(it.node()))
			}
		}
		got, err := s.read(ctx, nodes)
		if err == nil {
			err = running(got[0])
		}
		if err != nil {
			s.fail(err)
			s.over = true
			return nil, err
		}
		got = got[1:]
		for _, it := range part {
			if it.node() == nil {
				continue
			}
			came.changes = append(came.changes, &ua.MonitoredItemNotification{ClientHandle: it.handle, Value: got[0]})
			got = got[1:]
		}
	}
	scans := s.changed(ctx, came)
	if missing := s.unresolved(); len(missing) > 0 {
		scans = append(scans, plant.Scan{Device: s.d.device, Session: s.number, Received: time.Now(), Readings: missing})
	}
	return scans, nil
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
