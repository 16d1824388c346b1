package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/plant"
)

// The books of a store with doses: the running gateway makes them, and the
// stopped one's store answers the same.
func TestLedgerCommands(t *testing.T) {
	config, _ := storedPlant(t, newMES(t).URL, "")
	store := openStore(t, config, nil)
	if _, err := store.Queue(ledger.Name, ledger.Carries); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 16, 12, 0, 0, 0, time.UTC)
	for i := range 100 {
		data := fmt.Appendf(nil, `{"machine":"PRESS-01","order":{"number":"A%d"},"component":"SUGAR","quantity":250,"unit":"g","purpose":"production","scale":"S1"}`, i%2)
		e := plant.Event{Kind: plant.KindDosing, Version: 1, Time: at.Add(time.Duration(i) * time.Hour), TimeSource: plant.GatewayTime, Data: data}
		if _, err := store.Commit(t.Context(), "PRESS-01", plant.Batch{Events: []plant.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	stop := runGateway(t, config)
	const stock = "COMPONENT  QUANTITY  UNIT  \nSUGAR      -25       kg    \n"
	awaitCLI(t, "all is booked", func() bool {
		out, _, code := sluice(t, "ledger", "stock", "-c", config)
		return code == 0 && out == stock
	})
	ask := func() {
		t.Helper()
		if out := works(t, "ledger", "stock", "-c", config); out != stock {
			t.Errorf("stock:\n%s", out)
		}
		out := works(t, "ledger", "consumption", "-c", config, "--by", "order", "--from", "2026-11-16T12:00:00Z", "--to", "2026-11-17T12:00:00Z")
		if want := "ORDER  COMPONENT  QUANTITY  UNIT  ESTIMATED  DOSES  \nA0     SUGAR      3         kg    0          12     \nA1     SUGAR      3         kg    0          12     \n"; out != want {
			t.Errorf("consumption:\n%s\nwant\n%s", out, want)
		}
		if out := works(t, "ledger", "check", "-c", config); out != "PRESS-01: 5 of 5 days made again from 100 events: the books are the same\n" {
			t.Errorf("check:\n%s", out)
		}
	}
	ask()
	stop()
	ask()
	if _, talk, code := sluice(t, "ledger", "check", "-c", config, "--mend"); code != exitUsage || !strings.Contains(talk, "reason") {
		t.Errorf("without a reason: exit %d, %s", code, talk)
	}
	// A head that cannot be read is made again, in the audit log.
	store = openStore(t, config, nil)
	queue, err := store.Queue(ledger.Name, ledger.Carries)
	if err == nil {
		err = queue.Put(t.Context(), []plant.KV{{Key: "h\x08PRESS-01", Value: []byte("{")}})
	}
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	if out, _, code := sluice(t, "ledger", "check", "-c", config); code == 0 || !strings.Contains(out, "PRESS-01: head") || !strings.Contains(out, "cannot be read") {
		t.Errorf("a damaged head: exit %d\n%s", code, out)
	}
	if out := works(t, "ledger", "check", "-c", config, "--mend", "--reason", "bit rot"); !strings.Contains(out, "1 row put right") || !strings.Contains(out, "lost   how many events were lost") {
		t.Errorf("the mend:\n%s", out)
	}
	if out := works(t, "audit", "show", "-c", config); !strings.Contains(out, "ledger.mend") || !strings.Contains(out, "bit rot") {
		t.Errorf("the audit log:\n%s", out)
	}
	ask()
	// Who wants them anew gives them up; they begin with the oldest event.
	works(t, "uplink", "forget", ledger.Name, "-c", config, "--reason", "test")
	if _, talk, code := sluice(t, "ledger", "stock", "-c", config); code == 0 || !strings.Contains(talk, "no books") {
		t.Errorf("after that: exit %d, %s", code, talk)
	}
}
