package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/internal/plantsim/floor"
	"github.com/sluice-edge/sluice/plant"
)

// demoCmd runs everything embedded: simulated PLCs on real Modbus servers, the
// gateway with a real buffer in a temporary folder, a broker that is away for a
// while, and a receiver that counts for itself.
type demoCmd struct {
	For    config.Duration `help:"End after this time (15s or more) and compare; without it the demo runs until Ctrl-C." placeholder:"DURATION"`
	JSON   bool            `help:"Print one JSON document on stdout."`
	Listen string          `help:"Where the status page listens." default:"127.0.0.1:0"`

	// check, if a test sets it, holds the data of each event that arrives.
	check dataCheck
}

// dataCheck says what is wrong with the data of an event.
type dataCheck = func(kind plant.EventKind, version uint8, data []byte) error

// Lengths of the demo: a state must last longer than min_stop and the poll
// interval to be seen, so it cannot be arbitrarily short.
const (
	demoShortest = 15 * time.Second
	demoRound    = time.Minute
	demoDrain    = 30 * time.Second
	// demoSight is how long the gateway may take to see and tell a change of a
	// machine's state.
	demoSight = 10 * time.Second
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

// Validate refuses a length in which the script does not fit, and an address
// that the gateway would refuse.
func (d *demoCmd) Validate() error {
	if d.For != 0 && d.For.Std() < demoShortest {
		return fmt.Errorf("--for %v is too short for the script: give %v or more", d.For, demoShortest)
	}
	if err := (&config.HTTP{Listen: d.Listen}).Validate(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	return nil
}

// Run runs the demo. It returns an exitError where made and arrived differ.
func (d *demoCmd) Run(ctx context.Context, c *console) (err error) {
	dir, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return fmt.Errorf("demo: make a temporary folder: %w — set TMPDIR to a folder that you may write to", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bed, err := newDemoBed(d.check)
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

// demoUplinks are the uplinks of demoConfig.
var demoUplinks = []string{"mqtt", "rest"}

// demoBed is the simulated plant and its central systems.
type demoBed struct {
	packer *plantsim.Packaging
	press  *plantsim.Line
	scale  *plantsim.Scale
	hopper *plantsim.Hopper
	broker *plantsim.Broker
	web    *plantsim.Web
	// mes counts what each uplink brought.
	mes map[string]*plantsim.MES
}

func newDemoBed(check dataCheck) (_ *demoBed, err error) {
	b := &demoBed{mes: map[string]*plantsim.MES{}}
	defer func() {
		if err != nil {
			b.close()
			err = fmt.Errorf("demo: start the plant: %w", err)
		}
	}()
	for _, name := range demoUplinks {
		b.mes[name] = plantsim.NewMES()
		b.mes[name].Check(check)
	}
	if b.packer, err = plantsim.NewPackaging(plantsim.PackagingOptions{Seed: 1, Addr: "127.0.0.1:0", Pace: 45, ScrapEvery: 53, SerialEvery: 60, Made: 65_480, Order: "ORD-0012399"}); err != nil {
		return nil, err
	}
	if b.press, err = plantsim.NewLine("127.0.0.1:0", plantsim.LineOptions{Seed: 2, Pace: 12, ScrapEvery: 31, Bits: 32, Total: 481_200, Order: "ORD-0012345"}); err != nil {
		return nil, err
	}
	if b.scale, err = plantsim.NewScale("127.0.0.1:0", plantsim.ScaleOptions{Pace: 0.8, Components: []string{"SUGAR", "SALT", "COCOA"}, Order: "ORD-0012400"}); err != nil {
		return nil, err
	}
	if b.hopper, err = plantsim.NewHopper("127.0.0.1:0", floor.HopperOptions{Seed: 4, Flow: 1500, Fill: 5000, Rest: 2 * time.Second}); err != nil {
		return nil, err
	}
	b.broker = plantsim.NewBroker(b.mes["mqtt"].Publish)
	if err := b.broker.Start(); err != nil {
		return nil, err
	}
	b.web, err = plantsim.NewWeb(b.mes["rest"])
	return b, err
}

// close ends every server of the bed.
func (b *demoBed) close() {
	if b.packer != nil {
		_ = b.packer.PLC().Close()
	}
	if b.press != nil {
		_ = b.press.PLC().Stop()
	}
	if b.scale != nil {
		_ = b.scale.PLC().Stop()
	}
	if b.hopper != nil {
		_ = b.hopper.PLC().Stop()
	}
	if b.broker != nil {
		_ = b.broker.Stop()
	}
	if b.web != nil {
		_ = b.web.Close()
	}
}

// made returns what happened at the machines, per kind: pieces for the counter,
// records for the handshakes, what went out of the hopper and into it, and for startstop the state that each machine was
// in at first and every change after it.
func (b *demoBed) made() map[plant.EventKind]int64 {
	press, packed, dosed := b.press.Made(), b.packer.Packed(), b.scale.Dosed()
	var poured, filled int64
	for _, move := range b.hopper.Moved() {
		if move.Kind == floor.Refilled {
			filled++
		} else {
			poured++
		}
	}
	return map[plant.EventKind]int64{
		plant.KindCounter:    press.Pieces + packed.Pieces,
		plant.KindStartStop:  1 + press.Changes + 1 + packed.Changes,
		plant.KindDosing:     dosed.Doses + poured,
		plant.KindRefill:     filled,
		plant.KindSerial:     packed.Serials,
		plant.KindItemAttach: packed.Attaches,
	}
}

// equal reports whether every uplink has brought everything.
func (b *demoBed) equal() bool {
	for kind, n := range b.made() {
		for _, mes := range b.mes {
			if mes.Arrived(kind) != n {
				return false
			}
		}
	}
	return true
}

// openGateway loads the demo's config as any config is loaded and builds the
// gateway.
func (d *demoCmd) openGateway(c *console, dir string, bed *demoBed) (*gateway, error) {
	file := filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(demoConfig, filepath.Join(dir, "buffer"), d.Listen,
		bed.packer.PLC().Addr(), bed.press.PLC().Addr(), bed.scale.PLC().Addr(), bed.broker.Addr(), bed.web.Addr(), bed.hopper.PLC().Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("demo: write the config: %w", err)
	}
	p, faults := loadPlan(file, driverKinds, uplinkKinds)
	if errs := faults.Starting().Errors(); len(errs) > 0 {
		return nil, fmt.Errorf("demo: %v", errs[0])
	}
	g := newGateway(p, c.Log)
	g.scratch, g.grace = true, demoDrain
	return g, nil
}

// play runs the gateway and the script, waits for the backlog, and compares.
func (d *demoCmd) play(ctx context.Context, c *console, bed *demoBed, g *gateway) (*demoReport, error) {
	plantCtx, stopPlant := context.WithCancel(context.Background())
	defer stopPlant()
	go bed.press.Run(plantCtx)
	go bed.packer.Run(plantCtx)
	go bed.hopper.Run(plantCtx)

	gatewayCtx, stopGateway := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		ended <- g.run(gatewayCtx)
	}()
	// Whoever removes the folder must find nobody who still writes into it.
	defer func() {
		stopGateway()
		<-finished
	}()

	// The machines stand still until each has been seen once: what was made
	// before a gateway's first look is nobody's to count.
	seen := func() bool { return bed.mes["mqtt"].Count(plant.KindStartStop) >= 2 }
	switch err := await(ctx, ended, demoDrain, seen); {
	case ctx.Err() != nil:
		return nil, errors.New("demo: it was ended before every machine had been seen once, so there is nothing to compare")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("demo: not every machine was seen within %v; the log says what was away", demoDrain)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("demo: %w — choose another port with --listen, or leave it out for a free one", err)
	case err != nil:
		return nil, fmt.Errorf("demo: %w", err)
	}
	fmt.Fprintf(c.Err, "\nThe gateway's page: %s\n\n", g.statusURL())
	doseCtx, stopDosing := context.WithCancel(plantCtx)
	defer stopDosing()
	go bed.scale.Run(doseCtx)
	poured := make(chan struct{})
	go func() {
		defer close(poured)
		bed.pour(doseCtx)
	}()
	if err := d.script(ctx, c.Log, bed, ended); err != nil {
		return nil, err
	}

	stopDosing()
	<-poured
	go bed.scale.Serve(plantCtx)
	bed.press.Stop(codeToolChange)
	bed.packer.Stop(codeService)
	_ = bed.broker.Start() // back, if the script was ended while it was away
	if err := bed.drain(g, ended); err != nil {
		return nil, err
	}
	report := d.compare(bed, g)
	stopGateway()
	return report, <-ended
}

// drain waits until every receiver has what was made. A box is good until its
// scrap is read, and no count that was told decreases: of scrap that was read behind
// the last box one piece is told too many until later boxes cover it, so a few more
// are made then.
func (b *demoBed) drain(g *gateway, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), demoDrain)
	defer cancel()
	equal := func() bool { return b.equal() && g.backlog() == 0 }
	uncovered := func() bool {
		return g.backlog() == 0 && b.mes["rest"].Arrived(plant.KindCounter) > b.made()[plant.KindCounter]
	}
	for {
		err := await(ctx, ended, demoDrain, func() bool { return equal() || uncovered() })
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return nil // the comparison shows it
		case err != nil:
			return fmt.Errorf("demo: %w", err)
		case equal():
			return nil
		}
		b.awaitSeen(ctx)
		b.packer.Start()
		b.awaitSeen(ctx)
		b.packer.Stop(codeService)
		b.awaitSeen(ctx)
	}
}

