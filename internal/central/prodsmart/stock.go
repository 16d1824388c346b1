package prodsmart

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Movement is an inventory movement that was booked.
type Movement struct {
	ID                                                  int
	Product, Type, Lot, Comment, Warehouse, WarehouseAt string
	Quantity                                            float64
	Time, BookedAt                                      time.Time
}

// Movements returns what was booked, in order. The same comment twice is one
// dose booked twice.
func (f *Fake) Movements() []Movement {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.movements)
}

// BookMovement books one that came from elsewhere.
func (f *Fake) BookMovement(m Movement) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.ID = f.id()
	f.movements = append(f.movements, m)
}

// TakeOut takes a movement out, as a person does.
func (f *Fake) TakeOut(id int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.movements = slices.DeleteFunc(f.movements, func(m Movement) bool { return m.ID == id })
}

// Stock returns a product's stock.
func (f *Fake) Stock(product string) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.products[product]; p != nil {
		return p.Stock
	}
	return 0
}

func (f *Fake) postMovement(q *request) reply {
	if refused := f.known(q); refused != nil {
		return *refused
	}
	o, refused := f.object(q)
	if refused != nil {
		return *refused
	}
	name := "product-code" // the example's; the list of attributes says product
	if !o.Has(name) && o.Has("product") {
		name = "product"
	}
	m := Movement{
		Product: o.String(name, true), Time: o.Date("date-time", false), Quantity: o.NumberOrText("quantity", true),
		Type: o.String("type", true), Lot: o.String("lot", false), Comment: o.String("comment", false),
		Warehouse: o.String("warehouse", false), WarehouseAt: o.String("warehouse-location", false), BookedAt: q.now,
	}
	if o.Has("total-cost") {
		o.NumberOrText("total-cost", false)
	}
	for _, field := range []string{"location", "shipping", "client-order", "receiving", "purchase-order"} {
		_ = o.String(field, false) // known, and not kept
	}
	if m.Quantity <= 0 {
		o.Fail("quantity", "must be more than 0")
	}
	if refused := f.problems(q, o); refused != nil {
		return *refused
	}
	product := f.products[m.Product]
	if product == nil {
		return f.refuse(q, RuleCode, "Product "+strconv.Quote(m.Product)+" not found")
	}
	if !slices.Contains(f.company.MovementTypes, m.Type) {
		return f.refuse(q, RuleBody, "Type "+strconv.Quote(m.Type)+" is no type of a movement")
	}
	if consumes := m.Type == "out" || m.Type == "consumption"; consumes {
		if of := f.whoseComponent(m.Product); of != "" {
			f.Note(RuleDoubleBOM, q.Request, "%s is in the bill of materials of %s and is consumed with it", m.Product, of)
		}
		product.Stock -= m.Quantity
	} else {
		product.Stock += m.Quantity
	}
	m.ID = f.id()
	f.movements = append(f.movements, m)
	return reply{f.company.Created, movement(m)}
}

// whoseComponent names a product that Prodsmart takes the component for.
func (f *Fake) whoseComponent(component string) string {
	for _, code := range slices.Sorted(maps.Keys(f.products)) {
		for _, c := range f.products[code].Components {
			if c.Product == component {
				return code
			}
		}
	}
	return ""
}

func movement(m Movement) map[string]any {
	item := map[string]any{
		"product-code": m.Product, "quantity": strconv.FormatFloat(m.Quantity, 'f', -1, 64), "type": m.Type, "id": m.ID,
	}
	if !m.Time.IsZero() {
		item["date-time"] = m.Time.UTC().Format(time.RFC3339)
	}
	for name, v := range map[string]string{"lot": m.Lot, "comment": m.Comment, "warehouse-location": m.WarehouseAt} {
		if v != "" {
			item[name] = v
		}
	}
	return item
}

func (f *Fake) getMovements(q *request, one string) reply {
	if refused := f.known(q, "page", "product-code", "type"); refused != nil {
		return *refused
	}
	var all []map[string]any
	for _, m := range f.movements {
		if one == strconv.Itoa(m.ID) {
			return reply{http.StatusOK, movement(m)}
		}
		p, t := q.query.Get("product-code"), q.query.Get("type")
		if (p == "" || p == m.Product) && (t == "" || t == m.Type) {
			all = append(all, movement(m))
		}
	}
	if one != "" {
		return text(http.StatusNotFound, "Inventory movement not found")
	}
	return listed(f, q, all)
}

