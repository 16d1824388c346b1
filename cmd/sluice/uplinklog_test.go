package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
)

// TestUplinkLog: what a receiver took and refused is in the log after a clean
// stop, in every form, and the secret of the uplink in none of them.
func TestUplinkLog(t *testing.T) {
	mes := newMES(t)
	config, folder := storedPlant(t, mes.URL, "")
	const canary = "kanarienvogel-4711"
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(filepath.Dir(config), "token")
	if err := os.WriteFile(secret, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(mes.URL+`"`), []byte(mes.URL+`/events?access_token=`+canary+`", auth: {bearer: "file:`+secret+`"}`), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, talk, code := sluice(t, "uplink", "log", "-c", config); code != 0 || out != "" || !strings.Contains(talk, "no integration log") {
		t.Errorf("exit %d: %s%s", code, out, talk)
	}
	stop := runGateway(t, config)
	awaitCLI(t, "the events", func() bool { return len(mes.got()) == 5 })
	stop()
	mes.mu.Lock()
	mes.refuse = true
	mes.mu.Unlock()
	store := openStore(t, config, nil)
	commitCount(t, store, 6)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	stop = runGateway(t, config)
	awaitCLI(t, "the refusal", func() bool {
		out, _, _ := sluice(t, "uplink", "log", "-c", config, "--outcome", "refused")
		return out != ""
	})

	out := works(t, "uplink", "log", "-c", config, "--outcome", "refused", "-m", "PRESS-01", "--id", "PRESS-01/6", "-s", "UNKNOWN CODE")
	if !strings.Contains(out, "refused  mes  PRESS-01/6") || !strings.Contains(out, "unknown code") {
		t.Error(out)
	}
	stop()
	delivered := 0
	for line := range strings.Lines(works(t, "uplink", "log", "-c", config, "--outcome", "delivered", "--format", "jsonl")) {
		var e journal.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Uplink != "mes" || e.Machine != "PRESS-01" || e.First == 0 || time.Since(e.Time) > time.Minute {
			t.Errorf("%+v", e)
		}
		delivered += e.Events
	}
	if delivered != 5 {
		t.Errorf("%d events noted as delivered", delivered)
	}
	file := filepath.Join(t.TempDir(), "log.csv")
	works(t, "uplink", "log", "-c", config, "--format", "csv", "-o", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll(); err != nil || len(rows) < 3 || rows[0][0] != "number" {
		t.Errorf("%v, %v", rows, err)
	}
	if out := works(t, "uplink", "log", "-c", config, "-n", "1"); strings.Count(out, "\n") != 1 {
		t.Errorf("-n 1: %q", out)
	}
	err = filepath.WalkDir(filepath.Join(folder, "log"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(canary)) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]string{{"--status", "many"}, {"--outcome", "x"}, {"--follow", "-o", file}, {"--from", "2h", "--to", "3h"}} {
		if _, talk, code := sluice(t, append([]string{"uplink", "log", "-c", config}, wrong...)...); code != exitUsage || talk == "" {
			t.Errorf("%v: exit %d, %s", wrong, code, talk)
		}
	}
}

// TestUplinkLogFollow: lines that come are printed while the command runs.
func TestUplinkLogFollow(t *testing.T) {
	mes := newMES(t)
	config, _ := storedPlant(t, mes.URL, "")
	ctx, stop := context.WithCancel(t.Context())
	var out, talk lockedOutput
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"uplink", "log", "-c", config, "--follow"}, &out, &talk) }()
	end := runGateway(t, config)
	awaitCLI(t, "a line", func() bool { return strings.Contains(out.String(), "delivered  mes  PRESS-01/1") })
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d: %s", code, talk.String())
	}
	end()
}

// commitCount records one more count of PRESS-01.
func commitCount(t *testing.T, store *buffer.Buffer, n int) {
	t.Helper()
	e := plant.Event{Kind: plant.KindCounter, Version: 1, Time: time.Now(), TimeSource: plant.GatewayTime, Data: fmt.Appendf(nil, `{"machine":"PRESS-01","good":%d}`, n)}
	if _, err := store.Commit(t.Context(), "PRESS-01", plant.Batch{Events: []plant.Event{e}}); err != nil {
		t.Fatal(err)
	}
}
