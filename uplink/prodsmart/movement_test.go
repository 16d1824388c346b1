package prodsmart

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
)

// materials books sugar and yeast, and flour in bags.
func materials(change ...func(*Movements)) func(*Options) {
	return func(o *Options) {
		number := func(text string) config.Number {
			var n config.Number
			if err := n.UnmarshalText([]byte(text)); err != nil {
				panic(err)
			}
			return n
		}
		o.Movements = &Movements{Components: config.Table[Component]{Rows: []config.Row[Component]{
			{Name: "SUGAR", Value: Component{UoM: "kg", Warehouse: "A", WarehouseLocation: "Zone2"}},
			{Name: "YEAST", Value: Component{UoM: "g"}},
			{Name: "FLOUR", Value: Component{UoM: "bag", Factor: number("0.04"), Per: "kg"}},
		}}}
		for _, c := range change {
			c(o.Movements)
		}
		if err := o.Movements.Validate(); err != nil {
			panic(err)
		}
		o.Movements.fill() // as plan does
	}
}

func dosingCompany() fake.Company {
	c := company()
	c.Products = []fake.Product{
		{Code: "SUGAR", UoM: "kg", Stock: 1000}, {Code: "YEAST", UoM: "g"}, {Code: "FLOUR", UoM: "bag"}, {Code: "SALT", UoM: "kg"},
		{Code: "BREAD", Components: []fake.Component{{Product: "SALT", Quantity: 0.01}}},
	}
	return c
}

func (r *rig) dose(component, quantity, unit string, more ...string) plant.Event {
	return r.event("M-1", plant.KindDosing, fmt.Sprintf(`{"component":%q,"quantity":%s,"unit":%q,"status":"complete","purpose":"production","method":"handshake","order":{"number":"4711","sku":"BREAD"}%s}`,
		component, quantity, unit, strings.Join(more, "")))
}

// booked returns the movements that Prodsmart has.
func (r *rig) booked() string {
	var all []string
	for _, m := range r.fake.Movements() {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %g %s %s", m.Product, m.Quantity, m.Type, m.Lot)))
	}
	return strings.Join(all, ", ")
}

// posts returns the bodies of the movements that were sent.
func (r *rig) posts() []string {
	var all []string
	for _, line := range r.wire.asked() {
		if body, ok := strings.CutPrefix(line, "POST /api/inventory-movements"); ok {
			all = append(all, body)
		}
	}
	return all
}

func TestMovements(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		r.deliver(r.dose("SUGAR", "12.50", "kg", `,"ended":"2026-11-22T06:00:00.900Z","lots":[{"lot":"L1","quantity":12.00},{"lot":"L2","quantity":0.50}]`),
			r.dose("YEAST", "0.0305", "kg"), r.dose("FLOUR", "37500", "g"), r.dose("WATER", "3", "kg"), r.dose("SUGAR", "0.000", "kg"), r.dose("SUGAR", "-0.25", "kg", `,"drift":true`))
		posts := r.posts()
		want := []string{
			`/ {"product-code":"SUGAR","date-time":"2026-11-22T06:00:00Z","quantity":"12","type":"consumption","lot":"L1","comment":"sluice:gw/M-1/0000000000000007-1#1 order 4711","warehouse":"A","warehouse-location":"Zone2"}`,
			`/ {"product-code":"SUGAR","date-time":"2026-11-22T06:00:00Z","quantity":"0.5","type":"consumption","lot":"L2","comment":"sluice:gw/M-1/0000000000000007-1#2 order 4711","warehouse":"A","warehouse-location":"Zone2"}`,
			`/ {"product-code":"YEAST","date-time":"2026-11-22T06:00:02Z","quantity":"30.5","type":"consumption","comment":"sluice:gw/M-1/0000000000000007-2#1 order 4711"}`,
			`/ {"product-code":"FLOUR","date-time":"2026-11-22T06:00:03Z","quantity":"1.5","type":"consumption","comment":"sluice:gw/M-1/0000000000000007-3#1 order 4711"}`,
			`/ {"product-code":"SUGAR","date-time":"2026-11-22T06:00:06Z","quantity":"0.25","type":"in","comment":"sluice:gw/M-1/0000000000000007-6#1 order 4711","warehouse":"A","warehouse-location":"Zone2"}`,
		}
		if strings.Join(posts, "\n") != strings.Join(want, "\n") {
			t.Errorf("sent\n%s\nwant\n%s", strings.Join(posts, "\n"), strings.Join(want, "\n"))
		}
		var ids []string
		for _, x := range r.journal {
			if x.ReceiverID != "" {
				ids = append(ids, x.ReceiverID)
			}
		}
		if all := r.fake.Movements(); len(ids) != len(all) || ids[0] != fmt.Sprint(all[0].ID) {
			t.Errorf("the log has the ids %q", ids)
		}
		r.strict()
	})
}