// script plays the scenes once (--for) or round after round until ctx ends.
func (d *demoCmd) script(ctx context.Context, log *zap.Logger, bed *demoBed, ended <-chan error) error {
	length, rounds := d.For.Std(), 1
	if length == 0 {
		length, rounds = demoRound, -1
	}
	play, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		for n := 0; n != rounds && play.Err() == nil; n++ {
			begin := time.Now()
			if err := playScenes(play, log, length, demoScenes(bed)); err != nil {
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
		k := demoKind{Made: made, Arrived: map[string]int64{}}
		for name, mes := range bed.mes {
			k.Arrived[name] = mes.Arrived(kind)
			r.OK = r.OK && k.Arrived[name] == made
		}
		r.Kinds[string(kind)] = k
	}
	for _, name := range demoUplinks {
		mes := bed.mes[name]
		r.Uplinks[name] = demoUplink{Delivered: mes.Delivered(), Duplicates: mes.Duplicates()}
		r.Rollovers, r.Resets = mes.Seen()
		for _, problem := range mes.Violations() {
			r.Problems = append(r.Problems, name+": "+problem)
		}
	}
	r.Problems = append(r.Problems, bed.misweighed()...)
	if n := bed.scale.Dosed().Violations; n > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("the scale was acknowledged %d times while it offered nothing", n))
	}
	r.Outages = bed.broker.Outages()
	r.OK = r.OK && len(r.Problems) == 0
	return r
}

