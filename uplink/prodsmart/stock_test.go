package prodsmart

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// master makes the gateway master of sugar, yeast and flour in bags.
func master(o *Options) {
	materials()(o)
	o.Stock = &Stock{Master: true, Components: o.Movements.Components}
	o.Movements = nil
	for i := range o.Stock.Components.Rows {
		c := &o.Stock.Components.Rows[i].Value
		c.Warehouse, c.WarehouseLocation = "", ""
	}
	if err := o.Stock.Validate(); err != nil {
		panic(err)
	}
	o.Stock.fill() // as plan does
}

func stockCompany() fake.Company {
	c := dosingCompany()
	c.StockMaster = true
	return c
}

// say sets what the books say: component, quantity and unit of each sum.
func (r *rig) say(booked plant.Sequence, lacking string, sums ...string) {
	said := make(map[string][]uplink.Amount)
	for i := 0; i < len(sums); i += 3 {
		var n config.Number
		if err := n.UnmarshalText([]byte(sums[i+1])); err != nil {
			r.t.Fatal(err)
		}
		said[sums[i]] = append(said[sums[i]], uplink.Amount{Quantity: n.Decimal, Unit: sums[i+2]})
	}
	r.books = func(component string, _ plant.MachineID) (uplink.Stock, error) {
		return uplink.Stock{Amounts: said[component], Booked: booked, Lacking: lacking}, nil
	}
}

// set returns the bodies with which stocks were set.
func (r *rig) set() string {
	var all []string
	for _, line := range r.wire.asked() {
		if body, ok := strings.CutPrefix(line, "POST /api/stock "); ok {
			all = append(all, body)
		}
	}
	return strings.Join(all, "\n")
}

// answered sends events until Prodsmart or the books have said something to them.
func (r *rig) answered(events ...plant.Event) []plant.Result {
	r.t.Helper()
	for range 60 {
		results := r.send(events...)
		var later *uplink.NotYet
		if !errors.As(results[len(results)-1].Cause, &later) {
			return results
		}
		elapse(max(results[len(results)-1].Wait, time.Second))
	}
	r.t.Fatal("no answer in a minute")
	return nil
}

func (r *rig) move(k plant.EventKind, component string) plant.Event {
	return r.event("M-1", k, fmt.Sprintf(`{"component":%q,"quantity":5,"unit":"kg","time":"2026-11-22T06:00:00.000Z"}`, component))
}

// TestStockIsSet: once for each component, by what the books say now, in
// Prodsmart's unit, and behind everything else.
func TestStockIsSet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, stockCompany(), master, func(o *Options) { o.AsParameters = map[string]string{"correction": "C"} })
		r.say(100, "", "SUGAR", "812.500", "kg", "YEAST", "1.0305", "kg", "FLOUR", "37.5", "kg", "FLOUR", "2", "bag", "WATER", "3", "kg")
		r.deliver(r.dose("SUGAR", "12.5", "kg"), r.dose("YEAST", "3", "g"), r.dose("SUGAR", "1", "kg"), r.move(plant.KindReceipt, "SUGAR"),
			r.move(plant.KindRefill, "FLOUR"), r.move(plant.KindRemoval, "WATER"),
			r.event("M-1", plant.KindCounter, counter(1, 1)),
			r.event("M-1", plant.KindCorrection, `{"id":"1","by":"ana","material":{"component":"YEAST","quantity":-1,"unit":"g"}}`),
			r.event("M-1", plant.KindCorrection, `{"id":"2","by":"ana","good":-1}`))
		r.want(`/api/machines/M-1/counter {"count":1}`, `/api/machines/M-1/parameters {"parameters":[{"code":"C","value":"good -1"}]}`,
			`GET /api/authorization`, `POST /api/authorization {"scopes":["productions_write"]}`,
			`/api/stock {"product-code":"SUGAR","stock":812.5}`, `/api/stock {"product-code":"YEAST","stock":1030.5}`, `/api/stock {"product-code":"FLOUR","stock":3.5}`)
		if sugar, yeast, flour := r.fake.Stock("SUGAR"), r.fake.Stock("YEAST"), r.fake.Stock("FLOUR"); sugar != 812.5 || yeast != 1030.5 || flour != 3.5 {
			t.Errorf("Prodsmart has %g kg, %g g, %g bags", sugar, yeast, flour)
		}
		r.strict()
	})
}

