package derive

import (
	"maps"
	"slices"

	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/plant"
)

// Code is a code that the config of a machine names, in our words.
type Code struct {
	Kind plant.CodeKind
	Code string
	// Events are the kinds of events that carry it.
	Events []plant.EventKind
	// Own is what the machine's own tables have the systems behind single uplinks
	// call it, by the name of the uplink; nil for most.
	Own map[string]string
}

// Codes returns the codes that the config of the machine names, so that they can
// be compared with what systems call them. What a device says of itself is not
// among them.
func (m *Model) Codes() []Code { return m.codes }

// codesOf collects the codes of a machine's options.
func codesOf(id plant.MachineID, o *Options) (codes []Code) {
	add := func(kind plant.CodeKind, code string, own map[string]string, events ...plant.EventKind) {
		if code != "" {
			codes = append(codes, Code{kind, code, events, own})
		}
	}
	texts := func(kind plant.CodeKind, t *handshake.Text, events ...plant.EventKind) {
		add(kind, t.Constant(), nil, events...)
		for _, device := range slices.Sorted(maps.Keys(t.Values)) {
			add(kind, t.Values[device], nil, events...)
		}
	}
	add(plant.CodeMachine, string(id), nil, plant.KindCounter, plant.KindStartStop, plant.KindReason, plant.KindParameters)
	if o.Counter != nil {
		for _, row := range o.Counter.Scrap.Rows {
			add(plant.CodeWaste, row.Name, nil, plant.KindCounter)
		}
	}
	if o.StartStop != nil {
		for _, row := range o.StartStop.Reasons.Rows {
			add(plant.CodeDowntimeType, row.Value.Type, row.Value.Types, plant.KindStartStop, plant.KindReason)
		}
		fallback := o.StartStop.DefaultType
		if fallback == "" {
			fallback = "unknown"
		}
		add(plant.CodeDowntimeType, fallback, o.StartStop.DefaultTypes, plant.KindStartStop, plant.KindReason)
	}
	for _, row := range o.Parameters.Rows {
		add(plant.CodeParameter, row.Name, nil, plant.KindParameters)
	}
	for i := range o.Dosing {
		texts(plant.CodeComponent, &o.Dosing[i].Component, plant.KindDosing, plant.KindRefill, plant.KindRemoval)
	}
	for i := range o.Material.Rows {
		texts(plant.CodeComponent, &o.Material.Rows[i].Value.Component, plant.KindDosing, plant.KindMaterial)
	}
	if o.Serial != nil {
		texts(plant.CodeArticle, &o.Serial.SKU, plant.KindSerial)
	}
	if o.ItemAttach != nil {
		texts(plant.CodeArticle, &o.ItemAttach.SKU, plant.KindItemAttach)
		texts(plant.CodeComponent, &o.ItemAttach.Item.SKU, plant.KindItemAttach)
	}
	if o.Operation != nil {
		texts(plant.CodeArticle, &o.Operation.SKU, plant.KindOperation)
		texts(plant.CodeOperation, &o.Operation.RoutingOperation, plant.KindOperation)
		texts(plant.CodeWorkCenter, &o.Operation.WorkCenter, plant.KindOperation)
	}
	return codes
}
