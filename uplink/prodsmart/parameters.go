package prodsmart

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// parameter is one value, by its code in Prodsmart.
type parameter struct {
	code  string
	value json.RawMessage
}

// appendParameters writes a list; key is what the code is called there: "code" in
// the parameters call, "name" in the counter call.
func appendParameters(dst []byte, key string, all []parameter) []byte {
	dst = append(dst, '[')
	for i, p := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = plant.AppendJSONString(append(append(append(dst, `{"`...), key...), `":`...), p.code)
		dst = append(append(append(dst, `,"value":`...), p.value...), '}')
	}
	return append(dst, ']')
}

// valuesOf returns what event i says as parameters.
func (w *work) valuesOf(i int) ([]parameter, error) {
	e := &w.events[i]
	if e.Kind != plant.KindParameters {
		text, err := asText(e)
		quoted := plant.AppendJSONString(nil, text)
		return []parameter{{w.options.AsParameters[string(e.Kind)], quoted}}, err
	}
	var p plant.Parameters
	if err := json.Unmarshal(e.Data, &p); err != nil {
		return nil, err
	}
	var all []parameter
	for _, v := range p.Parameters {
		value := v.Value
		switch string(value) {
		case "", "null":
			continue // nothing was read
		case "true":
			value = json.RawMessage(`"yes"`) // the document's example of a bool
		case "false":
			value = json.RawMessage(`"no"`)
		}
		code, _ := w.env.Codes.For(w.m.id, e.Sequence).Lookup(plant.CodeParameter, v.Code) // an unmapped one goes as it is, and is listed
		all = append(all, parameter{code, value})
	}
	return all, nil
}

// asText puts an event of another kind into the text of one parameter.
func asText(e *plant.Event) (string, error) {
	switch e.Kind {
	case plant.KindOrder:
		var d plant.OrderEvent
		err := json.Unmarshal(e.Data, &d)
		if d.Next == nil {
			return "", err
		}
		return d.Next.Number, err
	case plant.KindMode:
		var d plant.ModeEvent
		err := json.Unmarshal(e.Data, &d)
		return string(d.Mode), err
	case plant.KindObserved:
		var d plant.Observed
		err := json.Unmarshal(e.Data, &d)
		if d.Observed {
			return "yes", err
		}
		return "no", err
	case plant.KindAlarm:
		var d plant.Alarm
		err := json.Unmarshal(e.Data, &d)
		if !d.Raised {
			return "cleared: " + d.Text, err
		}
		return d.Text, err
	case plant.KindGap:
		var d plant.GapData
		err := json.Unmarshal(e.Data, &d)
		return d.Reason, err
	}
	var d plant.CorrectionEvent
	err := json.Unmarshal(e.Data, &d)
	var words []string
	for _, n := range []struct {
		name  string
		delta int64
	}{{"good", d.Good}, {strings.TrimSpace("scrap " + d.Code), d.Scrap}, {"rework", d.Rework}} {
		if n.delta != 0 {
			words = append(words, n.name+" "+strconv.FormatInt(n.delta, 10))
		}
	}
	return strings.Join(words, ", "), err
}

// asParameter reports whether event i is open and goes as a parameter.
func (w *work) asParameter(i int) bool {
	if w.done[i].set || w.stock[i] != "" {
		return false
	}
	_, named := w.options.AsParameters[string(w.events[i].Kind)]
	return named || w.events[i].Kind == plant.KindParameters
}

// parametersFor returns the parameters that go with the count of event i: those
// that came before it, and the newest if it is.
func (w *work) parametersFor(i int) (all []parameter, indexes []int) {
	if w.options.Parameters != parametersCounter {
		return nil, nil
	}
	last := true
	for j := i + 1; j < len(w.events); j++ {
		last = last && (w.done[j].set || w.events[j].Kind != plant.KindCounter)
	}
	for j := range w.events {
		if !w.asParameter(j) || j > i && !last || w.events[j].Sequence <= w.m.Parameters {
			continue
		}
		values, err := w.valuesOf(j)
		if err != nil {
			continue // their own call says so
		}
		all, indexes = fold(all, values), append(indexes, j)
	}
	return all, indexes
}

// fold puts newer values in the place of older ones of the same code.
func fold(all, newer []parameter) []parameter {
	for _, p := range newer {
		known := false
		for i := range all {
			if all[i].code == p.code {
				all[i].value, known = p.value, true
			}
		}
		if !known {
			all = append(all, p)
		}
	}
	return all
}

// parameters sends the process values that are left, all in one call.
func (w *work) parameters(ctx context.Context) *halt {
	var all []parameter
	var indexes []int
	for i := range w.events {
		if !w.asParameter(i) {
			continue
		}
		if w.events[i].Sequence <= w.m.Parameters {
			w.deliver(i)
			continue
		}
		if w.again(i, classParameters) {
			continue
		}
		values, err := w.valuesOf(i)
		if err != nil {
			w.settle(i, plant.Rejected, problem("unreadable", "the event's data cannot be read: %v", err), 0)
			continue
		}
		if len(values) == 0 {
			w.deliver(i)
			continue
		}
		all, indexes = fold(all, values), append(indexes, i)
	}
	if len(indexes) == 0 {
		return nil
	}
	if h, ok := w.m.held[classParameters]; ok && time.Now().Before(h.until) {
		for _, i := range indexes {
			w.settle(i, plant.Held, h.cause, 0)
		}
		return nil
	}
	request := w.machineCall(classParameters, "parameters", append(appendParameters([]byte(`{"parameters":`), "code", all), '}'), plant.KindParameters, indexes...)
	a, o, h := w.do(ctx, request)
	if h != nil || o != taken {
		return w.concluded(request, o, a, h, indexes...)
	}
	delete(w.m.held, classParameters)
	for _, i := range indexes {
		w.m.Parameters = max(w.m.Parameters, w.events[i].Sequence)
		w.deliver(i)
	}
	return nil
}
