package prodsmart_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/prodsmart"
)

// TestEveryBadRequestIsRefusedAndNoted is the strictness: one fault a row, what
// is answered, the rule that it breaks, and nothing is booked.
func TestEveryBadRequestIsRefusedAndNoted(t *testing.T) {
	const counter, parameters, startstop = "/api/machines/A32/counter", "/api/machines/A32/parameters", "/api/machines/A32/startstop"
	const movements = "/api/inventory-movements/"
	const js = "application/json"
	for _, c := range []struct {
		name, method, target, credentials, kind, body string
		status                                        int
		rule                                          string
	}{
		{"no credentials", "POST", counter, "", js, `{"count":1}`, 401, prodsmart.RuleAuth},
		{"a wrong secret", "POST", counter, "key:wrong", js, `{"count":1}`, 401, prodsmart.RuleAuth},
		{"a wrong key", "POST", counter, "yek:hush-hush", js, `{"count":1}`, 401, prodsmart.RuleAuth},
		{"a token in the URL of a machine", "POST", counter + "?access_token=made-up", "", js, `{"count":1}`, 401, prodsmart.RuleTokenInURL},
		{"a bearer at a machine", "POST", counter, "Bearer abc", js, `{"count":1}`, 401, prodsmart.RuleAuth},
		{"Basic where a token belongs", "GET", "/api/products/flour", good, "", "", 401, prodsmart.RuleAuth},
		{"a made-up token", "GET", "/api/products/flour?access_token=made-up", "", "", "", 401, prodsmart.RuleAuth},
		{"a token for the authorisation", "GET", "/api/authorization?access_token=x", good, "", "", 404, prodsmart.RuleTokenInURL},
		{"a revoked authorisation", "DELETE", "/api/authorization", good, "", "", 204, prodsmart.RuleAuthorization},
		{"another scope", "POST", "/api/authorization", good, js, `{"scopes":["all"]}`, 400, prodsmart.RuleBody},
		{"GET of a counter", "GET", counter, good, "", "", 404, prodsmart.RuleRequest},
		{"an unknown path", "POST", "/api/machines/A32/count", good, js, `{"count":1}`, 404, prodsmart.RuleRequest},
		{"a path outside the API", "POST", "/machines/A32/counter", good, js, `{"count":1}`, 404, prodsmart.RuleRequest},
		{"an unknown query", "POST", counter + "?force=1", good, js, `{"count":1}`, 400, prodsmart.RuleRequest},
		{"an unknown machine", "POST", "/api/machines/B1/counter", good, js, `{"count":1}`, 400, prodsmart.RuleCode},
		{"no content type", "POST", counter, good, "", `{"count":1}`, 400, prodsmart.RuleRequest},
		{"another content type", "POST", counter, good, "application/cloudevents+json", `{"count":1}`, 400, prodsmart.RuleRequest},
		{"no JSON", "POST", counter, good, js, `count=1`, 400, prodsmart.RuleBody},
		{"half a JSON", "POST", counter, good, js, `{"count":1`, 400, prodsmart.RuleBody},
		{"two bodies", "POST", counter, good, js, `{"count":1}{"count":2}`, 400, prodsmart.RuleBody},
		{"a list", "POST", counter, good, js, `[{"count":1}]`, 400, prodsmart.RuleBody},
		{"a null", "POST", counter, good, js, `null`, 400, prodsmart.RuleBody},
		{"a field twice", "POST", counter, good, js, `{"count":1,"count":2}`, 400, prodsmart.RuleBody},
		{"a field twice within", "POST", counter, good, js, `{"waste":[{"code":"Waste1","code":"Waste2","quantity":1}]}`, 400, prodsmart.RuleBody},
		{"an unknown field", "POST", counter, good, js, `{"count":1,"time":"2026-03-02T08:00:00Z"}`, 400, prodsmart.RuleBody},
		{"a count as a text", "POST", counter, good, js, `{"count":"1"}`, 400, prodsmart.RuleBody},
		{"a count below 0", "POST", counter, good, js, `{"count":-1}`, 400, prodsmart.RuleBody},
		{"nothing to count", "POST", counter, good, js, `{"parameters":[{"name":"a","value":1}]}`, 400, prodsmart.RuleBody},
		{"a count that does not grow", "POST", counter, good, js, `{"count":0}`, 400, prodsmart.RuleEqual},
		{"a count that falls", "POST", "/api/machines/F%201%2F2/counter", good, js, `{"count":3}`, 400, prodsmart.RuleDecreasing},
		{"waste without quantity", "POST", counter, good, js, `{"count":1,"waste":[{"code":"Waste1"}]}`, 400, prodsmart.RuleBody},
		{"waste as a text", "POST", counter, good, js, `{"count":1,"waste":[{"code":"Waste1","quantity":"2"}]}`, 400, prodsmart.RuleBody},
		{"waste twice", "POST", counter, good, js, `{"count":1,"waste":[{"code":"Waste1","quantity":1},{"code":"Waste1","quantity":2}]}`, 400, prodsmart.RuleBody},
		{"unknown waste", "POST", counter, good, js, `{"count":1,"waste":[{"code":"Waste9","quantity":2}]}`, 400, prodsmart.RuleCode},
		{"waste of nothing", "POST", counter, good, js, `{"count":1,"waste":[{"code":"Waste1","quantity":0}]}`, 400, prodsmart.RuleEqual},
		{"code in the counter call", "POST", counter, good, js, `{"count":1,"parameters":[{"code":"a","value":1}]}`, 400, prodsmart.RuleBody},
		{"name in the parameters call", "POST", parameters, good, js, `{"parameters":[{"name":"a","value":1}]}`, 400, prodsmart.RuleBody},
		{"a logical parameter", "POST", parameters, good, js, `{"parameters":[{"code":"a","value":true}]}`, 400, prodsmart.RuleBody},
		{"a parameter of null", "POST", parameters, good, js, `{"parameters":[{"code":"a","value":null}]}`, 400, prodsmart.RuleBody},
		{"no parameters", "POST", parameters, good, js, `{"parameters":[]}`, 400, prodsmart.RuleBody},
		{"a logical running", "POST", startstop, good, js, `{"type":"Jam","running":false}`, 400, prodsmart.RuleBody},
		{"running as a text", "POST", startstop, good, js, `{"type":"Jam","running":"0"}`, 400, prodsmart.RuleBody},
		{"running of 2", "POST", startstop, good, js, `{"type":"Jam","running":2}`, 400, prodsmart.RuleBody},
		{"no type", "POST", startstop, good, js, `{"running":0}`, 400, prodsmart.RuleBody},
		{"an empty type", "POST", startstop, good, js, `{"type":"","running":0}`, 400, prodsmart.RuleBody},
		{"a type of another machine", "POST", startstop, good, js, `{"type":"Lunch","running":0}`, 400, prodsmart.RuleCode},
		{"a movement without a type", "POST", movements + "?TOKEN", "", js, `{"product-code":"flour","quantity":1}`, 400, prodsmart.RuleBody},
		{"an unknown type of movement", "POST", movements + "?TOKEN", "", js, `{"product-code":"flour","quantity":1,"type":"eaten"}`, 400, prodsmart.RuleBody},
		{"an unknown product", "POST", movements + "?TOKEN", "", js, `{"product-code":"sand","quantity":1,"type":"out"}`, 400, prodsmart.RuleCode},
		{"a movement of nothing", "POST", movements + "?TOKEN", "", js, `{"product-code":"flour","quantity":0,"type":"out"}`, 400, prodsmart.RuleBody},
		{"a movement with a unit", "POST", movements + "?TOKEN", "", js, `{"product-code":"flour","quantity":1,"type":"out","uom":"kg"}`, 400, prodsmart.RuleBody},
		{"a date without a zone", "POST", movements + "?TOKEN", "", js, `{"product-code":"flour","quantity":1,"type":"out","date-time":"2026-03-02T08:00:00"}`, 400, prodsmart.RuleBody},
		{"a date with a fraction", "POST", movements + "?TOKEN", "", js, `{"product-code":"flour","quantity":1,"type":"out","date-time":"2026-03-02T08:00:00.5Z"}`, 400, prodsmart.RuleBody},
		{"several movements", "POST", movements + "?TOKEN", "", js, `[{"product-code":"flour","quantity":1,"type":"out"}]`, 400, prodsmart.RuleBody},
		{"what is consumed with its product", "POST", movements + "?TOKEN", "", js, `{"product-code":"wheel","quantity":1,"type":"consumption"}`, 200, prodsmart.RuleDoubleBOM},
		{"stock of another master", "POST", "/api/stock?TOKEN", "", js, `{"product-code":"flour","stock":1}`, 201, prodsmart.RuleStock},
		{"Basic beside a token", "GET", "/api/products/flour?TOKEN", good, "", "", 200, prodsmart.RuleAuth},
		{"an unknown filter", "GET", movements + "?comment=x&TOKEN", "", "", "", 400, prodsmart.RuleRequest},
		{"page 0", "GET", movements + "?page=0&TOKEN", "", "", "", 400, prodsmart.RuleRequest},
		{"an unknown channel", "GET", "/api/changes/x?TOKEN", "", "", "", 400, prodsmart.RuleCode},
		{"a list of machines", "GET", "/api/machines?TOKEN", "", "", "", 404, prodsmart.RuleRequest},
		{"a movement deleted", "DELETE", "/api/inventory-movement/1?TOKEN", "", "", "", 404, prodsmart.RuleRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			target, needs := strings.CutSuffix(c.target, "?TOKEN")
			if !needs {
				target, needs = strings.CutSuffix(c.target, "&TOKEN")
			}
			if needs {
				target = b.with(target)
			}
			answer, text := b.ask(c.method, target, c.credentials, c.kind, c.body)
			if answer == nil || answer.StatusCode != c.status {
				t.Errorf("%v %q, want status %d", answer, text, c.status)
			}
			found := b.Violations()
			if len(found) == 0 || found[0].Rule != c.rule {
				t.Errorf("noted %v, want the rule %q", found, c.rule)
			}
			if c.status >= 400 && len(b.Violations(c.rule, prodsmart.RuleAuth)) > 0 {
				t.Errorf("other rules were noted, too: %s", central.Words(found))
			}
			if m := b.Machine("A32"); c.status >= 400 && (len(m.Counts)+len(m.Downtimes)+len(m.Waste)+len(m.Parameters)+len(b.Movements()) > 0) {
				t.Errorf("a refused request was booked: %+v", m)
			}
			for _, v := range found {
				if strings.Contains(v.String(), "hush-hush") || b.token != "" && strings.Contains(v.String(), b.token) {
					t.Errorf("a violation tells a secret: %s", v)
				}
			}
		})
	}
}

