package rest

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// opened is a sender with a journal that is kept here.
func opened(t *testing.T, o Options) (uplink.Sender, *[]uplink.Exchange) {
	t.Helper()
	p, err := plan("erp", o)
	if err != nil {
		t.Fatal(err)
	}
	noted := new([]uplink.Exchange)
	s := p.Open(uplink.Env{Name: "erp", Log: zap.NewNop(), Memory: func(string) ([]byte, error) { return nil, nil },
		Journal: uplink.NewJournal("erp", func(x uplink.Exchange) { *noted = append(*noted, x) })})
	t.Cleanup(func() { s.Close() })
	return s, noted
}

// TestRulesOfAReceiver has a row for each thing that a receiver of its own kind
// may answer, and what the journal says of it.
func TestRulesOfAReceiver(t *testing.T) {
	ok := Answer{Success: "status", Is: []string{"ok", "1"}, ID: "data.id"}
	failing := Answer{Error: "error.text"}
	for name, test := range map[string]struct {
		rules  Answer
		status int
		body   string
		want   plant.Status
		words  string
		id     string
	}{
		"ok":                        {ok, 200, `{"status":"OK","data":{"id":4711}}`, plant.Delivered, "", "4711"},
		"ok as a number":            {ok, 200, `{"status":1}`, plant.Delivered, "", ""},
		"failed":                    {ok, 200, `{"status":"failed"}`, plant.Rejected, "the receiver answers 200 OK, but in it: status is failed", ""},
		"failed for now":            {Answer{Success: "status", Is: []string{"ok"}, Failure: failureRetry}, 200, `{"status":"busy"}`, plant.Retry, "status is busy", ""},
		"says nothing":              {ok, 200, `{}`, plant.Retry, "there is no status in what it says", ""},
		"no JSON":                   {ok, 200, `OK`, plant.Retry, "what it says is no valid JSON", ""},
		"nothing at all":            {ok, 204, ``, plant.Retry, "no valid JSON", ""},
		"an error":                  {failing, 200, `{"error":{"text":"no such article"}}`, plant.Rejected, "but in it: no such article", ""},
		"an error as an object":     {Answer{Error: "errors"}, 200, `{"errors":[{"code":7}]}`, plant.Rejected, `[{"code":7}]`, ""},
		"no error":                  {failing, 200, `{"error":{"text":""}}`, plant.Delivered, "", ""},
		"no error, null":            {failing, 200, `{"error":null}`, plant.Delivered, "", ""},
		"no error, no JSON":         {failing, 200, `OK`, plant.Delivered, "", ""},
		"no error, an empty list":   {Answer{Error: "errors"}, 200, `{"errors":[]}`, plant.Delivered, "", ""},
		"an item of a list":         {Answer{Error: "[0].error"}, 200, `[{"error":"x"}]`, plant.Rejected, "but in it: x", ""},
		"409 has it":                {Answer{Delivered: []Statuses{409}}, 409, `{}`, plant.Delivered, "", ""},
		"409 has it, with rules":    {Answer{Delivered: []Statuses{409}, Error: "error"}, 409, `{"error":"no"}`, plant.Rejected, "but in it: no", ""},
		"404 later":                 {Answer{Retry: []Statuses{404}}, 404, ``, plant.Retry, "404 Not Found", ""},
		"500 never":                 {Answer{Refused: []Statuses{5}}, 502, `{"message":"bad article"}`, plant.Rejected, "502 Bad Gateway: bad article", ""},
		"one status before a class": {Answer{Refused: []Statuses{5}, Retry: []Statuses{503}}, 503, ``, plant.Retry, "503", ""},
		"a cut body":                {ok, 200, "\x00cut", plant.Retry, "cannot be read", ""},
		"a packed body":             {ok, 200, "\x00packed", plant.Retry, "is packed (br)", ""},
		"a huge body":               {ok, 200, strings.Repeat(" ", 1<<20), plant.Retry, "longer than", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
				w.Header().Set("Content-Type", "application/json")
				body := test.body
				switch body {
				case "\x00cut":
					w.Header().Set("Content-Length", "100")
					body = `{"status":"ok"`
				case "\x00packed":
					w.Header().Set("Content-Encoding", "br")
					body = "x"
				}
				w.WriteHeader(test.status)
				io.WriteString(w, body)
				return false
			})
			o := testOptions(r.Addr())
			o.Answer = test.rules
			if err := o.Validate(); err != nil && test.rules.Refused == nil {
				t.Fatal(err)
			}
			s, noted := opened(t, o)
			got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			if len(got) != 1 || got[0].Status != test.want || test.want != plant.Delivered && !strings.Contains(got[0].Cause.Error(), test.words) {
				t.Fatalf("results %+v", got)
			}
			outcome := map[plant.Status]uplink.Outcome{plant.Delivered: uplink.OutcomeDelivered, plant.Rejected: uplink.OutcomeRefused, plant.Retry: uplink.OutcomeRetry}[test.want]
			x := (*noted)[0]
			if len(*noted) != 1 || x.Outcome != outcome || x.Status != test.status || x.RequestID != "gw/M/0000000000000007-1" || x.ReceiverID != test.id || x.First != 1 || x.Last != 1 || x.Events != 1 ||
				x.Kind != plant.KindCounter || x.Method != http.MethodPost || x.Where != "http://"+r.Addr()+"/events" || test.want != plant.Delivered && !strings.Contains(x.Words, test.words) {
				t.Errorf("the journal has %+v", *noted)
			}
		})
	}
}

