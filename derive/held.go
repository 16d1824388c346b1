package derive

import (
	"bytes"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// maxHeld bounds the records that wait for an order. A PLC that waits for its
// answer offers one; more are of one that does not, or of a ring.
const maxHeld = 64

// heldRecord is a handshake record that came while another order waited to be
// sure. A PLC sets the order and what it offers beside it together, so whose the
// record is shows once that order is. Until then it is neither taken nor answered.
type heldRecord struct {
	Record  plant.RecordID `json:"id"`
	Binding string         `json:"b"`
	Device  plant.DeviceID `json:"d"`
	Session uint64         `json:"s"`
	Final   bool           `json:"f,omitempty"`
	// At is the gateway's time when the record was there, in ns since 1970.
	At       int64         `json:"t"`
	Readings []heldReading `json:"r"`
}

// heldReading is a plant.Reading as a State keeps it.
type heldReading struct {
	Tag     plant.TagID     `json:"t"`
	Quality plant.Quality   `json:"q,omitempty"`
	Cause   string          `json:"c,omitempty"`
	Source  int64           `json:"s,omitempty"`
	Type    plant.ValueType `json:"k,omitempty"`
	Scale   uint8           `json:"e,omitempty"`
	Bits    uint64          `json:"n,omitempty"`
	// Text is in bytes: what a PLC holds need not be UTF-8.
	Text []byte `json:"x,omitempty"`
}

func holdReading(v *plant.Reading) heldReading {
	p := v.Value.Parts()
	h := heldReading{Tag: v.Tag, Quality: v.Quality, Cause: v.Cause, Type: p.Type, Scale: p.Scale, Bits: p.Bits, Text: []byte(p.Text)}
	if !v.Source.IsZero() {
		h.Source = v.Source.UnixNano()
	}
	return h
}

func (h *heldReading) reading() plant.Reading {
	v := plant.Reading{Tag: h.Tag, Quality: h.Quality, Cause: h.Cause}
	if h.Source != 0 {
		v.Source = time.Unix(0, h.Source).UTC()
	}
	var ok bool
	if v.Value, ok = (plant.Parts{Type: h.Type, Scale: h.Scale, Bits: h.Bits, Text: string(h.Text)}).Value(); !ok {
		v.Quality, v.Cause = plant.Bad, "the state of the rules is damaged"
	}
	return v
}

func (h *heldReading) equal(o *heldReading) bool {
	return h.Tag == o.Tag && h.Quality == o.Quality && h.Cause == o.Cause && h.Source == o.Source &&
		h.Type == o.Type && h.Scale == o.Scale && h.Bits == o.Bits && bytes.Equal(h.Text, o.Text)
}

func (h *heldRecord) scan() *plant.Scan {
	in := &plant.Scan{Device: h.Device, Session: h.Session, Record: h.Record, Final: h.Final, Received: time.Unix(0, h.At).UTC(), Readings: make([]plant.Reading, len(h.Readings))}
	for i := range h.Readings {
		in.Readings[i] = h.Readings[i].reading()
	}
	return in
}

// same reports whether o is h, read once more.
func (h *heldRecord) same(o *heldRecord) bool {
	return h.Record == o.Record && h.Session == o.Session &&
		slices.EqualFunc(h.Readings, o.Readings, func(a, b heldReading) bool { return a.equal(&b) })
}

// undecided reports whether the machine shows another order, which the next scans
// will tell to be one or not.
func (r *run) undecided() bool { return r.m.order.waits(&r.s.order) && !r.s.order.Unseen }

// hold keeps a record for as long as it is not known whose it is.
func (r *run) hold(in *plant.Scan, h *shake) (held bool) {
	if !r.undecided() {
		return false
	}
	rec := heldRecord{
		Record: in.Record, Binding: h.rule.Binding(), Device: in.Device, Session: in.Session, Final: in.Final, At: in.Received.UnixNano(),
		Readings: make([]heldReading, len(in.Readings)),
	}
	for i := range in.Readings {
		rec.Readings[i] = holdReading(&in.Readings[i])
	}
	all := r.s.held
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Record == rec.Record {
			if all[i].same(&rec) {
				return true
			}
			break
		}
	}
	if len(all) == maxHeld {
		r.takeHeld(true)
		return false
	}
	r.s.held, r.changed = append(slices.Clip(all), rec), true
	return true
}

// heldWake returns when records that wait are taken at the latest, 0 for none.
func (s *State) heldWake() int64 {
	if len(s.held) == 0 {
		return 0
	}
	return s.held[0].At + int64(orderStandsAgain)
}

// dueHeld takes the records that waited, once the order beside them is sure or
// gone. A PLC is not left waiting: an order that has stood for as long as the
// first of them waits is sure, and of one that came later they are not.
func (r *run) dueHeld() {
	if len(r.s.held) == 0 {
		return
	}
	if r.undecided() {
		if r.now < r.s.heldWake() {
			return
		}
		if r.s.order.At.At <= r.s.held[0].At {
			r.m.order.confirm(r)
		}
	}
	r.takeHeld(true)
}

// takeHeld takes the records that waited as of the order that is the current one.
// Without answer none of them is answered in what was its session: it is read
// again, and not booked again.
func (r *run) takeHeld(answer bool) {
	all := r.s.held
	if len(all) == 0 {
		return
	}
	r.s.held, r.changed = nil, true
	for i := range all {
		at, ok := r.m.records.byID[all[i].Record]
		if !ok || r.m.records.shakes[at.shake].rule.Binding() != all[i].Binding {
			continue // of other tags, in another config: it is offered anew
		}
		writes := len(r.out.Writes)
		r.observe(all[i].scan(), at)
		if h := &r.m.records.shakes[at.shake]; !answer {
			r.out.Writes = r.out.Writes[:writes]
			h.rule.Lost(h.state(r.s))
		}
	}
}

// withdrawn takes the records that wait before a scan that shows that one of them
// is not offered any more, or that its session is over: what was read is not lost.
func (r *run) withdrawn(in *plant.Scan, uses map[plant.TagID]*use) {
	if len(r.s.held) == 0 {
		return
	}
	over := slices.ContainsFunc(r.s.held, func(h heldRecord) bool { return h.Device == in.Device && h.Session != in.Session })
	for i := range in.Readings {
		u := uses[in.Readings[i].Tag]
		if over || u == nil {
			continue
		}
		for _, j := range u.shakes {
			h := &r.m.records.shakes[j]
			over = over || h.rule.Withdrawn(h.state(r.s), &in.Readings[i])
		}
	}
	if over {
		r.takeHeld(true)
	}
}

// shiftHeld follows a step of the gateway's clock.
func (s *State) shiftHeld(step time.Duration) {
	s.held = slices.Clone(s.held)
	for i := range s.held {
		s.held[i].At += int64(step)
	}
}
