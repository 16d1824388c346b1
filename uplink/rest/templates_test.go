package rest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/render"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// ourRequests send counters so that the receiver of these tests knows them.
func ourRequests() []Request {
	return []Request{
		{Kinds: uplink.Kinds{plant.KindCounter}, Path: "/{{.machine}}?n={{.sequence}}", Body: `{"source":{{.source}},"id":{{.id}},"made":{{.data.good}},"order":{{.data.order.number}}, "data":{{.data}}}`},
		{Kinds: uplink.Kinds{plant.KindGap}, Skip: true},
	}
}

func listed(list *List) []Request {
	r := ourRequests()
	r[0].Path, r[0].List = "/{{.machine}}", list
	return r
}

func TestConformanceOfTemplates(t *testing.T) {
	uplinktest.Run(t, subject(func(o *Options) { o.Requests = ourRequests() }))
}

func TestConformanceOfTemplatesInLists(t *testing.T) {
	uplinktest.Run(t, subject(func(o *Options) { o.Batch, o.Requests = 25, listed(&List{}) }))
}

// mixed are events of several kinds, in turn.
func mixed(kinds ...plant.EventKind) []plant.Event {
	events := make([]plant.Event, len(kinds))
	for i, kind := range kinds {
		events[i] = render.Sample(kind, render.Full)
		events[i].Machine, events[i].Sequence = "M", plant.Sequence(i+1)
	}
	return events
}

// TestEachKindHasItsRequest: method, path, headers, body and content type are
// those of the kind, and what is not in a template is as ever.
func TestEachKindHasItsRequest(t *testing.T) {
	r := answering(t, func(int, request, http.ResponseWriter) bool { return false })
	o := testOptions(r.Addr())
	o.URL = "http://" + r.Addr() + "/api/v1?plant=7"
	o.Headers = map[string]string{"X-Plant": "lisbon"}
	o.Codes.Article = config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: "sku-1", Value: uplink.Code{Theirs: "A/1"}}}}
	o.Requests = []Request{
		{Kinds: uplink.Kinds{plant.KindCounter}, Path: "/machines/{{.machine}}/counter", Headers: map[string]string{"X-Event": "{{.id}}"}, Body: `{"count": {{.data.good}}}`},
		{Kinds: uplink.Kinds{plant.KindStartStop, plant.KindReason}, Method: "PUT", Path: "/stops?at={{.time | time \"seconds\"}}", Format: "xml", ContentType: "application/vnd.acme+xml", Body: `<stop kind="{{.kind}}" machine="{{.machine}}"/>`},
		{Kinds: uplink.Kinds{plant.KindSerial}, Method: "GET", Path: "/hook?sn={{.data.serial}}&sku={{code \"article\" .data.sku}}"},
		{Kinds: uplink.Kinds{plant.KindOrder}, Format: "form", Body: `kind={{.kind}}&machine={{.machine}}`},
		{Kinds: uplink.Kinds{plant.KindGap}, Skip: true},
	}
	p, err := plan("erp", o)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[plant.EventKind]bool{plant.KindCounter: true, plant.KindReason: true, plant.KindGap: false, plant.KindAlarm: false} {
		if p.Carries(kind) != want {
			t.Errorf("Carries(%s) = %v", kind, !want)
		}
	}
	s := p.Open(uplink.Env{Name: "erp", Memory: func(string) ([]byte, error) { return nil, nil }, Codes: uplink.NewCodes(p.Codes, nil)})
	defer s.Close()
	events := mixed(plant.KindCounter, plant.KindStartStop, plant.KindReason, plant.KindSerial, plant.KindOrder)
	if got := s.Send(t.Context(), "M", events); delivered(got, 1) != len(events) {
		t.Fatalf("results %+v", got)
	}
	seen := r.seen()
	for i, want := range []struct{ method, path, kind, body string }{
		{"POST", "/api/v1/machines/M/counter?plant=7", "application/json", `{"count": 12}`},
		{"PUT", "/api/v1/stops?plant=7&at=2026-03-29T00%3A59%3A59Z", "application/vnd.acme+xml", `<stop kind="startstop" machine="M"/>`},
		{"PUT", "/api/v1/stops?plant=7&at=2026-03-29T00%3A59%3A59Z", "application/vnd.acme+xml", `<stop kind="reason" machine="M"/>`},
		{"GET", "/api/v1/hook?plant=7&sn=serial-1&sku=A%2F1", "", ""},
		{"POST", "/api/v1?plant=7", "application/x-www-form-urlencoded", "kind=order&machine=M"},
	} {
		q := seen[i]
		if q.method != want.method || q.path != want.path || q.header.Get("Content-Type") != want.kind || string(q.body) != want.body {
			t.Errorf("request %d: %s %s %q %s", i, q.method, q.path, q.header.Get("Content-Type"), q.body)
		}
		if q.header.Get("X-Plant") != "lisbon" || q.header.Get("Idempotency-Key") != events[i].ID().String() || (q.header.Get("X-Event") == events[0].ID().String()) != (i == 0) {
			t.Errorf("request %d: headers %v", i, q.header)
		}
	}
}

