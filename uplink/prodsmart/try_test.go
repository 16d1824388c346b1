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

// TestTest: the key is tried by asking for the token, which is made only where there
// is none, as a delivery would; what is wrong is told with what to do.
func TestTest(t *testing.T) {
	for name, test := range map[string]struct {
		before func(*fake.Fake)
		option func(*Options)
		words  string
		made   bool
	}{
		"there is a token": {before: func(f *fake.Fake) { f.Authorize(time.Hour) }},
		"there is none":    {made: true},
		"a wrong path": {before: func(f *fake.Fake) {
			f.Faults.Add(central.Answered(404, "no"))
			f.Faults.Add(central.Answered(404, "no"))
		}, made: true, words: "check url"},
		"an empty 201":     {before: func(f *fake.Fake) { f.Faults.Add(central.Answered(201, "{}", "Content-Type", "application/json")) }, made: true},
		"it fails":         {before: func(f *fake.Fake) { f.Faults.Add(central.Answered(500, "oops")) }, words: "500"},
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
				asked := r.wire.asked()
				want := 1
				if test.made { // by the letter: anything but 200 on GET, then POST
					want = 2
				}
				if len(asked) != want || !strings.HasSuffix(asked[0], "/api/authorization") || !strings.HasPrefix(asked[0], "GET ") ||
					test.made && !strings.HasPrefix(asked[1], "POST ") {
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