// TestTheDocumentsOwnExamplesAreBooked sends the examples word for word.
func TestTheDocumentsOwnExamplesAreBooked(t *testing.T) {
	b := newBed(t)
	b.CheckIn("A32", "PO1", "bicycle")
	got := b.post(200, "A32/counter", `{"count":500,"waste":[{"code":"Waste1","quantity":20}],"parameters":[{"name":"parameter1","value":"value1"},{"name":"parameter3","value":1}]}`)
	if got != "500" {
		t.Errorf("the counter's new value is %q", got)
	}
	b.post(200, "A32/parameters", `{"parameters":[{"code":"temperature","value":25},{"code":"valid","value":"yes"}]}`)
	b.post(200, "A32/startstop", `{"type":"Maintenance","running":0}`)
	b.now = b.now.Add(time.Minute)
	b.post(200, "A32/startstop", `{"type":"Maintenance","running":1}`)
	answer, text := b.ask("POST", b.with("/api/inventory-movements/"), "", "application/json",
		`{"product-code":"flour","date-time":"2018-07-20T09:15:15Z","quantity":"10","type":"in","lot":"A","total-cost":"1000","comment":"OK","warehouse":"A","warehouse-location":"Zone2","location":"location code","shipping":"shippingCode","client-order":"clientOrderCode","receiving":"receivingCode","purchase-order":"purchaseOrderCode"}`)
	if answer.StatusCode != http.StatusOK || !strings.Contains(text, `"id":`) {
		t.Errorf("the movement: %d %s", answer.StatusCode, text)
	}
	m := b.Machine("A32")
	if m.Count != 500 || m.Waste["Waste1"] != 20 || m.Credited["PO1"] != 500 || m.CreditedWaste["PO1"] != 20 {
		t.Errorf("booked %+v", m)
	}
	if m.Parameters["temperature"] != 25.0 || m.Parameters["parameter1"] != "value1" {
		t.Errorf("the parameters are %v", m.Parameters)
	}
	if len(m.Downtimes) != 1 || m.Downtimes[0].End.Sub(m.Downtimes[0].Start) != time.Minute || !m.Downtimes[0].ClosedByGateway {
		t.Errorf("the downtimes are %+v", m.Downtimes)
	}
	if b.Stock("wheel") != 100-2*500 || b.Stock("flour") != 60 {
		t.Errorf("the stock is %v wheels, %v flour", b.Stock("wheel"), b.Stock("flour"))
	}
	b.clean()
}

