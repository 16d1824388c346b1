package nextplus

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sluice-edge/sluice/plant"
)

// The forms of the Next Plus Integration Builder ("Device/Serial", "Item Attach"
// and "Operation Integration"), field for field in its order. A field that is said
// to be there under a condition only is absent without it; null is written where
// the form says that a field may be null.

// system are the sender's own ids, and the ERP's of the order.
type system struct {
	WorkorderID         string  `json:"workorderId"`
	StockID             string  `json:"stockId"`
	SessionID           string  `json:"sessionId"`
	WorkorderExternalID *string `json:"workorderExternalId"`
}

type deviceForm struct {
	Type            string `json:"type"`
	WorkorderNumber string `json:"workorderNumber"`
	SKU             string `json:"sku"`
	Serial          string `json:"serial"`
	OldSerial       string `json:"oldSerial,omitempty"`
	ExternalID      string `json:"externalId,omitempty"`
	system
}

type itemForm struct {
	SKU             string        `json:"sku"`
	Quantity        plant.Decimal `json:"quantity"`
	Serial          string        `json:"serial,omitempty"`
	WorkorderNumber string        `json:"workorderNumber,omitempty"`
	ExternalID      string        `json:"externalId,omitempty"`
}

type attachForm struct {
	Type            string   `json:"type"`
	WorkorderNumber string   `json:"workorderNumber"`
	SKU             string   `json:"sku"`
	Serial          string   `json:"serial,omitempty"`
	ExternalID      string   `json:"externalId,omitempty"`
	Item            itemForm `json:"item"`
	system
}

type operationForm struct {
	Type            string `json:"type"`
	SKU             string `json:"sku"`
	Serial          string `json:"serial,omitempty"`
	WorkorderNumber string `json:"workorderNumber"`
	// ExternalID is absent on an add; on a remove it is a string or null.
	ExternalID     json.RawMessage `json:"externalId,omitempty"`
	ActCode        string          `json:"actCode"`
	WorkCenterCode string          `json:"workCenterCode"`
	Position       plant.Decimal   `json:"position"`
	ValidQty       plant.Decimal   `json:"validQty"`
	InvalidQty     plant.Decimal   `json:"invalidQty"`
	system
	OperationExternalID *string `json:"operationExternalId"`
}

// call is one event on its way: the form and what is remembered once it is
// accepted.
type call struct {
	form any
	// key is where the memory has what the call is about.
	key string
	// add is set if the receiver's id is to be kept, which the next calls of the
	// same thing go by.
	add bool
	// marks are what a person should know of the call, for the journal.
	marks []string
	// accepted enters into v what an answer with that id leaves behind.
	accepted func(v *view, externalID string) error
}

// waits is the Cause of an event that waits for the answer to another one.
type waits struct{ key, text string }

// Error returns what the event waits for.
func (w *waits) Error() string { return "nextplus: " + w.text }

// passed is the Cause of an event that is no business of this receiver.
type passed struct {
	text string
	// sort is what all of one reason have in common; empty for the text.
	sort string
}

// Error returns why.
func (p *passed) Error() string { return p.text }

// Sort implements uplink.Sorter.
func (p *passed) Sort() string { return cmp.Or(p.sort, p.text) }

// build makes the call of an event by what v remembers. The error is a *waits, a
// *passed, that of the memory, or says what the event lacks for good.
func (s *Sender) build(v *view, e *plant.Event) (*call, error) {
	switch e.Kind {
	case plant.KindSerial:
		return s.buildDevice(v, e)
	case plant.KindItemAttach:
		return s.buildAttach(v, e)
	case plant.KindOperation:
		return s.buildOperation(v, e)
	case plant.KindDosing, plant.KindRefill, plant.KindRemoval:
		return s.buildDose(v, e)
	default:
		return nil, &passed{text: "events of the kind " + string(e.Kind) + " have no form in Next Plus"}
	}
}

// errLacks says what an event lacks for its form, for good.
type errLacks struct{ what, remedy string }

