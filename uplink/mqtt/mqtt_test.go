package mqtt

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

const testAckTimeout = 300 * time.Millisecond

func testOptions(addr string) Options {
	o := defaults()
	o.URL = "tcp://" + addr
	o.Topic = eventTopic
	o.AckTimeout = config.Duration(testAckTimeout)
	o.ConnectTimeout = config.Duration(testAckTimeout)
	o.KeepAlive = config.Duration(time.Second)
	o.MaxPacket = 16 << 10
	return o
}

func openWith(t testing.TB, o Options) uplink.Sender {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := plan("broker", o)
	if err != nil {
		t.Fatal(err)
	}
	return p.Open(uplink.Env{Name: "broker", Gateway: "gw", Path: "/acme/lisbon/packing", Log: zap.NewNop()})
}

func subject(receiver func(t testing.TB) uplinktest.Receiver) uplinktest.Subject {
	open := func(t testing.TB, addr string, ackTimeout time.Duration, cursorTopic string) uplink.Sender {
		o := testOptions(addr)
		o.AckTimeout, o.ConnectTimeout = config.Duration(ackTimeout), config.Duration(ackTimeout)
		o.KeepAlive, o.SendTimeout = config.Duration(max(ackTimeout, time.Second)), config.Duration(time.Minute)
		o.CursorTopic = cursorTopic
		return openWith(t, o)
	}
	return uplinktest.Subject{
		Receiver: receiver,
		Open: func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender {
			return open(t, addr, ackTimeout, "")
		},
		OpenAsking: func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender {
			return open(t, addr, ackTimeout, cursorTopic)
		},
		TooLarge: 16 << 10,
	}
}

func TestConformanceWithTheEmbeddedBroker(t *testing.T) {
	uplinktest.Run(t, subject(func(t testing.TB) uplinktest.Receiver { return newEmbedded(t) }))
}

func TestConformanceWithMosquitto(t *testing.T) {
	newMosquitto(t) // skips once, with the reason
	uplinktest.Run(t, subject(func(t testing.TB) uplinktest.Receiver { return newMosquitto(t) }))
}