func TestACounterOnlyGrows(t *testing.T) {
	b := newBed(t)
	b.post(200, "A32/counter", `{"count":10,"waste":[{"code":"Waste1","quantity":1}]}`)
	if text := b.post(400, "A32/counter", `{"count":11,"waste":[{"code":"Waste1","quantity":1}]}`); !strings.Contains(text, "greater than the previous value 1") {
		t.Errorf("refused with %q", text)
	}
	if m := b.Machine("A32"); m.Count != 10 {
		t.Errorf("a refused call moved the counter to %v", m.Count)
	}
	b.post(200, "A32/counter", `{"waste":[{"code":"Waste2","quantity":4}]}`)
	if m := b.Machine("A32"); m.Count != 10 || m.Waste["Waste2"] != 4 || len(m.Credited) != 0 {
		t.Errorf("waste alone: %+v", m)
	}

	b = newBed(t, func(c *prodsmart.Company) { c.EqualIsFine, c.SilentRefusal = true, true })
	b.post(200, "A32/counter", `{"count":10}`)
	b.post(200, "A32/counter", `{"count":10}`)
	b.clean()
	if text := b.post(400, "A32/counter", `{"count":9}`); strings.Contains(text, "10") {
		t.Errorf("the refusal %q names the value", text)
	}
}

