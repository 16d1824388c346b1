//go:build unix

package mqtt

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// BenchmarkSend compares a Sender with the bare library doing the same work:
// the same payloads to mosquitto, QoS 1, at the same window. cpu-s/1e6 is the
// processor time of this process alone; the broker is another one.
func BenchmarkSend(b *testing.B) {
	for _, window := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("bare paho/window=%d", window), func(b *testing.B) { benchBare(b, window) })
		for _, machines := range []int{1, 16} {
			b.Run(fmt.Sprintf("sender/window=%d/machines=%d", window, machines), func(b *testing.B) { benchSender(b, window, machines) })
		}
	}
}

// benchBroker starts mosquitto without the oracle's subscription.
func benchBroker(b *testing.B) string {
	broker := newMosquitto(b)
	if t := broker.subscriber.Unsubscribe("ev/#"); t.Wait() && t.Error() != nil {
		b.Fatal(t.Error())
	}
	return broker.Addr()
}

func benchSender(b *testing.B, window, machines int) {
	o := testOptions(benchBroker(b))
	o.Window, o.AckTimeout, o.SendTimeout = window, config.Duration(10*time.Second), config.Duration(time.Minute)
	s := openWith(b, o)
	defer s.Close()
	const batch = 250
	events := make([][]plant.Event, machines)
	for i := range events {
		events[i] = uplinktest.Events(plant.MachineID(fmt.Sprint("M", i)), 1, batch)
	}
	if r := s.Send(b.Context(), "M0", events[0][:1]); r[0].Status != plant.Delivered {
		b.Fatal(r)
	}
	work := make(chan int)
	var senders sync.WaitGroup
	for i := range machines {
		senders.Go(func() {
			for n := range work {
				if r := s.Send(context.Background(), events[i][0].Machine, events[i][:n]); len(r) != 1 || r[0].Status != plant.Delivered || r[0].Last != plant.Sequence(n) {
					b.Errorf("results %+v", r)
				}
			}
		})
	}
	measure(b, func() {
		for left := b.N; left > 0; left -= batch {
			work <- min(left, batch)
		}
		close(work)
		senders.Wait()
	})
}

func benchBare(b *testing.B, window int) {
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + benchBroker(b)).SetClientID("bare").
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetOrderMatters(false).SetWriteTimeout(5 * time.Second))
	if t := client.Connect(); t.Wait() && t.Error() != nil {
		b.Fatal(t.Error())
	}
	defer client.Disconnect(100)
	event := uplinktest.Events("M0", 1, 1)[0]
	payload := uplink.AppendCloudEvent(nil, &event)
	flights := make(chan paho.Token, window)
	measure(b, func() {
		for range b.N {
			if len(flights) == window {
				if t := <-flights; t.Wait() && t.Error() != nil {
					b.Fatal(t.Error())
				}
			}
			flights <- client.Publish("ev/M0/counter", 1, false, payload)
		}
		for len(flights) > 0 {
			if t := <-flights; t.Wait() && t.Error() != nil {
				b.Fatal(t.Error())
			}
		}
	})
}

// measure runs the timed part and reports rate and processor time.
func measure(b *testing.B, run func()) {
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	run()
	used := processorTime(b) - before
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(used.Seconds()/float64(b.N)*1e6, "cpu-s/1e6")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