// TestMovementForms are the settings for the form of the request.
func TestMovementForms(t *testing.T) {
	for _, created := range []int{200, 201} {
		bubble(t, func(t *testing.T) {
			c := dosingCompany()
			c.Created = created
			c.MovementTypes = []string{"zużycie"}
			r := newRig(t, c, materials(func(m *Movements) {
				m.ProductKey, m.Quantity, m.Path = keyProduct, quantityNumber, pathNoSlash
				m.Types = map[string]string{"dosing": "zużycie"}
			}))
			r.deliver(r.dose("YEAST", "1.50", "g"))
			if posts := r.posts(); len(posts) != 1 || !strings.HasPrefix(posts[0], ` {"product":"YEAST","date-time":"2026-11-22T06:00:01Z","quantity":1.5,"type":"zu`) {
				t.Errorf("sent %q", posts)
			}
			r.strict()
		})
	}
}

func TestRefillsAndRemovals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials(func(m *Movements) {
			m.Kinds = []plant.EventKind{plant.KindRefill, plant.KindRemoval}
		}))
		move := func(k plant.EventKind) plant.Event {
			return r.event("M-1", k, `{"component":"SUGAR","quantity":5,"unit":"kg","lot":"L9","time":"2026-11-22T06:00:00.000Z"}`)
		}
		r.deliver(move(plant.KindRefill), move(plant.KindRemoval), r.dose("SUGAR", "1", "kg"))
		if got := r.booked(); got != "SUGAR 5 in L9, SUGAR 5 out L9" {
			t.Errorf("booked %s", got)
		}
		r.strict()
	})
}

// TestMovementIsBookedOnce: whatever was lost, the dose is looked up by its
// comment before it is sent again.
func TestMovementIsBookedOnce(t *testing.T) {
	for _, test := range []struct {
		name    string
		fault   central.Fault
		restart bool
		others  int
		newest  bool
		sent    int
	}{
		{"lost reply", central.LostReply().On("movements"), false, 0, false, 1},
		{"lost reply among many", central.LostReply().On("movements"), false, 60, false, 1},
		{"lost reply, newest first", central.LostReply().On("movements"), false, 60, true, 1},
		{"lost request", central.Dropped().On("movements"), false, 60, false, 2},
		{"lost reply and a restart", central.LostReply().On("movements"), true, 30, false, 1},
		{"killed after the answer", central.Fault{}, true, 30, false, 1},
		{"it stumbled", central.Answered(500, "oops").On("movements"), false, 0, false, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := dosingCompany()
				c.NewestFirst = test.newest
				r := newRig(t, c, materials())
				for i := range test.others {
					r.fake.BookMovement(fake.Movement{Product: "SUGAR", Type: "in", Quantity: 1, Comment: fmt.Sprint("other ", i)})
				}
				before := len(r.fake.Movements())
				e := r.dose("SUGAR", "2", "kg")
				r.send(e) // noted
				if test.name != "killed after the answer" {
					r.fake.Faults.Add(test.fault)
				}
				memory := map[string][]byte{}
				for k, v := range r.memory {
					memory[k] = v
				}
				posts := 0
				for range 8 { // the token takes its requests
					r.send(e)
					if posts += len(r.posts()); posts > 0 {
						break
					}
				}
				if test.restart {
					r.memory, r.sent = memory, map[plant.MachineID]plant.Sequence{}
					r.open()
				}
				elapse(5 * time.Second)
				r.deliver(e)
				posts += len(r.posts())
				if got := len(r.fake.Movements()) - before; got != 1 || posts != test.sent {
					t.Errorf("booked %d times with %d requests, want 1 and %d", got, posts, test.sent)
				}
				r.strict()
			})
		})
	}
}