// TestListsHoldWhatGoesTogether: one body has events of one request, path and
// headers only, in order, up to batch and max_body.
func TestListsHoldWhatGoesTogether(t *testing.T) {
	r := answering(t, func(int, request, http.ResponseWriter) bool { return false })
	o := testOptions(r.Addr())
	o.Batch = 3
	o.Requests = []Request{
		{Kinds: uplink.Kinds{plant.KindCounter, plant.KindAlarm}, Path: "/{{.kind}}", Body: `{{.sequence}}`, List: &List{Begin: `{"rows":[`, Between: ",", End: "]}"}},
		{Kinds: uplink.Kinds{plant.KindSerial}, Body: `{{.sequence}}`},
		{Kinds: uplink.Kinds{plant.KindGap}, Format: "xml", Body: `<e>{{.sequence}}</e>`, List: &List{Begin: "<all>", End: "</all>"}},
	}
	const c, a, s, g = plant.KindCounter, plant.KindAlarm, plant.KindSerial, plant.KindGap
	events := mixed(c, c, c, c, a, c, s, s, g, g)
	if got := openUnchecked(t, o).Send(t.Context(), "M", events); delivered(got, 1) != len(events) {
		t.Fatalf("results %+v", got)
	}
	var got []string
	for _, q := range r.seen() {
		got = append(got, q.path+" "+string(q.body))
	}
	want := []string{
		`/events/counter {"rows":[1,2,3]}`, `/events/counter {"rows":[4]}`, `/events/alarm {"rows":[5]}`, `/events/counter {"rows":[6]}`,
		`/events 7`, `/events 8`, `/events <all><e>9</e><e>10</e></all>`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	o.MaxBody = 1 << 10
	o.Batch = 100
	o.Requests[0].Body = `{{.id}}`
	before := len(r.seen())
	many := mixed(slicesOf(c, 100)...)
	if got := openUnchecked(t, o).Send(t.Context(), "M", many); delivered(got, 1) != len(many) {
		t.Fatalf("results %+v", got)
	}
	n := 0
	for _, q := range r.seen()[before:] {
		var body struct{ Rows []string }
		if err := json.Unmarshal(q.body, &body); err != nil || len(q.body) > 1<<10 {
			t.Errorf("%d bytes, %v", len(q.body), err)
		}
		n += len(body.Rows)
	}
	if n != 100 {
		t.Errorf("%d events", n)
	}
}

func slicesOf(kind plant.EventKind, n int) []plant.EventKind {
	all := make([]plant.EventKind, n)
	for i := range all {
		all[i] = kind
	}
	return all
}

// TestAnEventThatFitsNoTemplate is refused with the words that say why, and
// those before and behind it are sent.
func TestAnEventThatFitsNoTemplate(t *testing.T) {
	for _, batch := range []int{1, 10} {
		r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
			fmt.Fprint(w, "OK")
			return false
		})
		o := testOptions(r.Addr())
		o.Batch = batch
		o.Requests = []Request{{Kinds: uplink.Kinds{plant.KindSerial, plant.KindGap}, Path: "/units/{{.machine}}", Body: `{"sku":{{mapped "article" .data.sku}}}`}}
		if batch > 1 {
			o.Requests[0].List = &List{}
		}
		o.Requests[0].Kinds = uplink.Kinds{plant.KindSerial}
		o.Codes.Article = config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: "sku-1", Value: uplink.Code{Theirs: "A-1"}}}}
		p, err := plan("erp", o)
		if err != nil {
			t.Fatal(err)
		}
		s := p.Open(uplink.Env{Name: "erp", Memory: func(string) ([]byte, error) { return nil, nil }, Codes: uplink.NewCodes(p.Codes, nil)})
		defer s.Close()
		events := mixed(slicesOf(plant.KindSerial, 4)...)
		events[2].Data = []byte(`{"serial":"s","sku":"nobody knows"}`)
		var all []plant.Result
		for rest := events; len(rest) > 0; {
			got := s.Send(t.Context(), "M", rest)
			all = append(all, got...)
			rest = rest[got[len(got)-1].Last-rest[0].Sequence+1:]
		}
		if len(all) != 3 || all[0].Last != 2 || all[1].Status != plant.Rejected || all[1].First != 3 || all[1].Last != 3 || all[2].First != 4 {
			t.Fatalf("results %+v", all)
		}
		if text := all[1].Cause.Error(); !strings.Contains(text, `make the request for a serial event`) || !strings.Contains(text, `the code table article has no row for "nobody knows", and nothing else may be sent in its place; add a row for "nobody knows" to codes: article:`) {
			t.Errorf("cause %q", text)
		}
	}
}

