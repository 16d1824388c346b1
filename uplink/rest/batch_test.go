package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

func contextWithin(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

func TestForm(t *testing.T) {
	r := newReceiver(t)
	o := testOptions(r.Addr())
	o.URL += "?plant=7"
	o.Method = http.MethodPut
	o.Headers = map[string]string{"x-plant": "lisbon", "User-Agent": "plant 7"}
	events := uplinktest.Events("Füller 1", 12, 3)
	if got := openWith(t, o).Send(t.Context(), "Füller 1", events); delivered(got, 12) != 3 || len(got) != 1 {
		t.Fatalf("results %+v", got)
	}
	q := r.seen()
	if len(q) != 3 {
		t.Fatalf("%d requests", len(q))
	}
	h := q[0].header
	if q[0].method != "PUT" || q[0].path != "/events?plant=7" || h.Get("Content-Type") != uplink.ContentType ||
		h.Get("Idempotency-Key") != "gw/F%C3%BCller%201/0000000000000007-12" || h.Get("X-Plant") != "lisbon" ||
		h.Get("User-Agent") != "plant 7" || h.Get("Accept-Encoding") != "identity" || h.Get("Authorization") != "" {
		t.Errorf("%s %s %v", q[0].method, q[0].path, h)
	}
	if want := uplink.AppendCloudEvent(nil, &events[0]); string(q[0].body) != string(want) {
		t.Errorf("body %s\nwant %s", q[0].body, want)
	}

	o.Batch = 2
	if got := openWith(t, o).Send(t.Context(), "Füller 1", events); delivered(got, 12) != 3 || len(got) != 1 {
		t.Fatalf("results %+v", got)
	}
	q = r.seen()[3:]
	if len(q) != 2 || q[0].header.Get("Content-Type") != batchType ||
		q[0].header.Get("Idempotency-Key") != "gw/F%C3%BCller%201/0000000000000007-12..0000000000000007-13/2" ||
		q[1].header.Get("Idempotency-Key") != "gw/F%C3%BCller%201/0000000000000007-14" || q[1].body[0] != '[' {
		t.Errorf("%d requests, %v", len(q), q[0].header)
	}
}

// TestResultsOfABatch has a row for each way in which a receiver may answer for
// each of four events: d delivered, x rejected, r retry from there on.
func TestResultsOfABatch(t *testing.T) {
	id := func(n int) string { return fmt.Sprintf(`"gw/M/0000000000000007-%d"`, n) }
	for name, test := range map[string]struct {
		status  int
		media   string
		body    string
		results string // the option
		want    string
		words   string
	}{
		"no body":                    {status: 200, body: "", want: "dddd"},
		"another body":               {status: 200, body: `{"count":4}`, want: "dddd"},
		"no JSON after all":          {status: 200, body: `ERROR: database is down`, want: "r", words: "no valid JSON"},
		"one word that is no JSON":   {status: 200, body: `OK`, want: "r", words: "set results: ignore"},
		"one word as JSON has it":    {status: 200, body: `"OK"`, want: "dddd"},
		"a word that is ignored":     {status: 200, body: `OK`, results: resultsIgnore, want: "dddd"},
		"results that are no list":   {status: 200, body: `{"results":"fine"}`, want: "dddd"},
		"a list of other things":     {status: 200, body: `[1,2,3,4]`, want: "dddd"},
		"a list without a status":    {status: 200, body: `[{"id":1},{"id":2},{"id":3},{"id":4}]`, want: "dddd"},
		"not called JSON":            {status: 200, media: "text/plain", body: `[{"status":200},{"status":422,"error":"no such order"},{"status":200},{"status":200}]`, want: "dxdd", words: "no such order"},
		"JSON as PHP sends it":       {status: 200, media: "text/html; charset=UTF-8", body: ` {"results":[{"status":503},{"status":200},{"status":200},{"status":200}]}`, want: "r", words: "503"},
		"not called JSON and cut":    {status: 200, media: "text/plain", body: `{"results":[{"id":`, want: "r", words: "no valid JSON"},
		"no JSON at all":             {status: 200, media: "text/plain", body: `[OK] 4 lines`, want: "dddd"},
		"XML that is called JSON":    {status: 200, body: `<results/>`, want: "r", words: "XML"},
		"JSON in UTF-16":             {status: 200, body: "{\x00\"\x00r\x00", want: "r", words: "UTF-8"},
		"all by id":                  {status: 200, body: `{"results":[{"id":` + id(4) + `,"status":200},{"id":` + id(3) + `,"status":201},{"id":` + id(2) + `,"status":204},{"id":` + id(1) + `,"status":"delivered"}]}`, want: "dddd"},
		"one refused":                {status: 207, body: `[{"status":200},{"status":422,"error":"no such order"},{"status":200},{"status":200}]`, want: "dxdd", words: "422 Unprocessable Entity: no such order"},
		"refused with an object":     {status: 200, body: `[{"status":200},{"status":"rejected","error":{"message":"no such order"}},{"status":200},{"status":200}]`, want: "dxdd", words: "rejected: no such order"},
		"all refused":                {status: 200, body: `[{"status":400},{"status":400},{"status":404},{"status":401}]`, want: "xxxx"},
		"a conflict":                 {status: 200, body: `[{"status":409},{"status":200},{"status":200},{"status":200}]`, want: "xddd"},
		"one later":                  {status: 200, body: `[{"status":200},{"status":200},{"status":503,"error":"busy"},{"status":200}]`, want: "ddr", words: "503 Service Unavailable: busy"},
		"one later by a word":        {status: 200, body: `[{"status":"retry"},{"status":200},{"status":200},{"status":200}]`, want: "r"},
		"one left out":               {status: 200, body: `{"results":[{"id":` + id(1) + `,"status":200},{"id":` + id(3) + `,"status":200}]}`, want: "dr", words: "not for this one"},
		"one without a status":       {status: 200, body: `[{"status":200},{},{"status":200},{"status":200}]`, want: "dr", words: "says nothing"},
		"one null":                   {status: 200, body: `[{"status":200},{"status":null},null,{"status":200}]`, want: "dr"},
		"one that nobody knows":      {status: 200, body: `[{"status":200},{"status":"active"},{"status":200},{"status":200}]`, want: "dr", words: "active, which is no status"},
		"a status of another sort":   {status: 200, body: `[{"status":true},{"status":200},{"status":200},{"status":200}]`, want: "r", words: "no status"},
		"a status 302":               {status: 200, body: `[{"status":302},{"status":200},{"status":200},{"status":200}]`, want: "r"},
		"fewer than events":          {status: 200, body: `[{"status":200},{"status":200}]`, want: "r", words: "2 results for 4 events"},
		"more than events":           {status: 200, body: `[{"status":200},{"status":200},{"status":200},{"status":200},{"status":200}]`, want: "r", words: "5 results for 4 events"},
		"fewer, one with its id":     {status: 207, body: `[{"id":` + id(1) + `,"status":200},{"status":200}]`, want: "r", words: "2 results for 4 events"},
		"more, all by id":            {status: 207, body: `[{"id":` + id(1) + `,"status":200},{"id":` + id(2) + `,"status":200},{"id":` + id(3) + `,"status":200},{"id":` + id(4) + `,"status":200},{"id":` + id(1) + `,"status":200}]`, want: "dddd"},
		"ids against the order":      {status: 207, body: `[{"id":` + id(2) + `,"status":200},{"id":` + id(1) + `,"status":422},{"status":200},{"status":200}]`, want: "r", words: "stands as result 1 instead of 2"},
		"one id against the order":   {status: 207, body: `[{"status":200},{"status":422},{"id":` + id(2) + `,"status":200},{"id":null,"status":200}]`, want: "r", words: "stands as result 3 instead of 2"},
		"some ids, in the order":     {status: 207, body: `[{"id":` + id(1) + `,"status":200},{"status":422},{"id":` + id(3) + `,"status":200},{"id":null,"status":200}]`, want: "dxdd"},
		"a foreign id among ours":    {status: 207, body: `[{"id":` + id(1) + `,"status":200},{"id":"gw/X/1","status":422},{"id":` + id(3) + `,"status":200},{"id":` + id(4) + `,"status":200}]`, want: "r", words: `for "gw/X/1", which is not in it`},
		"a number among our ids":     {status: 207, body: `[{"id":` + id(1) + `,"status":200},{"id":2,"status":422},{"id":` + id(3) + `,"status":200},{"id":` + id(4) + `,"status":200}]`, want: "r", words: "for 2, which is not in it"},
		"foreign ids only":           {status: 207, body: `[{"id":"a","status":200},{"id":"b","status":422},{"id":"c","status":200},{"id":"d","status":200}]`, want: "dxdd"},
		"numbers as text":            {status: 207, body: `[{"status":"201"},{"status":"422","error":"no such order"},{"status":"200 OK"},{"status":201.0}]`, want: "dxdd", words: "422 Unprocessable Entity: no such order"},
		"text that begins so":        {status: 207, body: `[{"status":"2001"},{"status":200},{"status":200},{"status":200}]`, want: "r", words: "2001, which is no status"},
		"a number with a fraction":   {status: 207, body: `[{"status":200.5},{"status":200},{"status":200},{"status":200}]`, want: "r", words: "no status"},
		"ids of its own":             {status: 200, body: `[{"id":7,"status":200},{"id":8,"status":200},{"id":9,"status":400},{"id":10,"status":200}]`, want: "ddxd"},
		"an id twice, the same":      {status: 200, body: `{"results":[{"id":` + id(1) + `,"status":200},{"id":` + id(1) + `,"status":200},{"id":` + id(2) + `,"status":200}]}`, want: "ddr"},
		"an id twice, and otherwise": {status: 200, body: `{"results":[{"id":` + id(1) + `,"status":200},{"id":` + id(1) + `,"status":400}]}`, want: "r", words: "differ"},
		"cut":                        {status: -1, body: `{"results":[{"status":200},{"stat`, want: "r", words: "cannot be read"},
		"too long":                   {status: 200, body: `{"x":"` + strings.Repeat("x", 80<<10) + `"}`, want: "r", words: "it is longer than"},
		"207 without results":        {status: 207, body: `{}`, want: "r", words: "says nothing of each event"},
		"ignored":                    {status: 200, body: `[{"status":400}]`, results: resultsIgnore, want: "dddd"},
		"required and there":         {status: 200, media: "text/plain", body: `[{"status":200},{"status":200},{"status":200},{"status":200}]`, results: resultsRequired, want: "dddd"},
		"required and not there":     {status: 202, body: ``, results: resultsRequired, want: "r", words: "says nothing of each event"},
	} {
		t.Run(name, func(t *testing.T) {
			r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
				if test.status < 0 {
					raw(t, w, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(test.body)+100, test.body))
					return false
				}
				media := test.media
				if media == "" {
					media = "application/json; charset=utf-8"
				}
				w.Header().Set("Content-Type", media)
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
				return false
			})
			o := testOptions(r.Addr())
			o.Batch = 4
			if test.results != "" {
				o.Results = test.results
			}
			got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 4))
			var letters, words strings.Builder
			next := plant.Sequence(1)
			for _, result := range got {
				if result.First != next {
					t.Fatalf("results %+v", got)
				}
				letters.WriteString(strings.Repeat(map[plant.Status]string{plant.Delivered: "d", plant.Rejected: "x", plant.Retry: "r"}[result.Status], int(result.Last-result.First)+1))
				next = result.Last + 1
				if result.Cause != nil {
					words.WriteString(result.Cause.Error())
				}
				if systemWide(result) {
					t.Errorf("the whole system has to wait: %+v", result)
				}
			}
			if letters.String() != test.want || !strings.Contains(words.String(), test.words) {
				t.Errorf("got %s %q, want %s %q", &letters, &words, test.want, test.words)
			}
		})
	}
}

