package prodsmart

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestTest: the key is tried by one request that creates nothing, with a token and
// without one, and a wrong one is told with what to do.
func TestTest(t *testing.T) {
	for name, test := range map[string]struct {
		before func(*fake.Fake)
		option func(*Options)
		words  string
	}{
		"there is a token": {before: func(f *fake.Fake) { f.Authorize(time.Hour) }},
		"there is none":    {},
		"a wrong secret":   {option: func(o *Options) { o.APISecret = config.NewSecret("other-secret") }, words: "check api_key and api_secret"},
		"200 and no token": {before: func(f *fake.Fake) { f.Faults.Add(central.Answered(200, "[]", "Content-Type", "application/json")) }, words: "gives no token"},
		"no room":          {before: func(f *fake.Fake) { f.Burn(1000) }, words: "429"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var change []func(*Options)
				if test.option != nil {
					change = append(change, test.option)
				}
				r := newRig(t, company(), change...)
				if test.before != nil {
					test.before(r.fake)
				}
				got := uplink.Try(t.Context(), "prodsmart", r.sender, r.sender.env.Journal)
				if got.OK != (test.words == "") || !strings.Contains(got.Error, test.words) || strings.Contains(got.Error, "secret\"") {
					t.Errorf("%+v", got)
				}
				if asked := r.wire.asked(); len(asked) != 1 || asked[0] != "GET /api/authorization" {
					t.Errorf("asked %q", asked)
				}
			})
		})
	}
}

// TestTestWhileProdsmartWantsToBeLeftAlone: it is asked nothing, and the cause is
// told that Prodsmart gave, not our share of requests.
func TestTestWhileProdsmartWantsToBeLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.fake.Faults.Add(central.TooMany(90))
		r.send(r.event("M-1", plant.KindCounter, counter(5, 5)))
		r.wire.asked()
		got := uplink.Try(t.Context(), "prodsmart", r.sender, r.sender.env.Journal)
		if got.OK || !strings.Contains(got.Error, "429 Too Many Requests") || !strings.Contains(got.Error, "for another ") || strings.Contains(got.Error, "share") {
			t.Errorf("%+v", got)
		}
		r.want()
	})
}