// TestResentMovementIsLookedUp: a dose that is sent again on command.
func TestResentMovementIsLookedUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		first := r.dose("SUGAR", "2", "kg")
		r.deliver(first)
		r.deliver(r.dose("SUGAR", "3", "kg"))
		r.deliver(r.dose("SUGAR", "4", "kg"))
		r.deliver(first)
		if got := r.booked(); got != "SUGAR 2 consumption, SUGAR 3 consumption, SUGAR 4 consumption" {
			t.Errorf("booked %s", got)
		}
	})
}

// TestLookupGivesUp where the list is longer than may be read: a person looks.
func TestLookupGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials(func(m *Movements) { m.LookupPages = 2 }))
		for i := range 100 {
			r.fake.BookMovement(fake.Movement{Product: "SUGAR", Type: "in", Quantity: 1, Comment: fmt.Sprint(i)})
		}
		r.fake.Faults.Add(central.LostReply().On("movements"))
		e := r.dose("SUGAR", "2", "kg")
		var last plant.Result
		for range 90 {
			elapse(time.Second)
			results := r.send(e)
			if last = results[len(results)-1]; last.Status == plant.Rejected {
				break
			}
		}
		if last.Status != plant.Rejected || !strings.Contains(last.Cause.Error(), "search Prodsmart for the comment sluice:gw/M-1/0000000000000007-1#1") {
			t.Errorf("%+v %v", last, last.Cause)
		}
	})
}

// TestBillOfMaterialsTwice: what Prodsmart consumes itself is not booked, and the
// machine's counts go on.
func TestBillOfMaterialsTwice(t *testing.T) {
	salt := func(m *Movements) {
		m.Components.Rows = append(m.Components.Rows, config.Row[Component]{Name: "SALT", Value: Component{UoM: "kg"}})
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials(salt))
		dose, count := r.dose("SALT", "1", "kg"), r.event("M-1", plant.KindCounter, counter(5, 5))
		var last plant.Result
		for range 12 {
			results := r.send(dose, count)
			last = results[len(results)-1]
			elapse(5 * time.Second)
		}
		if last.Status != plant.Held || !strings.Contains(last.Cause.Error(), "twice") {
			t.Errorf("%+v %v", last, last.Cause)
		}
		if got := r.fake.Machine("M-1").Count; got != 5 || r.booked() != "" {
			t.Errorf("count %v, booked %q", got, r.booked())
		}
		r.strict()
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials(salt, func(m *Movements) { m.BillOfMaterials = bomIgnore }))
		r.deliver(r.dose("SALT", "1", "kg"))
		if got := r.booked(); got != "SALT 1 consumption" {
			t.Errorf("booked %s", got)
		}
		r.strict(fake.RuleDoubleBOM)
	})
}

// TestDoseThatCannotBeConverted is put aside, with the reason.
func TestDoseThatCannotBeConverted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		results := r.send(r.dose("SUGAR", "3", "l"))
		if results[0].Status != plant.Rejected || !strings.Contains(results[0].Cause.Error(), `"l"`) {
			t.Errorf("%+v", results)
		}
	})
}
