package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// scalePlant is a dosing scale as plantsim.Scale offers it.
const scalePlant = `
site: {enterprise: acme, site: lisbon, area: mixing, gateway: gw-1}
buffer: {path: %s, quota: 64 MiB}
http: {listen: "127.0.0.1:0"}
devices:
  scale-plc:
    driver: modbus
    endpoint: %s
    interval: 10ms
    timeout: 500ms
    tags:
      offer: coil:0
      ack: coil:1
      number: holding:100
      quantity: {address: "holding:101", type: int32, scale: 0.001, unit: kg}
      target: {address: "holding:103", type: int32, scale: 0.001, unit: kg}
      ended: {address: "holding:105", type: uint32}
      component: {address: "holding:107", type: string, length: 8}
      lot: {address: "holding:115", type: string, length: 8}
      order: {address: "holding:123", type: string, length: 8}
      unit: {address: "holding:131", type: string, length: 1}
machines:
  MIXER-01:
    device: scale-plc
    dosing:
      trigger: offer
      ack: ack
      number: number
      component: {tag: component}
      quantity: quantity
      unit: {tag: unit}
      target: target
      tolerance_minus: 0.025
      tolerance_plus: 0.025
      lot: lot
      order: order
      ended: ended
      scale: SCALE-1
uplinks:
  broker: {driver: mqtt, url: "tcp://%s"}
`

// doseBook is a receiver that adds up doses, each once.
type doseBook struct {
	t *testing.T

	mu     sync.Mutex
	seen   map[string]bool
	weight plant.Decimal
	last   int
}

func (b *doseBook) publish(_ string, payload []byte) {
	var e struct {
		ID   string       `json:"id"`
		Type string       `json:"type"`
		Data plant.Dosing `json:"data"`
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := json.Unmarshal(payload, &e); err != nil || e.Type != "dev.sluice.dosing.v1" || b.seen[e.ID] {
		return
	}
	b.seen[e.ID] = true
	var err error
	if b.weight, err = b.weight.Add(e.Data.Quantity); err != nil {
		b.t.Error(err)
	}
	b.last++
	if d := e.Data; d.Dose != fmt.Sprint(b.last) || len(d.Flagged) > 0 || d.InTolerance == nil || !*d.InTolerance || d.Unit != "kg" || d.Order == nil || d.Order.Number != "ORD-1" {
		b.t.Errorf("dose %d: %+v", b.last, d)
	}
}

func (b *doseBook) total() (int64, plant.Decimal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.seen)), b.weight
}

// TestDosesArriveOnce hands doses from a strict PLC to the receiver while cables
// are cut, the PLC restarts and the gateway is stopped and started: what was
// weighed arrives, dose by dose and to the gram.
func TestDosesArriveOnce(t *testing.T) {
	scale, err := plantsim.NewScale("127.0.0.1:0", plantsim.ScaleOptions{Pace: 20, Components: []string{"SUGAR", "FLOUR"}, Order: "ORD-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = scale.PLC().Stop() })
	cable, err := faultnet.New(scale.PLC().Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cable.Close() })
	book := &doseBook{t: t, seen: map[string]bool{}}
	broker := plantsim.NewBroker(book.publish)
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Stop() })
	config := writeConfig(t, fmt.Sprintf(scalePlant, filepath.Join(t.TempDir(), "buffer"), cable.Addr(), broker.Addr()))
	gateway := func() (stop func()) {
		p, faults := loadPlan(config, driverKinds, uplinkKinds)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		g := newGateway(p, zap.NewNop())
		g.grace = stopSlowly
		go func() { ended <- g.run(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	until := func(what string, reached func(plantsim.Dosed) bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if reached(scale.Dosed()) {
				return
			}
			if time.Now().After(deadline) {
				n, _ := book.total()
				t.Fatalf("%s: %+v, %d arrived", what, scale.Dosed(), n)
			}
		}
	}
	more := func(what string) {
		t.Helper()
		from := scale.Dosed().Acknowledged
		until(what, func(d plantsim.Dosed) bool { return d.Acknowledged >= from+5 })
	}

	dosing, stopDosing := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { defer close(served); scale.Run(dosing) }()
	for range 2 {
		stop := gateway()
		more("after a start")
		cable.Cut()
		more("after a cut")
		if err := scale.Restart(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		more("after a restart of the PLC")
		stop()
	}
	stopDosing()
	<-served
	serving, stopServing := context.WithCancel(t.Context())
	defer stopServing()
	go scale.Serve(serving)
	stop := gateway()
	until("the rest", func(d plantsim.Dosed) bool {
		n, _ := book.total()
		return d.Waiting == 0 && n >= d.Doses
	})
	stop()
	made := scale.Dosed()
	n, weight := book.total()
	if n != made.Doses || weight.Cmp(made.Weight) != 0 || made.Violations != 0 || made.Acknowledged != made.Doses {
		t.Errorf("%d doses of %s kg arrived, made were %+v", n, weight, made)
	}
}
