package line

import (
	"strings"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// reads is drivers.Plan.Reads. How a line is taken apart is part of each value.
func (o *Options) reads() map[plant.TagID]string {
	all := make(map[plant.TagID]string, len(o.Tags.Rows))
	for i := range o.Tags.Rows {
		t, kind, scale, decimal := &o.Tags.Rows[i].Value, plant.TypeString, "", ""
		switch {
		case t.Type != 0:
			kind = plant.TagType(t.Type)
		case len(t.Is) > 0:
			kind = plant.TypeBool
		}
		if t.Scale != nil {
			scale = t.Scale.Normal().String()
		}
		if kind.Numeric() {
			decimal = o.Decimal
		}
		all[plant.TagID(o.Tags.Rows[i].Name)] = drivers.Terms(t.Field,
			"type", kind.String(), "is", strings.Join(t.Is, " or "), "scale", scale, "unit", t.Unit,
			"decimal", decimal, "encoding", o.Encoding, "pattern", o.Pattern.text, "format", o.Format)
	}
	return all
}
