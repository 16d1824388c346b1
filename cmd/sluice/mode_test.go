package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/plant"
)

func TestModeOfARunningGateway(t *testing.T) {
	config, _ := storedPlant(t, "http://127.0.0.1:9/", "")
	if _, talk, code := sluice(t, "mode", "-c", config); code != 1 || !strings.Contains(talk, "not running") || !strings.Contains(talk, "start it first") {
		t.Errorf("of a stopped gateway: exit %d, %s", code, talk)
	}
	stop := runGateway(t, config)
	if out := works(t, "mode", "-c", config); !strings.Contains(out, "PRESS-01") || !strings.Contains(out, "production") {
		t.Error(out)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"PRESS-1 setup", 2, "did you mean `PRESS-01`?"},
		{"OVEN", 2, "choose from `PRESS-01`"},
		{"PRESS-01 maintenence", 2, "did you mean `maintenance`?"},
		{"PRESS-01 lunch", 2, "`out_of_service`, `config`"},
		{"PRESS-01 setup --until soon", 2, "is no end"},
		{"PRESS-01 setup --until 2020-01-01T00:00", 2, "is over already"},
		{"PRESS-01 config --until 1h", 2, "has no end"},
		{"PRESS-01 --until 1h", 2, "--until needs a mode"},
	} {
		if _, talk, code := sluice(t, append(append([]string{"mode"}, strings.Fields(c.args)...), "-c", config)...); code != c.code || !strings.Contains(talk, c.want) {
			t.Errorf("mode %s: exit %d, %s", c.args, code, talk)
		}
	}
	if out := works(t, "mode", "PRESS-01", "setup", "-c", config); out != "PRESS-01: setup\n" {
		t.Error(out)
	}
	var set admin.MachineMode
	if err := json.Unmarshal([]byte(works(t, "mode", "PRESS-01", "maintenance", "--until", "2h", "--json", "-c", config)), &set); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(*set.Until); set.Mode != plant.Maintenance || set.By != admin.Me() || set.Configured != plant.Production || left > 2*time.Hour || left < 110*time.Minute {
		t.Errorf("%+v", set)
	}
	stop()
	runGateway(t, config)
	if out := works(t, "mode", "PRESS-01", "-c", config); !strings.Contains(out, "maintenance") || !strings.Contains(out, admin.Me()) {
		t.Errorf("not kept over a restart: %s", out)
	}
	if out := works(t, "mode", "PRESS-01", "config", "-c", config); out != "PRESS-01: production\n" {
		t.Error(out)
	}
	events := works(t, "events", "export", "-k", "mode", "-c", config)
	for _, want := range []string{`"mode":"setup","previous":"production","cause":"set","by":"` + admin.Me(), `"previous":"setup"`, `"mode":"production","previous":"maintenance"`} {
		if !strings.Contains(events, want) {
			t.Errorf("no event has %s:\n%s", want, events)
		}
	}
	if n := strings.Count(events, "\n"); n != 3 {
		t.Errorf("%d events of 3 changes:\n%s", n, events)
	}
	if out := works(t, "audit", "show", "-c", config); strings.Count(out, "mode.set  PRESS-01  done") != 3 || !strings.Contains(out, "setup, before: production") {
		t.Error(out)
	}
}

func TestEnd(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Lisbon")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 10, 24, 14, 30, 10, 5, zone) // clocks go back on the next morning
	for text, want := range map[string]string{
		"":                     "",
		"15:00":                "2026-10-24T15:00:00+01:00",
		"14:30":                "2026-10-25T14:30:00Z",
		"2h":                   "2026-10-24T16:30:10+01:00",
		"1d":                   "2026-10-25T14:30:10Z",
		"2026-10-25T06:00":     "2026-10-25T06:00:00Z",
		"2026-10-25 06:00":     "2026-10-25T06:00:00Z",
		"2026-10-25T06:00:00Z": "2026-10-25T06:00:00Z",
		"25:00":                "refused",
		"0s":                   "refused",
		"-1h":                  "refused",
		"tomorrow":             "refused",
	} {
		got, err := end(text, now, zone)
		switch {
		case want == "refused" && err == nil:
			t.Errorf("%q is %s", text, got)
		case want == "" && (err != nil || !got.IsZero()):
			t.Errorf("%q is %s, %v", text, got, err)
		case want != "refused" && want != "" && (err != nil || got.Format(time.RFC3339) != want):
			t.Errorf("%q is %s, %v; want %s", text, got.Format(time.RFC3339), err, want)
		}
	}
}
