package opcua

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// TestRecovery runs the driver under its Poller through what a plant does to it,
// with the default time-out, and bounds how long each takes; docs/adr/0009 has
// the figures.
func TestRecovery(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	proxy, err := faultnet.New(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	p := checkPlan(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntags: {made: ns=2;s=Line.Made, late: ns=2;s=Line.Late}\n", proxy.Addr())
	values := &sink{states: make(chan plant.DeviceState, 100)}
	poller := drivers.NewPoller(p.PollerOptions(driverstest.Device), p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()}), []drivers.Sink{values}, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = poller.Run(ctx) }()
	defer func() {
		start := time.Now()
		cancel()
		<-done
		if d := time.Since(start); d > farewell+5*time.Second {
			t.Errorf("the stop took %v", d)
		}
	}()
	values.wait(t, true)

	took := func(what string, start time.Time, limit time.Duration) {
		t.Helper()
		d := time.Since(start)
		t.Logf("%s: %v", what, d.Round(time.Millisecond))
		if d > limit {
			t.Errorf("%s: %v, want at most %v", what, d, limit)
		}
	}
	start := time.Now()
	proxy.Cut()
	values.wait(t, false)
	values.wait(t, true)
	took("cut, until values are there again", start, 10*time.Second)

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	values.wait(t, false)
	s.Update(func(n *plantsim.Nodes) { n.Remove("Line.Late") })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	values.wait(t, true)
	took("restart, until values are there again", start, 10*time.Second)
	if cause := poller.Stats().BadTags["late"]; cause == "" {
		t.Error("a node that is gone is not bad")
	}

	start = time.Now()
	proxy.Stall()
	values.wait(t, false)
	took("freeze, until it is noticed", start, 12*time.Second)
	proxy.Pass()
	start = time.Now()
	values.wait(t, true)
	took("freeze, from its end", start, 15*time.Second)
}
