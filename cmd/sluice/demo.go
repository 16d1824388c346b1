package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// demoCmd runs everything embedded: simulated PLCs on real Modbus servers, the
// gateway with a real buffer in a temporary folder, a broker that is away for a
// while, and a receiver that counts for itself.
type demoCmd struct {
	For    time.Duration `help:"End after this time (15s or more) and compare; without it the demo runs until Ctrl-C." placeholder:"DURATION"`
	JSON   bool          `help:"Print one JSON document on stdout."`
	Listen string        `help:"Where the status page listens." default:"127.0.0.1:0"`
}

// Lengths of the demo: a state must last longer than min_stop and the poll
// interval to be seen, so it cannot be arbitrarily short.
const (
	demoShortest = 15 * time.Second
	demoRound    = time.Minute
	demoDrain    = 30 * time.Second
)

// demoReport is the document that --json prints.
type demoReport struct {
	OK      bool                  `json:"ok"`
	Kinds   map[string]demoKind   `json:"kinds"`
	Uplinks map[string]demoUplink `json:"uplinks"`
	// Rollovers and Resets of PLC counters were counted through on the way.
	Rollovers int64 `json:"rollovers"`
	Resets    int64 `json:"resets"`
	// Outages is how often the broker went away.
	Outages   int      `json:"outages"`
	Problems  []string `json:"problems,omitempty"`
	StatusURL string   `json:"status_url"`
}

type demoKind struct {
	Made    int64            `json:"made"`
	Arrived map[string]int64 `json:"arrived"`
}

type demoUplink struct {
	Delivered  uint64 `json:"delivered"`
	Duplicates uint64 `json:"duplicates"`
}

// Validate refuses a length in which the script does not fit.
func (d *demoCmd) Validate() error {
	if d.For != 0 && d.For < demoShortest {
		return fmt.Errorf("--for %v is too short for the script: give %v or more", d.For, demoShortest)
	}
	return nil
}

// Run runs the demo. It returns an exitError where made and arrived differ.
func (d *demoCmd) Run(ctx context.Context, c *console) (err error) {
	dir, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return fmt.Errorf("demo: make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bed, err := newDemoBed()
	if err != nil {
		return err
	}
	defer bed.close()
	gateway, err := d.openGateway(c, dir, bed)
	if err != nil {
		return err
	}
	report, err := d.play(ctx, c, bed, gateway)
	if err != nil {
		return err
	}
	if err := d.print(c, report); err != nil {
		return err
	}
	if !report.OK {
		return &exitError{code: exitFailed}
	}
	return nil
}

// demoBed is the simulated plant and its MES.
type demoBed struct {
	press, filler *plantsim.Line
	broker        *plantsim.Broker
	mes           *plantsim.MES
}

func newDemoBed() (*demoBed, error) {
	press, err := plantsim.NewLine("127.0.0.1:0", plantsim.LineOptions{Pace: 12, ScrapEvery: 31, Bits: 32, Total: 481_200, Order: "ORD-0012345"})
	if err != nil {
		return nil, fmt.Errorf("demo: start the press: %w", err)
	}
	filler, err := plantsim.NewLine("127.0.0.1:0", plantsim.LineOptions{Pace: 45, ScrapEvery: 53, Bits: 16, Total: 65_480})
	if err != nil {
		_ = press.PLC().Stop()
		return nil, fmt.Errorf("demo: start the filler: %w", err)
	}
	bed := &demoBed{press: press, filler: filler, mes: plantsim.NewMES()}
	bed.broker = plantsim.NewBroker(bed.mes.Publish)
	if err := bed.broker.Start(); err != nil {
		bed.close()
		return nil, err
	}
	return bed, nil
}

func (b *demoBed) close() {
	_ = b.press.PLC().Stop()
	_ = b.filler.PLC().Stop()
	if b.broker != nil {
		_ = b.broker.Stop()
	}
}

// made returns what happened at the machines, per kind: pieces for the counter,
// and for startstop the state that each machine was in at first and every
// change after it.
func (b *demoBed) made() map[plant.EventKind]int64 {
	press, filler := b.press.Made(), b.filler.Made()
	return map[plant.EventKind]int64{
		plant.KindCounter:   press.Pieces + filler.Pieces,
		plant.KindStartStop: 1 + press.Changes + 1 + filler.Changes,
	}
}

// openGateway loads the demo's config as any config is loaded and builds the
// gateway.
func (d *demoCmd) openGateway(c *console, dir string, bed *demoBed) (*gateway, error) {
	file := filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(demoConfig, filepath.Join(dir, "buffer"), d.Listen, bed.press.PLC().Addr(), bed.filler.PLC().Addr(), bed.broker.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("demo: write the config: %w", err)
	}
	p, faults := loadPlan(file, driverKinds, uplinkKinds)
	if errs := faults.Starting().Errors(); len(errs) > 0 {
		return nil, fmt.Errorf("demo: %v", errs[0])
	}
	return newGateway(p, c.Log), nil
}

// play runs the gateway and the script, waits for the backlog, and compares.
func (d *demoCmd) play(ctx context.Context, c *console, bed *demoBed, g *gateway) (*demoReport, error) {
	plantCtx, stopPlant := context.WithCancel(context.Background())
	defer stopPlant()
	go bed.press.Run(plantCtx)
	go bed.filler.Run(plantCtx)

	gatewayCtx, stopGateway := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.run(gatewayCtx) }()
	defer stopGateway()

	// The machines stand still until each has been seen once: what was made
	// before a gateway's first look is nobody's to count.
	if err := await(ctx, ended, demoDrain, func() bool { return bed.mes.Count(plant.KindStartStop) >= 2 }); err != nil {
		return nil, fmt.Errorf("demo: wait for the first readings: %w", err)
	}
	fmt.Fprintf(c.Err, "\nThe gateway's page: %s\n\n", g.statusURL())
	if err := d.script(ctx, c.Log, bed, ended); err != nil {
		return nil, err
	}

	bed.press.Stop(codeToolChange)
	bed.filler.Stop(codeService)
	_ = bed.broker.Start() // back, if the script was ended while it was away
	equal := func() bool {
		for kind, n := range bed.made() {
			if bed.mes.Arrived(kind) != n {
				return false
			}
		}
		return g.backlog() == 0
	}
	if err := await(context.Background(), ended, demoDrain, equal); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	report := d.compare(bed, g)
	stopGateway()
	return report, <-ended
}

