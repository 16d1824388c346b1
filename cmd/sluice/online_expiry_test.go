package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckOnlineSaysWhenTheReceiversCertificateEnds, also of a system that has no
// list to ask for; the device is away.
func TestCheckOnlineSaysWhenTheReceiversCertificateEnds(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
devices:
  press-plc: {driver: modbus, endpoint: "127.0.0.1:1", tags: {made: {address: "holding:0", type: uint32}}}
machines:
  PRESS-01: {device: press-plc, counter: {total: made, max_rate: 20/s}}
uplinks:
  own: {driver: rest, url: "`+server.URL+`/events", ca: `+authority+`}
`)
	out, talk, _ := check(t, checkCmd{configFlag: configFlag{File: file}, Online: true})
	if want := "  ok     expiry: the certificate of " + strings.TrimPrefix(server.URL, "https://") + " ends at 2084-01-29"; !strings.Contains(out, want) {
		t.Errorf("%q is missing in\n%s%s", want, out, talk)
	}
}
