package central_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
)

// TestEachFaultDoesWhatItSays asks once with each fault, and once after it.
func TestEachFaultDoesWhatItSays(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  central.Fault
		booked int32
		status int // 0: no answer
		body   string
		cut    bool
	}{
		{"dropped", central.Dropped(), 0, 0, "", false},
		{"silent", central.Silent(), 0, 0, "", false},
		{"503", central.Answered(503, "later"), 0, 503, "later", false},
		{"429", central.TooMany(7), 0, 429, "Too Many Requests", false},
		{"redirected", central.Redirected(307, "http://other.example/"), 0, 307, "", false},
		{"slow", central.Slow(time.Millisecond), 1, 200, `{"id":1}`, false},
		{"lost reply", central.LostReply(), 1, 0, "", false},
		{"cut body", central.CutBody(), 1, 200, `{"id`, true},
		{"malformed", central.Malformed(), 1, 200, `{"token":"unfinished"`, false},
		{"huge", central.HugeBody(100_000), 1, 200, strings.Repeat(" ", 100_000) + `{"id":1}`, false},
		{"trickled", central.Trickled(time.Millisecond), 1, 200, `{"id":1}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults central.Faults
			var booked atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				faults.Serve(w, r, func(w http.ResponseWriter, _ *http.Request) {
					booked.Add(1)
					_, _ = io.WriteString(w, `{"id":1}`)
				})
			}))
			defer server.Close()
			client := server.Client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			faults.Add(c.fault.On("/hit").After(1))
			ask := func(path string) (int, string, error) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if c.name == "silent" && path == "/hit" && faults.Hits() == 0 {
					go func() { // nobody waits for ever: who asks goes once he is not answered
						for end := time.Now().Add(time.Minute); faults.Hits() == 0 && time.Now().Before(end); {
							time.Sleep(time.Millisecond)
						}
						cancel()
					}()
				}
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := client.Do(r)
				if err != nil {
					return 0, "", err
				}
				defer answer.Body.Close()
				text, err := io.ReadAll(answer.Body)
				return answer.StatusCode, string(text), err
			}
			for _, path := range []string{"/other", "/hit"} { // neither is the one it waits for
				if status, _, err := ask(path); status != 200 || err != nil {
					t.Fatalf("%s before the fault: %d, %v", path, status, err)
				}
			}
			status, text, err := ask("/hit")
			if status != c.status || !strings.HasPrefix(text, c.body) || (err != nil) != (c.cut || c.status == 0) {
				t.Errorf("answered %d %.40q, %v", status, text, err)
			}
			if got := booked.Load() - 2; got != c.booked {
				t.Errorf("booked %d times, want %d", got, c.booked)
			}
			if status, _, err := ask("/hit"); status != 200 || err != nil || faults.Hits() != 1 {
				t.Errorf("after the fault: %d, %v; %d hits", status, err, faults.Hits())
			}
		})
	}
}

func TestAFaultIsUsedUpOrCleared(t *testing.T) {
	var faults central.Faults
	status := func() int {
		w := httptest.NewRecorder()
		faults.Serve(w, httptest.NewRequest(http.MethodPost, "/x", http.NoBody), func(http.ResponseWriter, *http.Request) {})
		return w.Code
	}
	faults.Add(central.Answered(503, "").Times(2), central.Answered(500, "").Always())
	for i, want := range []int{503, 503, 500, 500, 500} {
		if got := status(); got != want {
			t.Errorf("request %d got %d, want %d", i, got, want)
		}
	}
	faults.Clear()
	if got := status(); got != 200 {
		t.Errorf("after Clear: %d", got)
	}
}

func TestJSONIsReadWithoutMercy(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":"x"}`:                  "",
		`{"a":"x","n":null}`:         "",
		`{"a":""}`:                   "a is empty",
		`{}`:                         "a is missing",
		`{"a":null}`:                 "a must be a string",
		`{"a":"x","n":"y","z":1}`:    "z is no field",
		`{"a":"x","when":"2026"}`:    "when must be a date",
		`{"a":"x","o":[]}`:           "o must be an object",
		`{"a":"x","o":{"b":1}}`:      "o.b is no field",
		`{"a":"x","l":[{},{"c":1}]}`: "l[1].c is no field",
		`{"a":"x","l":{}}`:           "l must be a list",
		`{"a":"x","a":"y"}`:          "a stands there twice",
		`{"a":"x"} 1`:                "behind the JSON value",
		`{"a":"x"`:                   "EOF",
		`7`:                          "no JSON object",
	} {
		o, err := central.ParseObject([]byte(body))
		var got string
		if err != nil {
			got = err.Error()
		} else {
			_ = o.String("a", true)
			_, _ = o.OrNull("n", false)
			_ = o.Date("when", false)
			if within := o.Object("o", false); within != nil {
				within.End()
			}
			for _, item := range o.Objects("l", false) {
				item.End()
			}
			o.End()
			got = strings.Join(o.Problems(), "; ")
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	for text, good := range map[string]bool{
		"2026-03-02T08:00:00Z": true, "2026-03-02T08:00:00+01:00": true, "2026-03-02T08:00:00+0100": true, "2026-03-02T08:00:00+01": true,
		"2026-03-02T08:00:00": false, "2026-03-02T08:00:00.5Z": false, "2026-03-02 08:00:00Z": false, "": false,
	} {
		if _, err := central.ParseDate(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
