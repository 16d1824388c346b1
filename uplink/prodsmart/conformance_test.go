package prodsmart

import (
	"encoding/json"
	"testing"

	"github.com/sluice-edge/sluice/config"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestConformance: what every sender over HTTP must pass, by counts; they are
// cumulative, so one is booked by any that is not smaller, and never twice.
func TestConformance(t *testing.T) {
	uplinktest.RunHTTP(t, uplinktest.HTTPSubject{
		System: func(testing.TB) uplinktest.HTTPSystem {
			c := company()
			c.Limit = 100 * companyLimit
			f := fake.New(c)
			return uplinktest.HTTPSystem{
				Handler: f, Faults: &f.Faults, Secrets: f.Secrets, Violations: f.Violations,
				Booked: func(e *plant.Event) int {
					var c plant.Counter
					if json.Unmarshal(e.Data, &c) != nil || f.Machine("M-1").Count < float64(c.Good) {
						return 0
					}
					return 1
				},
			}
		},
		Open: func(t testing.TB, to uplinktest.HTTPTarget) uplink.Sender {
			o := defaults()
			o.APIKey, o.APISecret = config.NewSecret(apiKey), config.NewSecret(apiSecret)
			o.URL, o.CA, o.Timeout = to.URL, to.CA, config.Duration(to.Timeout)
			o.RequestsPerMinute, o.RateUse, o.OpenProduction = 100*companyLimit, 100, 0
			p, err := plan("prodsmart", o)
			if err != nil {
				t.Fatal(err)
			}
			return p.Open(to.Env)
		},
		Permanent: []int{400, 409, 413, 422},
		Once:      true,
		// A repeat after a lost answer, and what comes behind a refusal that a fault
		// made up.
		Allowed: []string{fake.RuleEqual},
	})
}