// Error implements error.
func (l *errLacks) Error() string {
	return fmt.Sprintf("nextplus: the event has no %s, which the form wants; %s", l.what, l.remedy)
}

// Sort makes all that lack the same one of a sort.
func (l *errLacks) Sort() string { return "lacks " + l.what }

// order checks that the event belongs to an order of the configured source.
func (s *Sender) order(o *plant.Order) (*plant.Order, error) {
	switch {
	case o == nil || o.Number == "":
		return nil, &passed{text: "the event belongs to no order"}
	case o.Source != s.options.WorkOrderSource:
		return nil, &passed{
			text: fmt.Sprintf("the order %s is from %q, not from %q", o.Number, o.Source, s.options.WorkOrderSource),
			sort: fmt.Sprintf("order source %q", o.Source),
		}
	}
	return o, nil
}

// article is a stock-keeping unit in our words: that of the event, else the
// order's.
func article(sku string, o *plant.Order) (string, error) {
	if sku = cmp.Or(sku, o.SKU); sku == "" {
		return "", &errLacks{"sku", "give the rule a tag for it, or the order its article"}
	}
	return sku, nil
}

// systemOf returns the ids of an event; stock is that of the unit.
func systemOf(e *plant.Event, o *plant.Order, stock string) system {
	return system{
		WorkorderID: id("workorder", o.Source, o.Number), StockID: stock, SessionID: id("session", e.ID().String()),
		WorkorderExternalID: orNull(o.ExternalID),
	}
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func decode(e *plant.Event, into any) error {
	if err := json.Unmarshal(e.Data, into); err != nil {
		return fmt.Errorf("nextplus: read event: %w", err)
	}
	return nil
}

// read reads the data of an event into data, where order and sku are, and returns
// its order, of the configured source, and its article.
func (s *Sender) read(e *plant.Event, data any, order **plant.Order, sku *string) (o *plant.Order, of string, err error) {
	if err = decode(e, data); err == nil {
		o, err = s.order(*order)
	}
	if err == nil {
		of, err = article(*sku, o)
	}
	return o, of, err
}

func (s *Sender) code(e *plant.Event, kind plant.CodeKind, ours string, marks *[]string) string {
	theirs, ok := s.codes.For(e.Machine, e.Sequence).Lookup(kind, ours)
	if !ok {
		*marks = append(*marks, fmt.Sprintf("the table of codes has no %s %q, so it is sent as it is", kind, ours))
	}
	return theirs
}

func (s *Sender) buildDevice(v *view, e *plant.Event) (*call, error) {
	var data plant.Serial
	o, sku, err := s.read(e, &data, &data.Order, &data.SKU)
	if err != nil {
		return nil, err
	}
	if data.Serial == "" {
		return nil, &errLacks{"serial", "the rule must read one"}
	}
	if data.Action == plant.ActionUpdate && data.OldSerial == "" {
		return nil, &passed{text: "the unit came through the station again, which is no change of its serial number"}
	}
	c := &call{key: deviceKey(sku, data.Serial), add: data.Action == plant.ActionAdd}
	known := device{SKU: sku, Serial: data.Serial, StockID: id("stock", sku, data.Serial)}
	before := c.key
	if data.Action == plant.ActionUpdate {
		before = deviceKey(sku, data.OldSerial)
	}
	if !c.add {
		if err := v.behind(before); err != nil {
			return nil, err
		}
		var was device
		found, err := v.get(before, &was)
		if err != nil {
			return nil, err
		}
		if !found {
			if err := v.refused(before, "its add"); err != nil {
				return nil, err
			}
		}
		if was.StockID != "" {
			known.StockID = was.StockID
		} else if data.OldSerial != "" {
			known.StockID = id("stock", sku, data.OldSerial)
		}
		if known.ExternalID = was.ExternalID; known.ExternalID == "" {
			c.marks = append(c.marks, "without externalId, since none is known")
		}
	}
	c.form = &deviceForm{
		Type: data.Action, WorkorderNumber: o.Number, SKU: s.code(e, plant.CodeArticle, sku, &c.marks), Serial: data.Serial,
		OldSerial: onlyOn(data.Action, plant.ActionUpdate, data.OldSerial), ExternalID: known.ExternalID, system: systemOf(e, o, known.StockID),
	}
	c.accepted = func(v *view, externalID string) error {
		known.ExternalID = cmp.Or(externalID, known.ExternalID)
		known.Gone = data.Action == plant.ActionRemove
		if before != c.key {
			v.forget(before)
		}
		return v.keep(c.key, &known)
	}
	return c, nil
}

// onlyOn returns text where the action is that one.
func onlyOn(action, only, text string) string {
	if action != only {
		return ""
	}
	return text
}

func (s *Sender) buildAttach(v *view, e *plant.Event) (*call, error) {
	var data plant.ItemAttach
	o, sku, err := s.read(e, &data, &data.Order, &data.SKU)
	if err != nil {
		return nil, err
	}
	quantity, err := quantityOf(&data.Item)
	if err != nil {
		return nil, err
	}
	c := &call{key: attachKey(e, &data), add: data.Action == plant.ActionAdd}
	if data.Serial != "" {
		if err := v.behind(deviceKey(sku, data.Serial)); err != nil {
			return nil, err
		}
	}
	var known attached
	if !c.add {
		if err := v.behind(c.key); err != nil {
			return nil, err
		}
		found, err := v.get(c.key, &known)
		if err != nil {
			return nil, err
		}
		if !found {
			if err := v.refused(c.key, "its attach"); err != nil {
				return nil, err
			}
		}
		if known.ExternalID == "" {
			c.marks = append(c.marks, "without item.externalId, since none is known")
		}
	}
	parent, stock, err := s.parent(v, c, &data, sku, known.Parent)
	if err != nil {
		return nil, err
	}
	c.form = &attachForm{
		Type: data.Action, WorkorderNumber: o.Number, SKU: s.code(e, plant.CodeArticle, sku, &c.marks), Serial: data.Serial, ExternalID: parent,
		Item: itemForm{
			SKU: s.code(e, plant.CodeComponent, data.Item.SKU, &c.marks), Quantity: quantity, Serial: data.Item.Serial,
			WorkorderNumber: data.Item.Order, ExternalID: known.ExternalID,
		},
		system: systemOf(e, o, stock),
	}
	c.accepted = func(v *view, externalID string) error {
		if !c.add {
			v.forget(c.key)
			return nil
		}
		return v.keep(c.key, &attached{ExternalID: externalID, Parent: parent})
	}
	return c, nil
}

// parent returns the receiver's id and our stock id of the unit that an attach
// belongs to. An add waits until the unit has been accepted.
func (s *Sender) parent(v *view, c *call, data *plant.ItemAttach, sku, fallback string) (externalID, stock string, err error) {
	if data.Serial == "" {
		return "", id("stock", sku, data.Order.Number), nil
	}
	key, stock := deviceKey(sku, data.Serial), id("stock", sku, data.Serial)
	var unit device
	found, err := v.get(key, &unit)
	if err != nil {
		return "", "", err
	}
	switch {
	case found:
		stock = cmp.Or(unit.StockID, stock)
	case c.add && s.options.Device != "" && s.options.UnknownParent == parentWait:
		return "", "", &waits{key, fmt.Sprintf("the attach waits until the receiver has accepted the unit %s (%s); %s", data.Serial, sku, v.why(key))}
	case c.add:
		if err := v.refused(key, fmt.Sprintf("the unit %s (%s)", data.Serial, sku)); err != nil {
			return "", "", err
		}
	}
	if externalID = cmp.Or(unit.ExternalID, fallback); externalID == "" {
		c.marks = append(c.marks, "without the parent's externalId, since none is known")
	}
	return externalID, stock, nil
}

// quantityOf returns how many pieces of the item were attached: one of an item
// with a serial number of its own, unless the event says so itself.
func quantityOf(item *plant.AttachedItem) (plant.Decimal, error) {
	switch {
	case item.Quantity != nil:
		return *item.Quantity, nil
	case item.Serial != "":
		return plant.WholeDecimal(1), nil
	}
	return plant.Decimal{}, &errLacks{"quantity", "give the rule a tag or a number for item.quantity"}
}

func (s *Sender) buildOperation(v *view, e *plant.Event) (*call, error) {
	var data plant.Operation
	o, sku, err := s.read(e, &data, &data.Order, &data.SKU)
	if err != nil {
		return nil, err
	}
	if data.Valid == nil && data.Invalid == nil {
		return nil, &errLacks{"validQty and invalidQty", "the rule must read at least one of them"}
	}
	act, center := cmp.Or(data.RoutingOperation, o.Operation), cmp.Or(data.WorkCenter, o.WorkCenter)
	if act == "" {
		return nil, &errLacks{"actCode", "give the rule its routing_operation, or the order its operation"}
	}
	if center == "" {
		return nil, &errLacks{"workCenterCode", "give the rule its work_center"}
	}
	position := cmp.Or(data.Position, o.Position)
	place, err := plant.ParseDecimal(position)
	if err != nil {
		return nil, &errLacks{"position that is a number", "give the rule its position, or the order the position of its operation"}
	}
	c := &call{add: data.Action == plant.ActionAdd, key: operationKey(o.Number, sku, data.Serial, act, center, position)}
	valid, invalid := orZero(data.Valid), orZero(data.Invalid)
	form := &operationForm{
		Type: data.Action, SKU: s.code(e, plant.CodeArticle, sku, &c.marks), Serial: data.Serial, WorkorderNumber: o.Number,
		ActCode: s.code(e, plant.CodeOperation, act, &c.marks), WorkCenterCode: s.code(e, plant.CodeWorkCenter, center, &c.marks),
		Position: place, ValidQty: valid, InvalidQty: invalid,
		OperationExternalID: orNull(o.OperationExternalID),
	}
	stock, err := stockOf(v, sku, data.Serial, o.Number)
	if err != nil {
		return nil, err
	}
	form.system = systemOf(e, o, stock)
	c.form = form
	var reports reported
	found, err := v.get(c.key, &reports)
	if err != nil {
		return nil, err
	}
	if c.add {
		c.accepted = func(v *view, externalID string) error {
			return v.keep(c.key, reports.with(report{ExternalID: externalID, Valid: valid.String(), Invalid: invalid.String()}))
		}
		return c, nil
	}
	if !found {
		if err := v.behind(c.key); err != nil {
			return nil, err
		}
		if err := v.refused(c.key, "its report"); err != nil {
			return nil, err
		}
	}
	which, rest := reports.without(valid.String(), invalid.String())
	form.ExternalID = json.RawMessage("null")
	if which.ExternalID != "" {
		form.ExternalID, err = json.Marshal(which.ExternalID)
	} else {
		c.marks = append(c.marks, "externalId is null, since none is known")
	}
	c.accepted = func(v *view, _ string) error {
		if len(rest.Reports) == 0 {
			v.forget(c.key)
			return nil
		}
		return v.keep(c.key, rest)
	}
	return c, err
}

// stockOf returns our stock id of the unit that an operation was done on, or of
// what the order makes.
func stockOf(v *view, sku, serial, order string) (string, error) {
	if serial == "" {
		return id("stock", sku, order), nil
	}
	var unit device
	_, err := v.get(deviceKey(sku, serial), &unit)
	return cmp.Or(unit.StockID, id("stock", sku, serial)), err
}

func orZero(d *plant.Decimal) plant.Decimal {
	if d == nil {
		return plant.Decimal{}
	}
	return *d
}

// body returns the JSON of a form.
func body(form any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(form); err != nil {
		return nil, errors.Join(errors.New("nextplus: render event"), err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
