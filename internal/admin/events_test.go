package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestEventsAreListedFilteredAndFollowed(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	day := time.Date(2026, 7, 27, 6, 0, 0, 0, time.UTC)
	b.commit("A", day, 600)
	b.commit("B", day.Add(time.Hour), 3)
	for _, c := range []struct {
		q    string
		want int
	}{
		{"", 603}, {"machine=A", 600}, {"machine=B&machine=A", 603}, {"newest=2", 4}, {"machine=A&newest=5", 5},
		{"kind=counter", 603}, {"kind=dosing", 0},
		{"from=2026-07-27T06:00:10Z&to=2026-07-27T06:00:20Z", 10}, {"from=2026-07-27T07:00:01%2B00:00", 2},
	} {
		q, err := url.ParseQuery(c.q)
		if err != nil {
			t.Fatal(err)
		}
		lines := b.lines("/events", q)
		if len(lines) != c.want {
			t.Errorf("%s: %d events, want %d", c.q, len(lines), c.want)
		}
		for _, line := range lines {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: %s", c.q, line)
			}
		}
	}
	for q, status := range map[string]int{
		"machine=C": 404, "kind=counters": 400, "from=yesterday": 400, "newest=-1": 400, "follow=perhaps": 400, "nonsense=1": 400,
		"from=2026-07-27T07:00:00Z&to=2026-07-27T07:00:00Z": 400, "to=2026-07-27T07:00:00Z&to=2026-07-27T08:00:00Z": 400,
	} {
		v, err := url.ParseQuery(q)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Lines(t.Context(), "/events", v, func([]byte) error { t.Errorf("%s gives a line", q); return nil })
		var refused *Error
		if !errors.As(err, &refused) || refused.Status != status || refused.Text == "" {
			t.Errorf("%s: %v", q, err)
		}
	}
	// Followed: what comes later is seen, over the end of the first listing.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		_, err := b.Lines(ctx, "/events", url.Values{"newest": {"1"}, "follow": {"true"}, "machine": {"B"}}, func(line []byte) error { got <- string(line); return nil })
		ended <- err
	}()
	if line := <-got; !strings.Contains(line, `"good":3`) {
		t.Error(line)
	}
	b.commit("A", day, 1)
	b.commit("B", day, 1)
	if line := <-got; !strings.Contains(line, `B/`+b.store.Epoch().String()+`-4"`) {
		t.Error(line)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a stream that was cut looks whole")
	}
}

func TestOneEvent(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	b.commit("A", time.Unix(0, 0), 3)
	var e struct{ ID, Sequence string }
	if err := b.Get(t.Context(), "/event", url.Values{"machine": {"A"}, "sequence": {"2"}, "epoch": {b.store.Epoch().String()}}, &e); err != nil || e.ID != "gw/A/"+b.store.Epoch().String()+"-2" {
		t.Errorf("%+v, %v", e, err)
	}
	for q, status := range map[string]int{"machine=A&sequence=4": 404, "machine=C&sequence=1": 404, "machine=A&sequence=0": 400, "machine=A&sequence=x": 400, "machine=A&sequence=2&epoch=0000000000000001": 404, "": 400} {
		v, err := url.ParseQuery(q)
		if err != nil {
			t.Fatal(err)
		}
		var refused *Error
		if err := b.Get(t.Context(), "/event", v, &e); !errors.As(err, &refused) || refused.Status != status {
			t.Errorf("%s: %v", q, err)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("machine=A&from=2026-07-27T06:00:00Z&newest=3&follow=true&kind=counter")
	f.Add("from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59.999999999Z")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		p, err := parseFilter(q)
		if err == nil && !p.from.IsZero() && !p.to.IsZero() && !p.from.Before(p.to) {
			t.Errorf("%q: %v to %v", raw, p.from, p.to)
		}
	})
}
