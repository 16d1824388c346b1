package nextplus

import "net/http"

// device books a serial that was set, changed or taken off.
func (f *Fake) device(p *payload) reply {
	p.only("oldSerial", p.kind == "update", "on update")
	p.only("externalId", p.kind == "update" || p.kind == "remove", "on remove and update")
	old := p.String("oldSerial", p.kind == "update")
	external := p.String("externalId", false)
	if refused := f.read(p, "add", "remove", "update"); refused != nil {
		return *refused
	}
	if p.kind == "add" {
		return f.addDevice(p)
	}
	serial := p.serial
	if p.kind == "update" {
		serial = old
	}
	d := f.devices[serial]
	if d == nil {
		return f.refuse(p.request, RuleUnknown, http.StatusNotFound, "the serial %q was never added", serial)
	}
	f.same(p, p.kind+" of "+serial, external, d.ExternalID)
	delete(f.devices, serial)
	if p.kind == "update" {
		d.Was = append(d.Was, serial)
		d.Serial = p.serial
		f.devices[p.serial] = d
	}
	return f.done(d.ExternalID)
}

func (f *Fake) addDevice(p *payload) reply {
	if d := f.devices[p.serial]; d != nil {
		f.Note(RuleDouble, p.request, "the serial %q is there", p.serial)
		d.Times++
		return f.done(d.ExternalID)
	}
	d := &Device{WorkOrder: p.order, SKU: p.sku, Serial: p.serial, ExternalID: f.id("DEV"), Times: 1}
	f.devices[p.serial] = d
	return f.done(d.ExternalID)
}

// item books a component that was attached or taken off.
func (f *Fake) item(p *payload) reply {
	parent := p.String("externalId", false)
	i := Item{WorkOrder: p.order, SKU: p.sku, Parent: p.serial}
	external := ""
	if item := p.Object.Object("item", true); item != nil {
		i.ItemSKU = item.String("sku", true)
		i.Quantity, _ = item.Number("quantity", true)
		i.ItemSerial = item.String("serial", false)
		_ = item.String("workorderNumber", false)
		if item.Has("externalId") && p.kind != "remove" {
			item.Fail("externalId", "stands there only on remove")
		}
		external = item.String("externalId", false)
		if item.Has("quantity") && i.Quantity == 0 {
			item.Fail("quantity", "must be more than 0")
		}
		item.End()
	}
	if refused := f.read(p, "add", "remove"); refused != nil {
		return *refused
	}
	if p.serial != "" && !f.erp.NoDevices {
		d := f.devices[p.serial]
		if d == nil {
			return f.refuse(p.request, RuleParent, http.StatusNotFound, "the parent %q is not there", p.serial)
		}
		f.same(p, "the parent "+p.serial, parent, d.ExternalID)
	}
	if p.kind == "add" {
		return f.addItem(p, i)
	}
	for _, known := range f.items {
		if !known.Removed && known.WorkOrder == i.WorkOrder && known.Parent == i.Parent && known.ItemSKU == i.ItemSKU &&
			known.ItemSerial == i.ItemSerial && (external == "" || external == known.ExternalID) {
			f.same(p, "remove of "+i.ItemSKU, external, known.ExternalID)
			known.Removed = true
			return f.done(known.ExternalID)
		}
	}
	return f.refuse(p.request, RuleUnknown, http.StatusNotFound, "%s %s was never attached to %q", i.ItemSKU, external, i.Parent)
}

func (f *Fake) addItem(p *payload, i Item) reply {
	for _, known := range f.items {
		if i.ItemSerial != "" && !known.Removed && known.ItemSerial == i.ItemSerial && known.ItemSKU == i.ItemSKU {
			f.Note(RuleDouble, p.request, "the component %s %s is attached", i.ItemSKU, i.ItemSerial)
		}
	}
	i.ExternalID = f.id("COMP")
	f.items = append(f.items, &i)
	return f.done(i.ExternalID)
}

// operation books the report of an operation, or takes it back.
func (f *Fake) operation(p *payload) reply {
	p.only("externalId", p.kind == "remove", "on remove")
	external, _ := p.OrNull("externalId", false)
	_, _ = p.OrNull("operationExternalId", false)
	o := Operation{
		WorkOrder: p.order, SKU: p.sku, Serial: p.serial,
		ActCode: p.String("actCode", true), WorkCenter: p.String("workCenterCode", true),
	}
	o.Position, _ = p.Number("position", true)
	o.Valid, _ = p.Number("validQty", true)
	o.Invalid, _ = p.Number("invalidQty", true)
	if refused := f.read(p, "add", "remove"); refused != nil {
		return *refused
	}
	if p.kind == "add" {
		o.ExternalID = f.id("OP")
		f.operations = append(f.operations, &o)
		return f.done(o.ExternalID)
	}
	for _, known := range f.operations {
		if !known.Removed && known.WorkOrder == o.WorkOrder && known.ActCode == o.ActCode && known.Position == o.Position &&
			known.Serial == o.Serial && (external == "" || external == known.ExternalID) {
			f.same(p, "remove of "+o.ActCode, external, known.ExternalID)
			known.Removed = true
			return f.done(known.ExternalID)
		}
	}
	return f.refuse(p.request, RuleUnknown, http.StatusNotFound, "%s %s was never reported", o.ActCode, external)
}
