package nextplus

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

func decimal(text string) plant.Decimal {
	d, err := plant.ParseDecimal(text)
	if err != nil {
		panic(err)
	}
	return d
}

// withDoses is a shop that tells sugar in kg and flour in bags.
func withDoses(t *testing.T, erp fake.ERP, change ...func(*Doses)) *shop {
	s := newShop(t, erp)
	s.options.Doses = &Doses{Components: config.Table[Component]{Rows: []config.Row[Component]{
		{Name: "SUGAR", Value: Component{Unit: "kg"}},
		{Name: "FLOUR", Value: Component{Unit: "bag", Factor: config.Number{Decimal: decimal("0.04")}, Per: "kg"}},
		{Name: "SALT", Value: Component{Unit: "lb"}},
	}}}
	for _, c := range change {
		c(s.options.Doses)
	}
	if err := s.options.Doses.Validate(); err != nil {
		t.Fatal(err)
	}
	return s.open()
}

func (s *shop) dose(component, quantity, unit string, change ...func(*plant.Dosing)) plant.Event {
	d := plant.Dosing{
		Head: head("DOSER", testOrder), Component: component, Quantity: decimal(quantity), Unit: unit, Status: "complete", Purpose: "production",
		Lots: []plant.DosedLot{{Lot: "L-1", Quantity: decimal(quantity)}},
	}
	for _, c := range change {
		c(&d)
	}
	return s.event("DOSER", plant.KindDosing, d)
}

func (s *shop) movement(kind plant.EventKind, component, quantity, unit string) plant.Event {
	return s.event("DOSER", kind, plant.Movement{Head: head("DOSER", testOrder), Component: component, Quantity: decimal(quantity), Unit: unit})
}

// TestDoses go field for field as items of the order, in the receiver's unit and
// under its names.
func TestDoses(t *testing.T) {
	s := withDoses(t, fake.ERP{})
	s.options.Codes = uplink.CodeTables{Component: config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: "SUGAR", Value: uplink.Code{Theirs: "RM-12"}}}}}
	s.open().accepted(s.dose("SUGAR", "12500.0", "g"), s.dose("FLOUR", "12.5", "kg"))
	if !strings.Contains(s.words(), `no component "FLOUR"`) {
		t.Errorf("the journal says %q", s.words())
	}
	want := func(sequence, item string) string {
		return `{"type":"add","workorderNumber":"WO-1","sku":"PUMP","item":` + item + `,"workorderId":"` + id("workorder", "ERP", "WO-1") +
			`","stockId":"` + id("stock", "PUMP", "WO-1") + `","sessionId":"` + id("session", "gw/DOSER/0000000000000007-"+sequence) + `","workorderExternalId":"ERP-WO-9"}`
	}
	got := s.bodies(fake.ItemPath)
	for i, w := range []string{want("1", `{"sku":"RM-12","quantity":12.5}`), want("2", `{"sku":"FLOUR","quantity":0.5}`)} {
		if got[i] != w {
			t.Errorf("dose %d is\n%s\nwant\n%s", i+1, got[i], w)
		}
	}
	s.faultless()
}

// TestDosesThatAreNotTold: those that did not end well, those of no order of the
// source, and those of components that nobody asked for.
func TestDosesThatAreNotTold(t *testing.T) {
	s := withDoses(t, fake.ERP{})
	other := *testOrder
	other.Source = "MES"
	results := s.send(
		s.dose("SUGAR", "3", "kg", func(d *plant.Dosing) { d.Status = "aborted" }),
		s.dose("SUGAR", "3", "kg", func(d *plant.Dosing) { d.Purpose = "purge" }),
		s.dose("SUGAR", "3", "kg", func(d *plant.Dosing) { d.Order = &other }),
		s.dose("SUGAR", "3", "kg", func(d *plant.Dosing) { d.Order = nil }),
		s.dose("YEAST", "3", "kg"), s.dose("", "3", "kg"), s.dose("SUGAR", "0.000", "kg"),
		s.dose("SUGAR", "3", "kg"),
	)
	skipped := plant.Skipped
	same(t, statuses(results), skipped, skipped, skipped, skipped, skipped, skipped, skipped, plant.Delivered)
	if n := len(s.erp.Items()); n != 1 {
		t.Errorf("the receiver has %d items", n)
	}
	s.faultless()
}

// TestAbortedDosesAreTold where the config says so.
func TestAbortedDosesAreTold(t *testing.T) {
	s := withDoses(t, fake.ERP{}, func(d *Doses) { d.Aborted = abortedSend })
	s.accepted(s.dose("SUGAR", "1.25", "kg", func(d *plant.Dosing) { d.Status = "aborted" }))
	if items := s.erp.Items(); len(items) != 1 || items[0].Quantity != 1.25 {
		t.Errorf("the receiver has %+v", items)
	}
}

