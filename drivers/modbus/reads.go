package modbus

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// reads is drivers.Plan.Reads of options that are resolved.
func (o *Options) reads() map[plant.TagID]string {
	all := make(map[plant.TagID]string, len(o.Tags.Rows))
	for i := range o.Tags.Rows {
		row := &o.Tags.Rows[i]
		all[plant.TagID(row.Name)] = row.Value.reads(o.WordOrder)
	}
	return all
}

// reads words the tag so that two ways to write the same are one text.
func (t *Tag) reads(fallback WordOrder) string {
	kind, address := t.kind().String(), t.Address
	if t.Type&bcd != 0 {
		kind += " bcd"
	}
	if n, ok := t.bit(); ok {
		address.bit = uint8(n) + 1
	}
	return drivers.Terms(address.String(),
		"type", kind, "word_order", t.order(fallback), "bits", t.Bits.words(), "byte", set(t.Byte, "low"),
		"length", set(strconv.Itoa(t.Length), "0"), "text", set(t.Text, "plain"), "trim", set(t.Trim, "end"),
		"decimals", t.Decimals.words(), "negative", t.Negative.words(),
		"scale", set(exact(t.Scale), "1"), "offset", set(exact(t.Offset), "0"))
}

// order is the word order as far as the tag depends on it: of one register, and of
// a text, only the bytes may be swapped.
func (t *Tag) order(fallback WordOrder) string {
	order := t.WordOrder.or(fallback)
	switch {
	case t.Address.Table.bits():
		return ""
	case t.registers() > 1 && t.kind() != plant.TypeString:
	case order.bytesSwapped():
		order = BADC
	default:
		order = ABCD
	}
	return set(order.String(), ABCD.String())
}

// set returns what a config says where that is not what holds without it.
func set(text, otherwise string) string {
	if text == otherwise {
		return ""
	}
	return text
}

func exact(n *config.Number) string {
	if n == nil {
		return ""
	}
	return n.Normal().String()
}

func (r BitRange) words() string {
	if r.count == 0 {
		return ""
	}
	return fmt.Sprintf("%d..%d", r.first, r.end()-1)
}

func (p *Place) words() string {
	if p.none() {
		return ""
	}
	return strings.TrimSpace(p.address.String() + " " + p.bits.words())
}
