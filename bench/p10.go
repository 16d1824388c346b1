package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// The work of P10: 50 machines at a count a second, and an outage; in it each
// machine changes its order once, in the short one each fifth.
const (
	p10Machines = 50
	p10Full     = 8 * 3600
	p10Short    = 2 * 3600
	p10Changes  = 5
)

// outageRole is the argument of the role "outage".
type outageRole struct {
	Dir string
	// Events are those of each machine; Changes is of how many machines one changes
	// its order.
	Events, Changes int
}

// ordersOf returns how many orders a machine had.
func (a outageRole) ordersOf(machine int) int {
	if machine%a.Changes == 0 {
		return 2
	}
	return 1
}

// prodsmartOutage is P10: how long the gateway takes after an outage to tell a
// Prodsmart that takes 120 requests a minute all that it missed, by the newest
// cumulative count of each machine and order alone. The limit is the share: one
// request for each of those, at 108 a minute.
func prodsmartOutage(ctx context.Context, b *bed) (r result, err error) {
	work := outageRole{Dir: filepath.Join(b.dir, "backlog-p10"), Events: p10Short, Changes: p10Changes}
	if b.full {
		work.Events, work.Changes = p10Full, 1
	}
	if _, err := askRole[int]("outage", work); err != nil {
		return r, err
	}
	company := prodsmart.Company{Key: "bench", Secret: "bench-secret"}
	for i := range p10Machines {
		company.Machines = append(company.Machines, prodsmart.Machine{Code: string(outageMachine(i))})
	}
	fake := prodsmart.New(company)
	base, stop, err := serveLocal(fake)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	idle, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, idle.Stop()) }()
	begun := time.Now()
	used, top, took, err := b.catchUp(ctx, work.Dir, base, idle.Addr(), func() bool { return work.wrong(fake) == 0 })
	if err != nil {
		return r, err
	}
	r = newResult("caught_up_s", took.Seconds(), 120, true)
	r.also("refused_429", float64(refusals(fake)), 0, true)
	r.also("violations", float64(len(fake.Violations())), 0, true)
	r.also("machines_wrong", float64(work.wrong(fake)), 0, true)
	r.add("requests", float64(len(fake.Calls())))
	r.add("busiest_minute", float64(fake.Busiest(time.Minute)))
	calls := fake.Calls()
	if len(calls) > 0 {
		r.add("first_request_s", calls[0].At.Sub(begun).Seconds())
		r.add("last_request_s", calls[len(calls)-1].At.Sub(begun).Seconds())
	}
	r.add("limit_s", float64(work.counts())*60/108)
	r.add("events", float64(p10Machines*work.Events))
	r.add("cpu_s_per_1e6", used*1e6/float64(p10Machines*work.Events))
	r.add("anon_mib", top.anon)
	r.add("rss_mib", top.rss)
	r.Note = strings.TrimSpace(r.Note + fmt.Sprintf(" %d machines, an outage of %v, in it one machine of %d changed its order; 8h (1.44 M events) and all of them with bench-full; the clock runs from the start of the process; the machines stand while it catches up", p10Machines, time.Duration(work.Events)*time.Second, work.Changes))
	if v := fake.Violations(); len(v) > 0 {
		r.Note += ": " + central.Words(v[:1])
	}
	return r, nil
}