func TestTheCountersReplyHasFourForms(t *testing.T) {
	for form, want := range map[prodsmart.Reply]string{
		prodsmart.ReplyNumber: "3", prodsmart.ReplyText: "3", prodsmart.ReplyObject: `{"counter":3}`, prodsmart.ReplyNothing: "",
	} {
		b := newBed(t, func(c *prodsmart.Company) { c.CountReply = form })
		if got := b.post(200, "A32/counter", `{"count":3}`); got != want {
			t.Errorf("form %d: %q, want %q", form, got, want)
		}
	}
}

func TestAStartNeedsItsStop(t *testing.T) {
	b := newBed(t)
	b.post(200, "A32/startstop", `{"type":"Jam","running":1}`) // it runs when the gateway first sees it
	b.post(200, "A32/startstop", `{"type":"Jam","running":0}`)
	b.post(200, "A32/startstop", `{"type":"Jam","running":0}`) // its answer was lost
	b.post(200, "A32/startstop", `{"type":"Jam","running":1}`)
	b.post(200, "A32/startstop", `{"type":"Jam","running":1}`)
	b.clean()
	if m := b.Machine("A32"); len(m.Downtimes) != 1 {
		t.Errorf("repeated calls made %+v", m.Downtimes)
	}
	b.post(200, "A32/startstop", `{"type":"Maintenance","running":1}`)
	if found := b.Violations(); len(found) != 1 || found[0].Rule != prodsmart.RuleStart {
		t.Errorf("a start of its own: %v", found)
	}
	b.OperatorStops("A32", "Maintenance")
	b.post(200, "A32/startstop", `{"type":"Maintenance","running":1}`)
	if found := b.Violations(); len(found) != 2 || found[1].Rule != prodsmart.RuleStart {
		t.Errorf("a start that ended an operator's downtime: %v", found)
	}
}