// TestListsByOtherWords: the answer to a list is where the receiver has it, in
// its words.
func TestListsByOtherWords(t *testing.T) {
	answer := `{"data":{"lines":[{"ref":{"id":"gw/M/0000000000000007-2"},"state":"DUP"},{"ref":{"id":"gw/M/0000000000000007-1"},"state":"booked"},{"ref":{"id":"gw/M/0000000000000007-3"},"state":"closed","why":{"text":"order 7 is closed"}},{"ref":{"id":"gw/M/0000000000000007-4"},"state":false}]}}`
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answer)
		return false
	})
	o := testOptions(r.Addr())
	o.Batch, o.Results = 4, resultsRequired
	o.Requests = listed(&List{})
	o.Answer = Answer{Results: "data.lines", ItemID: "ref.id", ItemStatus: "state", ItemError: "why.text", Words: map[string]string{"booked": "delivered", "dup": "delivered", "closed": "rejected"}}
	s, noted := opened(t, o)
	got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 4))
	if len(got) != 3 || got[0].Status != plant.Delivered || got[0].Last != 2 || got[1].Status != plant.Rejected || !strings.Contains(got[1].Cause.Error(), "order 7 is closed") || got[2].Status != plant.Rejected || got[2].First != 4 {
		t.Errorf("results %+v", got)
	}
	if len(*noted) != 1 || (*noted)[0].Outcome != uplink.OutcomeRefused || (*noted)[0].Events != 4 {
		t.Errorf("the journal has %+v", *noted)
	}
}

// TestAListThatFailsAsOne is halved until it is known which event is at fault.
func TestAListThatFailsAsOne(t *testing.T) {
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		if strings.Contains(string(q.body), `-3"`) {
			io.WriteString(w, `{"error":"event 3"}`)
			return false
		}
		return true
	})
	o := testOptions(r.Addr())
	o.Batch, o.Results = 8, resultsIgnore
	o.Requests, o.Answer = listed(&List{}), Answer{Error: "error"}
	s, noted := opened(t, o)
	events := uplinktest.Events("M", 1, 8)
	got := s.Send(t.Context(), "M", events)
	if len(got) != 2 || got[0].Last != 2 || got[1].Status != plant.Rejected || got[1].First != 3 || got[1].Last != 3 {
		t.Fatalf("results %+v", got)
	}
	if got = s.Send(t.Context(), "M", events[3:]); delivered(got, 4) != 5 {
		t.Errorf("results %+v", got)
	}
	if n := len(r.Arrivals()); n != 7 || len(*noted) != len(r.seen()) {
		t.Errorf("%d arrivals, %d requests, %d noted", n, len(r.seen()), len(*noted))
	}
}