// TestAPathOfDotsIsRefused: an event names no other place than its template.
func TestAPathOfDotsIsRefused(t *testing.T) {
	r := newReceiver(t)
	o := testOptions(r.Addr())
	o.Requests = []Request{{Kinds: uplink.Kinds{plant.KindSerial}, Path: "/units/{{.data.serial}}", Body: "1"}}
	for serial, path := range map[string]string{"..": "", "../../admin": "", "a/b": "/events/units/a%2Fb", "@evil.example": "/events/units/@evil.example", "x?y#z": "/events/units/x%3Fy%23z"} {
		events := mixed(plant.KindSerial)
		events[0].Data = fmt.Appendf(nil, `{"serial":%q}`, serial)
		before := len(r.seen())
		r.answer = func(int, request, http.ResponseWriter) bool { return false }
		got := openUnchecked(t, o).Send(t.Context(), "M", events)
		switch seen := r.seen()[before:]; {
		case path == "" && (got[0].Status != plant.Rejected || len(seen) > 0):
			t.Errorf("%q: %+v, %d requests", serial, got, len(seen))
		case path != "" && (len(seen) != 1 || seen[0].path != path):
			t.Errorf("%q: %+v, %+v", serial, got, seen)
		}
	}
}

// TestCheckNamesEachFaultOfATemplate, with its place, the kind, the result and
// the remedy.
func TestCheckNamesEachFaultOfATemplate(t *testing.T) {
	t.Setenv("GOOD", "hunter2")
	const gap = "\n  - {kinds: [gap], skip: true}"
	one := func(request string) string {
		return "url: https://mes.example\nrequests:\n  - {kinds: [counter], " + request + "}" + gap
	}
	sections.Faults(t, map[string]string{
		one(`body: '{"n": {{.data.good}}}'`):                                     "",
		one(`body: '{"n": {{.data.goood}}}'`):                                    "requests[0].body: line 1, column 14 of the template: no event of these kinds has a field `goood` — did you mean `good`?",
		one(`body: '{"n": {{.data.good}},}'`):                                    "requests[0].body: for a `counter` event with all that it can have: it is no valid JSON: invalid character '}' looking for beginning of object key string: the result is `{\"n\": 12,}`",
		one(`body: '{"n": {{.data.order}'`):                                      "requests[0].body: line 1 of the template",
		one(`body: '<a>{{.data.good}}</b>', format: xml`):                        "it is no valid XML",
		one(`body: 'a b', format: form`):                                         "it is no form",
		one(`body: '1', format: yaml`):                                           "unknown format `yaml`",
		one(`body: '1', path: orders`):                                           "requests[0].path: for a `counter` event",
		one(`body: '1', path: '/orders/{{.data.order.number}}'`):                 "event with nothing but what each one has: a value in the path is empty",
		one(`body: '1', headers: {X-Id: "a\nb"}`):                                "requests[0].headers.X-Id",
		one(`body: '1', headers: {Host: x}`):                                     "sets this header itself",
		one(`body: '1', headers: {X-Api-Key: x}`):                                "looks like a secret",
		one(`body: '1', headers: {X-Id: '{{.nothing}}'}`):                        "requests[0].headers.X-Id: line 1",
		one(`body: '1', method: FETCH`):                                          "none of POST, PUT",
		one(`body: '1', method: GET`):                                            "a GET has no body",
		one(`path: /x`):                                                          "a POST without a body says nothing",
		one(`body: '1', list: {}`):                                               "batch is 1",
		one(`body: '1', body_file: b.tmpl`):                                      "keep one of body and body_file",
		one(`body_file: none.tmpl`):                                              "requests[0].body_file: it cannot be read",
		one(`body: '1', content_type: "a\nb"`):                                   "requests[0].content_type",
		one(`body: '1', skip: true`):                                             "what is left out needs no when",
		"batch: 5\n" + one(`body: 'a=1', format: form, list: {}`):                "a form holds one event",
		"batch: 5\n" + one(`body: '<a/>', format: xml, list: {}`):                "write begin, between and end",
		"batch: 5\n" + one(`body: '{{.id}}', list: {begin: '[', end: ']'}`):      "requests[0].list: for 2 `counter` events in one body: it is no valid JSON",
		"batch: 5\n" + one(`path: '/x', method: GET, list: {}`):                  "there is no body that could hold several events",
		"url: https://mes.example\nrequests:\n  - {kinds: [counter], body: '1'}": "none is for `gap`",
		"url: https://mes.example\nrequests:\n  - {kinds: [counter, gap], body: '1'}\n  - {kinds: [counter], body: '2'}": `requests[0] sends "counter" already`,
		"url: https://mes.example\nrequests:\n  - {kinds: [], body: '1'}":                                                "it names no kind",
		"kinds: [counter, serial]\n" + one(`body: '1'`):                                                                  `kinds[1]: no request sends "serial"`,
		"url: https://mes.example\nrequests:\n  - {kinds: [count], body: '1'}":                                           `requests[0].kinds[0]: there is no kind of event "count"`,
	})
}

