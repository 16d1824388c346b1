package status

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestMetricsLint(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(newCollector(fixed(plantAt()))); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	bounded := map[string]bool{"device": true, "line": true, "machine": true, "uplink": true, "kind": true, "version": true, "cause": true}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sluice_") {
			t.Errorf("%s does not begin with sluice_", f.GetName())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !bounded[l.GetName()] {
					t.Errorf("%s has the label %s, whose values are not bounded by the config", f.GetName(), l.GetName())
				}
			}
		}
	}
}

func TestMetricsValues(t *testing.T) {
	body := ask(t, plantAt(), "GET", "/metrics").Body.String()
	for _, line := range []string{
		`sluice_build_info{version="v0.1.0"} 1`,
		`sluice_ready 1`,
		`sluice_device_connected{device="filler-plc"} 1`,
		`sluice_device_connected{device="press-plc"} 0`,
		`sluice_device_read_duration_seconds{device="filler-plc"} 0.0012`,
		`sluice_machine_events_total{kind="counter",machine="PRESS-01"} 800`,
		`sluice_machine_events_total{kind="startstop",machine="PRESS-01"} 12`,
		`sluice_machine_good_pieces_total{machine="FILLER-01"} 1.234567e+06`,
		`sluice_machine_running{machine="FILLER-01"} 0`,
		`sluice_buffer_free_bytes 4.294967296e+10`,
		`sluice_uplink_backlog_events{uplink="broker"} 123`,
		`sluice_uplink_backlog_age_seconds{uplink="broker"} 300`,
		`sluice_uplink_breaker_state{uplink="broker"} 2`,
		`sluice_uplink_delivered_events_total{uplink="broker"} 5400`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("the metrics lack the line %s", line)
		}
	}
}

func TestMetricsOfBrokenNames(t *testing.T) {
	snap := plantAt()
	snap.Devices[0].Device = "press\xff\n\"}"
	w := ask(t, snap, "GET", "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `device="press�\n\"}"`) {
		t.Errorf("got %d and no escaped label in:\n%s", w.Code, w.Body)
	}
	if !strings.Contains(w.Body.String(), "process_resident_memory_bytes") && !strings.Contains(w.Body.String(), "go_goroutines") {
		t.Error("the metrics of the process are missing")
	}
}