// TestTest: what a person who tries the uplink is told.
func TestTest(t *testing.T) {
	for name, test := range map[string]struct {
		path   string
		status int
		body   string
		method string
		words  string
		good   bool
	}{
		"good":                     {"/ping?x=1", 200, "pong", "GET", "pong", true},
		"asked and refused":        {"/ping", 404, "", "GET", "404 Not Found", false},
		"asked and not known":      {"/ping", 401, "who?", "GET", "401 Unauthorized: who?", false},
		"a portal":                 {"/ping", 200, "<!doctype html>", "GET", "a web page came", false},
		"OPTIONS":                  {"", 204, "", "OPTIONS", "", true},
		"OPTIONS that nobody took": {"", 405, "", "OPTIONS", "whether it takes events the first one shows", true},
		"OPTIONS that it has not":  {"", 501, "", "OPTIONS", "whether it takes events the first one shows", true},
		"OPTIONS and no such path": {"", 404, "", "OPTIONS", "whether it takes events the first one shows", true},
		"OPTIONS too often":        {"", 429, "", "OPTIONS", "429", false},
		"OPTIONS and not known":    {"", 401, "", "OPTIONS", "401 Unauthorized", false},
		"OPTIONS and down":         {"", 503, "", "OPTIONS", "503", false},
		"OPTIONS and elsewhere":    {"", 302, "", "OPTIONS", "302", false},
		"nobody":                   {"", 0, "", "OPTIONS", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
				return false
			})
			o := testOptions(r.Addr())
			o.URL = "http://" + r.Addr() + "/api"
			o.TestPath = test.path
			if test.status == 0 {
				r.Stop()
			}
			s, noted := opened(t, o)
			err := s.(uplink.Tester).Test(t.Context())
			x := (*noted)[0]
			if (err == nil) != test.good || err != nil && !strings.Contains(err.Error(), test.words) || !strings.Contains(x.Words, test.words) || len(*noted) != 1 || x.Outcome != uplink.OutcomeTest || x.Method != test.method || strings.Contains(x.Where, "?") {
				t.Errorf("%v, the journal has %+v", err, *noted)
			}
			if test.status > 0 && r.seen()[0].path != "/api"+test.path {
				t.Errorf("path %s", r.seen()[0].path)
			}
		})
	}
}

func TestCheckNamesEachFaultOfTheRules(t *testing.T) {
	const base = "url: https://mes.example\n"
	sections.Faults(t, map[string]string{
		base + "answer: {delivered: [2xx, 409], refused: [5xx], retry: [404, 503]}":                                       "",
		base + "answer: {success: status, is: ok, error: '$.errors[0].text', failure: retry, id: 'data[0].id'}":           "",
		base + "answer: {results: data.items, item_id: ref, item_status: state, item_error: why, words: {ok: delivered}}": "",
		base + "answer: {delivered: [600]}":               "`600` is no status of HTTP",
		base + "answer: {delivered: [ok]}":                "is no status",
		base + "answer: {delivered: [401]}":               "401 cannot mean that the receiver has the events",
		base + "answer: {delivered: [5xx]}":               "5xx cannot mean",
		base + "answer: {delivered: [3xx]}":               "3xx cannot mean",
		base + "answer: {delivered: [409], retry: [409]}": "409 is in delivered as well",
		base + "answer: {success: status}":                "belong together",
		base + "answer: {is: [ok]}":                       "belong together",
		base + "answer: {failure: retry}":                 "nothing says what a failure is",
		base + "answer: {error: e, failure: park}":        "answer.failure",
		base + "answer: {error: 'a..b'}":                  "`a..b` is no path",
		base + "answer: {error: 'a[*]'}":                  "is no path",
		base + "answer: {error: '$'}":                     "is no path",
		base + "answer: {words: {ok: good}}":              "answer.words.ok",
		base + "test_path: ping":                          "begins with neither",
		base + "test_path: //evil.example":                "names another host",
	})
}

// FuzzRules: whatever a receiver answers, its rules end, and say something.
func FuzzRules(f *testing.F) {
	for _, seed := range []string{`{"status":"ok"}`, `{"a":{"b":[{"c":1}]}}`, `[[[[`, `{"a":`, "\ufeff{}", `{"error":{"error":"x"}}`, `null`, `"ok"`} {
		f.Add([]byte(seed), "a.b[0].c")
	}
	f.Fuzz(func(t *testing.T, body []byte, path string) {
		var p JSONPath
		if p.UnmarshalText([]byte(path)) != nil {
			return
		}
		a := Answer{Success: p, Is: []string{"ok"}, Error: p, ID: p}
		why, err := a.failed(body)
		if why != "" && err != nil {
			t.Errorf("%q: %q and %v", body, why, err)
		}
		_ = a.id(body)
		at := itemsAt{results: p, id: p, status: p, error: p}
		if items, spoken := at.parse(body); spoken && len(items) == 0 {
			t.Errorf("%q speaks of nothing", body)
		}
		_ = at.unusable(body, true)
	})
}
