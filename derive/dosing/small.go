package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// Doses of a hopper that are too small to be told one by one add up.

// marks are what is to be said of an amount that waits to be told.
type marks struct {
	Estimated bool `json:"est,omitempty"`
	Unheard   bool `json:"gap,omitempty"`
	Zeroed    bool `json:"uns,omitempty"`
}

// of takes what is to be said of a portion, too.
func (k *marks) of(p *portion) {
	k.Estimated = k.Estimated || p.estimated
	k.Unheard = k.Unheard || p.unheard
	k.Zeroed = k.Zeroed || p.zeroed
}

// onto has a portion say it.
func (k *marks) onto(p *portion) {
	p.estimated = p.estimated || k.Estimated
	p.unheard = p.unheard || k.Unheard
	p.zeroed = p.zeroed || k.Zeroed
}

// dose tells of a dose, with what was too small before it, or keeps it until it
// is one.
func (r *Live) dose(s *LiveState, ticks int64, p *portion, out Sink) {
	b := &s.Batch
	component, _ := r.text(p.words, slotComponent)
	if b.Small != 0 && b.SmallOf != component {
		r.smallOfAnother(b, p.words.Known, p.at, out)
	}
	if b.Small == 0 {
		b.SmallAt, b.SmallOf = p.begun, component
	}
	b.SmallMarks.of(p)
	ticks += b.Small
	b.Small = ticks
	if ticks < r.least {
		return
	}
	p.ticks, p.begun = ticks, b.SmallAt
	b.SmallMarks.onto(p)
	if !p.estimated {
		p.before = p.after + ticks
	}
	p.weighed = !p.estimated
	b.Small, b.SmallAt, b.SmallOf, b.SmallMarks = 0, rule.Stamp{}, "", marks{}
	r.weighed(s, p, out)
}

// rest tells all that is too small as drift.
func (r *Live) rest(s *LiveState, at rule.Stamp, out Sink) {
	b := &s.Batch
	if b.Small == 0 && magnitude(b.Creep) <= r.noise {
		return // not told from noise; it adds up
	}
	p := portion{ticks: b.Creep, at: at, drift: true, words: &s.Words}
	if component, _ := r.text(&s.Words, slotComponent); b.Small != 0 && b.SmallOf != component {
		r.smallOfAnother(b, s.Words.Known, at, out)
	} else {
		p.ticks += b.Small
		b.SmallMarks.onto(&p)
	}
	b.Small, b.SmallAt, b.SmallOf, b.SmallMarks, b.Creep = 0, rule.Stamp{}, "", marks{}, 0
	if p.ticks != 0 {
		r.tell(&p, out)
	}
}

// smallOfAnother tells the small doses of a component that is no longer dosed.
func (r *Live) smallOfAnother(b *batchState, known uint32, at rule.Stamp, out Sink) {
	old := words{Known: known}
	old.Text[slotComponent] = b.SmallOf
	p := portion{ticks: b.Small, at: at, drift: true, words: &old}
	b.SmallMarks.onto(&p)
	r.tell(&p, out)
	b.Small, b.SmallMarks = 0, marks{}
}