// catchUp runs a gateway on the store until Prodsmart has the newest counts, and
// measures CPU, memory and time.
func (b *bed) catchUp(ctx context.Context, dir, base, plc string, caughtUp func() bool) (used float64, top memory, took time.Duration, err error) {
	httpAddr, err := freeAddress()
	if err != nil {
		return 0, top, 0, err
	}
	key := filepath.Join(b.dir, "p10-secret")
	if err := os.WriteFile(key, []byte("bench-secret"), 0o600); err != nil {
		return 0, top, 0, err
	}
	id := filepath.Join(b.dir, "p10-key")
	if err := os.WriteFile(id, []byte("bench"), 0o600); err != nil {
		return 0, top, 0, err
	}
	config := "site: {enterprise: acme, site: bench, area: p10, gateway: bench}\n" +
		"buffer: {path: \"{{dir}}/buffer\", keep: 1h}\nhttp: {listen: \"" + httpAddr + "\"}\n" +
		"devices:\n  plc: {driver: modbus, endpoint: \"" + plc + "\", tags: {made: \"holding:0\"}}\n" +
		"machines:\n  IDLE: {device: plc, counter: {good: made, max_rate: 10/s}}\n" +
		"uplinks:\n  prodsmart: {driver: prodsmart, url: \"" + base + "\", api_key: \"file:" + id + "\", api_secret: \"file:" + key + "\", machines: [\"LATE-*\"], open_production: 0s}\n"
	begun := time.Now()
	g, err := b.startGateway(ctx, atStore(config, dir), httpAddr)
	if err != nil {
		return 0, top, 0, err
	}
	done := make(chan struct{})
	watched := make(chan error, 1)
	go func() {
		var err error
		top, err = g.watchMemory(ctx, done)
		watched <- err
	}()
	// Each look at the gateway's metrics costs it more than an event does, so it is
	// looked at only when Prodsmart has everything.
	err = await(ctx, 5*time.Minute, "Prodsmart has not got the newest counts", caughtUp)
	took = time.Since(begun)
	if err == nil {
		err = await(ctx, 20*time.Second, "what Prodsmart has is not settled", func() bool {
			backlog, err := g.metric("sluice_uplink_backlog_events")
			return err == nil && backlog == 0
		})
	}
	close(done)
	err = errors.Join(err, <-watched)
	spent, cpuErr := cpu(g.cmd.Process.Pid)
	if err := errors.Join(err, cpuErr, g.stop()); err != nil {
		text, _ := os.ReadFile(filepath.Clean(g.log.Name()))
		return 0, top, 0, fmt.Errorf("%w\n%s", err, text)
	}
	return spent.Seconds(), top, took, nil
}

// refusals counts the requests that were one too many.
func refusals(f *prodsmart.Fake) (n int) {
	for _, c := range f.Calls() {
		if c.Status == http.StatusTooManyRequests {
			n++
		}
	}
	return n
}

// counts is how many counter calls all of it comes to.
func (a outageRole) counts() (n int) {
	for i := range p10Machines {
		n += a.ordersOf(i)
	}
	return n
}

// wrong is of how many machines Prodsmart has another count than was made, or had
// it in more calls than the machine had orders.
func (a outageRole) wrong(f *prodsmart.Fake) (n int) {
	for i := range p10Machines {
		m := f.Machine(string(outageMachine(i)))
		orders := a.ordersOf(i)
		if len(m.Counts) != orders || m.Count != float64(a.Events) || m.Counts[0].Value != float64(a.Events/orders) {
			n++
		}
	}
	return n
}

// serveLocal serves h on a loopback port until stop.
func serveLocal(h http.Handler) (base string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return "http://" + l.Addr().String() + "/", func() error {
		err := server.Close()
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

func outageMachine(i int) plant.MachineID { return plant.MachineID(fmt.Sprintf("LATE-%02d", i)) }

// writeOutage plays the role "outage": a store in which each machine has that many
// counts waiting for the uplink "prodsmart".
func writeOutage(a outageRole) (n int, err error) {
	ctx := context.Background()
	store, err := buffer.Open(ctx, backlogOptions(a.Dir, "p10"), zap.NewNop())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if _, err := store.Queue("prodsmart", func(plant.EventKind) bool { return true }); err != nil {
		return 0, err
	}
	errs := make([]error, backlogWriters)
	var writers sync.WaitGroup
	for w := range backlogWriters {
		writers.Go(func() {
			for m := w; m < p10Machines && errs[w] == nil; m += backlogWriters {
				for from := 0; from < a.Events && errs[w] == nil; from += backlogBatch {
					_, errs[w] = store.Commit(ctx, outageMachine(m), outageBatch(outageMachine(m), from, min(backlogBatch, a.Events-from), a.Events/a.ordersOf(m)))
				}
			}
		})
	}
	writers.Wait()
	return p10Machines * a.Events, errors.Join(errs...)
}

// outageBatch returns n counts of one machine, a piece each; first of all are of
// its first order.
func outageBatch(m plant.MachineID, from, n, first int) plant.Batch {
	batch := plant.Batch{State: make([]byte, 400), Events: make([]plant.Event, n)}
	now := time.Now()
	for i := range batch.Events {
		good, order := from+i+1, "4711"
		if good > first {
			order = "4712"
		}
		batch.Events[i] = plant.Event{
			Machine: m, Kind: plant.KindCounter, Version: 1, Time: now, TimeSource: plant.GatewayTime,
			Data: fmt.Appendf(nil, `{"machine":"%s","mode":"production","order":{"number":"%s","sku":"A-1"},"good":%d,"good_delta":1,"from":"2026-01-01T00:00:00.000Z","to":"2026-01-01T00:00:01.000Z","raw":%d}`, m, order, good, good),
		}
	}
	return batch
}