// TestAQuantityThatCannotBeTold is refused here, and never rounded.
func TestAQuantityThatCannotBeTold(t *testing.T) {
	s := withDoses(t, fake.ERP{})
	for component, unit := range map[string]string{"SALT": "kg", "SUGAR": "l"} {
		results := s.send(s.dose(component, "1", unit))
		same(t, statuses(results), plant.Rejected)
		if words := results[0].Cause.Error(); !strings.Contains(words, "doses: components:") || !strings.Contains(words, component) {
			t.Errorf("%s in %s: %v", component, unit, words)
		}
	}
	if n := len(s.erp.Accepted()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestWhatComesBack goes by the id of what was put in, also after a restart.
func TestWhatComesBack(t *testing.T) {
	s := withDoses(t, fake.ERP{})
	s.accepted(s.dose("SUGAR", "3", "kg"), s.dose("SUGAR", "4", "kg"))
	s.open().accepted(s.dose("SUGAR", "-3000", "g", func(d *plant.Dosing) { d.Drift = true }))
	items := s.erp.Items()
	if len(items) != 2 || !items[0].Removed || items[1].Removed {
		t.Errorf("the receiver has %+v", items)
	}
	s.faultless()

	unknown := withDoses(t, fake.ERP{NoExternalID: true})
	unknown.accepted(unknown.dose("SUGAR", "3", "kg"), unknown.dose("SUGAR", "-1", "kg"))
	if !strings.Contains(unknown.words(), "without item.externalId") {
		t.Errorf("the journal says %q", unknown.words())
	}
	unknown.faultless()
}

// TestRefillsAndRemovals are told where material is booked when it is filled in.
func TestRefillsAndRemovals(t *testing.T) {
	s := withDoses(t, fake.ERP{}, func(d *Doses) { d.Kinds = []plant.EventKind{plant.KindRefill, plant.KindRemoval} })
	s.accepted(s.movement(plant.KindRefill, "FLOUR", "50", "kg"), s.movement(plant.KindRemoval, "FLOUR", "10", "kg"))
	bodies := s.bodies(fake.ItemPath)
	back := fields(t, bodies[1])
	item, _ := back["item"].(map[string]any)
	if back["type"] != "remove" || item["quantity"] != 0.4 || item["externalId"] != "ERP-COMP-1" {
		t.Errorf("got %s", bodies[1])
	}
	if len(s.memory) == 0 {
		t.Fatal("nothing is remembered")
	}
	for key := range s.memory {
		if strings.HasPrefix(key, "dose/") {
			t.Errorf("%s is still remembered", key)
		}
	}
	s.faultless()
}

// TestARefusedDose is a dead letter with the receiver's words; the doses behind it
// go on, and only what takes it back waits for it.
func TestARefusedDose(t *testing.T) {
	refuse := true
	s := withDoses(t, fake.ERP{Refuse: func(string, map[string]any) (int, string) {
		if refuse {
			return http.StatusUnprocessableEntity, "the component is blocked"
		}
		return 0, ""
	}})
	first := s.dose("SUGAR", "3", "kg")
	results := s.send(first)
	same(t, statuses(results), plant.Rejected)
	if !strings.Contains(results[0].Cause.Error(), "the component is blocked") {
		t.Errorf("got %v", results[0].Cause)
	}
	refuse = false
	back := s.dose("SUGAR", "-3", "kg")
	results = s.send(back, s.dose("FLOUR", "25", "kg"))
	same(t, statuses(results), plant.Held, plant.Delivered)
	s.accepted(first)
	s.accepted(back)
	s.faultless()
}

// TestWhereDosesGo: they are carried only if they are asked for, and need a URL.
func TestWhereDosesGo(t *testing.T) {
	for name, c := range map[string]struct {
		doses *Doses
		kinds uplink.Kinds
		want  []plant.EventKind
	}{
		"not asked for": {nil, nil, nil},
		"doses":         {&Doses{}, nil, []plant.EventKind{plant.KindDosing}},
		"both ways":     {&Doses{Kinds: []plant.EventKind{plant.KindRefill, plant.KindRemoval}}, nil, []plant.EventKind{plant.KindRefill, plant.KindRemoval}},
		"filtered":      {&Doses{}, uplink.Kinds{plant.KindSerial}, nil},
	} {
		o := testOptions("https://erp.example")
		o.Doses, o.Kinds = c.doses, c.kinds
		p, err := plan("erp", o)
		if err != nil {
			t.Fatal(err)
		}
		var got []plant.EventKind
		for _, k := range []plant.EventKind{plant.KindDosing, plant.KindRefill, plant.KindRemoval} {
			if p.Carries(k) {
				got = append(got, k)
			}
		}
		if len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
			t.Errorf("%s: it carries %v, want %v", name, got, c.want)
		}
	}
}
