package prodsmart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// Stock is what a config says of stock that the gateway sets. Each component's
// whole stock is overwritten, so somebody has to say that nobody else keeps it.
type Stock struct {
	// Master declares that nobody but this gateway keeps the stock of Components.
	Master bool `yaml:"master"`
	// Components are those whose stock is set, and nobody else's.
	Components config.Table[Component] `yaml:"components,required"`
	// Lacking says what becomes of stock while the books lack events: hold or send.
	Lacking string `yaml:"lacking"`
}

// The values of Lacking.
const (
	lackingHold = "hold"
	lackingSend = "send"
)

const (
	stockPath = "stock"
	// coveredFor is how long what was set counts for older events that it contains. A
	// resend later than that sets the stock once more.
	coveredFor = time.Minute
	// bookedIn is about how long the books take until an event is in them.
	bookedIn = 250 * time.Millisecond
)

// errNotBooked is why a stock waits for the books.
var errNotBooked = &uplink.NotYet{Why: "prodsmart: the event is not in the books of material yet"}

// fill puts the defaults in the place of what a config does not say.
func (s *Stock) fill() {
	if s.Lacking == "" {
		s.Lacking = lackingHold
	}
}

// Validate returns the faults of s as config.FieldErrors, nil if there are none.
func (s Stock) Validate() error {
	var errs []error
	s.fill()
	if !s.Master {
		errs = append(errs, config.Field("master", "nobody says that the gateway is the master of this stock, which it would overwrite",
			"write master: true if no ERP, no warehouse system and nobody by hand keeps it in Prodsmart, or remove stock"))
	}
	if allowed := []string{lackingHold, lackingSend}; !slices.Contains(allowed, s.Lacking) {
		errs = append(errs, config.Unknown("lacking", "value", s.Lacking, allowed))
	}
	for _, row := range s.Components.Rows {
		if c := row.Value; c.Warehouse != "" || c.WarehouseLocation != "" || c.Location != "" {
			errs = append(errs, config.Field("components."+row.Name, "a stock is set for the whole company, and this names a place", "remove warehouse, warehouse_location and location"))
		}
	}
	return errors.Join(errs...)
}

// validateStock looks at stock beside the other settings.
func (o Options) validateStock() error {
	if o.Stock == nil {
		return nil
	}
	var errs []error
	if o.Movements != nil {
		errs = append(errs, config.Field("stock", "movements are booked too: Prodsmart would take each dose from a stock that has lost it already", "remove one of stock and movements"))
	}
	names := make(map[string]string)
	for _, row := range o.Stock.Components.Rows {
		product := row.Name
		if code, mapped := o.Codes.Component.Get(row.Name); mapped {
			product = code.Theirs
		}
		if other, twice := names[product]; twice {
			errs = append(errs, config.Field("stock.components."+row.Name, fmt.Sprintf("%s and %s are both the product %s in Prodsmart: each would overwrite the other's stock", other, row.Name, product),
				"name one of them, or give each a product of its own in codes: component:"))
		}
		names[product] = row.Name
	}
	return errors.Join(errs...)
}

// components are the materials that the config says something of.
func (o *Options) components() []config.Row[Component] {
	switch {
	case o.Movements != nil:
		return o.Movements.Components.Rows
	case o.Stock != nil:
		return o.Stock.Components.Rows
	}
	return nil
}

// carries reports whether events of that kind change a stock. Material that is
// only loaded onto a place stays in the plant.
func (s *Stock) carries(k plant.EventKind) bool {
	switch k {
	case plant.KindDosing, plant.KindRefill, plant.KindRemoval, plant.KindReceipt, plant.KindCorrection:
		return s != nil
	}
	return false
}

