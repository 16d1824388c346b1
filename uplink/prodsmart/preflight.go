package prodsmart

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

var _ uplink.Preflighter = (*Sender)(nil)

// preflightFor is how long one question of a preflight may wait for its turn
// within the share of requests.
const preflightFor = 20 * time.Second

// cannotBeChecked are the codes of which Prodsmart has no list that can be read.
var cannotBeChecked = map[plant.CodeKind]string{
	plant.CodeMachine:      "Prodsmart has no list of machines: compare the codes with its menu Machines, and look into the integration log after the first hour",
	plant.CodeDowntimeType: "Prodsmart has no list of downtime types: see that each is assigned to its machine there",
	plant.CodeWaste:        "Prodsmart has no list of waste codes: compare them with its menu",
	plant.CodeParameter:    "Prodsmart has no list of parameters: compare them with its menu",
}

// Preflight implements uplink.Preflighter: it reads the product of each article
// and of each component that movements book or whose stock is set. A component must be there, in the
// unit that the config says, and in no bill of materials that Prodsmart consumes
// itself. Of codes without a list it says which ones the newest downtimes, orders,
// productions and products name.
func (s *Sender) Preflight(ctx context.Context, used []uplink.UsedCode) (found []uplink.Finding) {
	seen := s.history(ctx)
	used = append(slices.Clone(used), s.options.defaultTypes()...)
	for _, kind := range []plant.CodeKind{plant.CodeMachine, plant.CodeDowntimeType, plant.CodeWaste, plant.CodeParameter} {
		var codes []string
		for _, c := range used {
			switch {
			case c.Kind != kind:
			case seen[sight{kind: kind, code: c.Theirs}]:
				found = append(found, s.named(seen, &c))
			default:
				codes = append(codes, c.Theirs)
			}
		}
		slices.Sort(codes)
		if len(codes) > 0 {
			found = append(found, uplink.Finding{Level: uplink.Amber, What: string(kind), Words: "cannot be checked: " + strings.Join(slices.Compact(codes), ", "), Remedy: cannotBeChecked[kind]})
		}
	}
	booked := s.bookedComponents(used)
	for _, c := range booked {
		found = append(found, s.preflightComponent(ctx, c))
	}
	if s.options.Movements == nil {
		booked = nil // a stock that is set counts nothing twice
	}
	for _, c := range used {
		if c.Kind == plant.CodeArticle {
			found = append(found, s.preflightArticle(ctx, c, booked)...)
		}
	}
	if len(booked) > 0 && s.options.Movements.BillOfMaterials == bomRefuse {
		found = append(found, uplink.Finding{Level: uplink.Amber, What: string(plant.CodeArticle),
			Words:  "the bills of materials of articles that only orders name are compared when the first dose of an order is booked",
			Remedy: "look for refused doses in the integration log after an order has begun"})
	}
	return found
}

// named says of a code that Prodsmart knows it. A downtime type is taken only from a
// machine that it is assigned to.
func (s *Sender) named(seen map[sight]bool, c *uplink.UsedCode) uplink.Finding {
	f := uplink.Finding{Level: uplink.OK, What: string(c.Kind), Code: c.Code, Words: fmt.Sprintf("Prodsmart's newest records name %q", c.Theirs)}
	var without []string
	for _, m := range c.Machines {
		theirs, _ := s.env.Codes.Lookup(plant.CodeMachine, string(m)) // as it is where it is not mapped
		if c.Kind == plant.CodeDowntimeType && !seen[sight{c.Kind, c.Theirs, theirs}] {
			without = append(without, theirs)
		}
	}
	if len(without) > 0 {
		f.Level, f.Remedy = uplink.Amber, "see that it is assigned to each machine there, else its stops are refused"
		f.Words += "; whether it is assigned to " + strings.Join(without, ", ") + " cannot be checked"
	}
	return f
}

// bookedComponents returns the components that movements book or whose stock is
// set, as Prodsmart calls them.
func (s *Sender) bookedComponents(used []uplink.UsedCode) (booked []uplink.UsedCode) {
	for _, row := range s.options.components() {
		at := slices.IndexFunc(used, func(c uplink.UsedCode) bool { return c.Kind == plant.CodeComponent && c.Code == row.Name })
		if at >= 0 {
			booked = append(booked, used[at])
			continue
		}
		theirs, mapped := s.env.Codes.Lookup(plant.CodeComponent, row.Name)
		booked = append(booked, uplink.UsedCode{Kind: plant.CodeComponent, Code: row.Name, Theirs: theirs, Mapped: mapped})
	}
	return booked
}

