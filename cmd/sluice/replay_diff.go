package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// replayedEvent is an event of a replay in JSON: without id, source and number,
// which only the buffer gives.
type replayedEvent struct {
	Machine     plant.MachineID  `json:"machine"`
	Kind        plant.EventKind  `json:"kind"`
	Version     uint8            `json:"version"`
	Time        string           `json:"time"`
	TimeSource  plant.TimeSource `json:"timesource,omitempty"`
	ClockOffset float64          `json:"clockoffset,omitempty"`
	ClockStep   float64          `json:"clockstep,omitempty"`
	Uncertain   bool             `json:"timeuncertain,omitempty"`
	Data        json.RawMessage  `json:"data"`
}

// envelope is what of an event is not data.
func envelope(e *plant.Event) replayedEvent {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return replayedEvent{
		Machine: e.Machine, Kind: e.Kind, Version: e.Version, Time: e.Time.UTC().Format(time.RFC3339Nano), TimeSource: e.TimeSource,
		ClockOffset: ms(e.ClockOffset), ClockStep: ms(e.ClockStep), Uncertain: e.TimeUncertain, Data: e.Data,
	}
}

// appendEvent writes an event as one line.
func appendEvent(to []byte, e *plant.Event, zone *time.Location, asJSON bool) []byte {
	if asJSON {
		b, err := json.Marshal(envelope(e))
		if err != nil {
			panic(fmt.Sprintf("replay: encode %s: %v", e.Kind, err)) // rules make valid JSON only
		}
		return append(to, b...)
	}
	to = e.Time.In(zone).AppendFormat(to, "2006-01-02 15:04:05.000")
	return fmt.Appendf(to, "  %s  %s  %s", plain(string(e.Machine)), e.Kind, plain(string(e.Data)))
}

// outcome is an event of one side, kept for the comparison.
type outcome struct {
	at   int64
	key  string
	text []byte
	data []byte
	e    plant.Event
}

// difference collects the events of both sides. It holds all of them.
type difference struct{ before, after []outcome }

func (d *difference) now(events []plant.Event)  { d.after = collect(d.after, events) }
func (d *difference) then(events []plant.Event) { d.before = collect(d.before, events) }

func collect(to []outcome, events []plant.Event) []outcome {
	for i := range events {
		e := events[i]
		e.Data = bytes.Clone(e.Data)
		o := outcome{at: e.Time.UnixNano(), key: string(e.Machine) + " " + string(e.Kind), data: e.Data, e: e}
		e.Data = nil
		// What is not data differs too: the source of the time, a clock that jumped.
		head := envelope(&e)
		head.Data = json.RawMessage("null")
		o.text, _ = json.Marshal(head) // of plain fields only
		to = append(to, o)
	}
	return to
}

// change is one event that is not the same on both sides; of one that only one
// side has the other is nil.
type change struct{ before, after *outcome }

// tally counts the events of a kind.
type tally struct {
	Machine plant.MachineID `json:"machine"`
	Kind    plant.EventKind `json:"kind"`
	Same    int             `json:"same"`
	Changed int             `json:"changed"`
	Before  int             `json:"only_before"`
	After   int             `json:"only_now"`
}

