package plantsim

import (
	"context"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"
)

// subscription is one subscription of a client. Its fields belong to OPCUA.mu,
// except those that never change.
type subscription struct {
	number    uint32
	token     string
	channel   *uasc.SecureChannel
	interval  time.Duration
	keepAlive uint32
	lifetime  uint32
	stop      chan struct{}

	items    []*item
	lastItem uint32 // the number of the newest
	queue    []*ua.MonitoredItemNotification
	sequence uint32
	// quiet counts intervals without a message, late those without a request.
	quiet, late uint32
}

// item is one monitored item.
type item struct {
	number   uint32
	handle   uint32
	node     string
	size     int
	deadband float64
	last     any
}

type publishRequest struct {
	id     uint32
	handle *ua.RequestHeader
}

// Overflow is what a status code says of a value after which others were lost
// in the server's queue (OPC 10000-4, 7.39.1: InfoType DataValue, Overflow).
const Overflow uint32 = 0x480

func (s *OPCUA) createSubscription(channel *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.CreateSubscriptionRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	sub := &subscription{
		number: s.lastID, token: req.RequestHeader.AuthenticationToken.String(), channel: channel,
		interval:  time.Duration(max(req.RequestedPublishingInterval, 10) * float64(time.Millisecond)),
		keepAlive: min(max(req.RequestedMaxKeepAliveCount, 1), 5), stop: make(chan struct{}),
	}
	// Both are revised to be short, as a server may, so that little is left of
	// clients that vanish.
	sub.lifetime = min(req.RequestedLifetimeCount, 3*sub.keepAlive)
	s.subs[sub.number] = sub
	go s.run(sub)
	return &ua.CreateSubscriptionResponse{
		ResponseHeader: header(r), SubscriptionID: sub.number,
		RevisedPublishingInterval: float64(sub.interval / time.Millisecond),
		RevisedLifetimeCount:      sub.lifetime, RevisedMaxKeepAliveCount: sub.keepAlive,
	}, nil
}

