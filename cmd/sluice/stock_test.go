package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
)

// TestStockByTheBooks: a running gateway books what its store holds, and sets the
// stock in Prodsmart to the sum.
func TestStockByTheBooks(t *testing.T) {
	t.Setenv("STOCK_KEY", "gw-key")
	far := prodsmart.New(prodsmart.Company{
		Key: "gw-key", Secret: "gw-key", StockMaster: true,
		Products: []prodsmart.Product{{Code: "RM-1", UoM: "g", Stock: 77}},
	})
	server := httptest.NewServer(far)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	config := filepath.Join(dir, "sluice.yaml")
	text := fmt.Sprintf(`
site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1, timezone: Europe/Lisbon}
buffer: {path: %s, quota: 64 MiB}
http: {listen: "127.0.0.1:0"}
devices:
  plc: {driver: modbus, endpoint: "127.0.0.1:1", tags: {made: "holding:0"}}
machines:
  PRESS-01: {device: plc, counter: {total: made, max_rate: 10/s}}
uplinks:
  prodsmart:
    driver: prodsmart
    url: %q
    api_key: env:STOCK_KEY
    api_secret: env:STOCK_KEY
    requests_per_minute: 6000
    default_type: Waiting
    codes: {component: {SUGAR: RM-1}}
    stock: {master: true, components: {SUGAR: g}}
`, filepath.Join(dir, "buffer"), server.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	store := openStore(t, config, nil)
	if _, err := store.Queue(ledger.Name, ledger.Carries); err != nil {
		t.Fatal(err)
	}
	commit := func(kind plant.EventKind, data string) {
		t.Helper()
		e := plant.Event{Kind: kind, Version: 1, Time: time.Date(2026, 11, 16, 12, 0, 0, 0, time.UTC), TimeSource: plant.GatewayTime, Data: []byte(`{"machine":"PRESS-01",` + data + `}`)}
		if _, err := store.Commit(t.Context(), "PRESS-01", plant.Batch{Events: []plant.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	commit(plant.KindReceipt, `"component":"SUGAR","quantity":100,"unit":"kg","lot":"L1","time":"2026-11-16T12:00:00.000Z"`)
	for range 50 {
		commit(plant.KindDosing, `"component":"SUGAR","quantity":0.25,"unit":"kg","purpose":"production","scale":"S1"`)
	}
	commit(plant.KindCorrection, `"id":"1","by":"ana","material":{"component":"SUGAR","quantity":-500,"unit":"g"}`)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	runGateway(t, config)
	awaitCLI(t, "the stock is set", func() bool { return far.Stock("RM-1") == 87000 })
	if v := far.Violations(); len(v) > 0 {
		t.Errorf("violations:\n%s", central.Words(v))
	}
}
