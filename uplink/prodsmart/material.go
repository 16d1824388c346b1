package prodsmart

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/amount"
)

// Movements is what a config says of inventory movements.
type Movements struct {
	// Components are those that are booked, and nobody else's: Prodsmart consumes a
	// product's bill of materials itself.
	Components config.Table[Component] `yaml:"components,required"`
	// Kinds are the kinds of events that are booked.
	Kinds []plant.EventKind `yaml:"kinds"`
	// Types are Prodsmart's types of movements, by kind of event.
	Types map[string]string `yaml:"types"`
	// BillOfMaterials says what becomes of a component that Prodsmart consumes by the
	// bill of materials of the order's product: refuse or ignore.
	BillOfMaterials string `yaml:"bill_of_materials"`
	// SearchAfter is how long Prodsmart may still be at work on a movement whose
	// answer was lost: it is searched no earlier.
	SearchAfter config.Duration `yaml:"search_after"`
	// RepeatAfter is when one that was searched in vain is searched again, and
	// OnLostReply what becomes of it if it is still not there: retry or park.
	RepeatAfter config.Duration `yaml:"repeat_after"`
	OnLostReply string          `yaml:"on_lost_reply"`
	// LookupPages bounds the search for a movement whose answer was lost.
	LookupPages int `yaml:"lookup_pages"`
	// ProductKey, Quantity and Path are the form of the request.
	ProductKey string `yaml:"product_key"`
	Quantity   string `yaml:"quantity"`
	Path       string `yaml:"path"`
}

// Component is a material as Prodsmart has it.
type Component struct {
	// UoM is the unit that Prodsmart has it in.
	UoM string `yaml:"uom,required"`
	// Factor is how many of UoM one Per is, where that is no unit of weight.
	Factor config.Number `yaml:"factor"`
	Per    string        `yaml:"per"`
	// Warehouse, WarehouseLocation and Location are where it is taken from.
	Warehouse         string `yaml:"warehouse"`
	WarehouseLocation string `yaml:"warehouse_location"`
	Location          string `yaml:"location"`
}

// UnmarshalText reads the short form, the unit alone.
func (c *Component) UnmarshalText(b []byte) error {
	c.UoM = string(b)
	return nil
}

// Validate returns the faults of c as config.FieldErrors, nil if there are none.
func (c Component) Validate() error {
	return c.unit().Validate("uom", "Prodsmart")
}

// unit is the unit that Prodsmart has it in.
func (c *Component) unit() amount.Unit {
	return amount.Unit{Name: c.UoM, Factor: c.Factor.Decimal, Per: c.Per}
}

// The values of BillOfMaterials, ProductKey, Quantity, OnLostReply and Path.
const (
	bomRefuse = "refuse"
	bomIgnore = "ignore"

	keyProductCode = "product-code"
	keyProduct     = "product"

	quantityText   = "text"
	quantityNumber = "number"

	lostRetry = "retry"
	lostPark  = "park"

	pathSlash   = "inventory-movements/"
	pathNoSlash = "inventory-movements"
)

// movementKinds are the kinds that may be booked, with their types.
var movementKinds = map[plant.EventKind]string{plant.KindDosing: "consumption", plant.KindRefill: "in", plant.KindRemoval: "out"}

// fill puts the defaults in the place of what a config does not say.
func (m *Movements) fill() {
	if m.Kinds == nil {
		m.Kinds = []plant.EventKind{plant.KindDosing}
	}
	if m.BillOfMaterials == "" {
		m.BillOfMaterials = bomRefuse
	}
	if m.SearchAfter == 0 {
		m.SearchAfter = config.Duration(time.Minute)
	}
	if m.RepeatAfter == 0 {
		m.RepeatAfter = max(config.Duration(5*time.Minute), m.SearchAfter)
	}
	if m.OnLostReply == "" {
		m.OnLostReply = lostRetry
	}
	if m.LookupPages == 0 {
		m.LookupPages = mostPages
	}
	if m.ProductKey == "" {
		m.ProductKey = keyProductCode
	}
	if m.Quantity == "" {
		m.Quantity = quantityText
	}
	if m.Path == "" {
		m.Path = pathSlash
	}
}

// Validate returns the faults of m as config.FieldErrors, nil if there are none.
func (m Movements) Validate() error {
	var errs []error
	m.fill()
	known := slices.Sorted(maps.Keys(movementKinds))
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	if len(m.Components.Rows) == 0 {
		errs = append(errs, config.Warn("components", "it names no component, so nothing is booked", "write each component that doses are booked of, or remove movements"))
	}
	for i, k := range m.Kinds {
		if _, ok := movementKinds[k]; !ok {
			errs = append(errs, config.Unknown(fmt.Sprintf("kinds[%d]", i), "kind", string(k), names))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.Types)) {
		if _, ok := movementKinds[plant.EventKind(k)]; !ok {
			errs = append(errs, config.Unknown("types."+k, "kind", k, names))
		} else if m.Types[k] == "" {
			errs = append(errs, config.Field("types."+k, "it is empty", "write the type of movement as Prodsmart calls it, for example out"))
		}
	}
	for _, w := range []struct {
		path, value string
		allowed     []string
	}{
		{"bill_of_materials", m.BillOfMaterials, []string{bomRefuse, bomIgnore}},
		{"product_key", m.ProductKey, []string{keyProductCode, keyProduct}},
		{"quantity", m.Quantity, []string{quantityText, quantityNumber}},
		{"path", m.Path, []string{pathSlash, pathNoSlash}},
		{"on_lost_reply", m.OnLostReply, []string{lostRetry, lostPark}},
	} {
		if !slices.Contains(w.allowed, w.value) {
			errs = append(errs, config.Unknown(w.path, "value", w.value, w.allowed))
		}
	}
	if m.SearchAfter < config.Duration(time.Second) || m.SearchAfter > config.Duration(time.Hour) {
		errs = append(errs, config.Field("search_after", "it must be from 1s to 1h", "leave it out for 1m; write more if Prodsmart's answers take longer than that"))
	}
	if m.RepeatAfter < m.SearchAfter || m.RepeatAfter > config.Duration(24*time.Hour) {
		errs = append(errs, config.Field("repeat_after", "it must be from search_after to 24h", "leave it out for 5m; write more if Prodsmart's answers take longer than that"))
	}
	if m.LookupPages < 1 || m.LookupPages > 1000 {
		errs = append(errs, config.Field("lookup_pages", "it must be from 1 to 1000", "leave it out for 40, 1000 movements of a component"))
	}
	return errors.Join(errs...)
}

