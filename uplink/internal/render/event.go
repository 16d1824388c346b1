package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/sluice-edge/sluice/plant"
)

// Kinds knows how the events of some kinds look. It does not change, and may be
// used from any goroutine.
type Kinds struct {
	shapes map[plant.EventKind]*shape
	// names are all fields that a template may name.
	names map[string]bool
}

// NewKinds returns what is known of those kinds.
func NewKinds(kinds ...plant.EventKind) *Kinds {
	k := &Kinds{shapes: make(map[plant.EventKind]*shape), names: make(map[string]bool)}
	for _, kind := range kinds {
		s, _ := newest(kind)
		k.shapes[kind] = s.shapeOf(s, k.names)
	}
	for name := range envelope(&plant.Event{}) {
		k.names[name] = true
	}
	k.names["data"] = true
	return k
}

// envelope is what every event has besides its data.
func envelope(e *plant.Event) map[string]any {
	m := map[string]any{
		"id": e.ID().String(), "gateway": e.Gateway, "machine": string(e.Machine), "source": e.Source,
		"kind": string(e.Kind), "version": int64(e.Version), "epoch": e.Epoch.String(), "sequence": int64(e.Sequence),
		"time": string(plant.AppendTime(nil, e.Time)), "timesource": string(e.TimeSource), "timeuncertain": e.TimeUncertain,
		"previous": nil,
	}
	if e.Previous != 0 {
		m["previous"] = int64(e.Previous)
	}
	return m
}

// Value returns e as a template sees it: objects are map[string]any, lists
// []any, whole numbers int64, and others json.Number, so that no digit is lost.
// An error says that the data is no JSON object.
func (k *Kinds) Value(e *plant.Event) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(e.Data))
	decoder.UseNumber()
	var data map[string]any
	if err := decoder.Decode(&data); err != nil {
		return nil, fmt.Errorf("the data of the event is no JSON object: %w", err)
	}
	m := envelope(e)
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