// script plays the scenes once (--for) or round after round until ctx ends.
func (d *demoCmd) script(ctx context.Context, log *zap.Logger, bed *demoBed, ended <-chan error) error {
	length, rounds := d.For, 1
	if length == 0 {
		length, rounds = demoRound, -1
	}
	play, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		for n := 0; n != rounds && play.Err() == nil; n++ {
			begin := time.Now()
			if err := playScenes(play, log, length, demoScenes(bed.press, bed.filler, bed.broker)); err != nil {
				done <- err
				return
			}
			select {
			case <-play.Done():
			case <-time.After(time.Until(begin.Add(length))):
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case err := <-ended:
		return fmt.Errorf("demo: the gateway ended: %w", err)
	}
}

// compare puts both ends side by side.
func (d *demoCmd) compare(bed *demoBed, g *gateway) *demoReport {
	r := &demoReport{OK: true, Kinds: map[string]demoKind{}, Uplinks: map[string]demoUplink{}, StatusURL: g.statusURL()}
	for kind, made := range bed.made() {
		arrived := bed.mes.Arrived(kind)
		r.Kinds[string(kind)] = demoKind{Made: made, Arrived: map[string]int64{"mqtt": arrived}}
		r.OK = r.OK && made == arrived
	}
	r.Uplinks["mqtt"] = demoUplink{Delivered: bed.mes.Delivered(), Duplicates: bed.mes.Duplicates()}
	r.Rollovers, r.Resets = bed.mes.Seen()
	r.Outages = bed.broker.Outages()
	r.Problems = bed.mes.Violations()
	r.OK = r.OK && len(r.Problems) == 0
	return r
}

func (d *demoCmd) print(c *console, r *demoReport) error {
	if d.JSON {
		return json.NewEncoder(c.Out).Encode(r)
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "kind\tmade at the PLC\tarrived at the MES (mqtt)\t")
	for _, kind := range []plant.EventKind{plant.KindCounter, plant.KindStartStop} {
		k := r.Kinds[string(kind)]
		fmt.Fprintf(w, "%s\t%d\t%d\t\n", kind, k.Made, k.Arrived["mqtt"])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	u := r.Uplinks["mqtt"]
	fmt.Fprintf(c.Out, "\n%d events delivered, %d of them more than once (recognised by source and id).\n", u.Delivered, u.Duplicates)
	fmt.Fprintf(c.Out, "On the way: %s of a PLC's counter and %s of a PLC counted through, %s of the broker outlasted.\n",
		count(int(r.Rollovers), "rollover"), count(int(r.Resets), "restart"), count(r.Outages, "outage"))
	for _, p := range r.Problems {
		fmt.Fprintln(c.Out, "PROBLEM:", p)
	}
	verdict := "Everything that was made has arrived, once."
	if !r.OK {
		verdict = "MADE AND ARRIVED DIFFER."
	}
	_, err := fmt.Fprintln(c.Out, verdict)
	return err
}

// await polls until done, for at most d; it also ends with ctx, and when the
// gateway has ended.
func await(ctx context.Context, ended <-chan error, d time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return fmt.Errorf("demo: the gateway ended: %w", err)
		case <-ticker.C:
		}
	}
	return nil
}
