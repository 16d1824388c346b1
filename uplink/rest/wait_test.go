package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestRetryAfterOutlivesARestart: a receiver that asked for an hour is not asked
// again by a gateway that is started again and again, until the hour is over.
func TestRetryAfterOutlivesARestart(t *testing.T) {
	header := "3600"
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", header)
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	})
	memory := map[string][]byte{}
	read := func(key string) ([]byte, error) { return memory[key], nil }
	send := func(o Options) plant.Result {
		t.Helper()
		got := openRemembering(t, o, read).Send(t.Context(), "M", uplinktest.Events("M", 1, 2))
		if len(got) != 1 || got[0].Status != plant.Retry || got[0].First != 1 || !systemWide(got[0]) {
			t.Fatalf("results %+v", got)
		}
		for _, kv := range got[0].Put {
			memory[kv.Key] = kv.Value
		}
		return got[0]
	}
	o := testOptions(r.Addr())
	o.URL += "?key=hunter2"
	send(o)
	for range 3 {
		got := send(o)
		if got.Wait < 59*time.Minute || got.Wait > time.Hour || !strings.Contains(got.Cause.Error(), "answered 429 Too Many Requests and asked not to be called before") {
			t.Errorf("result %+v", got)
		}
	}
	if n := len(r.seen()); n != 1 {
		t.Errorf("%d requests in four starts, want 1", n)
	}
	if text := fmt.Sprintf("%s", memory); strings.Contains(text, "hunter2") {
		t.Errorf("a secret is kept: %s", text)
	}
	other := o
	other.URL = "http://" + r.Addr() + "/elsewhere"
	if send(other); len(r.seen()) != 2 {
		t.Error("another receiver has to wait, which asked for nothing")
	}

	// An everyday limit costs no write, and the next start may ask.
	header = "2"
	memory = map[string][]byte{}
	if got := send(o); got.Put != nil || got.Wait != 2*time.Second {
		t.Errorf("result %+v", got)
	}
	if send(o); len(r.seen()) != 4 {
		t.Errorf("%d requests", len(r.seen()))
	}
}

// TestKeptWaits has a row for each thing that a memory may hold.
func TestKeptWaits(t *testing.T) {
	kept := func(url string, asked time.Duration, seconds int64) string {
		return fmt.Sprintf(`{"url":%q,"status":503,"asked":%q,"seconds":%d}`, url, time.Now().Add(asked).Format(time.RFC3339Nano), seconds)
	}
	for name, test := range map[string]struct {
		value func(url string) string
		fails bool
		waits time.Duration // 0: it is asked at once
	}{
		"nothing":                {func(string) string { return "" }, false, 0},
		"half of the time":       {func(url string) string { return kept(url, -time.Minute, 120) }, false, time.Minute},
		"it is over":             {func(url string) string { return kept(url, -time.Minute, 59) }, false, 0},
		"the clock was set back": {func(url string) string { return kept(url, 1000*time.Hour, 120) }, false, 2 * time.Minute},
		"more than an hour":      {func(url string) string { return kept(url, 0, 1<<40) }, false, time.Hour},
		"less than nothing":      {func(url string) string { return kept(url, time.Hour, -1<<40) }, false, 0},
		"no JSON":                {func(string) string { return "later" }, false, 0},
		"unreadable":             {func(url string) string { return kept(url, 0, 120) }, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			o := testOptions(r.Addr())
			s := openRemembering(t, o, func(string) ([]byte, error) {
				if test.fails {
					return nil, errors.New("the disk failed")
				}
				if v := test.value(o.URL); v != "" {
					return []byte(v), nil
				}
				return nil, nil
			})
			got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			switch {
			case test.waits == 0 && delivered(got, 1) != 1:
				t.Errorf("results %+v", got)
			case test.waits > 0 && (len(r.seen()) > 0 || got[0].Wait > test.waits || got[0].Wait < test.waits-5*time.Second):
				t.Errorf("%d requests, results %+v", len(r.seen()), got)
			}
		})
	}
}