// TestRefusedBatchIsSplit until it is known which event is at fault.
func TestRefusedBatchIsSplit(t *testing.T) {
	for _, status := range []int{400, 413, 422} {
		poison := uplinktest.Events("M", 6, 1)[0].ID().String()
		r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
			for _, e := range q.events(t) {
				if e.ID == poison {
					w.WriteHeader(status)
					return false
				}
			}
			return true
		})
		o := testOptions(r.Addr())
		o.Batch = 8
		s := openWith(t, o)
		got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 16))
		if delivered(got, 1) != 5 || len(got) != 2 || got[1].First != 6 || got[1].Last != 6 || got[1].Status != plant.Rejected {
			t.Errorf("%d: results %+v", status, got)
		}
		if got := s.Send(t.Context(), "M", uplinktest.Events("M", 7, 10)); delivered(got, 7) != 10 {
			t.Errorf("%d: the rest %+v", status, got)
		}
		var ids []string
		for _, a := range r.Arrivals() {
			ids = append(ids, a.ID)
		}
		if len(ids) != 15 || !slices.IsSortedFunc(r.Arrivals(), func(a, b uplinktest.Arrival) int { return number(a) - number(b) }) {
			t.Errorf("%d: arrivals %q", status, ids)
		}
	}
}

func number(a uplinktest.Arrival) (n int) {
	fmt.Sscanf(a.ID[strings.LastIndex(a.ID, "-")+1:], "%d", &n)
	return n
}

