package derive

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// bindMaterial notes the tags that say what is loaded.
func (m *Model) bindMaterial() {
	if m.material == nil {
		return
	}
	for i, ref := range m.material.Tags() {
		u := m.use(ref)
		u.material, u.polled = append(u.material, i), true
		m.edges[u.index] = true
	}
}

// load takes a reading of what is loaded.
func (r *run) load(u *use, v *plant.Reading, at rule.Stamp) {
	for _, i := range u.material {
		if v.Quality != plant.Good {
			continue
		}
		hopper, changed := r.m.material.Observe(&r.s.material, i, v.Value)
		r.changed = r.changed || changed
		if hopper >= 0 {
			r.loading = append(r.loading, loading{hopper, at})
		}
	}
}

// loading is a location that was loaded, to be told once the whole scan is read.
type loading struct {
	hopper int
	at     rule.Stamp
}

// loaded tells what a scan has shown to be loaded.
func (r *run) loaded() {
	for _, l := range r.loading {
		r.loadMaterial(r.m.material.Loaded(&r.s.material, l.hopper), l.at)
	}
	r.loading = r.loading[:0]
}

func (r *run) loadMaterial(m plant.Material, at rule.Stamp) {
	r.s.material.Load(&m)
	m.Head, m.Time = r.headAt(at), stampTime(at)
	r.emitJSON(plant.KindMaterial, at, m)
}

// acceptsMaterial says what is wrong with an entry.
func acceptsMaterial(e *plant.MaterialEntry) error {
	kinds := []plant.EventKind{plant.KindMaterial, plant.KindRefill, plant.KindRemoval, plant.KindReceipt}
	switch {
	case !slices.Contains(kinds, e.Kind):
		return fmt.Errorf("%q is no entry of material: write material, refill, removal or receipt", e.Kind)
	case e.Component == "":
		return errors.New("the entry is refused: it names no component")
	case e.Location == "" && e.Kind != plant.KindReceipt:
		return errors.New("the entry is refused: it names no location")
	case e.Quantity.Unscaled < 0 || e.Quantity.IsZero() && e.Kind != plant.KindMaterial:
		return fmt.Errorf("the entry is refused: %s is no quantity of a %s", e.Quantity, e.Kind)
	case !e.Quantity.IsZero() && e.Unit == "":
		return errors.New("the entry is refused: its quantity has no unit")
	}
	return nil
}

// materialEntry takes what somebody has entered.
func (r *run) materialEntry(e plant.MaterialEntry) {
	r.due()
	if acceptsMaterial(&e) != nil {
		return
	}
	at := rule.Stamp{At: r.now}
	if e.Kind == plant.KindMaterial {
		m := plant.Material{Component: e.Component, Lot: e.Lot, Location: e.Location, By: e.By}
		if !e.Quantity.IsZero() {
			m.Quantity, m.Unit = &e.Quantity, e.Unit
		}
		r.loadMaterial(m, at)
		return
	}
	m := plant.Movement{
		Component: e.Component, Quantity: e.Quantity, Unit: e.Unit, Lot: e.Lot, Location: e.Location, Time: stampTime(at), By: e.By,
	}
	switch e.Kind {
	case plant.KindRefill:
		// What is filled into a hopper by hand is loaded there.
		r.s.material.Load(&plant.Material{Component: e.Component, Lot: e.Lot, Location: e.Location, Quantity: &e.Quantity, Unit: e.Unit})
	case plant.KindRemoval:
		r.s.material.Take(e.Location, e.Component, e.Quantity, e.Unit)
	}
	m.Head = r.headAt(at)
	r.emitJSON(e.Kind, at, m)
}

// lots gives a dose that names no lot those that are loaded where it came from.
func (r *run) lots(d *plant.Dosing) {
	if len(d.Lots) > 0 {
		return
	}
	from := d.Location
	if from == "" || d.Method == "gain_in_weight" {
		// It is known into what it went, so it came from where the component lies.
		from = r.s.material.Holds(d.Component)
	}
	if from != "" && d.Component != "" {
		d.Lots = r.s.material.Take(from, d.Component, d.Quantity, d.Unit)
	}
}

// moved does the same for a refill or a removal.
func (r *run) moved(kind plant.EventKind, m *plant.Movement) {
	if m.Location == "" || m.Lot != "" {
		return
	}
	if kind == plant.KindRefill {
		m.Lot = r.s.material.Newest(m.Location, m.Component)
		return
	}
	var names []string
	for _, l := range r.s.material.Take(m.Location, m.Component, m.Quantity, m.Unit) {
		names = append(names, l.Lot)
	}
	if len(names) == 1 {
		m.Lot = strings.Join(names, "")
	}
}
