package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/uplink"
)

// TestUplinkTest: a broker that is there, away, and one that nobody knows, with
// the gateway stopped and running.
func TestUplinkTest(t *testing.T) {
	broker := plantsim.NewBroker(func(string, []byte) {})
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	config, _ := storedPlant(t, "http://127.0.0.1:9/", "")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(bytes.TrimSpace(text), "\n  broker: {driver: mqtt, url: \"tcp://"+broker.Addr()+"\"}\n"...)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(state string) {
		t.Helper()
		out, talk, code := sluice(t, "uplink", "test", "-c", config, "broker")
		if code != 0 || !strings.Contains(out, "PUBLISH sluice/acme/lisbon/packing/_gateway/test, after") || !strings.Contains(out, "the test was taken") || !strings.Contains(talk, state) {
			t.Errorf("exit %d: %s%s", code, out, talk)
		}
	}
	check("no gateway is running")
	stop := runGateway(t, config)
	check("asking the running gateway")
	if err := broker.Stop(); err != nil {
		t.Fatal(err)
	}
	out, _, code := sluice(t, "uplink", "test", "-c", config, "--json", "broker")
	var tested uplink.Tested
	if err := json.Unmarshal([]byte(out), &tested); err != nil || code != exitFailed || tested.OK || !strings.Contains(tested.Error, "look at url") {
		t.Errorf("exit %d: %s, %v", code, out, err)
	}
	if _, talk, code := sluice(t, "uplink", "test", "-c", config, "brokr"); code != exitUsage || !strings.Contains(talk, "did you mean `broker`?") {
		t.Errorf("exit %d: %s", code, talk)
	}
	stop()
	if out := works(t, "audit", "show", "-c", config); strings.Count(out, "uplink.test  broker  begun") != 2 || strings.Count(out, "uplink.test  broker  done") != 1 || !strings.Contains(out, "uplink.test  broker  failed") {
		t.Error(out)
	}
	if out := works(t, "uplink", "log", "-c", config, "--outcome", "test"); strings.Count(out, "PUBLISH") != 2 {
		t.Error(out)
	}
	out, _, code = sluice(t, "uplink", "test", "-c", config, "broker")
	if code != exitFailed || !strings.Contains(out, "the test has failed: mqtt: ") {
		t.Errorf("exit %d: %s", code, out)
	}
}
