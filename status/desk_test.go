package status

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/balance"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// fakeDesk has a log of its own and dead letters in memory.
type fakeDesk struct {
	log     *journal.Log
	letters []buffer.DeadLetter
	sheets  []balance.Sheet
	damaged error
	tests   []string
	tested  uplink.Tested
	err     error
}

func (d *fakeDesk) Journal() *journal.Log { return d.log }

func (d *fakeDesk) DeadLetters(_ context.Context, up string, m plant.MachineID) (iter.Seq2[buffer.DeadLetter, error], error) {
	if d.err != nil {
		return nil, d.err
	}
	return func(yield func(buffer.DeadLetter, error) bool) {
		for _, l := range d.letters {
			if l.Uplink != up || m != "" && l.Event.Machine != m {
				continue
			}
			var err error
			if l.Cause == "" {
				err = d.damaged
			}
			if !yield(l, err) {
				return
			}
		}
	}, nil
}

func (d *fakeDesk) Balance(_ context.Context, m plant.MachineID, until time.Time, shifts int) ([]balance.Sheet, error) {
	var all []balance.Sheet
	for i := range min(shifts, len(d.sheets)) {
		s := d.sheets[i]
		s.Machine = m
		all = append(all, s)
	}
	return all, d.err
}

func (d *fakeDesk) TestUplink(_ context.Context, name string) (uplink.Tested, error) {
	d.tests = append(d.tests, name)
	return d.tested, d.err
}

// newDesk returns a desk with one entry of each sort and three dead letters.
func newDesk(t *testing.T) *fakeDesk {
	t.Helper()
	d := &fakeDesk{damaged: errors.New("wrong checksum"), log: journal.New(t.TempDir(), journal.Options{Bytes: 4 << 20, Keep: time.Hour}, zap.NewNop())}
	for i, o := range append(uplink.Outcomes(), journal.Lost) {
		d.log.Add(uplink.Exchange{
			Time: noon.Add(time.Duration(i) * time.Minute), Uplink: "broker", Machine: "PRESS-01", Kind: plant.KindCounter,
			First: plant.Sequence(i + 1), Last: plant.Sequence(i + 10), Events: 5, Outcome: o, RequestID: fmt.Sprintf("request-%d", i), Status: 200 + 100*i,
			Method: "POST", Where: "https://mes.example/events", Duration: 12 * time.Millisecond, Words: "<b>ünknown</b> order =1",
			Merged: []uplink.Merged{{Kind: plant.KindCounter, First: 1, Into: 9, Count: 4}},
		})
	}
	for i, cause := range []string{"unknown order <7>", "unknown order <7>", ""} {
		d.letters = append(d.letters, buffer.DeadLetter{Uplink: "broker", Cause: cause, Refused: noon.Add(-time.Hour), First: plant.Sequence(i + 1), Event: plant.Event{
			Gateway: "gw", Machine: "PRESS-01", Sequence: plant.Sequence(i + 1), Kind: plant.KindCounter, Time: noon.Add(-2 * time.Hour), Data: []byte(`{"good":7}`),
		}})
	}
	return d
}

