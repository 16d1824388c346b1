package modbus

import (
	"slices"
	"strconv"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// registersOf is drivers.Plan.Registers. The registers and the tag lie together, so
// that one request reads them.
func registersOf(o Options, tag plant.TagID, least int) (drivers.Plan, bool) {
	i := slices.IndexFunc(o.Tags.Rows, func(r config.Row[Tag]) bool { return r.Name == string(tag) })
	if i < 0 || o.Tags.Rows[i].Value.Address.Table.bits() {
		return drivers.Plan{}, false
	}
	row := o.Tags.Rows[i]
	first := Address{Table: row.Value.Address.Table, Number: row.Value.Address.Number}
	n := min(max(row.Value.registers(), least), tableSize-int(first.Number))
	o.Tags = config.Table[Tag]{Rows: []config.Row[Tag]{row}}
	for j := range n {
		one := Tag{Address: first, Type: Type(plant.TypeUint16)}
		one.Address.Number += uint16(j)
		o.Tags.Rows = append(o.Tags.Rows, config.Row[Tag]{Name: "+" + strconv.Itoa(j), Value: one})
	}
	p, err := plan("", o)
	return p, err == nil
}
