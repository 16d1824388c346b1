package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/erp"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// shipped opens an uplink of a config under deploy/examples, with another
// address in the place of the one that stands there.
func shipped(t *testing.T, file, name, address, instead string) (uplink.Sender, uplink.Plan) {
	t.Helper()
	examples := filepath.Join("..", "..", "deploy", "examples")
	text, err := os.ReadFile(filepath.Join(examples, file))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, "codes"), os.DirFS(filepath.Join(examples, "codes"))); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), address); n == 0 {
		t.Fatalf("%s is not in %s", address, file)
	}
	path := filepath.Join(folder, file)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), address, instead)), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, faults := config.Load(path)
	for _, f := range faults {
		t.Log(f)
	}
	for _, section := range loaded.Uplinks {
		if section.Name != name {
			continue
		}
		p, faults := Kind.Check(section)
		if len(faults.Errors()) > 0 {
			t.Fatal(faults)
		}
		s := p.Open(uplink.Env{Name: name, Gateway: "gw", Log: zap.NewNop(), Memory: func(string) ([]byte, error) { return nil, nil }, Codes: uplink.NewCodes(p.Codes, nil)})
		t.Cleanup(func() { s.Close() })
		return s, p
	}
	t.Fatalf("%s has no uplink %s", file, name)
	return nil, uplink.Plan{}
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// orders are changes of the order, the first of which ends none.
func orders(numbers ...string) []plant.Event {
	events := mixed(slicesOf(plant.KindOrder, len(numbers))...)
	for i, number := range numbers {
		previous := ""
		if number != "" {
			previous = fmt.Sprintf(`"previous":{"number":%q},`, number)
		}
		events[i].Data = fmt.Appendf(nil, `{"machine":"M",%s"mode":"production"}`, previous)
	}
	return events
}

