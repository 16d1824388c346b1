package prodsmart

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
)

// pageSize is the length of every page, and of an answer of a change channel.
const pageSize = 25

// Production is the work of one worker at one machine.
type Production struct {
	ID                                 int
	Order, Product, Operation, Machine string
	Worker                             int
	Quantity                           float64
	Waste                              map[string]float64
	Start, End                         time.Time // End is zero while somebody is checked in
}

// CheckIn lets a worker start an order's product at a machine.
func (f *Fake) CheckIn(machine, order, product string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.productions = append(f.productions, &Production{
		ID: f.id(), Order: order, Product: product, Operation: "op1", Machine: machine, Worker: 2,
		Waste: map[string]float64{}, Start: f.company.Now(),
	})
}

// CheckOut ends the productions at a machine.
func (f *Fake) CheckOut(machine string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.productions {
		if p.Machine == machine && p.End.IsZero() {
			p.End = f.company.Now()
		}
	}
}

// credit hands what a machine made to the production that is open there, and
// takes its bill of materials from stock.
func (f *Fake) credit(code string, m *machine, count float64, hasCount bool, waste map[string]float64) {
	for _, p := range f.productions {
		if p.Machine != code || !p.End.IsZero() {
			continue
		}
		if hasCount {
			made := count - m.Count
			p.Quantity += made
			m.Credited[p.Order] += made
			if product := f.products[p.Product]; product != nil {
				for _, c := range product.Components {
					if used := f.products[c.Product]; used != nil {
						used.Stock -= made * c.Quantity
					}
				}
			}
		}
		for w, n := range waste {
			p.Waste[w] += n - m.Waste[w]
			m.CreditedWaste[p.Order] += n - m.Waste[w]
		}
		return
	}
}

// page cuts one page out of a list that is in the order of its making.
func page[T any](f *Fake, q *request, all []T) ([]T, *reply) {
	if f.company.NewestFirst {
		all = slices.Clone(all)
		slices.Reverse(all)
	}
	n := 1
	if given := q.query.Get("page"); given != "" {
		var err error
		if n, err = strconv.Atoi(given); err != nil || n < 1 {
			refused := f.refuse(q, RuleRequest, "page must be a number from 1, not "+strconv.Quote(given))
			return nil, &refused
		}
	}
	from := min((n-1)*pageSize, len(all))
	return all[from:min(from+pageSize, len(all))], nil
}

// bound is a filter by a date, such as start-time-before.
type bound struct {
	name string
	at   func(*Production) time.Time
}

var bounds = []bound{
	{"start-time", func(p *Production) time.Time { return p.Start }},
	{"end-time", func(p *Production) time.Time { return p.End }},
}

func (f *Fake) inBounds(q *request, p *Production) (bool, *reply) {
	for _, b := range bounds {
		for _, side := range []string{"-before", "-after", ""} {
			given := q.query.Get(b.name + side)
			if given == "" {
				continue
			}
			limit, err := central.ParseDate(given)
			if err != nil {
				refused := f.refuse(q, RuleRequest, b.name+side+" "+err.Error())
				return false, &refused
			}
			at := b.at(p)
			if side == "-before" && !at.Before(limit) || side != "-before" && !at.After(limit) {
				return false, nil
			}
		}
	}
	return true, nil
}

func (f *Fake) getProductions(q *request, one string) reply {
	if one != "" {
		return f.refuse(q, RuleRequest, "productions are listed, not read one by one")
	}
	if refused := f.known(q, "page", "production-order-id", "production-order-code", "worker", "start-time-before",
		"start-time-after", "end-time-before", "end-time-after", "start-time", "checked-out", "worker-name"); refused != nil {
		return *refused
	}
	out := q.query.Get("checked-out")
	if out != "" && out != "true" && out != "false" {
		return f.refuse(q, RuleRequest, "checked-out must be true or false")
	}
	var all []map[string]any
	for _, p := range f.productions {
		in, refused := f.inBounds(q, p)
		if refused != nil {
			return *refused
		}
		order, id := q.query.Get("production-order-code"), q.query.Get("production-order-id")
		if !in || order != "" && order != p.Order || id != "" && id != strconv.Itoa(f.orderID(p.Order)) ||
			out != "" && (out == "true") == p.End.IsZero() {
			continue
		}
		all = append(all, f.production(p))
	}
	return listed(f, q, all)
}

// listed answers a page of a list, never null.
func listed[T any](f *Fake, q *request, all []T) reply {
	some, refused := page(f, q, all)
	if refused != nil {
		return *refused
	}
	if some == nil {
		some = []T{}
	}
	return reply{http.StatusOK, some}
}

func (f *Fake) orderID(code string) int {
	for i := range f.company.Orders {
		if f.company.Orders[i].Code == code {
			return f.company.Orders[i].ID
		}
	}
	return 0
}

// wire is how Prodsmart writes a time when it answers.
const wire = "2006-01-02T15:04:05.000Z07:00"