func (s *OPCUA) createItems(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.CreateMonitoredItemsRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subscriptionOf(req.SubscriptionID, req.RequestHeader)
	if sub == nil {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	if limit := s.options.MaxItemsPerCall; limit > 0 && len(req.ItemsToCreate) > int(limit) {
		s.tooMany.Add(1)
		return nil, ua.StatusBadTooManyOperations
	}
	results := make([]*ua.MonitoredItemCreateResult, len(req.ItemsToCreate))
	for i, c := range req.ItemsToCreate {
		results[i] = s.createItem(sub, c)
	}
	return &ua.CreateMonitoredItemsResponse{ResponseHeader: header(r), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

// subscriptionOf returns the subscription of that number if it is of the session
// that asks, else nil. It is called with s.mu held.
func (s *OPCUA) subscriptionOf(number uint32, asks *ua.RequestHeader) *subscription {
	sub := s.subs[number]
	if sub == nil || sub.token != asks.AuthenticationToken.String() {
		return nil
	}
	return sub
}

func (s *OPCUA) createItem(sub *subscription, c *ua.MonitoredItemCreateRequest) *ua.MonitoredItemCreateResult {
	result := &ua.MonitoredItemCreateResult{FilterResult: ua.NewExtensionObject(nil)}
	name, ok := own(c.ItemToMonitor.NodeID)
	v := s.nodes.byName[name]
	if !ok || v == nil {
		result.StatusCode = ua.StatusBadNodeIDUnknown
		return result
	}
	if s.options.MaxItems > 0 && len(sub.items) >= s.options.MaxItems {
		result.StatusCode = ua.StatusBadTooManyMonitoredItems
		return result
	}
	it := &item{handle: c.RequestedParameters.ClientHandle, node: name, size: int(max(c.RequestedParameters.QueueSize, 1))}
	if f := c.RequestedParameters.Filter; f != nil {
		if filter, ok := f.Value.(*ua.DataChangeFilter); ok && filter.DeadbandType == uint32(ua.DeadbandTypeAbsolute) {
			if _, number := float(v.value); !number || s.options.NoDeadband {
				result.StatusCode = ua.StatusBadFilterNotAllowed
				return result
			}
			it.deadband = filter.DeadbandValue
		}
	}
	sub.lastItem++
	it.number = sub.lastItem
	sub.items = append(sub.items, it)
	sub.put(it, v)
	result.MonitoredItemID = it.number
	result.RevisedSamplingInterval, result.RevisedQueueSize = c.RequestedParameters.SamplingInterval, uint32(it.size)
	return result
}

func (s *OPCUA) deleteItems(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.DeleteMonitoredItemsRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subscriptionOf(req.SubscriptionID, req.RequestHeader)
	if sub == nil {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	results := make([]ua.StatusCode, len(req.MonitoredItemIDs))
	for i, number := range req.MonitoredItemIDs {
		if !sub.remove(number) {
			results[i] = ua.StatusBadMonitoredItemIDInvalid
		}
	}
	return &ua.DeleteMonitoredItemsResponse{ResponseHeader: header(r), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

// remove takes an item away and reports whether there was one.
func (sub *subscription) remove(number uint32) bool {
	before := len(sub.items)
	sub.items = slices.DeleteFunc(slices.Clone(sub.items), func(it *item) bool { return it.number == number })
	return len(sub.items) < before
}

// sample queues what an Update or a write has changed: each change is sampled.
func (s *OPCUA) sample() {
	for _, c := range s.nodes.changed {
		for _, sub := range s.subs {
			for _, it := range sub.items {
				if it.node == c.name && it.moved(c.now) {
					sub.put(it, c.now)
				}
			}
		}
	}
	s.nodes.changed = s.nodes.changed[:0]
}

// moved reports whether a value has left the deadband.
func (it *item) moved(v *variable) bool {
	if it.deadband == 0 || v == nil {
		return true
	}
	now, ok1 := float(v.value)
	before, ok2 := float(it.last)
	return !ok1 || !ok2 || math.Abs(now-before) > it.deadband
}

// put queues a value, and drops the item's oldest if its queue is full.
func (sub *subscription) put(it *item, v *variable) {
	n := &ua.MonitoredItemNotification{ClientHandle: it.handle, Value: v.data()}
	if v != nil {
		it.last = v.value
	}
	held, oldest := 0, -1
	for i, q := range sub.queue {
		if q.ClientHandle == it.handle {
			if held++; oldest < 0 {
				oldest = i
			}
		}
	}
	sub.queue = append(sub.queue, n)
	if held < it.size {
		return
	}
	sub.queue = append(sub.queue[:oldest], sub.queue[oldest+1:]...)
	if it.size == 1 {
		return // a queue of one is no queue: nothing is said of what it lost
	}
	for _, q := range sub.queue {
		if q.ClientHandle == it.handle {
			q.Value.Status |= ua.StatusCode(Overflow)
			q.Value.EncodingMask |= ua.DataValueStatusCode
			return
		}
	}
}

func float(v any) (float64, bool) {
	r := reflect.ValueOf(v)
	switch {
	case r.IsValid() && r.CanInt():
		return float64(r.Int()), true
	case r.IsValid() && r.CanUint():
		return float64(r.Uint()), true
	case r.IsValid() && r.CanFloat():
		return r.Float(), true
	default:
		return 0, false
	}
}

// publish keeps the request until there is something to say.
func (s *OPCUA) publish(_ *uasc.SecureChannel, r ua.Request, reqID uint32) (ua.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known(r) {
		return nil, ua.StatusBadSessionIDInvalid
	}
	token := r.Header().AuthenticationToken.String()
	if !s.silent && !s.hasSubscription(token) {
		return nil, ua.StatusBadNoSubscription
	}
	s.requests[token] = append(s.requests[token], publishRequest{id: reqID, handle: r.Header()})
	return nil, nil
}

func (s *OPCUA) hasSubscription(token string) bool {
	for _, sub := range s.subs {
		if sub.token == token {
			return true
		}
	}
	return false
}

func (s *OPCUA) deleteSubscriptions(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.DeleteSubscriptionsRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]ua.StatusCode, len(req.SubscriptionIDs))
	for i, number := range req.SubscriptionIDs {
		if s.subs[number] == nil {
			results[i] = ua.StatusBadSubscriptionIDInvalid
			continue
		}
		s.forget(number)
	}
	return &ua.DeleteSubscriptionsResponse{ResponseHeader: header(r), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

// forget ends a subscription; s.mu is held.
func (s *OPCUA) forget(number uint32) {
	if sub := s.subs[number]; sub != nil {
		close(sub.stop)
		delete(s.subs, number)
	}
}

// run publishes once per interval until the subscription ends.
func (s *OPCUA) run(sub *subscription) {
	tick := time.NewTicker(sub.interval)
	defer tick.Stop()
	for {
		select {
		case <-sub.stop:
			return
		case <-tick.C:
		}
		request, answer := s.due(sub)
		if answer == nil {
			continue
		}
		if err := sub.channel.SendResponseWithContext(context.Background(), request, answer); err != nil {
			s.mu.Lock()
			s.forget(sub.number)
			delete(s.sessions, sub.token)
			s.mu.Unlock()
			return
		}
	}
}

// due returns what this interval has to say, nil for nothing.
func (s *OPCUA) due(sub *subscription) (request uint32, answer *ua.PublishResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.quiet++
	if len(sub.queue) == 0 && sub.quiet < sub.keepAlive {
		return 0, nil
	}
	waiting := s.requests[sub.token]
	if len(waiting) == 0 {
		s.unasked.Add(1)
		if sub.late++; sub.late > sub.lifetime {
			s.forget(sub.number)
		}
		return 0, nil
	}
	r := waiting[0]
	s.requests[sub.token] = waiting[1:]
	sub.quiet, sub.late = 0, 0
	message := &ua.NotificationMessage{SequenceNumber: sub.sequence + 1, PublishTime: time.Now(), NotificationData: []*ua.ExtensionObject{}}
	if len(sub.queue) > 0 {
		sub.sequence++
		message.NotificationData = append(message.NotificationData, ua.NewExtensionObject(&ua.DataChangeNotification{MonitoredItems: sub.queue, DiagnosticInfos: []*ua.DiagnosticInfo{}}))
		sub.queue = nil
	}
	return r.id, &ua.PublishResponse{
		ResponseHeader: &ua.ResponseHeader{
			Timestamp: time.Now(), RequestHandle: r.handle.RequestHandle,
			ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil),
		},
		SubscriptionID: sub.number, NotificationMessage: message,
		AvailableSequenceNumbers: []uint32{}, Results: []ua.StatusCode{}, DiagnosticInfos: []*ua.DiagnosticInfo{},
	}
}