// visit asks a server with a desk.
func visit(t *testing.T, d *fakeDesk, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	snap := plantAt()
	snap.Buffer.Queues[0].DeadLetters = 3
	s := New(Options{Listen: "127.0.0.1:0", Desk: d}, fixed(snap), zaptest.NewLogger(t))
	r.Host = "127.0.0.1:8080"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func get(t *testing.T, d *fakeDesk, path string) *httptest.ResponseRecorder {
	t.Helper()
	return visit(t, d, httptest.NewRequest(http.MethodGet, path, nil))
}

func TestLogPage(t *testing.T) {
	d := newDesk(t)
	w := get(t, d, "/log")
	body := html.UnescapeString(w.Body.String())
	if w.Code != 200 || strings.Count(body, `<article class="entry `) != 8 || strings.Contains(w.Body.String(), "<b>") || strings.Contains(body, "<script") {
		t.Fatalf("%d\n%s", w.Code, body)
	}
	for _, want := range []string{
		"<b>ünknown</b> order =1", "broker · PRESS-01 · 5 counter events, 1 to 10", "4 counter events from 1 on sent as 9", "POST https://mes.example/events · status 300 · 12ms",
		"request request-3", `<article class="entry good">`, `<article class="entry bad">`, `<article class="entry unknown">`, "2026-03-14 12:03:00.000",
		`href="/api/v1/log?format=csv"`, `href="/api/v1/log?format=jsonl"`, "Test broker",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	w = get(t, d, "/log?uplink=broker&machine=&outcome=refused&q=&from=2026-03-14T12%3A00")
	body = html.UnescapeString(w.Body.String())
	if w.Code != 200 || strings.Count(body, `<article class="entry `) != 1 || !strings.Contains(body, `<option selected>refused</option>`) || !strings.Contains(body, `value="2026-03-14T12:00"`) ||
		!strings.Contains(body, `href="/api/v1/log?from=2026-03-14T12%3A00&outcome=refused&uplink=broker&format=csv"`) {
		t.Errorf("%d\n%s", w.Code, body)
	}
	if body := get(t, d, "/log?q=nowhere").Body.String(); !strings.Contains(body, "Nothing in the log is like that") {
		t.Error(body)
	}
	for path, words := range map[string]string{"/log?status=x": "503", "/log?uplnk=a": "not known", "/log?before=-1": "no number", "/log?q=a&q=b": "2 times"} {
		if w := get(t, d, path); w.Code != 400 || !strings.Contains(w.Body.String(), words) {
			t.Errorf("%s: %d\n%s", path, w.Code, w.Body)
		}
	}
}

// TestLogPages: every entry is on exactly one of the pages that Older leads to.
func TestLogPages(t *testing.T) {
	d := newDesk(t)
	for i := range 2*logPage + 3 {
		d.log.Add(uplink.Exchange{Uplink: "mes", RequestID: fmt.Sprint("r", i), Outcome: uplink.OutcomeDelivered})
	}
	path, seen, pages := "/log?uplink=mes", 0, 0
	for path != "" {
		body := html.UnescapeString(get(t, d, path).Body.String())
		seen += strings.Count(body, `<article class="entry `)
		pages++
		_, rest, more := strings.Cut(body, `<a href="/log?uplink=mes&before=`)
		if path = ""; more {
			before, _, _ := strings.Cut(rest, `"`)
			path = "/log?uplink=mes&before=" + before
		}
	}
	if seen != 2*logPage+3 || pages != 3 {
		t.Errorf("%d entries on %d pages", seen, pages)
	}
}

func TestLogForPrograms(t *testing.T) {
	d := newDesk(t)
	var doc logDoc
	w := get(t, d, "/api/v1/log?limit=2&machine=PRESS-01")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Entries) != 2 || !doc.More || doc.Entries[0].Number != 8 || doc.Before != 7 {
		t.Errorf("%s, %v", w.Body, err)
	}
	w = get(t, d, "/api/v1/log?limit=10&before=6")
	doc = logDoc{}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Entries) != 5 || doc.More {
		t.Errorf("%s, %v", w.Body, err)
	}
	if body := get(t, d, "/api/v1/log?uplink=none").Body.String(); body != `{"entries":[],"more":false,"damaged":0}`+"\n" {
		t.Error(body)
	}
	w = get(t, d, "/api/v1/log?format=csv&outcome=refused")
	rows, err := csv.NewReader(w.Body).ReadAll()
	if err != nil || len(rows) != 2 || w.Header().Get("Content-Type") != "text/csv; charset=utf-8" || !strings.Contains(w.Header().Get("Content-Disposition"), ".csv") {
		t.Errorf("%v, %v, %v", rows, err, w.Header())
	}
	lines := strings.Split(strings.TrimSpace(get(t, d, "/api/v1/log?format=jsonl&after=4").Body.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], `{"n":5,`) {
		t.Errorf("%q", lines)
	}
	for _, path := range []string{"?limit=0", "?limit=100000", "?format=xml", "?after=x", "?to=soon", "?other=1"} {
		if w := get(t, d, "/api/v1/log"+path); w.Code != 400 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestDeadPage(t *testing.T) {
	d := newDesk(t)
	w := get(t, d, "/dead")
	body := html.UnescapeString(w.Body.String())
	if w.Code != 200 || strings.Count(body, `<article class="entry bad">`) != 3 || strings.Contains(w.Body.String(), "<7>") || strings.Contains(body, `method="post"`) {
		t.Fatalf("%d\n%s", w.Code, body)
	}
	for _, want := range []string{
		"broker · PRESS-01/1", "unknown order <7>", `{"good":7}`, "sluice events dead retry --uplink broker PRESS-01/2", `sluice events dead drop --uplink broker --reason "…" PRESS-01/3`,
		"can only be dropped: wrong checksum", "refused 11:00:00",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(body, "retry --uplink broker PRESS-01/3") {
		t.Error("a damaged dead letter can be retried")
	}
	var doc struct {
		DeadLetters []struct{ ID, Cause string } `json:"dead_letters"`
		More        bool
	}
	if w := get(t, d, "/api/v1/dead?limit=2"); json.Unmarshal(w.Body.Bytes(), &doc) != nil || len(doc.DeadLetters) != 2 || !doc.More || doc.DeadLetters[0].ID == "" {
		t.Errorf("%s", w.Body)
	}
	if body := get(t, d, "/api/v1/dead?machine=FILLER-01").Body.String(); body != `{"dead_letters":[],"more":false}`+"\n" {
		t.Error(body)
	}
	d.err = ErrNotYet
	if w := get(t, d, "/api/v1/dead"); w.Code != 503 {
		t.Errorf("%d", w.Code)
	}
	if w := get(t, d, "/dead"); w.Code != 503 {
		t.Errorf("%d", w.Code)
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{"PRESS-01/7": "PRESS-01/7", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "é": "'é'"} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: %s", word, got)
		}
	}
}

// TestCountsPage: where the pieces of each shift are, in words and for programs.
func TestCountsPage(t *testing.T) {
	d := newDesk(t)
	d.sheets = []balance.Sheet{
		{Window: balance.Window{Shift: "early", Begin: noon.Add(-6 * time.Hour), End: noon.Add(2 * time.Hour)}, Pieces: 1200, Good: 1190, Scrap: 10, Balanced: true,
			Device:  &balance.Device{Counts: "total", From: 7000, To: 8200, Moved: 1200, Gateway: 1200},
			Uplinks: []balance.Line{{Uplink: "broker", Accepted: 1000, Pending: 200}}},
		{Window: balance.Window{Begin: noon.Add(-36 * time.Hour), End: noon.Add(-12 * time.Hour)}, Pieces: 9, Good: 9, Doubts: []string{"<odd>"},
			Uplinks: []balance.Line{{Uplink: "broker", Accepted: 4, Dead: 2, Dropped: 1, Gaps: 2}}},
	}
	w := get(t, d, "/counts")
	body := html.UnescapeString(w.Body.String())
	if w.Code != 200 || strings.Contains(w.Body.String(), "<odd>") {
		t.Fatalf("%d\n%s", w.Code, body)
	}
	for _, want := range []string{
		"early, Sat 2026-03-14 06:00 – 14:00 (now)", "it adds up", "1\u202f200 (total, from 7\u202f000 to 8\u202f200)", "1\u202f200 (1\u202f190 good, 10 scrap, 0 rework)",
		"<dt>Pending</dt><dd>200</dd>", "Fri 2026-03-13", "not all arrived", "<dt>Given up</dt><dd>1</dd>", "<dt>Lost</dt><dd>2</dd>", "<dt>Together</dt><dd>9</dd>", "<odd>",
		`href="/counts?machine=PRESS-01&until=2026-03-12T23%3A59"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q\n%s", want, body)
		}
	}
	text := get(t, d, "/api/v1/counts?machine=PRESS-01&shifts=1").Body.String()
	if !strings.Contains(text, `{"shifts":[{"begin":"2026-03-14T06:00:00.000Z","end":"2026-03-14T14:00:00.000Z","machine":"PRESS-01","shift":"early","device":{"counts":"total",`) ||
		!strings.Contains(text, `{"uplink":"broker","accepted":1000,"pending":200,"dead":0,"dropped":0,"gaps":0}`) {
		t.Error(text)
	}
	for _, path := range []string{"", "?machine=none", "?machine=PRESS-01&shifts=0", "?machine=PRESS-01&until=soon", "?machine=PRESS-01&x=1"} {
		if w := get(t, d, "/api/v1/counts"+path); w.Code != 400 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	d.err = ErrNotYet
	if w := get(t, d, "/counts"); w.Code != 503 {
		t.Errorf("%d", w.Code)
	}
}

func post(path, uplink string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(url.Values{"uplink": {uplink}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// TestTestButton: an uplink is tried once at a time, by a page of this gateway
// only, and nothing else takes a POST.
func TestTestButton(t *testing.T) {
	d := newDesk(t)
	d.tested = uplink.Tested{Uplink: "broker", Error: "401: log in <again>", Exchanges: []uplink.Exchange{{Method: "GET", Where: "https://mes.example", Status: 401, Words: "no <token>"}}}
	w := visit(t, d, post(testPath, "broker", "Sec-Fetch-Site", "same-origin"))
	if body := html.UnescapeString(w.Body.String()); w.Code != 200 || !strings.Contains(body, "it does not work") || !strings.Contains(body, "401: log in <again>") || !strings.Contains(body, "GET https://mes.example · status 401") {
		t.Errorf("%d\n%s", w.Code, body)
	}
	d.tested = uplink.Tested{Uplink: "broker", OK: true, Took: 3 * time.Millisecond}
	if w := visit(t, d, post(testPath, "broker")); w.Code != 200 || !strings.Contains(w.Body.String(), "it works") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	if w := visit(t, d, post(testPath, "other")); w.Code != 404 {
		t.Errorf("%d", w.Code)
	}
	if len(d.tests) != 2 {
		t.Fatalf("tests %q", d.tests)
	}
	for name, r := range map[string]*http.Request{
		"another site":   post(testPath, "broker", "Sec-Fetch-Site", "cross-site"),
		"another origin": post(testPath, "broker", "Origin", "http://evil.example"),
		"another path":   post("/log", "broker", "Sec-Fetch-Site", "same-origin"),
		"an API":         post("/api/v1/dead", "broker"),
	} {
		if w := visit(t, d, r); w.Code != http.StatusForbidden && w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := get(t, d, testPath); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
	if len(d.tests) != 2 {
		t.Errorf("tests %q", d.tests)
	}

	snap := plantAt()
	s := New(Options{Listen: "127.0.0.1:0", Desk: d}, fixed(snap), zaptest.NewLogger(t))
	codes := ""
	for range 2 {
		r := post(testPath, "broker")
		r.Host = "127.0.0.1:8080"
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		codes += fmt.Sprint(w.Code, " ")
	}
	if codes != "200 429 " {
		t.Errorf("twice at once: %s", codes)
	}
}

// TestWithoutADesk: the first page stands alone.
func TestWithoutADesk(t *testing.T) {
	for _, path := range []string{"/log", "/dead", "/api/v1/log", "/api/v1/dead"} {
		if w := ask(t, wellPlant(), http.MethodGet, path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if body := get(t, newDesk(t), "/").Body.String(); !strings.Contains(body, `<a href="/log">`) {
		t.Error("the page does not lead to the log")
	}
}