func TestTokensAgeAndAreTheCompanys(t *testing.T) {
	b := newBed(t)
	first := b.with("/api/products/flour")
	get := func(want int, target string) string {
		t.Helper()
		answer, text := b.ask("GET", target, "", "", "")
		if answer.StatusCode != want {
			t.Errorf("GET: %d %s, want %d", answer.StatusCode, text, want)
		}
		return text
	}
	get(200, first)
	b.now = b.now.Add(2*time.Hour - time.Second)
	get(200, first)
	if _, text := b.ask("GET", "/api/authorization", good, "", ""); !strings.Contains(text, b.token) {
		t.Errorf("the existing token is not answered: %s", text)
	}
	b.now = b.now.Add(time.Second)
	get(401, first)
	if answer, _ := b.ask("GET", "/api/authorization", good, "", ""); answer.StatusCode != http.StatusNotFound {
		t.Errorf("without a good token: %d", answer.StatusCode)
	}
	b.token = ""
	second := b.with("/api/products/flour")
	get(200, second)
	b.clean()
	b.token = ""
	third := b.with("/api/products/flour")
	get(401, second)
	get(200, third)
	if found := b.Violations(); len(found) != 1 || found[0].Rule != prodsmart.RuleAuthorization {
		t.Errorf("a needless token: %v", found)
	}
	b.Revoke()
	get(401, third)
	if len(b.Secrets()) != 4 {
		t.Errorf("%d secrets, want the API's and three tokens", len(b.Secrets()))
	}
	expired := newBed(t, func(c *prodsmart.Company) { c.KeepsExpired, c.Refused = true, 403 })
	expired.Authorize(3 * time.Hour)
	answer, text := expired.ask("GET", "/api/authorization", good, "", "")
	if answer.StatusCode != http.StatusOK || !strings.Contains(text, expired.Secrets()[1]) {
		t.Errorf("the expired token: %d %s", answer.StatusCode, text)
	}
	if answer, _ = expired.ask("GET", "/api/stock/flour?access_token="+expired.Secrets()[1], "", "", ""); answer.StatusCode != http.StatusForbidden {
		t.Errorf("an expired token got %d", answer.StatusCode)
	}
	header := newBed(t, func(c *prodsmart.Company) { c.Tokens = prodsmart.TokenInHeader })
	header.Authorize(0)
	if answer, _ = header.ask("GET", "/api/stock/flour", "Bearer "+header.Secrets()[1], "", ""); answer.StatusCode != http.StatusOK {
		t.Errorf("a token in the header got %d", answer.StatusCode)
	}
	header.clean()
	header.token = header.Secrets()[1]
	if answer, _ = header.ask("GET", header.with("/api/stock/flour"), "", "", ""); answer.StatusCode != http.StatusUnauthorized || len(header.Violations()) != 1 {
		t.Errorf("a token in the URL got %d", answer.StatusCode)
	}
}

func TestTheRateIsTheCompanysAndSlides(t *testing.T) {
	b := newBed(t, func(c *prodsmart.Company) { c.Limit = 4 })
	body := func(n string) (int, string) {
		answer, _ := b.ask("POST", "/api/machines/A32/counter", good, "application/json", `{"count":`+n+`}`)
		return answer.StatusCode, answer.Header.Get("Retry-After")
	}
	for _, n := range []string{"1", "2", "3"} {
		if status, _ := body(n); status != 200 {
			t.Fatalf("call %s: %d", n, status)
		}
		b.now = b.now.Add(10 * time.Second)
	}
	b.Burn(1)
	status, wait := body("4") // at 30 s, the first was at 0
	if status != 429 || wait != "40" {
		t.Errorf("%d after %q; want 429 and 40 s: the refused one counts too, so the second must go", status, wait)
	}
	b.clean() // others used it up
	b.now = b.now.Add(20 * time.Second)
	if status, _ = body("4"); status != 429 {
		t.Errorf("during the wait: %d", status)
	}
	if found := b.Violations(); len(found) == 0 || found[0].Rule != prodsmart.RuleRetryAfter {
		t.Errorf("a call during the wait: %v", found)
	}
	b.now = b.now.Add(2 * time.Minute)
	for range 4 {
		body("9")
	}
	if status, _ = body("9"); status != 429 {
		t.Errorf("the fifth of a minute got %d", status)
	}
	found := b.Violations(prodsmart.RuleRetryAfter, prodsmart.RuleEqual)
	if len(found) != 2 || found[1].Rule != prodsmart.RuleRate {
		t.Errorf("twice five own calls in a minute: %v", found)
	}
	if n := b.Busiest(time.Minute); n != 5 {
		t.Errorf("the busiest minute held %d", n)
	}
	free := newBed(t, func(c *prodsmart.Company) { c.Limit, c.RefusedAreFree = 1, true })
	free.post(200, "A32/counter", `{"count":1}`)
	for range 3 {
		free.post(429, "A32/counter", `{"count":2}`)
	}
	free.now = free.now.Add(time.Minute)
	free.post(200, "A32/counter", `{"count":2}`)
}

