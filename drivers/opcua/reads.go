package opcua

import (
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// reads is drivers.Plan.Reads.
func (o *Options) reads() map[plant.TagID]string {
	all := make(map[plant.TagID]string, len(o.Tags.Rows))
	for i := range o.Tags.Rows {
		t, kind, scale := &o.Tags.Rows[i].Value, "", ""
		if t.Type != 0 {
			kind = plant.TagType(t.Type).String()
		}
		if t.Scale != nil {
			scale = t.Scale.Normal().String()
		}
		all[plant.TagID(o.Tags.Rows[i].Name)] = drivers.Terms(t.address(), "type", kind, "scale", scale)
	}
	return all
}
