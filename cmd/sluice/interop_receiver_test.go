//go:build e2e && interop

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestInteropReceiverIsStrict shows that the receiver of TestInterop can find
// fault: with each promise of docs/events.md that a request breaks.
func TestInteropReceiverIsStrict(t *testing.T) {
	event := func(n int, more string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"g/M/7-%d","source":"/a/M","subject":"M","type":"dev.sluice.counter.v1","time":"2026-03-02T06:00:00Z",`+
			`"datacontenttype":"application/json","sequence":"%d","previous":"%d","data":{"good":%d,"good_delta":1%s}}`, n, n, n-1, n, more)
	}
	type sent struct{ path, media, key, token, body string }
	good := func(n int) sent {
		return sent{"/one", "application/cloudevents+json; charset=utf-8", fmt.Sprintf("g/M/7-%d", n), "t", event(n, "")}
	}
	with := func(s sent, change func(*sent)) sent { change(&s); return s }
	batch := sent{"/batch", "application/cloudevents-batch+json", "g/M/7-1..7-2/2", "t", "[" + event(1, "") + "," + event(2, "") + "]"}
	for name, c := range map[string]struct {
		sent []sent
		want string // empty: nothing is wrong
	}{
		"all as promised":            {[]sent{good(1), good(2), good(2), batch, batch}, ""},
		"no key":                     {[]sent{with(good(1), func(s *sent) { s.key = "" })}, "Idempotency-Key"},
		"another key":                {[]sent{with(good(1), func(s *sent) { s.key = "g/M/7-2" })}, "Idempotency-Key"},
		"the key of a smaller batch": {[]sent{with(batch, func(s *sent) { s.key = "g/M/7-1..7-2/3" })}, "Idempotency-Key"},
		"another media type":         {[]sent{with(good(1), func(s *sent) { s.media = "application/json" })}, "content type"},
		"a batch that is none":       {[]sent{with(batch, func(s *sent) { s.body = event(1, "") })}, "cannot be read"},
		"no token":                   {[]sent{with(good(1), func(s *sent) { s.token = "" })}, "token"},
		"an event left out":          {[]sent{good(1), good(3)}, "previous"},
		"the wrong order":            {[]sent{good(1), good(2), with(good(2), func(s *sent) { s.key, s.body = "g/M/8-1", strings.Replace(event(1, ""), "7-1", "8-1", 1) })}, "sequence"},
		"the same id, another event": {[]sent{good(1), with(good(1), func(s *sent) { s.body = event(1, `,"raw":7`) })}, "another"},
		"a count that does not add":  {[]sent{with(good(1), func(s *sent) { s.body = strings.Replace(s.body, `"good":1`, `"good":5`, 1) })}, "add up"},
		"another path":               {[]sent{with(good(1), func(s *sent) { s.path = "/other" })}, "/other"},
	} {
		t.Run(name, func(t *testing.T) {
			f := startForeign(t, "node", nodeScript(t, "receiver.mjs"), freePort(t), t.TempDir(), "t")
			for _, s := range c.sent {
				post(t, f.hello.Addr, s.path, map[string]string{"Content-Type": s.media, "Idempotency-Key": s.key, "Authorization": "Bearer " + s.token}, s.body)
			}
			wrong := slices.Concat(f.receiver("made").Books["/one"].Wrong, f.receiver("made").Books["/batch"].Wrong)
			if c.want == "" && len(wrong) > 0 || c.want != "" && !strings.Contains(strings.Join(wrong, "\n"), c.want) {
				t.Errorf("the receiver says %q, want %q", wrong, c.want)
			}
		})
	}
	t.Run("back too soon", func(t *testing.T) {
		f := startForeign(t, "node", nodeScript(t, "receiver.mjs"), freePort(t), t.TempDir(), "t")
		f.receiver("busy")
		g := good(1)
		header := map[string]string{"Content-Type": g.media, "Idempotency-Key": g.key, "Authorization": "Bearer t"}
		if status := post(t, f.hello.Addr, g.path, header, g.body); status != http.StatusTooManyRequests {
			t.Fatalf("a busy receiver answers %d", status)
		}
		post(t, f.hello.Addr, g.path, header, g.body)
		if wrong := f.receiver("made").Books["/one"].Wrong; len(wrong) != 1 || !strings.Contains(wrong[0], "Retry-After") {
			t.Errorf("the receiver says %q", wrong)
		}
	})
}

func post(t *testing.T, addr, path string, header map[string]string, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	client := http.Client{Timeout: foreignPatience}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}
