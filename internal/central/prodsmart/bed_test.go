package prodsmart_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/prodsmart"
)

// bed is one Prodsmart with a clock of its own.
type bed struct {
	*testing.T
	*prodsmart.Fake
	now    time.Time
	server *httptest.Server
	token  string
}

func company() prodsmart.Company {
	return prodsmart.Company{
		Key: "key", Secret: "hush-hush",
		Machines:   []prodsmart.Machine{{Code: "A32", DowntimeTypes: []string{"Maintenance", "Jam"}}, {Code: "F 1/2", Count: 7}},
		WasteCodes: []string{"Waste1", "Waste2"},
		Products: []prodsmart.Product{
			{Code: "bicycle", Name: "Bicycle", UoM: "pcs", Components: []prodsmart.Component{{Product: "wheel", Quantity: 2, Operation: "assemble"}}},
			{Code: "wheel", Name: "Wheel", UoM: "pcs", Stock: 100},
			{Code: "flour", Name: "Flour", UoM: "kg", Stock: 50},
		},
		Orders:   []prodsmart.Order{{ID: 1, Code: "PO1", Product: "bicycle", Machines: []string{"A32"}, RunningStatus: "started"}},
		Channels: map[string]string{"stops": "DOWN_TIME"},
	}
}

func newBed(t *testing.T, change ...func(*prodsmart.Company)) *bed {
	b := &bed{T: t, now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	c := company()
	c.Now = func() time.Time { return b.now }
	for _, set := range change {
		set(&c)
	}
	b.Fake = prodsmart.New(c)
	b.server = httptest.NewServer(b.Fake)
	// On a connection that has been used net/http repeats a GET whose answer was
	// lost, without a word; here each request is one.
	b.server.Client().Transport.(*http.Transport).DisableKeepAlives = true
	t.Cleanup(b.server.Close)
	return b
}

// ask sends a request as it stands; credentials are key:secret, or none.
func (b *bed) ask(method, target, credentials, kind, body string) (*http.Response, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), method, b.server.URL+target, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if key, secret, ok := strings.Cut(credentials, ":"); ok {
		r.SetBasicAuth(key, secret)
	} else if credentials != "" {
		r.Header.Set("Authorization", credentials)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	answer, err := b.server.Client().Do(r)
	if err != nil {
		return nil, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return answer, err.Error()
	}
	return answer, strings.TrimSpace(string(text))
}

const good = "key:hush-hush"

// post posts JSON to a machine endpoint with Basic and wants that status.
func (b *bed) post(want int, path, body string) string {
	b.Helper()
	answer, text := b.ask(http.MethodPost, "/api/machines/"+path, good, "application/json", body)
	if answer == nil || answer.StatusCode != want {
		b.Fatalf("POST %s %s: %v %s, want %d", path, body, answer, text, want)
	}
	return text
}

// with returns a target with a good token.
func (b *bed) with(target string) string {
	b.Helper()
	if b.token == "" {
		answer, text := b.ask(http.MethodPost, "/api/authorization", good, "application/json", `{"scopes":["productions_write"]}`)
		var grant struct {
			Token  string
			Scopes []string
		}
		if answer.StatusCode != http.StatusCreated || json.Unmarshal([]byte(text), &grant) != nil || grant.Token == "" || len(grant.Scopes) != 1 {
			b.Fatalf("a new token: %d %s", answer.StatusCode, text)
		}
		b.token = grant.Token
	}
	join := "?"
	if strings.Contains(target, "?") {
		join = "&"
	}
	return target + join + "access_token=" + b.token
}

func (b *bed) clean() {
	b.Helper()
	if found := b.Violations(); len(found) > 0 {
		b.Errorf("violations:\n%s", central.Words(found))
	}
}
