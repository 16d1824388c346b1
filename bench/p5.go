package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// p5Devices is the number of devices that are changed in turn.
const p5Devices = 10

// latency is P5: from the change of a register to the event at an MQTT
// subscriber, with a poll interval of 100 ms. The change and the arrival are
// timed in this process, the gateway and the broker run in their own.
func latency(ctx context.Context, b *bed) (r result, err error) {
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ignoreExit(broker.stop())) }()
	s := newStopwatch()
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + broker.addr).SetClientID("bench-subscriber").SetCleanSession(true))
	if t := client.Connect(); t.Wait() && t.Error() != nil {
		return r, t.Error()
	}
	defer client.Disconnect(100)
	if t := client.Subscribe("#", 1, func(_ paho.Client, m paho.Message) { s.arrived(m.Payload()) }); t.Wait() && t.Error() != nil {
		return r, t.Error()
	}
	var plcs []*plantsim.Modbus
	defer func() {
		for _, plc := range plcs {
			err = errors.Join(err, plc.Stop())
		}
	}()
	for range p5Devices {
		plc, err := plantsim.NewModbus("127.0.0.1:0")
		if err != nil {
			return r, err
		}
		plcs = append(plcs, plc)
	}
	httpAddr, err := freeAddress()
	if err != nil {
		return r, err
	}
	g, err := b.startGateway(ctx, p5Config("p5", plcs, broker.addr, httpAddr), httpAddr)
	if err != nil {
		return r, err
	}
	end := time.Now().Add(b.length(20*time.Second, 120*time.Second))
	err = errors.Join(changeRegisters(ctx, g, plcs, s, func() bool { return time.Now().After(end) }), g.stop())
	if err != nil {
		return r, err
	}
	if n := s.missing(); n > 0 {
		return r, fmt.Errorf("%d changes never arrived", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r = newResult("p99_ms", quantile(s.samples, 0.99), 115, true)
	r.also("p50_ms", median(s.samples), 60, true)
	r.add("max_ms", quantile(s.samples, 1))
	r.add("n", float64(len(s.samples)))
	r.add("interval_p50_ms", 50)
	r.add("interval_p99_ms", 99)
	r.Note += fmt.Sprintf(" broker: %s", broker.name)
	return r, nil
}

// changeRegisters adds a piece at one device after the other, at random
// moments, until it is enough, and waits for the last arrivals.
func changeRegisters(ctx context.Context, g *gateway, plcs []*plantsim.Modbus, s *stopwatch, enough func() bool) error {
	err := await(ctx, 20*time.Second, "not every device was read", func() bool {
		n, err := g.metric("sluice_device_reads_total")
		return err == nil && n > 3*p5Devices
	})
	if err != nil {
		return err
	}
	counts := make([]uint16, len(plcs))
	for n := 0; !enough(); n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(15+rand.IntN(25)) * time.Millisecond):
		}
		i := n % len(plcs)
		counts[i]++
		s.changed(fmt.Sprintf("M-%d", i), int64(counts[i]))
		plcs[i].Update(func(bank *plantsim.Bank) { bank.SetHolding(0, counts[i]) })
	}
	return await(ctx, 5*time.Second, "not every change has arrived", s.allArrived)
}

// stopwatch times changes by machine and count. A count contains the smaller
// ones: where a poll came late two changes arrive with one event.
type stopwatch struct {
	mu      sync.Mutex
	pending map[string][]change
	samples []float64 // milliseconds
}

// change is a count that was set, and when.
type change struct {
	good int64
	at   time.Time
}

func newStopwatch() *stopwatch { return &stopwatch{pending: map[string][]change{}} }

func (s *stopwatch) changed(machine string, good int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[machine] = append(s.pending[machine], change{good, time.Now()})
}

func (s *stopwatch) arrived(payload []byte) {
	now := time.Now()
	var e struct {
		Subject string `json:"subject"`
		Data    struct {
			Good int64 `json:"good"`
		} `json:"data"`
	}
	if json.Unmarshal(payload, &e) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.pending[e.Subject]
	for len(waiting) > 0 && waiting[0].good <= e.Data.Good {
		s.samples = append(s.samples, float64(now.Sub(waiting[0].at).Microseconds())/1000)
		waiting = waiting[1:]
	}
	s.pending[e.Subject] = waiting
}

func (s *stopwatch) allArrived() bool { return s.missing() == 0 }

// missing is the number of changes that have not arrived.
func (s *stopwatch) missing() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, waiting := range s.pending {
		n += len(waiting)
	}
	return n
}

func p5Config(area string, plcs []*plantsim.Modbus, broker, httpAddr string) string {
	var devices, machines strings.Builder
	for i, plc := range plcs {
		fmt.Fprintf(&devices, "  plc-%d: {driver: modbus, endpoint: \"%s\", interval: 100ms, tags: {made: \"holding:0\"}}\n", i, plc.Addr())
		fmt.Fprintf(&machines, "  M-%d: {device: plc-%d, counter: {good: made, pieces: 1, max_rate: 1000/s}}\n", i, i)
	}
	return frameConfig(area, broker, httpAddr, devices.String(), machines.String())
}