func (d *demoCmd) print(c *console, r *demoReport) error {
	if d.JSON {
		return json.NewEncoder(c.Out).Encode(r)
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "kind\tmade at the PLC\t")
	for _, name := range demoUplinks {
		fmt.Fprintf(w, "arrived by %s\t", name)
	}
	fmt.Fprintln(w)
	for _, kind := range []plant.EventKind{plant.KindCounter, plant.KindStartStop, plant.KindDosing, plant.KindRefill, plant.KindSerial, plant.KindItemAttach} {
		k := r.Kinds[string(kind)]
		fmt.Fprintf(w, "%s\t%d\t", kind, k.Made)
		for _, name := range demoUplinks {
			fmt.Fprintf(w, "%d\t", k.Arrived[name])
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(c.Out)
	for _, name := range demoUplinks {
		u := r.Uplinks[name]
		fmt.Fprintf(c.Out, "%s: %d events delivered, %d of them came more than once (recognised by source and id).\n", name, u.Delivered, u.Duplicates)
	}
	fmt.Fprintf(c.Out, "On the way: %s and %s of PLC counters counted through, %s of the broker outlasted.\n",
		count(int(r.Rollovers), "rollover"), count(int(r.Resets), "reset"), count(r.Outages, "outage"))
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
			return fmt.Errorf("the gateway ended: %w", err)
		case <-ticker.C:
		}
	}
	return nil
}