// TestABodyOfAnotherSort: the advice is about the request, not about CloudEvents.
func TestABodyOfAnotherSort(t *testing.T) {
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return false
	})
	o := testOptions(r.Addr())
	o.Requests = ourRequests()
	got := openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
	if len(got) != 1 || !systemWide(got[0]) || !strings.Contains(got[0].Cause.Error(), "check format and content_type of the request") {
		t.Errorf("results %+v", got)
	}
}

// TestABodyFromAFile is read once, and its faults name it.
func TestABodyFromAFile(t *testing.T) {
	r := answering(t, func(int, request, http.ResponseWriter) bool { return false })
	file := filepath.Join(t.TempDir(), "counter.json.tmpl")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := testOptions(r.Addr())
	o.Requests = []Request{{Kinds: uplink.Kinds{plant.KindCounter}, BodyFile: config.Path(file)}}
	write("{\n  \"good\": {{.data.good}}\n}\n")
	if got := openUnchecked(t, o).Send(t.Context(), "M", mixed(plant.KindCounter)); delivered(got, 1) != 1 || string(r.seen()[0].body) != "{\n  \"good\": 12\n}\n" {
		t.Errorf("results %+v", got)
	}
	write("{\n  \"good\": {{.data.god}}\n}\n")
	if _, err := plan("mes", o); err == nil || !strings.Contains(err.Error(), file+": line 2, column 18 of the template") {
		t.Errorf("%v", err)
	}
	write(strings.Repeat("x", render.Longest+1))
	if _, err := plan("mes", o); err == nil || !strings.Contains(err.Error(), "no file of at most") {
		t.Errorf("%v", err)
	}
}

// TestListsWithAnswersForEachEvent: what a receiver says of each event of a list
// counts for templates as it does for CloudEvents.
func TestListsWithAnswersForEachEvent(t *testing.T) {
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `[{"status":200},{"status":422,"error":"no such order"},{"status":503}]`)
		return false
	})
	o := testOptions(r.Addr())
	o.Batch = 3
	o.Requests = listed(&List{})
	got := openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 3))
	if len(got) != 3 || got[0].Status != plant.Delivered || got[1].Status != plant.Rejected || got[2].Status != plant.Retry || !strings.Contains(got[1].Cause.Error(), "no such order") {
		t.Errorf("results %+v", got)
	}
}