// moved returns the component whose stock an event changes, empty if there is none
// that is set.
func (s *Stock) moved(e *plant.Event) (string, error) {
	if !s.carries(e.Kind) {
		return "", nil
	}
	var data struct {
		Component string                    `json:"component"`
		Material  *plant.MaterialCorrection `json:"material"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return "", err
	}
	if e.Kind == plant.KindCorrection {
		data.Component = ""
		if data.Material != nil {
			data.Component = data.Material.Component
		}
	}
	if _, set := s.Components.Get(data.Component); !set {
		return "", nil
	}
	return data.Component, nil
}

// stockState is what goes on with a component's stock. The Sender's lock guards it.
type stockState struct {
	// busy is set while one Send reads the books and sets the stock: of two at once
	// the older number could come last.
	busy bool
	// until is when it is tried again, after cause.
	until time.Time
	cause error
}

// toldStock is what was set: it contains the machine's events up to booked.
type toldStock struct {
	booked plant.Sequence
	until  time.Time
}

// stocktake sets the stock of what the events have moved, once for each component,
// by what the books say now.
func (w *work) stocktake(ctx context.Context) *halt {
	byComponent := make(map[string][]int)
	var order []string
	for i := range w.events {
		component := w.stock[i]
		if component == "" || w.done[i].set {
			continue
		}
		if told := w.m.told[component]; w.events[i].Sequence <= told.booked && time.Now().Before(told.until) {
			w.deliver(i)
			continue
		}
		if byComponent[component] == nil {
			order = append(order, component)
		}
		byComponent[component] = append(byComponent[component], i)
	}
	for _, component := range order {
		if stop := w.setStock(ctx, component, byComponent[component]); stop != nil {
			return stop
		}
	}
	return nil
}

// enterStock makes a component's stock this Send's alone; else it settles the
// events.
func (w *work) enterStock(component string, all []int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stocks[component]
	if s == nil {
		s = &stockState{}
		w.stocks[component] = s
	}
	switch {
	case time.Now().Before(s.until) && !w.commanded:
		w.settleAll(all, plant.Held, s.cause, 0)
		return false
	case s.busy:
		w.settleAll(all, plant.Retry, &uplink.NotYet{Why: "prodsmart: the stock of " + component + " is being set for another machine"}, bookedIn)
		return false
	}
	s.busy = true
	return true
}

func (w *work) leaveStock(component string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stocks[component].busy = false
}

func (w *work) settleAll(all []int, status plant.Status, cause error, wait time.Duration) {
	for _, i := range all {
		w.settle(i, status, cause, wait)
	}
}

// holdStock lets the events wait for a person.
func (w *work) holdStock(component string, all []int, cause error) {
	w.mu.Lock()
	s := w.stocks[component]
	s.until, s.cause = time.Now().Add(heldFor), cause
	w.mu.Unlock()
	w.settleAll(all, plant.Held, cause, 0)
}

// setStock sets one component's stock for the events that have moved it. To set
// the same number twice does no harm, so a lost answer needs no care.
func (w *work) setStock(ctx context.Context, component string, all []int) *halt {
	if !w.enterStock(component, all) {
		return nil
	}
	defer w.leaveStock(component)
	last := all[len(all)-1]
	if w.again(last, classStock) {
		w.deliverAll(all[:len(all)-1]) // the last one has their number too
		return nil
	}
	quantity, booked, ok := w.inBooks(ctx, component, all)
	if !ok {
		return nil
	}
	product, _ := w.env.Codes.For(w.m.id, w.events[last].Sequence).Lookup(plant.CodeComponent, component) // an unmapped one goes as it is, and is listed
	request := &call{
		class: classStock, method: http.MethodPost, path: stockPath, body: renderStock(product, quantity),
		machine: w.m.id, kind: w.events[last].Kind, first: w.events[all[0]].Sequence, last: w.events[last].Sequence, events: len(all), until: w.until,
	}
	a, o, h := w.withToken(ctx, request)
	if h == nil && o == taken {
		w.m.told[component] = toldStock{booked, time.Now().Add(coveredFor)}
		w.deliverAll(all)
		return nil
	}
	return w.stockNotTaken(request, a, o, h, component, all)
}

func (w *work) deliverAll(all []int) {
	for _, i := range all {
		w.deliver(i)
	}
}

// inBooks returns what the books say, in Prodsmart's unit, and up to where the
// machine's events are in it. Where they do not say it, the events are settled.
func (w *work) inBooks(ctx context.Context, component string, all []int) (quantity plant.Decimal, booked plant.Sequence, ok bool) {
	s, err := w.askBooks(ctx, component)
	if err == nil && s.Booked < w.events[all[len(all)-1]].Sequence {
		err = errNotBooked
	}
	var later *uplink.NotYet
	switch {
	case ctx.Err() != nil:
		w.settleAll(all, plant.Retry, ctx.Err(), 0)
		return quantity, 0, false
	case errors.As(err, &later):
		w.settleAll(all, plant.Retry, err, bookedIn)
		return quantity, 0, false
	}
	if err == nil {
		quantity, err = w.total(component, &s)
	}
	if err != nil {
		w.holdStock(component, all, problem("books "+component, "the stock of %s is not set: %v", component, err))
	}
	return quantity, s.Booked, err == nil
}

func (w *work) askBooks(ctx context.Context, component string) (uplink.Stock, error) {
	if w.env.Stock == nil {
		return uplink.Stock{}, errors.New("there are no books of material")
	}
	return w.env.Stock(ctx, component, w.m.id)
}

// total adds up what the books say in Prodsmart's unit, exactly; the error says why
// nobody knows it.
func (s *Sender) total(component string, books *uplink.Stock) (sum plant.Decimal, err error) {
	c := s.components[component]
	if len(books.Amounts) == 0 {
		return sum, errors.New("the books of material have never heard of it")
	}
	if books.Lacking != "" && s.options.Stock.Lacking == lackingHold {
		return sum, fmt.Errorf("the books of material lack events (%s): count it, enter the difference as a correction, then write lacking: send", books.Lacking)
	}
	for _, a := range books.Amounts {
		part, err := c.unit().Convert(a.Quantity, a.Unit)
		if err == nil {
			sum, err = sum.Add(part)
		}
		if err != nil {
			return sum, fmt.Errorf("%s %s of it are in the books: %w", a.Quantity, a.Unit, err)
		}
	}
	if sum.Unscaled < 0 {
		return sum, fmt.Errorf("by the books it is %s %s, so they never heard of all that came in: count it, and enter the difference as a correction", sum.Normal(), c.UoM)
	}
	return sum.Normal(), nil
}

// renderStock writes the body.
func renderStock(product string, quantity plant.Decimal) []byte {
	dst := plant.AppendJSONString([]byte(`{"product-code":`), product)
	return append(quantity.Append(append(dst, `,"stock":`...)), '}')
}

// stockNotTaken settles the events of a stock that was not taken. A refusal is of
// the newest of them, whose number holds the others'.
func (w *work) stockNotTaken(c *call, a *httplink.Answer, o outcome, h *halt, component string, all []int) *halt {
	switch {
	case h != nil && (linked(h) || waitsForRoom(h)):
		return h
	case h != nil:
		w.holdStock(component, all, h.cause)
	case o == stumbled:
		w.settleAll(all, plant.Retry, problem("stumbled", "%s", w.said(c, a)), httplink.RetryAfter(a.Header, time.Now()))
	case o == missing:
		w.holdStock(component, all, problem("missing "+component, "%s; make the product of %s there, or name it in codes: component:", w.said(c, a), component))
	default:
		w.deliverAll(all[:len(all)-1])
		w.refuse(all[len(all)-1], classStock, problem("refused "+letters(a.Words()), "%s", w.said(c, a)))
	}
	return nil
}
