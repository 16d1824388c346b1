package dosing

import (
	"time"

	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// The texts that are said about a dose besides its weight.
const (
	slotComponent = iota
	slotPurpose
	slotStatus
	slotRecipe
	slotProcessUnit
	slotPhase
	slotScale
	slotBatch
	slotOrder
	slotLot
	textSlots
)

var slotNames = [textSlots]string{"component", "purpose", "status", "recipe", "process_unit", "phase", "scale", "batch", "order", "lot"}

// The amounts that a dose is compared with.
const (
	slotTarget = iota
	slotMinus
	slotPlus
	amountSlots
)

var amountNames = [amountSlots]string{"target", "tolerance_minus", "tolerance_plus"}

// said is what the config itself says about every dose.
type said struct {
	location  string
	constants [textSlots]string
	amounts   [amountSlots]*plant.Decimal
}

// words are what tags said about a dose: texts and amounts by their slots.
type words struct {
	Text [textSlots]string `json:"t"`
	// Doubt has a bit for each text that a table does not know, Missing one for
	// each that was never read well; Has one for each amount that was.
	Doubt  uint32                     `json:"d,omitempty"`
	Known  uint32                     `json:"k,omitempty"`
	Amount [amountSlots]plant.Decimal `json:"a"`
	Has    uint32                     `json:"h,omitempty"`
}

// IsZero reports whether nothing was said.
func (w words) IsZero() bool { return w == words{} }

// take takes over what from says in one slot.
func (w *words) take(from *words, slot int) {
	bit := uint32(1) << slot
	w.Text[slot] = from.Text[slot]
	w.Known = w.Known&^bit | from.Known&bit
	w.Doubt = w.Doubt&^bit | from.Doubt&bit
}

// hear takes a good reading of a text or an amount. It reports whether it says
// something else than before.
func (w *words) hear(in *input, v plant.Value) (changed bool) {
	bit := uint32(1) << in.slot
	if in.role == roleAmount {
		d, ok := v.Decimal()
		if f, float := v.Float(); float && v.Type() == plant.Float && in.Tag.Type == plant.TypeFloat32 {
			n, fits := floatTicks(f, 32, 9)
			d, ok = plant.Decimal{Unscaled: n, Scale: 9}.Normal(), fits
		}
		if !ok {
			changed = w.Has&bit != 0
			w.Has &^= bit
			return changed
		}
		changed = w.Has&bit == 0 || w.Amount[in.slot] != d
		w.Amount[in.slot], w.Has = d, w.Has|bit
		return changed
	}
	text, ok := in.text(v, w.Text[in.slot])
	changed = w.Known&bit == 0 || text != w.Text[in.slot] || ok == (w.Doubt&bit != 0)
	w.Text[in.slot], w.Known = text, w.Known|bit
	if ok {
		w.Doubt &^= bit
	} else {
		w.Doubt |= bit
	}
	return changed
}

// fill takes from o what w never heard: a PLC may say it after the dose has begun.
func (w *words) fill(o *words) {
	for slot := range textSlots {
		if bit := uint32(1) << slot; w.Known&bit == 0 && o.Known&bit != 0 {
			w.Text[slot], w.Known, w.Doubt = o.Text[slot], w.Known|bit, w.Doubt|o.Doubt&bit
		}
	}
	for slot := range amountSlots {
		if bit := uint32(1) << slot; w.Has&bit == 0 && o.Has&bit != 0 {
			w.Amount[slot], w.Has = o.Amount[slot], w.Has|bit
		}
	}
}

// text returns what is said in a slot; ok is false if a tag should say it and
// does not, or says what its table does not know.
func (r *Live) text(w *words, slot int) (text string, ok bool) {
	if c := r.said.constants[slot]; c != "" {
		return c, true
	}
	if !r.tagged(roleText, slot) {
		return "", true
	}
	bit := uint32(1) << slot
	return w.Text[slot], w.Known&bit != 0 && w.Doubt&bit == 0
}

func (r *Live) tagged(role role, slot int) bool {
	for i := range r.inputs {
		if in := &r.inputs[i]; in.role == role && int(in.slot) == slot {
			return true
		}
	}
	return false
}

// portion is an amount that was dosed, to be told.
type portion struct {
	ticks int64
	// at is when it was known, begun and ended when it was dosed.
	at, begun, ended rule.Stamp
	// before and after are what the scale showed; weighed says that they are known.
	before, after             int64
	weighed                   bool
	estimated, drift, unheard bool
	// gap and flags are those of a total.
	gap   time.Duration
	flags counter.Flags
	// zeroed says that some may be missing, since the zero of the scale changed.
	zeroed bool
	// early says that dosing was ended before the weight stood by itself.
	early bool
	words *words
}

// tell makes a dose of a portion.
func (r *Live) tell(p *portion, out Sink) {
	d := Dose{At: p.at, Begun: p.begun}
	w := p.words
	d.Method, d.Unit, d.Location = r.method, string(r.event), r.said.location
	d.Status, d.Purpose = "complete", "production"
	d.Estimated, d.Drift = p.estimated, p.drift
	flag := func(what string) { d.Flagged = append(d.Flagged, what) }
	var ok bool
	if d.Quantity, ok = r.decimal(p.ticks); !ok {
		flag("quantity")
	}
	for _, t := range []struct {
		slot int
		into *string
	}{
		{slotComponent, &d.Component}, {slotOrder, &d.OwnOrder}, {slotRecipe, &d.Recipe}, {slotBatch, &d.Batch},
		{slotProcessUnit, &d.ProcessUnit}, {slotPhase, &d.Phase}, {slotScale, &d.Scale},
	} {
		text, ok := r.text(w, t.slot)
		*t.into = text
		if !ok || t.slot == slotComponent && text == "" {
			flag(slotNames[t.slot])
		}
	}
	if lot, ok := r.text(w, slotLot); !ok {
		flag("lot")
	} else if lot != "" {
		d.Lots = []plant.DosedLot{{Lot: lot, Quantity: d.Quantity}}
	}
	choice := func(slot int, into *string, allowed ...string) {
		v, ok := r.text(w, slot)
		for _, a := range allowed {
			if ok && v == a {
				*into = v
				return
			}
		}
		if !ok || v != "" {
			flag(slotNames[slot])
		}
	}
	if p.drift {
		choice = func(int, *string, ...string) {}
	} else {
		r.compare(p, &d, flag)
	}
	choice(slotStatus, &d.Status, "complete", "aborted")
	choice(slotPurpose, &d.Purpose, "production", "purge", "calibration", "manual")
	d.Weights = r.weights(p)
	if p.unheard {
		flag("gap")
	}
	if p.zeroed {
		flag("rebase")
	}
	d.Gap = plant.Seconds(p.gap)
	d.Reset, d.Rollover = p.flags&counter.Reset != 0, p.flags&counter.Rollover != 0
	d.LowerBound, d.Ambiguous, d.Suspect = p.flags&counter.LowerBound != 0, p.flags&counter.Ambiguous != 0, p.flags&counter.Suspect != 0
	d.Started, d.Ended = stampTime(p.begun), stampTime(p.ended)
	if !d.Ended.IsZero() && d.Ended.Before(d.Started) {
		d.Ended = d.Started
	}
	out.Dose(&d)
}

// weights are what the scale showed before and after, if it is known and fits.
func (r *Live) weights(p *portion) *plant.Weights {
	before, ok := r.decimal(p.before)
	after, fits := r.decimal(p.after)
	if !p.weighed || !ok || !fits {
		return nil
	}
	return &plant.Weights{Before: before, After: after}
}

// compare holds a dose against what was asked for.
func (r *Live) compare(p *portion, d *Dose, flag func(string)) {
	amount := func(slot int) *plant.Decimal {
		if c := r.said.amounts[slot]; c != nil {
			return c
		}
		if !r.tagged(roleAmount, slot) {
			return nil
		}
		if p.words.Has&(1<<slot) == 0 {
			flag(amountNames[slot])
			return nil
		}
		v := p.words.Amount[slot]
		return &v
	}
	target := amount(slotTarget)
	if target == nil {
		return
	}
	deviation, err := d.Quantity.Sub(*target)
	if err != nil {
		flag("target")
		return
	}
	d.Target, d.Deviation = target, &deviation
	minus, plus := amount(slotMinus), amount(slotPlus)
	short := true
	if minus != nil && plus != nil {
		if minus.Unscaled < 0 || plus.Unscaled < 0 {
			flag("tolerance")
		} else {
			d.Tolerance = &plant.Tolerance{Minus: *minus, Plus: *plus, Unit: d.Unit}
			short = minus.Cmp(deviation.Neg()) < 0
			within := deviation.Cmp(*plus) <= 0 && !short
			d.InTolerance = &within
		}
	}
	part, err := target.Mul(plant.Decimal{Unscaled: r.aborted, Scale: 2})
	if p.early && !p.unheard && short && err == nil && d.Quantity.Cmp(part) < 0 {
		d.Status = "aborted"
	}
}

// move tells of a refill or a removal.
func (r *Live) move(kind plant.EventKind, ticks int64, p *portion, out Sink) {
	m := plant.Movement{Unit: string(r.event), Location: r.said.location, Time: stampTime(p.at), Estimated: p.estimated}
	var ok bool
	if m.Quantity, ok = r.decimal(ticks); !ok {
		m.Flagged = append(m.Flagged, "quantity")
	}
	if m.Component, ok = r.text(p.words, slotComponent); !ok || m.Component == "" {
		m.Flagged = append(m.Flagged, "component")
	}
	m.Scale, _ = r.text(p.words, slotScale)
	if lot, ok := r.text(p.words, slotLot); ok {
		m.Lot = lot
	}
	m.Weights = r.weights(p)
	if p.unheard {
		m.Flagged = append(m.Flagged, "gap")
	}
	out.Move(kind, p.at, m)
}