func (f *Fake) getProducts(q *request, one string) reply {
	if refused := f.known(q, "page", "product-family-code", "modification-date"); refused != nil {
		return *refused
	}
	if one != "" {
		if p := f.products[one]; p != nil {
			return reply{http.StatusOK, product(p)}
		}
		return text(http.StatusNotFound, "Product with the provided code doesn't exist")
	}
	var all []map[string]any
	for _, code := range slices.Sorted(maps.Keys(f.products)) {
		all = append(all, product(f.products[code]))
	}
	return listed(f, q, all)
}

func product(p *Product) map[string]any {
	components := []any{}
	for _, c := range p.Components {
		line := map[string]any{"product-code": c.Product, "quantity": c.Quantity}
		if c.Operation != "" {
			line["operation-code"] = c.Operation
		}
		components = append(components, line)
	}
	coded := func(codes []string) any {
		if codes == nil {
			return nil
		}
		list := []any{}
		for _, code := range codes {
			list = append(list, map[string]any{"code": code})
		}
		return list
	}
	operations := []any{}
	for _, o := range p.Operations {
		operations = append(operations, map[string]any{"code": o.Code, "name": o.Code, "machines": coded(o.Machines), "waste": coded(o.Waste), "disabled": false})
	}
	item := map[string]any{
		"code": p.Code, "name": p.Name, "section": nil, "families": nil, "observations": "",
		"operations": operations, "components": components, "parameters": []any{},
	}
	if p.UoM != "" {
		item["uom"] = p.UoM
	}
	return item
}

func (f *Fake) getStock(q *request, one string) reply {
	if refused := f.known(q, "lot"); refused != nil {
		return *refused
	}
	p := f.products[one]
	if p == nil {
		return f.refuse(q, RuleCode, "Product not found")
	}
	return reply{http.StatusOK, map[string]any{"product-code": p.Code, "stock": p.Stock, "lot": []any{}}}
}

func (f *Fake) postStock(q *request) reply {
	if refused := f.known(q); refused != nil {
		return *refused
	}
	if !f.company.StockMaster {
		f.Note(RuleStock, q.Request, "the gateway is not the master of the stock")
	}
	o, refused := f.object(q)
	if refused != nil {
		return *refused
	}
	code := o.String("product-code", true)
	stock, _ := o.Number("stock", true)
	_ = o.Date("date", false)
	if refused := f.problems(q, o); refused != nil {
		return *refused
	}
	p := f.products[code]
	if p == nil {
		return text(http.StatusNotFound, "Product not found")
	}
	p.Stock = stock
	return text(http.StatusCreated, "Request successful")
}

type change struct {
	at   time.Time
	item json.RawMessage
}

// Push puts a changed item into a channel, as the document of its type shows it.
func (f *Fake) Push(channel string, item any) {
	text, err := json.Marshal(item)
	if err != nil {
		panic(err) // a test's own value
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes[channel] = append(f.changes[channel], change{f.company.Now(), text})
}

// Waiting returns how many items a channel holds, Handed how many it has given
// away, whether the answer arrived or not.
func (f *Fake) Waiting(channel string) (waiting, handed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.changes[channel]), f.handed[channel]
}

func (f *Fake) getChanges(q *request, channel string) reply {
	if refused := f.known(q, "workers"); refused != nil {
		return *refused
	}
	if f.company.Channels[channel] == "" {
		return f.refuse(q, RuleCode, "Channel "+strconv.Quote(channel)+" not found")
	}
	fresh := slices.DeleteFunc(f.changes[channel], func(c change) bool { return q.now.Sub(c.at) >= 24*time.Hour })
	n := min(pageSize, len(fresh))
	items := []json.RawMessage{}
	for _, c := range fresh[:n] {
		items = append(items, c.item)
	}
	f.changes[channel] = fresh[n:]
	f.handed[channel] += n
	return reply{http.StatusOK, items}
}
