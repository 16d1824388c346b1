package prodsmart

import (
	"encoding/json"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// Merge implements uplink.Merger: a newer count of the same order contains an
// older one, newer parameters take the place of older ones, and with
// late_stops: current a newer start or stop that of an older one. What an older
// event says that the newer one does not is put into the newer one's data.
func (s *Sender) Merge(earlier, later plant.Event) (plant.Event, bool) {
	switch later.Kind {
	case plant.KindCounter:
		return mergeCounters(earlier, later)
	case plant.KindParameters:
		return mergeParameters(earlier, later)
	case plant.KindStartStop:
		if s.options.LateStops == lateCurrent {
			return mergeStates(earlier, later)
		}
	}
	return plant.Event{}, false
}

// sameOrder reports whether both are of one order and operation, or of none.
func sameOrder(a, b *plant.Order) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Number == b.Number && a.Source == b.Source && a.Operation == b.Operation
}

// mergeCounters adds the deltas, so that they still say what is new. It leaves
// apart what a lost state counts from less.
func mergeCounters(earlier, later plant.Event) (plant.Event, bool) {
	if merged, sure := mergeFast(&earlier, &later); sure {
		return later, merged
	}
	return mergeSlowly(earlier, later)
}

// mergeSlowly is mergeCounters for data that somebody else wrote.
func mergeSlowly(earlier, later plant.Event) (plant.Event, bool) {
	var a, b plant.Counter
	if json.Unmarshal(earlier.Data, &a) != nil || json.Unmarshal(later.Data, &b) != nil {
		return plant.Event{}, false
	}
	if !sameOrder(a.Order, b.Order) || a.Mode != b.Mode || a.Unattributed != b.Unattributed || b.Good < a.Good || b.Rework < a.Rework {
		return plant.Event{}, false
	}
	for _, scrap := range a.Scrap {
		i := slices.IndexFunc(b.Scrap, func(c plant.ScrapCount) bool { return c.Code == scrap.Code })
		if i < 0 || b.Scrap[i].Quantity < scrap.Quantity {
			return plant.Event{}, false
		}
		b.Scrap[i].Delta += scrap.Delta
	}
	b.GoodDelta += a.GoodDelta
	b.ReworkDelta += a.ReworkDelta
	later.Data = b.AppendJSON(make([]byte, 0, len(later.Data)+32))
	return later, true
}

// mergeParameters keeps the newest value of each code.
func mergeParameters(earlier, later plant.Event) (plant.Event, bool) {
	var a, b plant.Parameters
	if json.Unmarshal(earlier.Data, &a) != nil || json.Unmarshal(later.Data, &b) != nil || !sameOrder(a.Order, b.Order) {
		return plant.Event{}, false
	}
	for _, p := range a.Parameters {
		if !slices.ContainsFunc(b.Parameters, func(q plant.Parameter) bool { return q.Code == p.Code }) {
			b.Parameters = append(b.Parameters, p)
		}
	}
	data, err := json.Marshal(&b)
	if err != nil {
		return plant.Event{}, false
	}
	later.Data = data
	return later, true
}

// run is a start or stop with what was merged into it.
type run struct {
	plant.StartStop
	// Missed are the stops that were over before anybody was told of them, and More
	// how many there were before those.
	Missed []Missed `json:"missed,omitempty"`
	More   uint64   `json:"more_missed,omitempty"`
}

// mostMerged bounds the stops that a merged event lists.
const mostMerged = 100

// mergeStates keeps the present state, and lists the stops that have passed.
func mergeStates(earlier, later plant.Event) (plant.Event, bool) {
	var a, b run
	if json.Unmarshal(earlier.Data, &a) != nil || json.Unmarshal(later.Data, &b) != nil {
		return plant.Event{}, false
	}
	b.Missed, b.More = a.Missed, a.More
	if a.Running == 0 && (b.Running == 1 || a.StopID != b.StopID) {
		m := Missed{StopID: a.StopID, Sequence: earlier.Sequence, Type: a.Type, Reason: a.Reason, From: earlier.Time}
		if b.Running == 1 && b.StopID == a.StopID {
			m.To = later.Time
			if b.Type != "" {
				m.Type, m.Reason = b.Type, b.Reason
			}
		}
		b.Missed = append(b.Missed, m)
	}
	if over := len(b.Missed) - mostMerged; over > 0 {
		b.Missed, b.More = b.Missed[over:], b.More+uint64(over)
	}
	data, err := json.Marshal(&b)
	if err != nil {
		return plant.Event{}, false
	}
	later.Data = data
	return later, true
}
