package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/sluice-edge/sluice/plant"
)

// Kinds knows how the events of some kinds look, and which of their fields the
// templates name that were read with it. Once they are all read it does not change,
// and may be used from any goroutine.
type Kinds struct {
	shapes map[plant.EventKind]*shape
	// names are all fields that a template may name.
	names map[string]bool
	// needed are those of the envelope that some template names; all is set where one
	// takes the event as a whole, and might look at any.
	needed [len(envelope)]bool
	all    bool
	// asked are the kinds of codes that some template looks up, and whether it must
	// have a row; anyCode is set if one works the kind out.
	asked   map[plant.CodeKind]bool
	anyCode bool
	// raws are buffers for what a template makes before it is escaped.
	raws sync.Pool
}

// NewKinds returns what is known of those kinds.
func NewKinds(kinds ...plant.EventKind) *Kinds {
	k := &Kinds{shapes: make(map[plant.EventKind]*shape), names: make(map[string]bool), asked: make(map[plant.CodeKind]bool)}
	for _, kind := range kinds {
		s, _ := newest(kind)
		k.shapes[kind] = s.shapeOf(s, k.names)
	}
	for i := range envelope {
		k.names[envelope[i].name] = true
	}
	k.names["data"] = true
	return k
}

// Asks reports whether some template looks codes of that kind up, and whether one
// demands that the table has a row.
func (k *Kinds) Asks(kind plant.CodeKind) (asked, demanded bool) {
	demanded, asked = k.asked[kind]
	return asked || k.anyCode, demanded
}

// ask notes that a template looks codes up.
func (k *Kinds) ask(kind plant.CodeKind, demanded bool) {
	k.asked[kind] = k.asked[kind] || demanded
}

// need notes that a template names a field, anywhere in an event.
func (k *Kinds) need(name string) {
	for i := range envelope {
		k.needed[i] = k.needed[i] || envelope[i].name == name
	}
}

// envelope is what every event has besides its data.
var envelope = [...]struct {
	name string
	of   func(*plant.Event) any
}{
	{"id", func(e *plant.Event) any { return e.ID().String() }},
	{"gateway", func(e *plant.Event) any { return e.Gateway }},
	{"machine", func(e *plant.Event) any { return string(e.Machine) }},
	{"source", func(e *plant.Event) any { return e.Source }},
	{"kind", func(e *plant.Event) any { return string(e.Kind) }},
	{"version", func(e *plant.Event) any { return int64(e.Version) }},
	{"epoch", func(e *plant.Event) any { return e.Epoch.String() }},
	{"sequence", func(e *plant.Event) any { return int64(e.Sequence) }},
	{"time", func(e *plant.Event) any { return string(plant.AppendTime(nil, e.Time)) }},
	{"timesource", func(e *plant.Event) any { return string(e.TimeSource) }},
	{"timeuncertain", func(e *plant.Event) any { return e.TimeUncertain }},
	{"previous", func(e *plant.Event) any {
		if e.Previous == 0 {
			return nil
		}
		return int64(e.Previous)
	}},
}

// Value returns e as a template sees it: objects are map[string]any, lists
// []any, whole numbers int64, and others json.Number, so that no digit is lost. Of
// the envelope it has what the templates name.
// An error says that the data is no JSON object.
func (k *Kinds) Value(e *plant.Event) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(e.Data))
	decoder.UseNumber()
	var whatever any // into a map[string]any the library decodes by reflection, which costs twice as much
	if err := decoder.Decode(&whatever); err != nil {
		return nil, fmt.Errorf("the data of the event is no JSON object: %w", err)
	}
	data, ok := whatever.(map[string]any)
	if !ok && whatever != nil {
		return nil, fmt.Errorf("the data of the event is no JSON object: it is %.20s", e.Data)
	}
	m := make(map[string]any, len(envelope)+1)
	for i := range envelope {
		if k.all || k.needed[i] {
			m[envelope[i].name] = envelope[i].of(e)
		}
	}
	m["data"] = k.shapes[e.Kind].fill(whole(data))
	return m, nil
}

// whole makes an int64 of each number that is one.
func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = whole(v[name])
		}
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
	}
	return v
}
