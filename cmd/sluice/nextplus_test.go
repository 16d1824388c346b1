package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
)

// TestChildrenOfARefusedUnit, through a whole gateway and its store: the unit is
// refused, its parts wait and only they, also over a restart; a person retries the
// unit, and they follow by themselves with its id.
func TestChildrenOfARefusedUnit(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	erp := fake.New(fake.ERP{HonoursKeys: true, NeedsKeys: true, Refuse: func(path string, f map[string]any) (int, string) {
		if refuse.Load() && path == fake.DevicePath && f["serial"] == "SN-1" {
			return http.StatusUnprocessableEntity, "the work order is locked"
		}
		return 0, ""
	}})
	server := httptest.NewServer(erp)
	defer server.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(`
site: {enterprise: acme, site: lisbon, area: assembly, gateway: gw-1}
buffer: {path: %s, quota: 64 MiB}
http: {listen: "127.0.0.1:0"}
devices:
  plc: {driver: modbus, endpoint: "127.0.0.1:1", tags: {made: "holding:0"}}
machines:
  STATION-1: {device: plc, counter: {total: made, max_rate: 10/s}}
uplinks:
  erp: {driver: nextplus, work_order_source: SAP, device: %s, item_attach: %s, operation: %s}
`, filepath.Join(dir, "buffer"), server.URL+fake.DevicePath, server.URL+fake.ItemPath, server.URL+fake.OperationPath)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	storeStation(t, config)

	stop := runGateway(t, config)
	awaitCLI(t, "what waits for nothing", func() bool { return len(erp.Operations()) == 1 && erp.Device("SN-2") != nil && len(erp.Items()) == 1 })
	if erp.Device("SN-1") != nil {
		t.Fatal("the unit was not refused")
	}
	stop()
	runGateway(t, config)
	var dead string
	awaitCLI(t, "the unit and its two parts among the dead letters", func() bool {
		dead = works(t, "events", "dead", "list", "-c", config)
		return strings.Count(dead, "STATION-1") == 3
	})
	if !strings.Contains(dead, "the work order is locked") || !strings.Contains(dead, "it waits for") {
		t.Errorf("nobody is told why:\n%s", dead)
	}
	refuse.Store(false)
	works(t, "events", "dead", "retry", "-c", config, "--uplink", "erp", "--force", "STATION-1/1")
	awaitCLI(t, "the parts behind their unit", func() bool {
		return len(erp.Items()) == 3 && works(t, "events", "dead", "list", "-c", config) == ""
	})
	order := ""
	for _, i := range erp.Items() {
		order += i.Parent + " " + i.ItemSerial + ", "
	}
	if order != "SN-2 S-3, SN-1 S-1, SN-1 S-2, " {
		t.Errorf("the parts came as %s", order)
	}
	if found := erp.Violations(); len(found) > 0 {
		t.Error(central.Words(found)) // each part names the id of its unit
	}
}

// storeStation records a unit with two parts, another with one, and an operation.
func storeStation(t *testing.T, config string) {
	t.Helper()
	store := openStore(t, config, nil)
	o := &plant.Order{Number: "WO-1", Source: "SAP", SKU: "PUMP"}
	head, one := plant.Head{Machine: "STATION-1", Mode: plant.Production, Order: o}, plant.WholeDecimal(1)
	part := func(unit, serial string, id uint64) any {
		return plant.ItemAttach{Head: head, Action: "add", SKU: "PUMP", Serial: unit, AttachID: id, Item: plant.AttachedItem{SKU: "SEAL", Serial: serial}}
	}
	var events []plant.Event
	for i, e := range []struct {
		kind plant.EventKind
		data any
	}{
		{plant.KindSerial, plant.Serial{Head: head, Action: "add", SKU: "PUMP", Serial: "SN-1"}},
		{plant.KindItemAttach, part("SN-1", "S-1", 1)},
		{plant.KindItemAttach, part("SN-1", "S-2", 2)},
		{plant.KindOperation, plant.Operation{Head: head, Action: "add", RoutingOperation: "TEST", WorkCenter: "WC-1", Position: "10", SKU: "PUMP", Serial: "SN-1", Valid: &one}},
		{plant.KindSerial, plant.Serial{Head: head, Action: "add", SKU: "PUMP", Serial: "SN-2"}},
		{plant.KindItemAttach, part("SN-2", "S-3", 3)},
	} {
		data, err := json.Marshal(e.data)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, plant.Event{Kind: e.kind, Version: 1, Time: time.Date(2026, 7, 27, 12, i, 0, 0, time.UTC), TimeSource: plant.GatewayTime, Data: data})
	}
	if _, err := store.Commit(t.Context(), "STATION-1", plant.Batch{Events: events}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
