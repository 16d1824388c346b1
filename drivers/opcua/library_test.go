package opcua

import (
	"context"
	"fmt"
	"testing"
	"time"

	client "github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/internal/faultnet"
)

// leave ends a client of the library's, whatever state it is in.
func leave(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	defer func() { _ = recover() }() // a client that never got anywhere
	_ = c.Close(ctx)                 // it always returns nil
}

// TestForeignLibraryReconnect measures what the library's own reconnect makes of
// the same faults (docs/adr/0009). It fails once the library brings values back
// after a cut: then the driver's own supervisor should be looked at again.
func TestForeignLibraryReconnect(t *testing.T) {
	f := newForeign(t)
	proxy, err := faultnet.New(f.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	subscribe := func() (c *client.Client, notices chan *client.PublishNotificationData) {
		t.Helper()
		c, err := client.NewClient("opc.tcp://"+proxy.Addr(), client.AutoReconnect(true), client.RequestTimeout(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		notices = make(chan *client.PublishNotificationData, 10_000)
		sub, err := c.Subscribe(ctx, &client.SubscriptionParameters{Interval: 200 * time.Millisecond, MaxKeepAliveCount: 5, LifetimeCount: 60}, notices)
		if err != nil {
			t.Fatal(err)
		}
		index, err := c.FindNamespace(ctx, "urn:line")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 { // as many as one call may hold here
			node := ua.MustParseNodeID(fmt.Sprintf("ns=%d;s=Line.V%d", index, i))
			if _, err := sub.Monitor(ctx, ua.TimestampsToReturnBoth, client.NewMonitoredItemCreateRequestWithDefaults(node, ua.AttributeIDValue, uint32(i))); err != nil {
				t.Fatal(err)
			}
		}
		return c, notices
	}
	// values waits for the first change that comes within d from now.
	values := func(notices chan *client.PublishNotificationData, d time.Duration) (after time.Duration, ok bool) {
		for len(notices) > 0 {
			<-notices
		}
		start, end := time.Now(), time.After(d)
		for {
			select {
			case n := <-notices:
				if _, is := n.Value.(*ua.DataChangeNotification); is {
					return time.Since(start), true
				}
			case <-end:
				return 0, false
			}
		}
	}
	tell := func(what string, c *client.Client, after time.Duration, ok bool) {
		t.Logf("%s: state %v, values %v after %v", what, c.State(), ok, after.Round(time.Millisecond))
	}

	c, notices := subscribe()
	if _, ok := values(notices, patience); !ok {
		t.Fatal("no values before any fault")
	}
	proxy.Cut()
	after, ok := values(notices, 18*time.Second)
	tell("cut, 18 s", c, after, ok)
	if ok {
		t.Error("the library brings values back after a cut: see docs/adr/0009")
	}
	leave(c)

	c, notices = subscribe()
	f.kill()
	time.Sleep(2 * time.Second) // the outage
	f.start(t)
	after, ok = values(notices, 18*time.Second)
	tell("killed and started again, 18 s", c, after, ok)
	leave(c)

	c, notices = subscribe()
	proxy.Stall()
	after, ok = values(notices, 40*time.Second)
	tell("frozen, 40 s", c, after, ok)
	proxy.Pass()
	after, ok = values(notices, 18*time.Second)
	tell("after the freeze, 18 s", c, after, ok)
	leave(c)
}
