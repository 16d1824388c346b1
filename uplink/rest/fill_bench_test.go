package rest

import (
	"net/url"
	"testing"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// BenchmarkFill compares a list of 200 counters by a template with one of
// CloudEvents.
func BenchmarkFill(b *testing.B) {
	target := &url.URL{Scheme: "http", Host: "erp.example", Path: "/api"}
	o := defaults()
	o.Batch = 200
	o.Requests = []Request{{
		Kinds: uplink.Kinds{plant.KindCounter}, Path: "/machines/{{.machine}}/counts", List: &List{},
		Body: `{"id": {{.id}}, "good": {{.data.good}}, "order": {{.data.order.number}}, "at": {{.time | time "seconds"}}, "scrap": [{{range $i, $s := .data.scrap}}{{if $i}}, {{end}}{"code": {{$s.code}}, "n": {{$s.quantity}}}{{end}}]}`,
	}}
	templates, err := o.compile(target)
	if err != nil {
		b.Fatal(err)
	}
	events := uplinktest.Events("M", 1, o.Batch)
	for name, f := range map[string]form{
		"template":    templates,
		"CloudEvents": &cloudEvents{method: "POST", target: target, header: o.header(), batch: o.Batch},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				m, err := f.fill(events, 1<<20, 1<<20)
				if err != nil || len(m.events) != o.Batch {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*o.Batch)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