// TestStockOfABacklogIsSetOnce: the books are ahead of the uplink, so what was set
// holds the events that are sent later. A resend sets it again.
func TestStockOfABacklogIsSetOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, stockCompany(), master)
		r.say(40, "", "SUGAR", "7", "kg")
		var all []plant.Event
		for range 40 {
			all = append(all, r.dose("SUGAR", "1", "kg"))
		}
		for _, e := range all {
			r.deliver(e)
		}
		if got := r.set(); got != `{"product-code":"SUGAR","stock":7}` {
			t.Errorf("set\n%s", got)
		}
		r.say(41, "", "SUGAR", "6", "kg")
		r.deliver(r.dose("SUGAR", "1", "kg"))
		if got := r.set(); got != `{"product-code":"SUGAR","stock":6}` {
			t.Errorf("then set\n%s", got)
		}
		elapse(coveredFor)
		r.deliver(all[3])
		if got := r.set(); got != `{"product-code":"SUGAR","stock":6}` {
			t.Errorf("a resend set\n%s", got)
		}
		r.strict()
	})
}

// TestStockWaitsForTheBooks: a number without the dose would stay for good.
func TestStockWaitsForTheBooks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, stockCompany(), master)
		e := r.dose("SUGAR", "1", "kg")
		for name, books := range map[string]func(string, plant.MachineID) (uplink.Stock, error){
			"not booked": func(string, plant.MachineID) (uplink.Stock, error) { return uplink.Stock{Booked: e.Sequence - 1}, nil },
			"busy": func(string, plant.MachineID) (uplink.Stock, error) {
				return uplink.Stock{}, &uplink.NotYet{Why: "busy"}
			},
		} {
			r.books = books
			result := r.send(e)[0]
			var later *uplink.NotYet
			if result.Status != plant.Retry || !errors.As(result.Cause, &later) || result.Wait <= 0 {
				t.Errorf("%s: %+v, %v", name, result, result.Cause)
			}
		}
		if got := r.set(); got != "" {
			t.Errorf("set %s", got)
		}
		r.say(e.Sequence, "", "SUGAR", "5", "kg")
		r.deliver(e)
		if got := r.fake.Stock("SUGAR"); got != 5 {
			t.Errorf("Prodsmart has %g", got)
		}
		r.strict()
	})
}

// TestStockAfterALostReply: it is set again, to what the books say by then.
func TestStockAfterALostReply(t *testing.T) {
	for _, fault := range []central.Fault{central.LostReply(), central.Dropped(), central.Answered(500, "oops")} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, stockCompany(), master)
			r.say(1, "", "SUGAR", "5", "kg")
			r.fake.Faults.Add(fault.On("stock"))
			e := r.dose("SUGAR", "1", "kg")
			if result := r.answered(e)[0]; result.Status != plant.Retry {
				t.Fatalf("%+v", result)
			}
			r.say(2, "", "SUGAR", "4", "kg")
			elapse(time.Second)
			r.deliver(e, r.dose("SUGAR", "1", "kg"))
			if got := r.set(); got != `{"product-code":"SUGAR","stock":5}`+"\n"+`{"product-code":"SUGAR","stock":4}` {
				t.Errorf("set\n%s", got)
			}
			if got := r.fake.Stock("SUGAR"); got != 4 {
				t.Errorf("Prodsmart has %g", got)
			}
			r.strict()
		})
	}
}

// TestStockThatNobodyKnows is said and never guessed, while counts go on; once it
// is known, it is set.
func TestStockThatNobodyKnows(t *testing.T) {
	for _, test := range []struct {
		name, words string
		lacking     string
		sums        []string
		err         error
	}{
		{name: "never heard of", words: "never heard of it"},
		{name: "below zero", sums: []string{"SUGAR", "-12.50", "kg"}, words: "by the books it is -12.5 kg"},
		{name: "another unit", sums: []string{"SUGAR", "12", "kg", "SUGAR", "3", "l"}, words: "3 l of it are in the books: nobody knows how many kg"},
		{name: "lost events", sums: []string{"SUGAR", "12", "kg"}, lacking: "M-1: 3 events lost", words: "M-1: 3 events lost"},
		{name: "no books", err: errors.New("no machine moves material"), words: "no machine moves material"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, stockCompany(), master)
				r.say(2, test.lacking, test.sums...)
				if test.err != nil {
					r.books = func(string, plant.MachineID) (uplink.Stock, error) { return uplink.Stock{}, test.err }
				}
				e, c := r.dose("SUGAR", "1", "kg"), r.event("M-1", plant.KindCounter, counter(1, 1))
				result := r.send(e, c)[0]
				if result.Status != plant.Held || !strings.Contains(result.Cause.Error(), test.words) || !strings.Contains(result.Cause.Error(), "SUGAR") {
					t.Errorf("%+v, %v", result, result.Cause)
				}
				r.want(`/api/machines/M-1/counter {"count":1}`)
				r.say(2, "", "SUGAR", "0.00", "kg")
				elapse(heldFor)
				r.deliver(e, c)
				if got := r.set(); got != `{"product-code":"SUGAR","stock":0}` {
					t.Errorf("set\n%s", got)
				}
				r.strict()
			})
		})
	}
}

