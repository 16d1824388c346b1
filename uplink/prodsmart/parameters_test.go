package prodsmart

import (
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

func TestParameters(t *testing.T) {
	const values = `{"parameters":[{"code":"temp","value":25.5,"unit":"Cel","quality":"good","time":"2026-11-22T06:00:00.000Z"},{"code":"door","value":true,"quality":"good","time":"2026-11-22T06:00:00.000Z"},{"code":"text","value":"a \"b\"","quality":"uncertain","time":"2026-11-22T06:00:00.000Z"},{"code":"none","value":null,"quality":"bad","time":"2026-11-22T06:00:00.000Z"}]}`
	const newer = `{"parameters":[{"code":"temp","value":26,"quality":"good","time":"2026-11-22T06:00:01.000Z"}]}`
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(r.event("M-1", plant.KindParameters, values))
		r.want(`M-1 parameters {"parameters":[{"code":"temp","value":25.5},{"code":"door","value":"yes"},{"code":"text","value":"a \"b\""}]}`)
		r.deliver(r.event("M-1", plant.KindParameters, values), r.event("M-1", plant.KindParameters, newer))
		r.want(`M-1 parameters {"parameters":[{"code":"temp","value":26},{"code":"door","value":"yes"},{"code":"text","value":"a \"b\""}]}`)
		r.strict()
	})
	// With the count they save a request, and their key is another.
	bubble(t, func(t *testing.T) {
		r := newRig(t, company(), func(o *Options) { o.Parameters = parametersCounter })
		r.deliver(r.event("M-1", plant.KindParameters, newer), r.event("M-1", plant.KindCounter, counter(5, 5)))
		r.want(`M-1 counter {"count":5,"parameters":[{"name":"temp","value":26}]}`)
		r.deliver(r.event("M-1", plant.KindParameters, newer)) // no count to go with
		r.want(`M-1 parameters {"parameters":[{"code":"temp","value":26}]}`)
		r.strict()
	})
}

// TestOtherKinds go as a parameter, or nowhere.
func TestOtherKinds(t *testing.T) {
	events := func(r *rig) []plant.Event {
		return []plant.Event{
			r.event("M-1", plant.KindOrder, `{"next":{"number":"4711"}}`),
			r.event("M-1", plant.KindMode, `{"previous":"setup","cause":"set"}`),
			r.event("M-1", plant.KindCorrection, `{"good":-3,"scrap":3,"rework":0,"code":"BURR","by":"ann","from":"2026-11-22T06:00:00.000Z","to":"2026-11-22T06:00:00.000Z"}`),
			r.event("M-1", plant.KindGap, `{"cause":"mailbox","count":3,"reason":"the disk was slow"}`),
			r.event("M-1", plant.KindObserved, `{"observed":false,"since":"2026-11-22T06:00:00.000Z","device":"plc"}`),
			r.event("M-1", plant.KindAlarm, `{"alarm":"a","raised":true,"text":"look"}`),
		}
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(events(r)...)
		r.want()
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, company(), func(o *Options) {
			o.AsParameters = map[string]string{"order": "PO", "mode": "mode", "correction": "fix", "gap": "gap", "observed": "seen", "alarm": "alarm"}
		})
		r.deliver(events(r)...)
		r.want(`M-1 parameters {"parameters":[{"code":"PO","value":"4711"},{"code":"mode","value":"production"},{"code":"fix","value":"good -3, scrap BURR 3"},{"code":"gap","value":"the disk was slow"},{"code":"seen","value":"no"},{"code":"alarm","value":"look"}]}`)
		r.strict()
	})
}

// TestWhatBelongsToNoMachine is taken: Prodsmart has no place for it.
func TestWhatBelongsToNoMachine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company(), func(o *Options) { o.AsParameters = map[string]string{"gap": "gap"} })
		r.deliver(r.event(plant.GatewayStream, plant.KindGap, `{"cause":"mailbox","count":3,"reason":"the disk was slow"}`))
		r.want()
	})
}