// compare matches events of the same machine, kind and time, in their order; the
// true time of an event is what makes it the same on both sides.
func (d *difference) compare() (changes []change, tallies []tally) {
	order := func(a, b outcome) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.at, b.at)) }
	slices.SortStableFunc(d.before, order)
	slices.SortStableFunc(d.after, order)
	count := func(o *outcome) *tally {
		if n := len(tallies); n == 0 || tallies[n-1].Machine != o.e.Machine || tallies[n-1].Kind != o.e.Kind {
			tallies = append(tallies, tally{Machine: o.e.Machine, Kind: o.e.Kind})
		}
		return &tallies[len(tallies)-1]
	}
	for i, k := 0, 0; i < len(d.before) || k < len(d.after); {
		var which int
		switch {
		case i == len(d.before):
			which = 1
		case k == len(d.after):
			which = -1
		default:
			which = order(d.before[i], d.after[k])
		}
		switch {
		case which < 0:
			count(&d.before[i]).Before++
			changes = append(changes, change{before: &d.before[i]})
			i++
		case which > 0:
			count(&d.after[k]).After++
			changes = append(changes, change{after: &d.after[k]})
			k++
		default:
			b, a := &d.before[i], &d.after[k]
			if bytes.Equal(b.data, a.data) && bytes.Equal(b.text, a.text) {
				count(b).Same++
			} else {
				count(b).Changed++
				changes = append(changes, change{b, a})
			}
			i, k = i+1, k+1
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.any().at, b.any().at) })
	return changes, tallies
}

func (c *change) any() *outcome {
	if c.after != nil {
		return c.after
	}
	return c.before
}

// report writes what differs in the order of time, then how much of each kind.
func (d *difference) report(out io.Writer, zone *time.Location, asJSON bool) (differs bool, err error) {
	changes, tallies := d.compare()
	var b bytes.Buffer
	for i := range changes {
		c := &changes[i]
		if asJSON {
			err = c.json(&b)
		} else {
			c.text(&b, zone)
		}
		if err != nil {
			return false, err
		}
	}
	for _, t := range tallies {
		if asJSON {
			err = encodeJSON(&b, t)
		} else {
			_, err = fmt.Fprintf(&b, "%s %s: %d the same, %d changed, %d only before, %d only now\n", plain(string(t.Machine)), t.Kind, t.Same, t.Changed, t.Before, t.After)
		}
		if err != nil {
			return false, err
		}
	}
	_, err = out.Write(b.Bytes())
	return len(changes) > 0, err
}

// text writes a change for people: - what was, + what is now, ~ the fields that
// differ.
func (c *change) text(b *bytes.Buffer, zone *time.Location) {
	switch {
	case c.after == nil:
		fmt.Fprintf(b, "- %s\n", appendEvent(nil, &c.before.e, zone, false))
	case c.before == nil:
		fmt.Fprintf(b, "+ %s\n", appendEvent(nil, &c.after.e, zone, false))
	default:
		e := &c.after.e
		fmt.Fprintf(b, "~ %s  %s  %s  %s\n", e.Time.In(zone).Format("2006-01-02 15:04:05.000"), plain(string(e.Machine)), e.Kind, plain(strings.Join(c.fields(), ", ")))
	}
}

// fields says which fields differ: "good: 12 → 13".
func (c *change) fields() (all []string) {
	both := [][2]map[string]json.RawMessage{{object(c.before.data), object(c.after.data)}, {object(c.before.text), object(c.after.text)}}
	for _, pair := range both {
		var names []string
		for name := range pair[0] {
			names = append(names, name)
		}
		for name := range pair[1] {
			if _, ok := pair[0][name]; !ok {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			before, after := pair[0][name], pair[1][name]
			if bytes.Equal(before, after) {
				continue
			}
			all = append(all, fmt.Sprintf("%s: %s → %s", name, shown(before), shown(after)))
		}
	}
	return all
}

func object(data []byte) (o map[string]json.RawMessage) {
	// Data that is no object has no fields, and is shown as changed.
	_ = json.Unmarshal(data, &o)
	return o
}

func shown(v json.RawMessage) string {
	if v == nil {
		return "nothing"
	}
	return string(v)
}

// json writes a change for programs.
func (c *change) json(b *bytes.Buffer) error {
	var both struct {
		Before *replayedEvent `json:"before"`
		After  *replayedEvent `json:"now"`
	}
	if c.before != nil {
		e := envelope(&c.before.e)
		both.Before = &e
	}
	if c.after != nil {
		e := envelope(&c.after.e)
		both.After = &e
	}
	return encodeJSON(b, both)
}
