package rest

import (
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central/erp"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestHTTPConformance holds the sender, one event a request and many, as
// CloudEvents and by templates, to the answers of a strict receiver that was written without it.
func TestHTTPConformance(t *testing.T) {
	templates := []Request{{Kinds: uplink.Kinds{plant.KindCounter}, Path: "?n={{.sequence}}", Body: `{"id": {{.id}}, "made": {{.data.good}}, "order": {{.data.order.number}}}`}}
	lists := []Request{{Kinds: uplink.Kinds{plant.KindCounter}, Body: `{"id": {{.id}}, "made": {{.data.good}}}`, List: &List{}}}
	for name, form := range map[string]struct {
		batch    int
		requests []Request
	}{"single": {1, nil}, "batched": {25, nil}, "template single": {1, templates}, "template batched": {25, lists}} {
		t.Run(name, func(t *testing.T) {
			uplinktest.RunHTTP(t, uplinktest.HTTPSubject{
				System: func(testing.TB) uplinktest.HTTPSystem {
					v := erp.New(erp.Generic{Path: "/events", Who: []erp.Identity{erp.Bearer("s3cret-token")}})
					return uplinktest.HTTPSystem{
						Handler: v, Faults: &v.Faults, Violations: v.Violations,
						Booked:  func(e *plant.Event) int { return v.Times(e.ID().String()) },
						Secrets: func() []string { return []string{"s3cret-token"} },
					}
				},
				Open: func(t testing.TB, to uplinktest.HTTPTarget) uplink.Sender {
					o := defaults()
					o.URL, o.CA, o.Timeout, o.Batch = to.URL+"/events", to.CA, config.Duration(to.Timeout), form.batch
					o.Requests = form.requests
					o.Auth.Bearer = config.NewSecret("s3cret-token")
					p, err := plan("mes", o)
					if err != nil {
						t.Fatal(err)
					}
					return p.Open(to.Env)
				},
				Permanent: []int{400, 422},
			})
		})
	}
}