// TestTooLargeBodiesAreRemembered: a receiver's limit is learnt once.
func TestTooLargeBodiesAreRemembered(t *testing.T) {
	const limit = 4000
	refused := 0
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		if len(q.body) > limit {
			refused++
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return false
		}
		return true
	})
	o := testOptions(r.Addr())
	o.Batch = 100
	s := openWith(t, o)
	for first := plant.Sequence(1); first < 1000; first += 100 {
		if got := s.Send(t.Context(), "M", uplinktest.Events("M", first, 100)); delivered(got, first) != 100 {
			t.Fatalf("results %+v", got)
		}
	}
	if refused == 0 || refused > 10 {
		t.Errorf("%d requests were too large", refused)
	}
	if got := len(r.Arrivals()); got != 1000 {
		t.Errorf("%d arrivals", got)
	}
}

// TestMaxBodyBoundsBatches.
func TestMaxBodyBoundsBatches(t *testing.T) {
	r := newReceiver(t)
	o := testOptions(r.Addr())
	o.Batch, o.MaxBody = 200, 2048
	events := uplinktest.Events("M", 1, 30)
	if got := openWith(t, o).Send(t.Context(), "M", events); delivered(got, 1) != 30 {
		t.Fatalf("results %+v", got)
	}
	for _, q := range r.seen() {
		if len(q.body) > 2048 || !json.Valid(q.body) {
			t.Errorf("a body of %d bytes", len(q.body))
		}
	}
}