func (f *Fake) production(p *Production) map[string]any {
	waste := []any{}
	for code, n := range p.Waste {
		waste = append(waste, map[string]any{"quantity": n, "waste": map[string]any{"code": code}})
	}
	end := p.End
	if end.IsZero() {
		end = p.Start
	}
	return map[string]any{
		"production-order": map[string]any{"code": p.Order, "id": f.orderID(p.Order)},
		"operation":        map[string]any{"code": p.Operation, "product": p.Product},
		"worker":           map[string]any{"number": p.Worker},
		"machine":          map[string]any{"code": p.Machine},
		"produced-waste":   waste, "parameters": []any{}, "quantity": p.Quantity,
		"checked-out": !p.End.IsZero(), "work-time": "00H00m00s",
		"start-time": p.Start.Format(wire), "end-time": end.Format(wire), "id": p.ID,
	}
}

func (f *Fake) getOrders(q *request, one string) reply {
	if refused := f.known(q, "page", "start-date-before", "start-date-after", "due-date-before", "due-date-after",
		"running-status", "active", "product", "machine", "workers"); refused != nil {
		return *refused
	}
	var all []map[string]any
	for i := range f.company.Orders {
		o := &f.company.Orders[i]
		if one == strconv.Itoa(o.ID) {
			return reply{http.StatusOK, order(o)}
		}
		in, refused := f.orderMatches(q, o)
		if refused != nil {
			return *refused
		}
		if in {
			all = append(all, order(o))
		}
	}
	if one != "" {
		return text(http.StatusNotFound, "Production order not found")
	}
	return listed(f, q, all)
}

func (f *Fake) orderMatches(q *request, o *Order) (bool, *reply) {
	g := q.query.Get
	status := g("running-status")
	if status != "" && !slices.Contains([]string{"notstarted", "started", "closed", "archived"}, status) {
		refused := f.refuse(q, RuleRequest, "running-status "+strconv.Quote(status)+" is none")
		return false, &refused
	}
	for name, at := range map[string]time.Time{"start-date": o.StartDate, "due-date": o.DueDate} {
		for _, side := range []string{"-before", "-after"} {
			given := g(name + side)
			if given == "" {
				continue
			}
			limit, err := central.ParseDate(given)
			if err != nil {
				refused := f.refuse(q, RuleRequest, name+side+" "+err.Error())
				return false, &refused
			}
			if side == "-before" && !at.Before(limit) || side == "-after" && !at.After(limit) {
				return false, nil
			}
		}
	}
	return (status == "" || status == o.RunningStatus) &&
		(g("active") == "" || (g("active") == "true") != o.Inactive) &&
		(g("product") == "" || g("product") == o.Product) &&
		(g("machine") == "" || slices.Contains(o.Machines, g("machine"))), nil
}

func order(o *Order) map[string]any {
	machines := []any{}
	for _, m := range o.Machines {
		machines = append(machines, map[string]any{"code": m})
	}
	return map[string]any{
		"products": []any{map[string]any{"product": o.Product, "quantity-ordered": o.Quantity, "observations": "", "quantity-produced": 0}},
		"code":     o.Code, "description": "", "start-date": o.StartDate.Format(time.RFC3339), "due-date": o.DueDate.Format(time.RFC3339),
		"ended": o.RunningStatus == "closed", "machines": machines, "status": "onschedule",
		"running-status": o.RunningStatus, "notes": "", "active": !o.Inactive, "id": o.ID,
	}
}

func (f *Fake) getDowntimes(q *request, one string) reply {
	if one != "" {
		return f.refuse(q, RuleRequest, "downtimes are listed, not read one by one")
	}
	if refused := f.known(q, "page", "start-time-before", "start-time-after", "end-time-before", "end-time-after", "machine"); refused != nil {
		return *refused
	}
	var all []map[string]any
	for code, m := range f.machines {
		if only := q.query.Get("machine"); only != "" && only != code {
			continue
		}
		for _, d := range m.Downtimes {
			in, refused := f.inBounds(q, &Production{Start: d.Start, End: d.End})
			if refused != nil {
				return *refused
			}
			if in {
				all = append(all, downtime(code, d))
			}
		}
	}
	slices.SortFunc(all, func(a, b map[string]any) int { return a["id"].(int) - b["id"].(int) })
	return listed(f, q, all)
}

func downtime(machine string, d Downtime) map[string]any {
	item := map[string]any{
		"id": d.ID, "start-time": d.Start.Format(wire), "started-by": map[string]any{}, "closed-by": map[string]any{},
		"workers": []any{}, "machines": []any{map[string]any{"code": machine, "name": strings.ToLower(machine)}},
		"product": "", "production-order": "", "checked-out": !d.End.IsZero(), "downtime-type": d.Type,
	}
	if !d.End.IsZero() {
		item["end-time"] = d.End.Format(wire)
	}
	return item
}
