package startstop

import (
	"slices"

	"github.com/sluice-edge/sluice/derive/rule"
)

const (
	// maxUnmapped bounds the list of codes that the table does not have.
	maxUnmapped = 20
	// maxRecent bounds the codes that are remembered from before a stop.
	maxRecent = 8
)

// arrival is a code that came while the machine ran.
type arrival struct {
	Code string     `json:"c"`
	At   rule.Stamp `json:"t"`
}

// code takes a reading of the reason tag.
func (r *Rule) code(s *State, v *Reading, out Sink) (changed bool) {
	if s.Code == v.Code {
		return false
	}
	s.Code = v.Code
	if !s.standing() {
		r.came(s, v)
		return true
	}
	r.stands(s, v.At, out)
	return true
}

// came remembers a code that comes while the machine runs: it may be that of a
// stop that is about to begin.
func (r *Rule) came(s *State, v *Reading) {
	// That a machine without pieces stands is known later than when it began to.
	window := r.before + r.source.idle
	if window == 0 || none(v.Code) {
		return
	}
	s.Recent = slices.DeleteFunc(s.Recent, func(a arrival) bool { return v.At.At-a.At.At > int64(window) })
	if len(s.Recent) == maxRecent {
		s.Recent = slices.Delete(s.Recent, 1, 2) // neither the first nor the last
	}
	s.Recent = append(s.Recent, arrival{Code: v.Code, At: v.At})
}

// recall notes the codes that came not long before a stop, also those that have
// gone since.
func (r *Rule) recall(s *State, stop rule.Stamp) {
	for _, a := range s.Recent {
		if stop.At-a.At.At <= int64(r.before) {
			r.note(s, a.Code)
		}
	}
}

// stands notes the code of a standing machine and, where the stop was reported
// with another one, reports it.
func (r *Rule) stands(s *State, at rule.Stamp, out Sink) {
	r.note(s, s.Code)
	if s.Running || r.take == "at_end" {
		return
	}
	if code := r.taken(s); code != s.Told {
		r.explain(s, at, code, out)
	}
}

// note remembers a code that was there while the machine stood.
func (r *Rule) note(s *State, code string) {
	if none(code) {
		return
	}
	if s.First == "" {
		s.First = code
	}
	s.Last = code
}

func (r *Rule) taken(s *State) string {
	if r.take == "first" {
		return s.First
	}
	return s.Last
}

// explain reports a reason after its stop.
func (r *Rule) explain(s *State, at rule.Stamp, code string, out Sink) {
	s.Told = code
	kind, name := r.meaning(s, code)
	out.StopReason(Reason{At: at, StopID: s.StopID, Type: kind, Reason: code, Name: name})
}

func (r *Rule) meaning(s *State, code string) (kind, name string) {
	kind, name, known := r.Meaning(code)
	if !known && !slices.Contains(s.Unmapped, code) && len(s.Unmapped) < maxUnmapped {
		s.Unmapped = append(s.Unmapped, code)
	}
	return kind, name
}