// TestStockInSpiteOfLostEvents is somebody's word that the stock was counted since.
func TestStockInSpiteOfLostEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, stockCompany(), master, func(o *Options) { o.Stock.Lacking = lackingSend })
		r.say(1, "M-1: 3 events lost", "SUGAR", "12", "kg")
		r.deliver(r.dose("SUGAR", "1", "kg"))
		if got := r.fake.Stock("SUGAR"); got != 12 {
			t.Errorf("Prodsmart has %g", got)
		}
		r.strict()
	})
}

// TestStockOfAnUnknownProduct waits for a person, and nobody else's does.
func TestStockOfAnUnknownProduct(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := stockCompany()
		c.Products = c.Products[:1]
		r := newRig(t, c, master)
		r.say(9, "", "SUGAR", "12", "kg", "YEAST", "5", "g")
		e := r.dose("YEAST", "1", "g")
		sugar := r.dose("SUGAR", "1", "kg")
		result := r.answered(e, sugar)[0]
		if result.Status != plant.Held || !strings.Contains(result.Cause.Error(), "Product not found; make the product of YEAST there") {
			t.Errorf("%+v, %v", result, result.Cause)
		}
		elapse(r.options.HoldRetry.Std())
		r.send(e, sugar)
		if got := r.fake.Stock("SUGAR"); got != 12 {
			t.Errorf("Prodsmart has %g", got)
		}
		r.wire.asked()
		if r.send(e); r.set() != "" {
			t.Error("it was tried again at once")
		}
	})
}

// TestRefusedStock is the newest event's: its number holds that of the others.
func TestRefusedStock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, stockCompany(), master)
		r.say(2, "", "SUGAR", "12", "kg")
		r.fake.Faults.Add(central.Answered(400, "not so").On("stock"))
		events := []plant.Event{r.dose("SUGAR", "1", "kg"), r.dose("SUGAR", "1", "kg")}
		results := r.answered(events...)
		if len(results) != 2 || results[0].Status != plant.Delivered || results[1].Status != plant.Rejected {
			t.Errorf("%+v", results)
		}
		r.wire.asked()
		if results = r.send(events[1]); results[0].Status != plant.Rejected || r.set() != "" {
			t.Errorf("it was tried again at once: %+v", results)
		}
	})
}

// TestStockOfTwoMachines: who reads the books first sets the stock first.
func TestStockOfTwoMachines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, stockCompany(), master)
		r.say(1, "", "YEAST", "1", "g")
		r.deliver(r.dose("YEAST", "1", "g")) // and there is a token
		var mu sync.Mutex
		left, within := int64(100), 0
		r.books = func(_ string, m plant.MachineID) (uplink.Stock, error) {
			mu.Lock()
			defer mu.Unlock()
			if within++; within == 1 {
				left-- // the other machine's dose is booked while this one's waits for its turn
			}
			return uplink.Stock{Amounts: []uplink.Amount{{Quantity: plant.Decimal{Unscaled: left}, Unit: "kg"}}, Booked: 2}, nil
		}
		one := r.dose("SUGAR", "1", "kg")
		other := one
		other.Machine = "M-2"
		var group sync.WaitGroup
		statuses := make([]plant.Status, 2)
		for i, e := range []plant.Event{one, other} {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				statuses[i] = r.sender.Send(ctx, e.Machine, []plant.Event{e})[0].Status
			})
		}
		group.Wait()
		if within != 1 || (statuses[0] == plant.Delivered) == (statuses[1] == plant.Delivered) {
			t.Errorf("the books were read %d times at once: %v", within, statuses)
		}
		elapse(time.Second)
		for i, e := range []plant.Event{one, other} {
			if statuses[i] != plant.Delivered {
				r.deliver(e)
			}
		}
		if got := r.fake.Stock("SUGAR"); got != 99 || within != 2 {
			t.Errorf("Prodsmart has %g, the books were read %d times", got, within)
		}
		r.strict()
	})
}