// TestUnknownStatusOfAnEvent: what nobody understands is sent again after a
// growing wait, and the page has the receiver's word; it drops nothing and asks
// in no tight loop.
func TestUnknownStatusOfAnEvent(t *testing.T) {
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusMultiStatus)
		io.WriteString(w, `[{"status":"queued"},{"status":"queued"}]`)
		return false
	})
	q := newQueue(2, "A")
	o := testOptions(r.Addr())
	o.Batch = 2
	begun := time.Now()
	s := forward(t, q, o, func(uplink.Stats) bool { return len(r.seen()) >= 4 })
	if took := time.Since(begun); took < 30*time.Millisecond {
		t.Errorf("4 requests in %v, each wait is 10 ms or more", took)
	}
	if left, dead := q.state(); left != 2 || dead != 0 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Text, "queued, which is no status") {
		t.Errorf("%d left, %d dead, %+v", left, dead, s.Problems)
	}
}

func FuzzResults(f *testing.F) {
	for _, seed := range []string{"", "{}", "[]", `{"results":[{"id":"gw/M/0000000000000007-1","status":200}]}`, `[{"status":"retry","error":{"error":{"error":"x"}}},{"status":400}]`, `[null,{"status":1e9}]`} {
		f.Add([]byte(seed))
	}
	p, err := plan("mes", testOptions("127.0.0.1:1"))
	if err != nil {
		f.Fatal(err)
	}
	s := p.Open(uplink.Env{}).(*Sender)
	events := uplinktest.Events("M", 1, 2)
	f.Fuzz(func(t *testing.T, body []byte) {
		items, spoken := s.items().parse(body)
		if !spoken {
			return
		}
		next := plant.Sequence(1)
		for _, r := range s.judgeItems(&message{method: "POST", target: s.target, events: events}, items, 0) {
			if r.First != next || r.Last < r.First || r.Last > 2 || (r.Status != plant.Delivered) != (r.Cause != nil) {
				t.Errorf("result %+v of %q", r, body)
			}
			if r.Cause != nil && len(r.Cause.Error()) > 3000 {
				t.Errorf("%d bytes of words", len(r.Cause.Error()))
			}
			next = r.Last + 1
		}
	})
}