func TestListsArePagedAndFiltered(t *testing.T) {
	b := newBed(t)
	for i := range 30 {
		b.BookMovement(prodsmart.Movement{Product: []string{"flour", "wheel"}[i%2], Type: "out", Comment: "c" + string(rune('a'+i%26)), Quantity: 1})
	}
	list := func(target string) []map[string]any {
		t.Helper()
		answer, text := b.ask("GET", b.with(target), "", "", "")
		var items []map[string]any
		if answer.StatusCode != http.StatusOK || json.Unmarshal([]byte(text), &items) != nil || items == nil {
			t.Fatalf("%s: %d %s", target, answer.StatusCode, text)
		}
		return items
	}
	if one, two, three := list("/api/inventory-movements/"), list("/api/inventory-movements/?page=2"), list("/api/inventory-movements/?page=3"); len(one) != 25 || len(two) != 5 || len(three) != 0 || one[0]["comment"] != "ca" {
		t.Errorf("pages of %d, %d and %d", len(one), len(two), len(three))
	}
	if some := list("/api/inventory-movements/?product-code=wheel&type=out"); len(some) != 15 || some[0]["product-code"] != "wheel" {
		t.Errorf("filtered: %d", len(some))
	}
	b.CheckIn("A32", "PO1", "bicycle")
	b.now = b.now.Add(time.Second)
	b.CheckOut("A32")
	b.CheckIn("A32", "PO2", "bicycle")
	open := list("/api/productions?checked-out=false")
	if len(open) != 1 || open[0]["machine"].(map[string]any)["code"] != "A32" || open[0]["production-order"].(map[string]any)["code"] != "PO2" {
		t.Errorf("what runs now: %v", open)
	}
	if closed := list("/api/productions?checked-out=true&production-order-code=PO1"); len(closed) != 1 {
		t.Errorf("what has ended: %v", closed)
	}
	if orders := list("/api/production-orders/?running-status=started&machine=A32&product=bicycle&active=true"); len(orders) != 1 {
		t.Errorf("the orders: %v", orders)
	}
	b.post(200, "A32/startstop", `{"type":"Jam","running":0}`)
	if stops := list("/api/downtimes?machine=A32&start-time-after=2026-03-02T07:59:59%2B00"); len(stops) != 1 || stops[0]["downtime-type"] != "Jam" {
		t.Errorf("the downtimes: %v", stops)
	}
	_, text := b.ask("GET", b.with("/api/products/bicycle"), "", "", "")
	if !strings.Contains(text, `"components":[{"operation-code":"assemble","product-code":"wheel","quantity":2}]`) || !strings.Contains(text, `"uom":"pcs"`) {
		t.Errorf("the product: %s", text)
	}
	b.clean()
	if answer, _ := b.ask("GET", b.with("/api/products/sand"), "", "", ""); answer.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown product: %d", answer.StatusCode)
	}
}

func TestAChangeIsHandedOverOnce(t *testing.T) {
	b := newBed(t)
	for i := range 30 {
		b.Push("stops", map[string]any{"id": i})
	}
	read := func() int {
		t.Helper()
		_, text := b.ask("GET", b.with("/api/changes/stops"), "", "", "")
		var items []map[string]any
		if err := json.Unmarshal([]byte(text), &items); err != nil || items == nil {
			t.Fatalf("%s: %v", text, err)
		}
		return len(items)
	}
	b.with("")
	b.Faults.Add(central.LostReply().On("/changes/"))
	if answer, _ := b.ask("GET", b.with("/api/changes/stops"), "", "", ""); answer != nil {
		t.Fatal("the answer should be lost")
	}
	if waiting, handed := b.Waiting("stops"); waiting != 5 || handed != 25 {
		t.Errorf("a lost answer leaves %d and has handed over %d: what was answered is gone", waiting, handed)
	}
	if n := read(); n != 5 {
		t.Errorf("%d items, want the last 5", n)
	}
	b.Push("stops", map[string]any{"id": 99})
	b.now = b.now.Add(24 * time.Hour)
	b.token = ""
	if n := read(); n != 0 {
		t.Errorf("%d items after a day", n)
	}
	b.clean()
}