// product is what a preflight reads of a product.
type product struct {
	UoM string `json:"uom"`
}

// ask reads a product. A Finding with a Level says why it could not be.
func (s *Sender) ask(ctx context.Context, c uplink.UsedCode) (body []byte, problem uplink.Finding) {
	problem = uplink.Finding{What: string(c.Kind), Code: c.Code}
	a, o, h := s.withToken(ctx, &call{
		class: classOrders, method: http.MethodGet, path: "products/" + url.PathEscape(c.Theirs), whole: true,
		asked: uplink.OutcomeAsked, until: time.Now().Add(preflightFor),
	})
	switch {
	case h != nil:
		problem.Level, problem.Words, problem.Remedy = uplink.Amber, "could not be asked for: "+h.cause.Error(), "try again when Prodsmart answers"
	case o == missing:
		problem.Level, problem.Words = uplink.Red, fmt.Sprintf("Prodsmart has no product %q", c.Theirs)
		problem.Remedy = "make it there, or name the product that is meant in codes: " + string(c.Kind) + ":"
	case o != taken:
		problem.Level, problem.Words, problem.Remedy = uplink.Amber, fmt.Sprintf("Prodsmart does not say what the product %q is: status %d", c.Theirs, a.Status), "see what the key of this gateway may read"
	case a.BodyErr != nil:
		problem.Level, problem.Words, problem.Remedy = uplink.Amber, "the answer was cut: "+a.BodyErr.Error(), "try again"
	default:
		return a.Body, problem
	}
	return nil, problem
}

// preflightComponent compares one component that is booked.
func (s *Sender) preflightComponent(ctx context.Context, c uplink.UsedCode) uplink.Finding {
	body, f := s.ask(ctx, c)
	if f.Level != "" {
		return f
	}
	var p product
	component := s.components[c.Code]
	switch err := json.Unmarshal(body, &p); {
	case err != nil:
		f.Level, f.Words, f.Remedy = uplink.Amber, "the product cannot be read: "+err.Error(), "compare its unit by hand"
	case p.UoM == "":
		f.Level, f.Words, f.Remedy = uplink.Amber, fmt.Sprintf("Prodsmart has the product %q and names no unit; %s is taken", c.Theirs, component.UoM), "compare its unit by hand"
	case !strings.EqualFold(p.UoM, component.UoM):
		f.Level, f.Words = uplink.Red, fmt.Sprintf("Prodsmart has the product %q in %q, the config says %q: every quantity would be wrong by that", c.Theirs, p.UoM, component.UoM)
		f.Remedy = "write uom: " + p.UoM + " for it"
	default:
		f.Level, f.Words = uplink.OK, fmt.Sprintf("is the product %q, in %s", c.Theirs, p.UoM)
	}
	return f
}

// preflightArticle compares one article, and its bill of materials with what is
// booked.
func (s *Sender) preflightArticle(ctx context.Context, c uplink.UsedCode, booked []uplink.UsedCode) []uplink.Finding {
	body, f := s.ask(ctx, c)
	if f.Level != "" {
		return []uplink.Finding{f}
	}
	components, err := componentsIn(body)
	if err != nil {
		f.Level, f.Words, f.Remedy = uplink.Amber, "its bill of materials cannot be read: "+err.Error(), "compare it by hand with movements: components:"
		return []uplink.Finding{f}
	}
	var double []string
	for _, b := range booked {
		if slices.Contains(components, b.Theirs) {
			double = append(double, b.Theirs)
		}
	}
	f.Level, f.Words = uplink.OK, fmt.Sprintf("is the product %q", c.Theirs)
	if len(double) > 0 {
		f.Level, f.Words = uplink.Red, fmt.Sprintf("Prodsmart consumes %s itself, by the bill of materials of %q: booking doses too would take it from stock twice", strings.Join(double, ", "), c.Theirs)
		f.Remedy = "take it out of movements: components:, or out of the bill of materials"
		if s.options.Movements.BillOfMaterials == bomIgnore {
			f.Level = uplink.Amber
		}
	}
	return []uplink.Finding{f}
}
