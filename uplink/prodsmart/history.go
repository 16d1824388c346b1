package prodsmart

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// mostLooked bounds the pages of a list that a preflight looks at.
const mostLooked = 4

// sight is a code of a kind that Prodsmart's history holds; at is a machine that it
// was seen with, where that matters.
type sight struct {
	kind plant.CodeKind
	code string
	at   string
}

// history reads the newest downtimes, orders, productions and products, as far as
// there is time: what they name is known there.
func (s *Sender) history(ctx context.Context) map[sight]bool {
	seen := make(map[sight]bool)
	note := func(kind plant.CodeKind, code string) {
		if code != "" {
			seen[sight{kind: kind, code: code}] = true
		}
	}
	type coded struct{ Code string }
	s.list(ctx, "downtimes", func(raw json.RawMessage) {
		var d struct {
			Type     string `json:"downtime-type"`
			Machines []coded
		}
		if json.Unmarshal(raw, &d) == nil {
			note(plant.CodeDowntimeType, d.Type)
			for _, m := range d.Machines {
				note(plant.CodeMachine, m.Code)
				seen[sight{plant.CodeDowntimeType, d.Type, m.Code}] = true
			}
		}
	})
	s.list(ctx, "products", func(raw json.RawMessage) {
		var p struct {
			Operations []struct{ Machines, Waste []coded }
		}
		if json.Unmarshal(raw, &p) == nil {
			for _, o := range p.Operations {
				for _, m := range o.Machines {
					note(plant.CodeMachine, m.Code)
				}
				for _, w := range o.Waste {
					note(plant.CodeWaste, w.Code)
				}
			}
		}
	})
	s.list(ctx, "production-orders/", func(raw json.RawMessage) {
		var o struct{ Machines []coded }
		if json.Unmarshal(raw, &o) == nil {
			for _, m := range o.Machines {
				note(plant.CodeMachine, m.Code)
			}
		}
	})
	s.list(ctx, "productions", func(raw json.RawMessage) {
		var p struct {
			Machine coded
			Waste   []struct{ Waste coded } `json:"produced-waste"`
		}
		if json.Unmarshal(raw, &p) == nil {
			note(plant.CodeMachine, p.Machine.Code)
			for _, w := range p.Waste {
				note(plant.CodeWaste, w.Waste.Code)
			}
		}
	})
	return seen
}

// list reads a few pages; what cannot be read says nothing.
func (s *Sender) list(ctx context.Context, path string, visit func(json.RawMessage)) {
	for page := 1; page <= mostLooked; page++ {
		a, o, h := s.withToken(ctx, &call{
			class: classOrders, method: http.MethodGet, path: path, whole: true, asked: uplink.OutcomeAsked,
			until: time.Now().Add(preflightFor), query: url.Values{"page": {strconv.Itoa(page)}},
		})
		var items []json.RawMessage
		if h != nil || o != taken || json.Unmarshal(a.Body, &items) != nil {
			return
		}
		for _, item := range items {
			visit(item)
		}
		if len(items) < pageSize {
			return
		}
	}
}