// TestTheAzumutaExample calls a strict receiver of that sort once for each order
// that ended, by GET and by POST.
func TestTheAzumutaExample(t *testing.T) {
	t.Setenv("AZUMUTA_KEY", "k3y")
	for name, method := range map[string]string{"azumuta-get": "GET", "azumuta-post": "POST"} {
		a := &erp.Azumuta{Method: method, Path: "/hooks/order-completed", KeyHeader: "X-API-Key", Key: "k3y", Orders: []string{"PO-1", "PO 2/&=ü"}}
		s, p := shipped(t, "erp-azumuta.yaml", name, "https://integration.example", serve(t, a))
		if p.Carries(plant.KindCounter) || p.Carries(plant.KindGap) || !p.Carries(plant.KindOrder) {
			t.Errorf("%s carries something else", name)
		}
		if got := s.Send(t.Context(), "M", orders("", "PO-1", "", "PO 2/&=ü")); delivered(got, 1) != 4 {
			t.Errorf("%s: results %+v", name, got)
		}
		if got := fmt.Sprint(a.Triggers()); got != "[{PO-1  } {PO 2/&=ü  }]" || len(a.Violations()) > 0 {
			t.Errorf("%s: %s, %s", name, got, central.Words(a.Violations()))
		}
		a.Faults.Add(central.LostReply())
		if got := s.Send(t.Context(), "M", orders("PO-1")); len(got) != 1 || len(a.Triggers()) < 3 { // said again, since nobody knows
			t.Errorf("%s: %+v after %d triggers", name, got, len(a.Triggers()))
		}
		a.Faults.Clear()
		if got := s.Send(t.Context(), "M", orders("PO-9")); len(got) != 1 || got[0].Status == plant.Delivered || !strings.Contains(got[0].Cause.Error(), `the product order "PO-9" is not known`) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// refills are movements of components.
func refills(components ...string) []plant.Event {
	events := mixed(slicesOf(plant.KindRefill, len(components))...)
	for i, c := range components {
		events[i].Data = fmt.Appendf(nil, `{"machine":"M","mode":"production","component":%q,"quantity":25.500,"unit":"kg","time":"2026-03-29T00:59:59.007Z"}`, c)
	}
	return events
}

// TestTheProdSysExample drafts orders of articles that the supplier knows by its
// own numbers, and nothing else.
func TestTheProdSysExample(t *testing.T) {
	t.Setenv("SUPPLIER_TOKEN", "t0ken")
	now := time.Now()
	supplier := &erp.ProdSys{Articles: []string{"A-1"}, Now: func() time.Time { return now }, Tokens: []erp.Token{{Text: "t0ken", Scopes: []string{erp.ScopeOrders}, Ends: now.Add(time.Hour)}}}
	s, p := shipped(t, "erp-prodsys.yaml", "supplier", "https://supplier.example/api", serve(t, supplier))
	if len(p.Expires) != 1 || p.Expires[0].What != "the token of auth" || !p.Expires[0].At.Equal(time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("expires %+v", p.Expires)
	}
	if got := s.Send(t.Context(), "M", refills("SUGAR", "", "SUGAR")); delivered(got, 1) != 3 {
		t.Fatalf("results %+v", got)
	}
	if d := supplier.Drafts(); len(d) != 2 || d[0].Lines[0] != (erp.Line{Article: "A-1", Quantity: 25.5}) || d[0].Number == d[1].Number || len(supplier.Contacts()) != 1 {
		t.Errorf("drafts %+v, contacts %v", d, supplier.Contacts())
	}
	if len(supplier.Violations()) > 0 {
		t.Error(central.Words(supplier.Violations()))
	}
	// The table has no row: nothing is sent. It has one, and the supplier does not
	// know the article: it is refused in the supplier's words.
	before := len(supplier.Log())
	got := s.Send(t.Context(), "M", refills("FLOUR"))
	if len(got) != 1 || got[0].Status != plant.Rejected || !strings.Contains(got[0].Cause.Error(), `add a row for "FLOUR" to `) || len(supplier.Log()) != before {
		t.Errorf("results %+v", got)
	}
	got = s.Send(t.Context(), "M", refills("SALT"))
	if len(got) != 1 || got[0].Status != plant.Rejected || !strings.Contains(got[0].Cause.Error(), `no article "A-2"`) {
		t.Errorf("results %+v", got)
	}
	// Their log is watched by people: what they refused is there once.
	if len(supplier.Log()) != before+1 {
		t.Errorf("their log: %v", supplier.Log())
	}
	now = now.Add(2 * time.Hour)
	got = s.Send(t.Context(), "M", refills("SUGAR"))
	if len(got) != 1 || !systemWide(got[0]) || got[0].Wait < httplink.WrongWait || !strings.Contains(got[0].Cause.Error(), "401 Unauthorized: the token has expired; check the secret of auth") {
		t.Errorf("with an expired token: %+v", got)
	}
}

// TestEveryProofOfWhoAsks convinces a strict receiver that was written without
// this sender.
func TestEveryProofOfWhoAsks(t *testing.T) {
	tokens := &erp.OAuth2{ID: "gw 1", Secret: "s/1&", Scope: "events", Life: time.Hour, Now: time.Now}
	tokenURL := serve(t, tokens) + "/token"
	for name, test := range map[string]struct {
		who    []erp.Identity
		option func(*Options)
	}{
		"oauth2": {[]erp.Identity{tokens.Identity()}, func(o *Options) {
			o.Auth.OAuth2 = &httplink.OAuth2{TokenURL: tokenURL, ClientID: "gw 1", ClientSecret: config.NewSecret("s/1&"), Scope: "events"}
		}},
		"basic": {[]erp.Identity{erp.Basic("u", "p:q")}, func(o *Options) {
			o.Auth.Basic = &httplink.Basic{User: "u", Password: config.NewSecret("p:q")}
		}},
		"key":          {[]erp.Identity{erp.APIKey("X-API-Key", "k")}, func(o *Options) { o.Auth.APIKey = &httplink.APIKey{Header: "X-API-Key", Value: config.NewSecret("k")} }},
		"key in query": {[]erp.Identity{erp.APIKeyInQuery("key", "k&1")}, func(o *Options) { o.Auth.APIKey = &httplink.APIKey{Query: "key", Value: config.NewSecret("k&1")} }},
		"signature": {[]erp.Identity{erp.Bearer("t"), erp.Signature{Header: "X-Signature", Prefix: "sha256=", Hash: "sha256", Encoding: "hex", Secret: "s", TimeHeader: "X-Time", Tolerance: time.Minute, Now: time.Now}.Identity()}, func(o *Options) {
			o.Auth.Bearer = config.NewSecret("t")
			o.Sign = &httplink.Signature{Key: config.NewSecret("s"), Header: "X-Signature", Value: "sha256={signature}", TimestampHeader: "X-Time"}
		}},
	} {
		for _, packed := range []bool{false, true} {
			v := erp.New(erp.Generic{Path: "/events", Who: test.who, ContentType: "application/json"})
			o := defaults()
			o.URL, o.Gzip, o.Batch = serve(t, v)+"/events", packed, 30
			o.Requests = []Request{{Kinds: uplink.Kinds{plant.KindCounter}, Body: `{"id": {{.id}}, "data": {{.data}}}`, List: &List{}}}
			test.option(&o)
			events := mixed(slicesOf(plant.KindCounter, 30)...)
			if got := openUnchecked(t, o).Send(t.Context(), "M", events); delivered(got, 1) != 30 || v.Different() != 30 || len(v.Violations()) > 0 {
				t.Errorf("%s: results %+v, %s", name, got, central.Words(v.Violations()))
			}
		}
	}
	if tokens.Issued() != 2 { // a sender each
		t.Errorf("%d tokens", tokens.Issued())
	}
}

// TestWhenLeavesEventsOut: they count as delivered, and nothing is sent.
func TestWhenLeavesEventsOut(t *testing.T) {
	for _, batch := range []int{1, 10} {
		r := answering(t, func(int, request, http.ResponseWriter) bool { return false })
		o := testOptions(r.Addr())
		o.Batch = batch
		o.Requests = []Request{{Kinds: uplink.Kinds{plant.KindStartStop}, When: `{{if eq .data.running 0}} yes {{end}}`, Body: `{{.sequence}}`}}
		if batch > 1 {
			o.Requests[0].List = &List{}
		}
		events := mixed(slicesOf(plant.KindStartStop, 6)...)
		for i, running := range []int{1, 0, 0, 1, 1, 0} {
			events[i].Data = fmt.Appendf(nil, `{"running":%d}`, running)
		}
		if got := openUnchecked(t, o).Send(t.Context(), "M", events); len(got) != 1 || delivered(got, 1) != 6 {
			t.Errorf("results %+v", got)
		}
		var bodies []string
		for _, q := range r.seen() {
			bodies = append(bodies, string(q.body))
		}
		want := map[int]string{1: "2 3 6", 10: "[2,3] [6]"}[batch]
		if got := strings.Join(bodies, " "); got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
	}
}
