package derive

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive/attach"
	"github.com/sluice-edge/sluice/derive/dosing"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/derive/serial"
	"github.com/sluice-edge/sluice/plant"
)

// doses is the owner of the records of one scale.
type doses struct {
	*run
	rule *dosing.Rule
	i    int
}

func (d doses) Problem(rec *handshake.Record) string { return d.rule.Problem(rec) }

func (d doses) Take(rec *handshake.Record) {
	dose := d.rule.Dose(rec)
	own := &d.s.dosing[d.i]
	told := slices.Contains(own.Recalled, keyOf(&dose.Dosing))
	own.Recalled = nil
	switch {
	case told && dose.Dosing.Dose != "":
		return // its event is there; only the state had lost it
	case told && rec.Told != "":
		dose.Flagged = append(dose.Flagged, handshake.Repeat)
	}
	begun := dose.At
	if dose.At.Device && !dose.Started.IsZero() {
		// The PLC's clock is right, so it can be told what was made then.
		begun = rule.Stamp{At: min(dose.Started.UnixNano(), dose.At.At)}
	}
	dose.Head = d.recordHead(dose.OwnOrder, begun)
	d.lots(&dose.Dosing)
	d.emitDosing(dose.At, &dose.Dosing)
	d.dosed(&dose.Dosing)
	d.doubt(d.rule.Handshake().Name(), dose.Flagged, &d.s.dosing[d.i].Flagged)
}

// doseKey is what tells a dose that a PLC hands over from all others of about its
// time: the number and what was dosed, and when if the PLC says it.
type doseKey struct {
	Scale     string `json:"s,omitempty"`
	Dose      string `json:"d"`
	Component string `json:"c,omitempty"`
	Quantity  string `json:"q"`
	Unit      string `json:"u,omitempty"`
	Ended     int64  `json:"e,omitempty"`
}

func keyOf(d *plant.Dosing) doseKey {
	k := doseKey{Scale: d.Scale, Dose: d.Dose, Component: d.Component, Quantity: d.Quantity.Normal().String(), Unit: d.Unit}
	if !d.Ended.IsZero() {
		k.Ended = d.Ended.UnixMilli()
	}
	return k
}

// serials is the owner of the records of a station.
type serials struct {
	*run
	rule *serial.Rule
}

func (s serials) Problem(rec *handshake.Record) string { return s.rule.Problem(rec) }

func (s serials) Take(rec *handshake.Record) {
	s.rule.Take(&s.s.serial, rec, s.orderNumber(rec.At), s.run)
}

// orderNumber is what the machine worked on at a time, empty for nothing.
func (r *run) orderNumber(at rule.Stamp) string {
	if o := r.s.order.at(at); o != nil {
		return o.Number
	}
	return ""
}

// watchSerials takes a scan for a station without a handshake.
func (r *run) watchSerials(in *plant.Scan) {
	if rule := r.m.records.serial; rule != nil && rule.Watched() != nil {
		r.changed = rule.Watch(&r.s.serial, in, r.m.maxSkew, r.orderNumber, r) || r.changed
	}
}

// scanned takes a line of a scanner.
func (r *run) scanned(in plant.Scanned) {
	if rule := r.m.records.serial; rule != nil {
		r.changed = rule.Scanned(&r.s.serial, in, r.orderNumber, r) || r.changed
	}
	r.due()
}

var _ serial.Sink = (*run)(nil)

// Serial implements serial.Sink.
func (r *run) Serial(at rule.Stamp, e plant.Serial, own string) {
	e.Head = r.recordHead(own, at)
	start := len(r.data)
	r.data = e.AppendJSON(r.data)
	r.emit(plant.KindSerial, at, start)
}

// attaches is the owner of the records of a station that builds in components.
type attaches struct {
	*run
	rule *attach.Rule
}

func (a attaches) Problem(rec *handshake.Record) string { return a.rule.Problem(rec) }

func (a attaches) Take(rec *handshake.Record) { a.rule.Take(&a.s.attach, rec, a.run) }

var _ attach.Sink = (*run)(nil)

// Attach implements attach.Sink.
func (r *run) Attach(at rule.Stamp, e plant.ItemAttach, own string) {
	e.Head = r.recordHead(own, at)
	start := len(r.data)
	r.data = e.AppendJSON(r.data)
	r.emit(plant.KindItemAttach, at, start)
}

// listed are times for people.
func listed(all []rule.Stamp) string {
	texts := make([]string, len(all))
	for i := range all {
		texts[i] = all[i].Time().Format(time.RFC3339)
	}
	return strings.Join(texts, ", ")
}

// LoadedLot implements attach.Sink: a component that names no lot is of the one
// that is loaded where it lies.
func (r *run) LoadedLot(item *plant.AttachedItem) (lot string, sure bool) {
	from := ""
	if item.SKU != "" {
		from = r.s.material.Holds(item.SKU)
	}
	switch {
	case from == "":
		return "", true
	case item.Quantity == nil:
		return r.s.material.Newest(from, item.SKU), true
	}
	lots := r.s.material.Take(from, item.SKU, *item.Quantity, item.Unit)
	if len(lots) == 0 {
		return "", true
	}
	return lots[0].Lot, len(lots) == 1
}