// carries reports whether events of that kind are booked.
func (m *Movements) carries(k plant.EventKind) bool { return m != nil && slices.Contains(m.Kinds, k) }

// typeOf returns Prodsmart's type of a movement.
func (m *Movements) typeOf(k plant.EventKind) string {
	if t, ok := m.Types[string(k)]; ok {
		return t
	}
	return movementKinds[k]
}

// movement is one inventory movement.
type movement struct {
	place     place
	component string
	product   string
	article   string // what is made of it, empty if nobody knows
	quantity  plant.Decimal
	kind      string
	lot       string
	at        time.Time
	// ref is by what it is found again; order is for people.
	ref, order string
}

// movementsOf returns the movements of an event: one for each lot, none for a
// component that is not booked.
func (s *Sender) movementsOf(e *plant.Event) ([]movement, error) {
	base := movement{at: e.Time}
	var unit string
	var lots []plant.DosedLot
	var head plant.Head
	if e.Kind == plant.KindDosing {
		var d plant.Dosing
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return nil, err
		}
		base.component, base.quantity, unit, lots, head = d.Component, d.Quantity, d.Unit, d.Lots, d.Head
		if !d.Ended.IsZero() {
			base.at = d.Ended
		}
	} else {
		var m plant.Movement
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return nil, err
		}
		base.component, base.quantity, base.lot, unit, head = m.Component, m.Quantity, m.Lot, m.Unit, m.Head
	}
	component, booked := s.components[base.component]
	if !booked {
		return nil, nil
	}
	codes := s.env.Codes.For(e.Machine, e.Sequence)
	base.product, _ = codes.Lookup(plant.CodeComponent, base.component) // an unmapped one goes as it is, and is listed
	base.kind = s.options.Movements.typeOf(e.Kind)
	if head.Order != nil {
		base.order = head.Order.Number
		base.article, _ = codes.Lookup(plant.CodeArticle, head.Order.SKU)
	}
	if len(lots) == 0 {
		lots = []plant.DosedLot{{Lot: base.lot, Quantity: base.quantity}}
	}
	var all []movement
	for i, lot := range lots {
		m := base
		quantity, err := component.unit().Convert(lot.Quantity, unit)
		if err != nil {
			return nil, fmt.Errorf("%s %s of %s: %w", lot.Quantity, unit, base.component, err)
		}
		if quantity.Unscaled < 0 { // drift that came back
			quantity, m.kind = quantity.Neg(), s.options.Movements.typeOf(plant.KindRefill)
		}
		if quantity.IsZero() {
			continue
		}
		m.quantity, m.lot, m.place = quantity.Normal(), lot.Lot, place{e.Sequence, i + 1}
		m.ref = "sluice:" + strings.ReplaceAll(e.ID().String(), " ", "%20") + "#" + strconv.Itoa(i+1)
		all = append(all, m)
	}
	return all, nil
}

// what is the movement in words, for people.
func (m *movement) what() string {
	return strings.Join(strings.Fields(m.quantity.String()+" "+m.product+" "+m.kind+" "+m.lot), " ")
}

// comment is what stands in a movement for people, and to find it again.
func (m *movement) comment() string {
	if m.order == "" {
		return m.ref
	}
	return m.ref + " order " + m.order
}

// render writes the body in the order of the document's example.
func (m *movement) render(o *Movements, c *Component) []byte {
	dst := plant.AppendJSONString(append(append([]byte(`{"`), o.ProductKey...), `":`...), m.product)
	dst = plant.AppendJSONString(append(dst, `,"date-time":`...), m.at.UTC().Format("2006-01-02T15:04:05Z"))
	dst = append(dst, `,"quantity":`...)
	if o.Quantity == quantityText {
		dst = plant.AppendJSONString(dst, m.quantity.String())
	} else {
		dst = m.quantity.Append(dst)
	}
	for _, f := range []struct{ key, value string }{
		{"type", m.kind}, {"lot", m.lot}, {"comment", m.comment()},
		{"warehouse", c.Warehouse}, {"warehouse-location", c.WarehouseLocation}, {"location", c.Location},
	} {
		if f.value != "" {
			dst = plant.AppendJSONString(append(append(append(dst, `,"`...), f.key...), `":`...), f.value)
		}
	}
	return append(dst, '}')
}
