package rest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

func TestCursor(t *testing.T) {
	status, body, path := 200, "", ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.Method + " " + r.URL.EscapedPath() + " " + r.Header.Get("X-Line")
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	defer server.Close()
	o := testOptions(strings.TrimPrefix(server.URL, "http://"))
	o.CursorURL, o.Headers = server.URL+"/cursors/{machine}/last", map[string]string{"X-Line": "7"}
	s := openWith(t, o).(*Sender)
	want := plant.EventID{Gateway: "gw-1", Machine: "FILLER 01", Epoch: 0x9f3a0000000000c1, Sequence: 12}
	for _, c := range []struct {
		status int
		body   string
		want   plant.EventID
		err    string
	}{
		{200, `{"id":"` + want.String() + `","more":1}`, want, ""},
		{200, `{"id":""}`, plant.EventID{}, ""},
		{204, "", plant.EventID{}, ""},
		{404, "no such machine", plant.EventID{}, ""},
		{500, "", plant.EventID{}, "status 500"},
		{301, "", plant.EventID{}, "status 301"},
		{200, `nothing`, plant.EventID{}, "no JSON object"},
		{200, `{"id":"12"}`, plant.EventID{}, "is no id of an event"},
	} {
		status, body = c.status, c.body
		got, err := s.Last(context.Background(), "FILLER 01")
		if got != c.want || (c.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%d %s: %v, %v", c.status, c.body, got, err)
		}
	}
	if path != "GET /cursors/FILLER%2001/last 7" {
		t.Errorf("asked %q", path)
	}
}

func TestCursorURLIsChecked(t *testing.T) {
	for cursor, want := range map[string]string{
		"":                                     "",
		"https://mes.example/c/{machine}":      "",
		"https://mes.example/c?m={machine}":    "",
		"https://mes.example/c":                "does not say where the machine's code goes",
		"https://other.example/c/{machine}":    "another scheme, host or port",
		"http://mes.example/c/{machine}":       "another scheme, host or port",
		"https://mes.example:8443/c/{machine}": "another scheme, host or port",
		"mes.example/{machine}":                "does not begin with",
		"https://u:p@mes.example/c/{machine}":  "would be shown",
	} {
		o := defaults()
		o.URL, o.CursorURL = "https://mes.example/events", cursor
		err := o.validateCursor()
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", cursor, err, want)
		}
	}
}
