package status

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestWhatEndsIsSaidAhead: two weeks before, a day before, and when it has ended.
func TestWhatEndsIsSaidAhead(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		left     time.Duration
		severity Severity
		want     string // empty for nothing
	}{
		{15 * 24 * time.Hour, 0, ""},
		{14*24*time.Hour + time.Second, 0, ""},
		{14 * 24 * time.Hour, Doubtful, "ends in 14 days"},
		{3*24*time.Hour + time.Hour, Doubtful, "ends in 3 days"},
		{24 * time.Hour, Stuck, "ends in less than a day"},
		{time.Second, Stuck, "ends in less than a day"},
		{0, Stuck, "has ended"},
		{-time.Hour, Stuck, "has ended"},
	} {
		snap := Snapshot{At: now, Uplinks: []uplink.Stats{{Uplink: "erp", Breaker: "closed", Expires: []uplink.Expiry{{What: "the token of auth", At: now.Add(c.left)}}}}}
		ps := Problems(snap)
		if c.want == "" {
			if len(ps) != 0 {
				t.Errorf("%v ahead: %+v", c.left, ps)
			}
			continue
		}
		if len(ps) != 1 || ps[0].Severity != c.severity || !strings.Contains(ps[0].What, "Uplink erp: the token of auth "+c.want) || ps[0].Do == "" || ps[0].Cause == "" {
			t.Errorf("%v ahead: %+v, want %q", c.left, ps, c.want)
		}
	}
}

// TestCodesThatATableDoesNotHave are named, the first few of them.
func TestCodesThatATableDoesNotHave(t *testing.T) {
	u := uplink.Stats{Uplink: "erp", Breaker: "closed", Unmapped: []uplink.UnmappedCode{{Kind: plant.CodeDowntimeType, Code: "Jam", Count: 3}}}
	ps := Problems(Snapshot{At: time.Now(), Uplinks: []uplink.Stats{u}})
	if len(ps) != 1 || ps[0].Cause != `downtime type "Jam" (in 3 events)` || !strings.Contains(ps[0].What, "do not have 1 code") ||
		!strings.Contains(ps[0].Do, "named as held") {
		t.Errorf("got %+v", ps)
	}
	for len(u.Unmapped) < 12 {
		u.Unmapped = append(u.Unmapped, uplink.UnmappedCode{Kind: plant.CodeWaste, Code: "W", Count: 1})
	}
	u.UnmappedMore = 5
	ps = Problems(Snapshot{At: time.Now(), Uplinks: []uplink.Stats{u}})
	if len(ps) != 1 || !strings.Contains(ps[0].Cause, "and 2 more") || !strings.Contains(ps[0].Cause, "wrong address") {
		t.Errorf("got %+v", ps)
	}
}

// What an uplink passes over by its config is counted by the reason, on the page
// and as a metric; it is no problem.
func TestPassedOverIsShown(t *testing.T) {
	snap := Snapshot{At: time.Now(), Uplinks: []uplink.Stats{{Uplink: "erp", Breaker: "closed", Skipped: 4, PassedOver: []uplink.PassedOver{
		{Reason: `order source "sap-porto"`, Events: 3}, {Reason: "the event belongs to no order", Events: 1},
	}}}}
	if ps := Problems(snap); len(ps) != 0 {
		t.Errorf("problems %+v", ps)
	}
	for path, wants := range map[string][]string{
		"/":              {"Passed over", `3 events: order source &#34;sap-porto&#34;`, "1 event: the event belongs to no order"},
		"/metrics":       {`sluice_uplink_passed_over_events_total{reason="order source \"sap-porto\"",uplink="erp"} 3`},
		"/api/v1/status": {`"reason": "order source \"sap-porto\""`},
	} {
		body := ask(t, snap, "GET", path).Body.String()
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
	}
}
