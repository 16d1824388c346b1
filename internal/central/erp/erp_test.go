package erp_test

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/erp"
)

func ask(h http.Handler, method, target, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func basic(user, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

var noon = time.Unix(1_772_452_800, 0)

func clock() time.Time { return noon }

func sign(secret, text string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// TestWhoAsksIsChecked tries each proof right, and wrong in each way.
func TestWhoAsksIsChecked(t *testing.T) {
	const body = `{"id":"e-1"}`
	stamp := "1772452800"
	signed := erp.Signature{Header: "X-Signature", Prefix: "sha256=", Hash: "sha256", Encoding: "hex", Secret: "s", TimeHeader: "X-Time", Tolerance: time.Minute, Now: clock}
	cert := func(name string, verified bool) func(*http.Request) {
		return func(r *http.Request) {
			c := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
			if verified {
				r.TLS.VerifiedChains = [][]*x509.Certificate{{c}}
			}
		}
	}
	both := func(changes ...func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) {
			for _, c := range changes {
				c(r)
			}
		}
	}
	query := func(q string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = q } }
	none := func(*http.Request) {}
	for _, c := range []struct {
		name  string
		who   erp.Identity
		right func(*http.Request)
		wrong map[string]func(*http.Request)
		inURL func(*http.Request)
	}{
		{"bearer", erp.Bearer("t0ken"), header("Authorization", "Bearer t0ken"),
			map[string]func(*http.Request){"none": none, "other": header("Authorization", "Bearer t0ke"), "bare": header("Authorization", "t0ken")}, query("token=t0ken")},
		{"basic", erp.Basic("u", "p"), basic("u", "p"),
			map[string]func(*http.Request){"none": none, "password": basic("u", "q"), "user": basic("v", "p")}, nil},
		{"key", erp.APIKey("X-API-Key", "k3y"), header("X-API-Key", "k3y"),
			map[string]func(*http.Request){"none": none, "other": header("X-API-Key", "k4y")}, query("api_key=k3y")},
		{"key in the query", erp.APIKeyInQuery("key", "k3y"), query("key=k3y"),
			map[string]func(*http.Request){"none": none, "twice": query("key=k3y&key=k3y"), "in a header": header("key", "k3y")}, nil},
		{"certificate", erp.Client("gw"), cert("gw", true),
			map[string]func(*http.Request){"none": none, "other": cert("gx", true), "not verified": cert("gw", false)}, nil},
		{"signature", signed.Identity(), both(header("X-Time", stamp), header("X-Signature", "sha256="+sign("s", stamp+"."+body))),
			map[string]func(*http.Request){
				"none": none, "no time": header("X-Signature", "sha256="+sign("s", body)),
				"without prefix": both(header("X-Time", stamp), header("X-Signature", sign("s", stamp+"."+body))),
				"other secret":   both(header("X-Time", stamp), header("X-Signature", "sha256="+sign("r", stamp+"."+body))),
				"body alone":     both(header("X-Time", stamp), header("X-Signature", "sha256="+sign("s", body))),
				"old":            both(header("X-Time", "1772452700"), header("X-Signature", "sha256="+sign("s", "1772452700."+body))),
			}, nil},
	} {
		v := erp.New(erp.Generic{Who: []erp.Identity{c.who}})
		if w := ask(v, "POST", "/", body, c.right); w.Code != 204 || v.Times("e-1") != 1 || len(v.Violations()) > 0 {
			t.Errorf("%s: right: %d %s, %s", c.name, w.Code, w.Body, central.Words(v.Violations()))
		}
		for name, wrong := range c.wrong {
			before := len(v.Violations())
			if w := ask(v, "POST", "/", body, wrong); w.Code != 401 || v.Times("e-1") != 1 || len(v.Violations(erp.RuleRequest)) != before+1 {
				t.Errorf("%s: %s: %d", c.name, name, w.Code)
			}
		}
		if c.inURL != nil {
			ask(v, "POST", "/", body, c.inURL)
			if found := v.Violations(); found[len(found)-1].Rule != erp.RuleSecretInURL {
				t.Errorf("%s: in the URL: %s", c.name, central.Words(found))
			}
		}
	}
}

func TestTheGenericReceiverIsStrict(t *testing.T) {
	v := erp.New(erp.Generic{Path: "/events", ContentType: "application/json", Refuse: func(id string) error {
		if id == "bad" {
			return errors.New("no such article")
		}
		return nil
	}, Answer: func(w http.ResponseWriter, ids []string) { _ = json.NewEncoder(w).Encode(ids) }})
	for _, c := range []struct {
		name, method, target, body string
		status                     int
		rule                       string
		change                     func(*http.Request)
	}{
		{"one", "POST", "/events", `{"id":"a"}`, 200, "", nil},
		{"many", "POST", "/events", ` [{"id":"b"},{"id":"c"}]`, 200, "", nil},
		{"again", "POST", "/events", `[{"id":"c"},{"id":"b"}]`, 200, "", nil},
		{"refused", "POST", "/events", `[{"id":"d"},{"id":"bad"}]`, 422, "", nil},
		{"another path", "POST", "/other", `{"id":"e"}`, 404, erp.RuleRequest, nil},
		{"another method", "PUT", "/events", `{"id":"e"}`, 405, erp.RuleRequest, nil},
		{"another type", "POST", "/events", `{"id":"e"}`, 415, erp.RuleRequest, header("Content-Type", "text/xml")},
		{"another coding", "POST", "/events", `{"id":"e"}`, 415, erp.RuleRequest, header("Content-Encoding", "br")},
		{"no gzip", "POST", "/events", `{"id":"e"}`, 415, erp.RuleRequest, header("Content-Encoding", "gzip")},
		{"no id", "POST", "/events", `{"no":"e"}`, 400, erp.RuleBody, nil},
		{"no JSON", "POST", "/events", `<id>e</id>`, 400, erp.RuleBody, nil},
		{"an empty list", "POST", "/events", `[]`, 400, erp.RuleBody, nil},
		{"a field twice", "POST", "/events", `{"id":"e","id":"f"}`, 400, erp.RuleBody, nil},
		{"other bytes", "POST", "/events", `{"id":"a","n":1}`, 200, erp.RuleOtherBytes, nil},
	} {
		before := len(v.Violations())
		change := c.change
		if change == nil {
			change = func(*http.Request) {}
		}
		if w := ask(v, c.method, c.target, c.body, change); w.Code != c.status {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		found := v.Violations()[before:]
		if c.rule == "" && len(found) > 0 || c.rule != "" && (len(found) != 1 || found[0].Rule != c.rule) {
			t.Errorf("%s: noted %s, want %q", c.name, central.Words(found), c.rule)
		}
	}
	if v.Times("a") != 2 || v.Times("b") != 2 || v.Times("d") != 0 || v.Different() != 3 || len(v.Booked()) != 6 {
		t.Errorf("booked %d of %d: %v", v.Different(), len(v.Booked()), v.Booked())
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"id":"packed"}`))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if w := ask(v, "POST", "/events", packed.String(), header("Content-Encoding", "gzip")); w.Code != 200 || v.Times("packed") != 1 {
		t.Errorf("gzip: %d %s", w.Code, w.Body)
	}
}

func TestOAuth2GivesTokensThatEnd(t *testing.T) {
	now := noon
	server := &erp.OAuth2{ID: "gw", Secret: "s/1", Scope: "events", Life: time.Hour, Now: func() time.Time { return now }}
	v := erp.New(erp.Generic{Who: []erp.Identity{server.Identity()}})
	form := header("Content-Type", "application/x-www-form-urlencoded")
	const right = "grant_type=client_credentials&scope=events"
	fetch := func() string {
		t.Helper()
		w := ask(server, "POST", "/token", right, form, basic("gw", "s%2F1"))
		var said struct {
			Token   string  `json:"access_token"`
			Type    string  `json:"token_type"`
			Expires float64 `json:"expires_in"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != 200 || said.Type != "Bearer" || said.Expires != 3600 {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		return said.Token
	}
	token := fetch()
	post := func() int { return ask(v, "POST", "/", `{"id":"a"}`, header("Authorization", "Bearer "+token)).Code }
	if got := post(); got != 204 {
		t.Errorf("with a token: %d", got)
	}
	now = now.Add(time.Hour)
	if got := post(); got != 401 || len(v.Violations()) > 0 {
		t.Errorf("with an old token: %d, %s", got, central.Words(v.Violations()))
	}
	if token = fetch(); post() != 204 || server.Issued() != 2 || len(server.Violations()) > 0 {
		t.Errorf("with the next token: %s", central.Words(server.Violations()))
	}
	server.Revoke()
	if got := post(); got != 401 {
		t.Errorf("with a revoked token: %d", got)
	}
	fetch()
	for _, c := range []struct {
		name, method, target, body string
		status                     int
		rule                       string
		with                       func(*http.Request)
	}{
		{"needless", "POST", "/token", right, 200, erp.RuleToken, basic("gw", "s/1")},
		{"GET", "GET", "/token", "", 400, erp.RuleRequest, basic("gw", "s/1")},
		{"in the URL", "POST", "/token?client_secret=s", right, 400, erp.RuleSecretInURL, basic("gw", "s/1")},
		{"no credentials", "POST", "/token", right, 401, erp.RuleAuth, form},
		{"wrong ones", "POST", "/token", right, 401, erp.RuleAuth, basic("gw", "s")},
		{"twice", "POST", "/token", right + "&client_secret=s", 401, erp.RuleAuth, basic("gw", "s/1")},
		{"another grant", "POST", "/token", "grant_type=password&scope=events", 400, erp.RuleBody, basic("gw", "s/1")},
		{"another scope", "POST", "/token", "grant_type=client_credentials&scope=all", 400, erp.RuleScope, basic("gw", "s/1")},
	} {
		before := len(server.Violations())
		w := ask(server, c.method, c.target, c.body, form, c.with)
		if found := server.Violations()[before:]; w.Code != c.status || len(found) != 1 || found[0].Rule != c.rule {
			t.Errorf("%s: %d %s", c.name, w.Code, central.Words(found))
		}
	}
}

func TestAzumutaTakesAQueryOrJSON(t *testing.T) {
	get := &erp.Azumuta{Method: "GET", Path: "/hook", KeyHeader: "X-API-Key", Key: "k", Orders: []string{"PO-1"}}
	post := &erp.Azumuta{Method: "POST", Path: "/hook", KeyHeader: "X-API-Key", Key: "k", Recording: "rec"}
	key := header("X-API-Key", "k")
	for _, c := range []struct {
		name, target, body string
		to                 *erp.Azumuta
		status             int
		rule               string
		with               func(*http.Request)
	}{
		{"query", "/hook?productOrderNumber=PO-1&recordingId=7", "", get, 200, "", key},
		{"json", "/hook", `{"productOrderNumber":"PO-2","rec":"8"}`, post, 200, "", key},
		{"no key", "/hook?productOrderNumber=PO-1", "", get, 401, erp.RuleAuth, header("X", "y")},
		{"an unknown order", "/hook?productOrderNumber=PO-9", "", get, 404, erp.RuleCode, key},
		{"no order", "/hook?recordingId=7", "", get, 400, erp.RuleBody, key},
		{"an unknown parameter", "/hook?productOrderNumber=PO-1&machine=M", "", get, 400, erp.RuleBody, key},
		{"a parameter twice", "/hook?productOrderNumber=PO-1&productOrderNumber=PO-1", "", get, 400, erp.RuleBody, key},
		{"a GET with a body", "/hook?productOrderNumber=PO-1", "{}", get, 400, erp.RuleBody, key},
		{"a POST with a query", "/hook?productOrderNumber=PO-1", `{"productOrderNumber":"PO-2"}`, post, 400, erp.RuleBody, key},
		{"an unknown field", "/hook", `{"productOrderNumber":"PO-2","machine":"M"}`, post, 400, erp.RuleBody, key},
		{"a number as the order", "/hook", `{"productOrderNumber":2}`, post, 400, erp.RuleBody, key},
		{"another path", "/hooks", `{"productOrderNumber":"PO-2"}`, post, 404, erp.RuleRequest, key},
	} {
		before := len(c.to.Violations())
		w := ask(c.to, c.to.Method, c.target, c.body, c.with)
		found := c.to.Violations()[before:]
		if w.Code != c.status || c.rule == "" && len(found) > 0 || c.rule != "" && (len(found) != 1 || found[0].Rule != c.rule) {
			t.Errorf("%s: %d, %s", c.name, w.Code, central.Words(found))
		}
	}
	if a, b := get.Triggers(), post.Triggers(); len(a) != 1 || a[0] != (erp.Trigger{Order: "PO-1", Recording: "7"}) || len(b) != 1 || b[0].Recording != "8" {
		t.Errorf("taken: %v %v", a, b)
	}
}

func TestProdSysDraftsOrdersOfKnownArticles(t *testing.T) {
	now := noon
	p := &erp.ProdSys{
		Articles: []string{"A-1", "A-2"}, Now: func() time.Time { return now },
		Tokens: []erp.Token{
			{Text: "all", Scopes: []string{erp.ScopeOrders, erp.ScopeArticles, erp.ScopeContacts}, Ends: noon.Add(time.Hour)},
			{Text: "read", Scopes: []string{erp.ScopeArticles}},
		},
	}
	const right = `{"number":"PO-1","supplier":{"name":"Acme AS","address":"Oslo"},"lines":[{"article":"A-1","quantity":2}]}`
	for _, c := range []struct {
		name, method, target, body, token string
		status                            int
		rule                              string
	}{
		{"a draft", "POST", "/purchase-orders", right, "all", 201, ""},
		{"another name for the same", "POST", "/purchase-orders", strings.Replace(right, "Acme AS", "ACME AS", 1), "all", 201, ""},
		{"an article", "GET", "/articles/A-2", "", "read", 200, ""},
		{"an unknown article", "GET", "/articles/A-9", "", "read", 404, ""},
		{"no token", "POST", "/purchase-orders", right, "", 401, erp.RuleAuth},
		{"another token", "POST", "/purchase-orders", right, "al", 401, erp.RuleAuth},
		{"a token for something else", "POST", "/purchase-orders", right, "read", 403, erp.RuleScope},
		{"an unknown article in a line", "POST", "/purchase-orders", strings.Replace(right, "A-1", "A-7", 1), "all", 422, erp.RuleCode},
		{"an unknown field", "POST", "/purchase-orders", strings.Replace(right, `"number"`, `"price":1,"number"`, 1), "all", 400, erp.RuleBody},
		{"no lines", "POST", "/purchase-orders", `{"number":"PO-1","supplier":{"name":"Acme AS"},"lines":[]}`, "all", 400, erp.RuleBody},
		{"an unknown call", "DELETE", "/purchase-orders", "", "all", 404, erp.RuleRequest},
	} {
		before := len(p.Violations())
		w := ask(p, c.method, c.target, c.body, header("Authorization", "Bearer "+c.token))
		found := p.Violations()[before:]
		if w.Code != c.status || c.rule == "" && len(found) > 0 || c.rule != "" && (len(found) != 1 || found[0].Rule != c.rule) {
			t.Errorf("%s: %d %s, %s", c.name, w.Code, w.Body, central.Words(found))
		}
	}
	if len(p.Drafts()) != 2 || len(p.Contacts()) != 2 || p.Drafts()[0].Lines[0] != (erp.Line{Article: "A-1", Quantity: 2}) {
		t.Errorf("drafts %v, contacts %v", p.Drafts(), p.Contacts())
	}
	if log := strings.Join(p.Log(), "\n"); !strings.Contains(log, `order PO-1: no article "A-7"`) {
		t.Errorf("the log is %q", log)
	}
	now = now.Add(time.Hour)
	before := len(p.Violations())
	if w := ask(p, "POST", "/purchase-orders", right, header("Authorization", "Bearer all")); w.Code != 401 || len(p.Violations()) != before {
		t.Errorf("an expired token: %d", w.Code)
	}
}
