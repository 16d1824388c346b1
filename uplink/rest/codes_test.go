package rest

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/render"
)

// scrapTable names one code of scrap.
func scrapTable(ours, theirs string) config.Table[uplink.Code] {
	return config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: ours, Value: uplink.Code{Theirs: theirs}}}}
}

// TestCloudEventsHaveTheReceiversCodes: alone and in lists, and the codes that the
// table does not have are counted once an event, whatever the receiver does.
func TestCloudEventsHaveTheReceiversCodes(t *testing.T) {
	for _, batch := range []int{1, 10} {
		r := answering(t, func(n int, _ request, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		})
		o := testOptions(r.Addr())
		o.Batch = batch
		o.Codes.Waste = scrapTable("code-1", "W 4711")
		p, err := plan("erp", o)
		if err != nil {
			t.Fatal(err)
		}
		codes := uplink.NewCodes(p.Codes, nil)
		s := p.Open(uplink.Env{Name: "erp", Log: zap.NewNop(), Memory: func(string) ([]byte, error) { return nil, nil }, Codes: codes})
		defer s.Close()
		known, unknown := render.Sample(plant.KindCounter, render.Full), render.Sample(plant.KindCounter, render.Full)
		known.Machine, unknown.Machine = "M", "M"
		known.Sequence, unknown.Sequence = 1, 2
		unknown.Data = []byte(strings.ReplaceAll(string(unknown.Data), "code-1", "code-9"))
		events := []plant.Event{known, unknown}
		if got := s.Send(t.Context(), "M", events); delivered(got, 1) != 0 {
			t.Fatalf("results %+v", got)
		}
		if got := s.Send(t.Context(), "M", events); delivered(got, 1) != 2 {
			t.Fatalf("results %+v", got)
		}
		var body string
		for _, q := range r.seen()[1:] {
			body += string(q.body)
		}
		if strings.Contains(body, `"code-1"`) || strings.Count(body, `"code":"W 4711"`) != 2 || strings.Count(body, `"code":"code-9"`) != 2 {
			t.Errorf("batch %d: %s", batch, body)
		}
		if unmapped, _ := codes.Unmapped(); len(unmapped) != 1 || unmapped[0].Code != "code-9" || unmapped[0].Count != 1 {
			t.Errorf("batch %d: %+v", batch, unmapped)
		}
	}
}

// TestTemplatesCountEvents: a template that looks a code up twice, in an event that
// is sent twice, has looked it up for one event; and each event for its own.
func TestTemplatesCountEvents(t *testing.T) {
	r := answering(t, func(n int, _ request, w http.ResponseWriter) bool {
		if n > 1 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	o := testOptions(r.Addr())
	o.Batch = 5
	o.Codes.Article = scrapTable("A", "B")
	o.Requests = []Request{{
		Kinds: uplink.Kinds{plant.KindSerial}, When: `{{code "article" .data.sku}}`, Path: `/x?sku={{code "article" .data.order.sku}}`,
		Body: `{"a": {{code "article" .data.sku}}, "b": {{code "article" .data.sku}}}`, List: &List{},
	}}
	p, err := plan("erp", o)
	if err != nil {
		t.Fatal(err)
	}
	codes := uplink.NewCodes(p.Codes, nil)
	s := p.Open(uplink.Env{Name: "erp", Log: zap.NewNop(), Memory: func(string) ([]byte, error) { return nil, nil }, Codes: codes})
	defer s.Close()
	events := mixed(plant.KindSerial, plant.KindSerial, plant.KindSerial)
	for i := range events {
		events[i].Data = []byte(`{"order":{"number":"1","sku":"Z"},"sku":"Y","serial":"1","action":"add"}`)
	}
	for _, want := range []int{0, 3} {
		if got := s.Send(t.Context(), "M", events); delivered(got, 1) != want {
			t.Fatalf("results %+v", got)
		}
	}
	unmapped, _ := codes.Unmapped()
	if len(unmapped) != 2 || unmapped[0].Count != 3 || unmapped[1].Count != 3 {
		t.Errorf("%+v, want Y and Z of three events each", unmapped)
	}
}

// TestTablesThatNothingAsksFor are warned of, and what is asked for is known.
func TestTablesThatNothingAsksFor(t *testing.T) {
	o := testOptions("127.0.0.1:1")
	o.Codes.Waste, o.Codes.Article, o.Codes.Machine = scrapTable("a", "b"), scrapTable("a", "b"), scrapTable("a", "b")
	o.Requests = []Request{
		{Kinds: uplink.Kinds{plant.KindSerial}, Body: `{"a": {{mapped "article" .data.sku}}, "m": {{.machine | code "machine"}}}`},
		{Kinds: uplink.Kinds{plant.KindStartStop}, Body: `{"t": {{with .data.order}}{{code "article" .sku}}{{else}}null{{end}}}`},
	}
	p, err := plan("erp", o)
	if err == nil || strings.Contains(err.Error(), "article") || strings.Contains(err.Error(), "codes.machine") || !strings.Contains(err.Error(), "codes.waste: no template asks for it") {
		t.Errorf("got %v", err)
	}
	for kind, want := range map[plant.CodeKind]uplink.Translation{
		plant.CodeArticle: uplink.Demanded, plant.CodeMachine: uplink.Translated, plant.CodeWaste: uplink.Untranslated, plant.CodeDowntimeType: uplink.Untranslated,
	} {
		if got := p.Translation(kind); got != want {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
	}
	o.Requests = nil
	if _, err = plan("erp", o); err == nil || !strings.Contains(err.Error(), "codes.machine") || strings.Contains(err.Error(), "codes.waste") {
		t.Errorf("without templates: %v", err)
	}
}
