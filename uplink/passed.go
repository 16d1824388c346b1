package uplink

import (
	"cmp"
	"errors"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// PassedOver counts the events that a Sender has passed over for one reason: they
// are no business of the system, by its config.
type PassedOver struct {
	// Reason is in plain words, for example `order source "SAP-PORTO"`: the Sort of
	// the Result's Cause if it is a Sorter, else its words.
	Reason string `json:"reason"`
	Events uint64 `json:"events"`
}

// OrderSource is a key of an uplink's config that lets only events through whose
// order is from that system, to the letter. The zero value lets all through.
type OrderSource struct{ Key, Name string }

// maxPassed bounds the reasons that are told apart.
const maxPassed = 16

// passed counts by reason.
type passed map[string]uint64

// add counts events of one reason.
func (p passed) add(reason string, events uint64) {
	if _, known := p[reason]; !known && len(p) >= maxPassed {
		reason = "other reasons"
	}
	p[reason] += events
}

// list returns the reasons, the most frequent first.
func (p passed) list() []PassedOver {
	all := make([]PassedOver, 0, len(p))
	for reason, n := range p {
		all = append(all, PassedOver{reason, n})
	}
	slices.SortFunc(all, func(a, b PassedOver) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// pass counts what v passes over; f.mu is held, or nobody else has f.
func (f *Forwarder) pass(v *verdict) {
	for i := range v.passed {
		f.passed.add(v.passed[i].Reason, v.passed[i].Events)
	}
}

// passedReason returns the reason of a Skipped result.
func passedReason(r *plant.Result) string {
	var s Sorter
	switch {
	case errors.As(r.Cause, &s):
		return s.Sort()
	case r.Cause != nil:
		return r.Cause.Error()
	default:
		return "the uplink gave no reason"
	}
}
