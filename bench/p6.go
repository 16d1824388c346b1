package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// The work of P6.
const (
	p6Short = 300_000
	// p6Left is how far down the drain is timed: live events keep it above 0.
	p6Left = 200
	// p6Window is the window of the mqtt uplink, left at its default.
	p6Window = 20
)

// drain is P6: a gateway that starts with a backlog of 50 machines delivers it
// to a broker that is there again, while other machines go on recording;
// against bare paho at the same window and message size.
func drain(ctx context.Context, b *bed) (r result, err error) {
	events := p6Short
	if b.full {
		events = million
	}
	dir, err := b.withBacklog("p6", events)
	if err != nil {
		return r, err
	}
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ignoreExit(broker.stop())) }()
	live := &liveMachines{s: newStopwatch()}
	defer func() { err = errors.Join(err, live.stop()) }()
	if err := live.start(broker.addr); err != nil {
		return r, err
	}
	d, err := b.drainStore(ctx, dir, broker.addr, live)
	if err != nil {
		return r, err
	}
	shape, err := shapeOf(dir)
	if err != nil {
		return r, err
	}
	limit, err := askRole[limitResult]("limit-paho", pahoRole{Broker: broker.addr, Seconds: b.length(4*time.Second, 10*time.Second).Seconds(), Window: p6Window, Bytes: shape.EventValue + 200})
	if err != nil {
		return r, err
	}
	ratio := d.perSecond() / limit.perSecond()
	r = newResult("events_s", d.perSecond(), 60_000, false)
	if !r.OK { // either of the two will do
		r = newResult("ratio", ratio, 0.55, false)
		r.add("events_s", d.perSecond())
	} else {
		r.add("ratio", ratio)
	}
	r.also("live_wait_max_s", quantile(live.s.samples, 1)/1000, 1, true)
	r.also("retained_wait_s", d.retained, 1, true)
	r.add("limit_events_s", limit.perSecond())
	r.add("cpu_s_per_1e6", d.cpuPer1e6())
	r.add("limit_cpu_s_per_1e6", limit.cpuPer1e6())
	r.add("live_wait_p50_s", median(live.s.samples)/1000)
	r.add("live_n", float64(len(live.s.samples)))
	r.add("anon_mib", d.memory.anon)
	r.add("rss_mib", d.memory.rss)
	r.Note += fmt.Sprintf(" %d events of %d machines drained (1000000 with bench-full); %d live machines; >= 60000 events/s or >= 0.55 of bare paho; broker: %s", events, backlogMachines, p5Devices, broker.name)
	return r, nil
}

// drained is one drain.
type drained struct {
	limitResult
	memory memory
	// retained is how long after the start the retained state was seen, in seconds.
	retained float64
}

// drainStore starts a gateway on the store and waits until the backlog is gone.
func (b *bed) drainStore(ctx context.Context, dir, broker string, live *liveMachines) (d drained, err error) {
	httpAddr, err := freeAddress()
	if err != nil {
		return d, err
	}
	g, err := b.startGateway(ctx, atStore(p5Config("p6", live.plcs, broker, httpAddr), dir), httpAddr)
	if err != nil {
		return d, err
	}
	ready := time.Now()
	var over atomic.Bool
	done := make(chan struct{})
	changes, watch := make(chan error, 1), make(chan error, 1)
	go func() { changes <- changeRegisters(ctx, g, live.plcs, live.s, over.Load) }()
	go func() {
		m, err := g.watchMemory(ctx, done)
		d.memory = m
		watch <- err
	}()
	err = g.timeDrain(ctx, &d)
	over.Store(true)
	close(done)
	err = errors.Join(err, <-changes, <-watch)
	if at := live.retained.Load(); at > 0 {
		d.retained = max(0, time.Unix(0, at).Sub(ready).Seconds())
	} else {
		err = errors.Join(err, errors.New("the retained state never came"))
	}
	if err := errors.Join(err, g.stop()); err != nil {
		text, _ := os.ReadFile(filepath.Clean(g.log.Name()))
		return d, fmt.Errorf("%w\n%s", err, text)
	}
	return d, nil
}

// timeDrain measures from the first look at which something was delivered to
// the one at which the backlog is gone.
func (g *gateway) timeDrain(ctx context.Context, d *drained) error {
	var first, last load
	err := await(ctx, 10*time.Second, "nothing is delivered", func() bool {
		var err error
		first, err = g.look()
		return err == nil && first.delivered > 0
	})
	if err != nil {
		return err
	}
	err = await(ctx, 3*time.Minute, "the backlog is not drained", func() bool {
		var err error
		last, err = g.look()
		return err == nil && last.backlog < p6Left
	})
	d.Events = int(last.delivered - first.delivered)
	d.Seconds, d.CPU = last.seconds-first.seconds, last.cpu-first.cpu
	return err
}

// liveMachines are machines without a backlog, and a subscriber to their events
// and to the retained state.
type liveMachines struct {
	s        *stopwatch
	plcs     []*plantsim.Modbus
	client   paho.Client
	retained atomic.Int64 // when it came, ns since 1970
}

func (l *liveMachines) start(broker string) error {
	for range p5Devices {
		plc, err := plantsim.NewModbus("127.0.0.1:0")
		if err != nil {
			return err
		}
		l.plcs = append(l.plcs, plc)
	}
	l.client = paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("bench-subscriber").SetCleanSession(true))
	if t := l.client.Connect(); t.Wait() && t.Error() != nil {
		return t.Error()
	}
	for i := range l.plcs {
		topic := fmt.Sprintf("sluice/acme/bench/p6/M-%d/#", i)
		if t := l.client.Subscribe(topic, 1, func(_ paho.Client, m paho.Message) { l.s.arrived(m.Payload()) }); t.Wait() && t.Error() != nil {
			return t.Error()
		}
	}
	t := l.client.Subscribe("sluice/acme/bench/p6/+/bench/status", 1, func(paho.Client, paho.Message) {
		l.retained.CompareAndSwap(0, time.Now().UnixNano())
	})
	t.Wait()
	return t.Error()
}

func (l *liveMachines) stop() (err error) {
	if l.client != nil {
		l.client.Disconnect(100)
	}
	for _, plc := range l.plcs {
		err = errors.Join(err, plc.Stop())
	}
	return err
}
