package opcua

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
)

// stormy is a server of one client that answers each publish request at once.
type stormy struct {
	publish func(n uint32) *ua.PublishResponse
	asked   atomic.Uint32
}

func (s *stormy) reply(req ua.Request) ua.Response {
	switch r := req.(type) {
	case *ua.CreateSessionRequest:
		return &ua.CreateSessionResponse{SessionID: ua.NewNumericNodeID(1, 1), AuthenticationToken: ua.NewNumericNodeID(1, 2), RevisedSessionTimeout: 10000, ServerSignature: &ua.SignatureData{}}
	case *ua.ActivateSessionRequest:
		return &ua.ActivateSessionResponse{}
	case *ua.ReadRequest:
		out := &ua.ReadResponse{}
		for _, n := range r.NodesToRead {
			var v *ua.DataValue
			switch n.NodeID.IntID() {
			case id.Server_NamespaceArray:
				v = &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant([]string{"http://opcfoundation.org/UA/", "urn:a", "urn:b"})}
			case stateNode:
				v = &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(int32(0))}
			default:
				v = &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
			}
			out.Results = append(out.Results, v)
		}
		return out
	case *ua.CreateSubscriptionRequest:
		return &ua.CreateSubscriptionResponse{SubscriptionID: 5, RevisedPublishingInterval: 100, RevisedLifetimeCount: 1000, RevisedMaxKeepAliveCount: 10}
	case *ua.CreateMonitoredItemsRequest:
		out := &ua.CreateMonitoredItemsResponse{}
		for i := range r.ItemsToCreate {
			out.Results = append(out.Results, &ua.MonitoredItemCreateResult{MonitoredItemID: uint32(i + 1), RevisedSamplingInterval: 100, RevisedQueueSize: 1, FilterResult: ua.NewExtensionObject(nil)})
		}
		return out
	case *ua.PublishRequest:
		return s.publish(s.asked.Add(1))
	case *ua.CloseSessionRequest:
		return &ua.CloseSessionResponse{}
	case *ua.DeleteSubscriptionsRequest:
		return &ua.DeleteSubscriptionsResponse{}
	default:
		return &ua.ServiceFault{}
	}
}

// serve lets the server answer until the test ends, and returns its address.
func (s *stormy) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				(&hostile{t: t, conn: conn}).serveAll(s.reply)
			})
		}
	})
	t.Cleanup(func() { // the device is closed before
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// keepAlive is a publish answer without anything in it.
func keepAlive(subscription, number uint32) *ua.PublishResponse {
	return &ua.PublishResponse{SubscriptionID: subscription, NotificationMessage: &ua.NotificationMessage{SequenceNumber: number, PublishTime: time.Now()}}
}

// A server that answers each publish request at once, and has nothing to say, is
// asked as often as a backlog needs and no more: other devices need the computer,
// too.
func TestAStormOfKeepAlivesIsHeldBack(t *testing.T) {
	server := &stormy{publish: func(uint32) *ua.PublishResponse { return keepAlive(5, 1) }}
	addr := server.serve(t)
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 100ms\ntags: {a: ns=2;s=A}\n", addr)
	defer d.Close()
	begun := time.Now()
	connect(t, d, 1)
	asked := uint32(0)
	for asked <= publishRequests && time.Since(begun) < 20*time.Second {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		if _, err := d.Read(ctx); ctx.Err() == nil {
			t.Errorf("it reads %v", err)
		}
		cancel()
		asked = server.asked.Load()
	}
	if most := paceBurst + time.Since(begun)/longestGap + publishRequests; asked > uint32(most) || asked <= publishRequests {
		t.Errorf("it was asked %d times, at most %d are allowed", asked, most)
	}
}

// What is held back is told once that lasts, and a subscription of nobody's is
// remembered.
func TestPace(t *testing.T) {
	in := newInbox(9, 16*time.Millisecond)
	now := time.Now()
	for n := range paceBurst + 10 {
		if wait := in.pace.wait(now); (wait > 0) != (n >= paceBurst) {
			t.Fatalf("event %d waits %v", n, wait)
		}
	}
	if wait := in.pace.wait(now.Add(time.Hour)); wait != 0 {
		t.Errorf("after an hour of silence it waits %v", wait)
	}
	s := &session{d: checkPlan(t, "driver: opcua\nendpoint: localhost\ntags: {a: ns=2;s=A}\n", "").Open(drivers.Env{Name: "dut", Log: zap.NewNop()}).(*driver)}
	s.tellHaste(in)
	if said := s.d.Advice(); len(said) != 0 {
		t.Errorf("a short burst: %q", said)
	}
	in.pace.held = longHeld + 1
	s.tellHaste(in)
	if said := s.d.Advice(); len(said) != 1 || !strings.Contains(said[0], "more often than it was asked to") {
		t.Errorf("%q", said)
	}
	if in.pace.wait(now.Add(2 * time.Hour)); in.pace.held != 0 {
		t.Errorf("after a calm time %v of waiting are remembered: over weeks, bursts would add up to haste", in.pace.held)
	}
	if in.strays() != 0 {
		t.Error("a stray subscription without one")
	}
	in.counted(9)
	in.counted(6)
	if in.strays() != 6 {
		t.Error("a subscription of nobody's is not remembered")
	}
}
