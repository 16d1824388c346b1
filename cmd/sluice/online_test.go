package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestCheckOnline asks a system that is there, one that does not let the gateway
// in, and one that is away; what cannot be compared is amber and fails nothing.
func TestCheckOnline(t *testing.T) {
	erp := fake.New(fake.ERP{})
	server := httptest.NewServer(erp)
	defer server.Close()
	plc := startModbus(t)
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
devices:
  press-plc: {driver: modbus, endpoint: "`+plc.Addr()+`", tags: {made: {address: "holding:0", type: uint32}}}
machines:
  PRESS-01: {device: press-plc, counter: {total: made, max_rate: 20/s}, operation: {method: counter, every: 100, routing_operation: TEST, work_center: WC-1}}
uplinks:
  erp: {driver: nextplus, work_order_source: SAP, operation: `+server.URL+fake.OperationPath+`, codes: {operation: {ASSY: "30"}}}
`)
	online := checkCmd{configFlag: configFlag{File: file}, Online: true}
	out, talk, code := check(t, online)
	for _, want := range []string{"device press-plc: " + plc.Addr(), "  ok     connection: the device answers", "  ok     tag made: is 4711 (uint32, holding:0", "uplink erp: " + server.URL, "  ok     access: ", "  amber  operation: cannot be checked", "  amber  work center: cannot be checked", "  amber  operation TEST: the table of this uplink does not have it"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if code != 0 || strings.Contains(out, "RED") {
		t.Errorf("got %d, %s, %s", code, out, talk)
	}
	erp.Faults.Add(central.Answered(401, `{"message":"who are you"}`).Always())
	online.JSON = true
	out, talk, code = check(t, online)
	var report checkReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if code != exitFailed || report.OK || len(report.Online) != 2 || report.Online[1].Findings[0].Level != uplink.Red || !strings.Contains(report.Online[1].Findings[0].Words, "who are you") ||
		!strings.Contains(talk, "1 finding must be mended") {
		t.Errorf("got %d, %+v, %s", code, report, talk)
	}
	server.Close()
	if out, _, code = check(t, checkCmd{configFlag: configFlag{File: file}, Online: true}); code != exitFailed || !strings.Contains(out, "  RED    access: ") {
		t.Errorf("got %d, %s", code, out)
	}
	// A bad config is not asked about.
	bad := writeConfig(t, "site: {enterprise: acme, site: lisbon, area: packing}\n")
	if out, _, code = check(t, checkCmd{configFlag: configFlag{File: bad}, Online: true}); code != exitUsage || strings.Contains(out, "uplink") && strings.Contains(out, "access") {
		t.Errorf("got %d, %s", code, out)
	}
	if len(erp.Accepted()) != 0 {
		t.Errorf("%d events were booked by a check", len(erp.Accepted()))
	}
}

// What no system can be asked for is named in amber: each machine that an uplink
// takes, also one that only hands over records, and the rows of its tables, whose
// codes only a device says.
func TestCodesThatNobodyCanBeAskedFor(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	plc := startModbus(t)
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
devices:
  plc: {driver: modbus, endpoint: "`+plc.Addr()+`", tags: {made: {address: "holding:0", type: uint32}, offer: "coil:0", ack: "coil:1", what: {address: "holding:10", type: string, length: 4}, much: {address: "holding:20", type: int32}}}
machines:
  PRESS-01: {device: plc, counter: {total: made, max_rate: 20/s}}
  MIXER-01: {device: plc, dosing: {trigger: offer, ack: ack, component: {tag: what}, quantity: much, unit: kg}}
uplinks:
  erp: {driver: rest, url: "`+server.URL+`/events", codes: {component: {SUGAR: "0815"}}}
  half: {driver: rest, url: "`+server.URL+`/half", machines: [PRESS-01]}
`)
	out, _, _ := check(t, checkCmd{configFlag: configFlag{File: file}, Online: true})
	contains(t, "check --online", out, "has no list to ask for: PRESS-01, MIXER-01", "  amber  component: cannot be checked, since this system has no list to ask for: 0815", "has no list to ask for: PRESS-01 — compare")
}

// TestWhatEndsSoon: the distances are those of the page.
func TestWhatEndsSoon(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]uplink.Level{
		15 * 24 * time.Hour: uplink.OK, 14 * 24 * time.Hour: uplink.Amber, 25 * time.Hour: uplink.Amber, 24 * time.Hour: uplink.Red, 0: uplink.Red, -time.Hour: uplink.Red,
	} {
		found := ends(uplink.NewExpiries(uplink.Expiry{What: "the token", At: now.Add(left)}), now)
		if len(found) != 1 || found[0].Level != want || want != uplink.OK && found[0].Remedy == "" {
			t.Errorf("%v ahead: %+v, want %s", left, found, want)
		}
	}
}

// What becomes of a code without a row is said as it is: sent, refused, or no matter.
func TestCodesWithoutARowAreToldOf(t *testing.T) {
	code := &uplink.UsedCode{Kind: plant.CodeWaste, Code: "W1"}
	for translation, want := range map[uplink.Translation]string{uplink.Translated: "sent as it is", uplink.Demanded: "refused here", uplink.Untranslated: ""} {
		u := &uplinkPlan{Plan: uplink.Plan{Translates: func(plant.CodeKind) uplink.Translation { return translation }}}
		f, missing := unmapped(u, code)
		if missing != (want != "") || missing && !strings.Contains(f.Words, want) || (f.Level == uplink.Red) != (translation == uplink.Demanded) {
			t.Errorf("%v: %+v, %v", translation, f, missing)
		}
	}
}
