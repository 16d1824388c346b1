package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// The work of P12: a million counts of a week, of so many machines.
const (
	p12Machines = 50
	p12Days     = 7
	p12Entries  = 300_000 // more than the 64 MiB that the integration log keeps
)

// piecesRole is the argument of the role "pieces".
type piecesRole struct {
	Dir      string
	Machines int
	Events   int
}

// pieces is P12: how long the page Pieces takes for a machine, its three newest
// days and the three oldest, with a million counts of a week in the store and a
// full integration log: of 50 machines, and of one that makes them all.
func pieces(ctx context.Context, b *bed) (r result, err error) {
	many, err := b.piecesOf(ctx, p12Machines)
	if err != nil {
		return r, err
	}
	one, err := b.piecesOf(ctx, 1)
	if err != nil {
		return r, err
	}
	r = newResult("page_ms", many.newest, 1000, true)
	r.also("one_machine_ms", one.newest, 5000, true)
	r.add("oldest_ms", many.oldest)
	r.add("one_machine_oldest_ms", one.oldest)
	r.Note += fmt.Sprintf(" medians of 5; %d counts over %d days, an integration log of %d entries; three days a page, %d and %d counts a day and machine",
		million, p12Days, p12Entries, million/p12Machines/p12Days, million/p12Days)
	return r, nil
}

// pageTimes are in milliseconds.
type pageTimes struct{ newest, oldest float64 }

func (b *bed) piecesOf(ctx context.Context, machines int) (t pageTimes, err error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("pieces-%d", machines))
	n, err := askRole[int]("pieces", piecesRole{Dir: dir, Machines: machines, Events: million})
	if err != nil {
		return t, err
	}
	if n != million {
		return t, fmt.Errorf("the store has %d events instead of %d", n, million)
	}
	away, err := freeAddress()
	if err != nil {
		return t, err
	}
	plc := "  plc: {driver: modbus, endpoint: \"" + away + "\", tags: {made: {address: \"holding:0\", type: uint32}}}\n"
	config := ""
	for i := range machines {
		config += fmt.Sprintf("  LATE-%02d: {device: plc, counter: {total: made, max_rate: 20/s}}\n", i)
	}
	err = b.withGateway(ctx, func(httpAddr string) string {
		return atStore(frameConfig("p12", away, httpAddr, plc, config), dir)
	}, func(g *gateway) error {
		oldest := time.Now().AddDate(0, 0, 2-p12Days).UTC().Format(time.RFC3339)
		if t.newest, err = g.pageTime(ctx, "/counts?machine=LATE-00"); err != nil {
			return err
		}
		t.oldest, err = g.pageTime(ctx, "/counts?machine=LATE-00&until="+oldest)
		return err
	})
	return t, err
}

// pageTime gets a page once, and then returns the median of five times.
func (g *gateway) pageTime(ctx context.Context, path string) (ms float64, err error) {
	var took []float64
	for i := range 6 {
		begun := time.Now()
		if err := g.get(ctx, path); err != nil {
			return 0, err
		}
		if i > 0 {
			took = append(took, float64(time.Since(begun).Microseconds())/1000)
		}
	}
	return median(took), nil
}

func (g *gateway) get(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // read only: nothing to lose
	text, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || len(text) < 1000) {
		err = fmt.Errorf("%s: status %d, %d bytes", path, answer.StatusCode, len(text))
	}
	return err
}

// writePieces plays the role; it answers with the number of events.
func writePieces(a piecesRole) (n int, err error) {
	ctx := context.Background()
	log := journal.New(a.Dir, journal.Options{Bytes: 64 << 20, Keep: 30 * 24 * time.Hour}, zap.NewNop())
	store, err := buffer.Open(ctx, backlogOptions(a.Dir, "p12"), zap.NewNop())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, log.Close(), store.Close()) }()
	if _, err := store.Queue("mqtt", func(plant.EventKind) bool { return true }); err != nil {
		return 0, err
	}
	each := a.Events / a.Machines
	every := p12Days * 24 * time.Hour / time.Duration(each)
	begin := time.Now().Add(-p12Days * 24 * time.Hour)
	for m := range a.Machines {
		machine := plant.MachineID(fmt.Sprintf("LATE-%02d", m))
		for first := 0; first < each; first += backlogBatch {
			batch := plant.Batch{State: make([]byte, 400)}
			for i := first; i < min(first+backlogBatch, each); i++ {
				from := begin.Add(time.Duration(i) * every)
				to := from.Add(every)
				batch.Events = append(batch.Events, plant.Event{
					Machine: machine, Kind: plant.KindCounter, Version: 1, Time: to, TimeSource: plant.GatewayTime,
					Data: fmt.Appendf(nil, `{"machine":"%s","mode":"production","good":%d,"good_delta":4,"scrap":[{"code":"BURR","quantity":%d,"delta":1}],"from":"%s","to":"%s","raw":%d}`,
						machine, 4*(i+1), i+1, stamp(from), stamp(to), 5*(i+1)),
				})
			}
			if _, err := store.Commit(ctx, machine, batch); err != nil {
				return 0, err
			}
			n += len(batch.Events)
		}
	}
	for i := range p12Entries {
		log.Add(uplink.Exchange{
			Time: begin.Add(time.Duration(i) * time.Second), Uplink: "mqtt", Machine: "LATE-00", Kind: plant.KindCounter,
			First: plant.Sequence(i + 1), Last: plant.Sequence(i + 1), Events: 1, RequestID: fmt.Sprintf("bench/LATE-00/%020d", i),
			Method: http.MethodPost, Where: "https://mes.example/api/v1/production/events", Status: http.StatusCreated,
			Duration: 3 * time.Millisecond, Outcome: uplink.OutcomeDelivered, Words: "created",
		})
		if i%500 == 0 {
			log.Flush()
		}
	}
	return n, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
