package handshake

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// build makes a rule with a field from a config; the tags are named by their
// types, with what follows a dash ignored.
func build(t *testing.T, text, field string) (*Rule, string) {
	t.Helper()
	section, faults := config.ParseSection("M", "m.yaml", text)
	var o Options
	if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
		return nil, fmt.Sprint(faults)
	}
	b := NewBuilder("M", "serial", o, func(path, name string) (rule.Input, error) {
		kind, _, _ := strings.Cut(name, "-")
		typ, ok := plant.ParseTagType(kind)
		if !ok {
			return rule.Input{}, config.Field(path, "no tag "+name, "")
		}
		return rule.Input{Ref: plant.TagRef{Device: "plc", Tag: plant.TagID(name)}, Tag: plant.Tag{ID: plant.TagID(name), Type: typ}}, nil
	})
	b.Text("field", Text{Tag: field})
	r, err := b.Rule()
	if err != nil {
		return nil, err.Error()
	}
	return r, ""
}

func TestOptionsAreRefused(t *testing.T) {
	for _, c := range []struct{ config, field, want string }{
		{"ack: bool-a", "string-f", "trigger: is missing"},
		{"trigger: bool-t", "string-f", "ack: is missing"},
		{"{trigger: bool-t, ack: bool-a, protocol: togle}", "string-f", "did you mean `toggle`"},
		{"{trigger: bool-t, ack: bool-a, slots: 4}", "string-f", "only a ring has slots"},
		{"{trigger: uint16-h, ack: uint16-t, protocol: ring}", "string-#", "a ring cannot have 0 slots"},
		{"{trigger: uint16-h, ack: uint16-t, protocol: ring, slots: 12}", "string-#", "a ring cannot have 12 slots"},
		{"{trigger: uint16-h, ack: uint16-t, protocol: ring, slots: 2048}", "string-#", "a ring cannot have 2048 slots"},
		{"{trigger: uint16-h, ack: uint16-t, protocol: ring, slots: 4}", "string-f", "a ring has one in each slot"},
		{"{trigger: int16-h, ack: int16-t, protocol: ring, slots: 4}", "string-#", "a position below 0 has no slot"},
		{"{trigger: uint8-h, ack: uint8-t, protocol: ring, slots: 256}", "string-#", "goes round too soon"},
		{"{trigger: uint16-h, ack: uint8-t, protocol: ring, slots: 4}", "string-#", "cannot hold every number"},
		{"{trigger: uint16-h, ack: uint32-t, protocol: ring, slots: 4}", "string-#", "would overwrite what is beside it"},
		{"{trigger: bool-h, ack: bool-t, protocol: counter}", "string-f", "does not count records"},
		{"{trigger: bool-h, ack: uint16-t, protocol: toggle}", "string-f", "would overwrite what is beside it"},
		{"{trigger: bool-h, ack: bool-t, protocol: toggle, error: bool-t}", "string-f", "is the tag of ack"},
		{"{trigger: uint16-h, protocol: counter, error: {tag: uint16-e, value: 3}}", "string-f", "the number of the refused record is written"},
		{"{trigger: bool-t, ack: bool-a, lost: bool-t}", "string-f", "is a tag of the handshake itself"},
		{"{trigger: bool-t, ack: bool-a, lost: string-l}", "string-f", "counts nothing"},
	} {
		section, faults := config.ParseSection("M", "m.yaml", c.config)
		var o Options
		var text string
		if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
			text = fmt.Sprint(faults)
		} else if err := o.Validate(); err != nil {
			text = err.Error()
		} else {
			_, text = build(t, c.config, c.field)
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", c.config, text, c.want)
		}
	}
}

func TestOptionsAreTaken(t *testing.T) {
	for _, c := range []struct {
		config, field string
		records       int
		on            plant.Trigger
		writes        int
	}{
		{"{trigger: bool-t, ack: bool-a, lost: uint16-l}", "string-f", 1, plant.WhileHigh, 1},
		{"{trigger: uint16-n, ack: uint16-a, protocol: sequence}", "string-f", 1, plant.OnChange, 1},
		{"{trigger: uint16-n, protocol: counter}", "string-f", 1, plant.OnChange, 0},
		{"{trigger: int16-n, ack: int16-a, protocol: counter, error: int16-e}", "string-f", 1, plant.OnChange, 2},
		{"{trigger: bool-t, ack: bool-a, protocol: toggle, error: {tag: uint16-e, value: 3}}", "string-f", 1, plant.WhileUnanswered, 2},
		{"{trigger: uint16-h, ack: uint16-t, protocol: ring, slots: 8}", "string-#", 8, plant.WhileUnanswered, 1},
	} {
		r, text := build(t, c.config, c.field)
		if text != "" {
			t.Errorf("%s: %s", c.config, text)
			continue
		}
		all := r.Records()
		if len(all) != c.records || all[0].On != c.on || len(all[0].Writes) != c.writes {
			t.Errorf("%s: %d records, first %+v", c.config, len(all), all[0])
		}
		if last := all[len(all)-1]; c.records > 1 && (last.Slot != c.records-1 || last.Fields[0] != "string-7" || last.ID != "M/serial#7") {
			t.Errorf("%s: last %+v", c.config, last)
		}
	}
}

func TestAhead(t *testing.T) {
	for _, c := range []struct {
		last, n int64
		typ     plant.TagType
		steps   uint64
		again   bool
	}{
		{5, 6, plant.TypeUint16, 1, false},
		{5, 9, plant.TypeUint16, 4, false},
		{65535, 0, plant.TypeUint16, 1, false},
		{65535, 4000, plant.TypeUint16, 4001, false},
		{40000, 1, plant.TypeUint16, 25537, true},
		{32767, -32768, plant.TypeInt16, 1, false},
		{-1, 0, plant.TypeInt16, 1, false},
		{300, 1, plant.TypeInt16, 65237, true},
		{255, 0, plant.TypeUint8, 1, false},
		{1 << 62, 1, plant.TypeUint64, 1<<64 - 1<<62 + 1, true},
	} {
		if steps, again := ahead(c.last, c.n, c.typ); steps != c.steps || again != c.again {
			t.Errorf("%d to %d of %s: %d %v", c.last, c.n, c.typ, steps, again)
		}
	}
}
