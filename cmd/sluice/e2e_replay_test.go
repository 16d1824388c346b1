//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestE2EReplay records a plant whose gateway is killed again and again, and
// replays the recordings: they give what the gateway recorded then, twice the
// same bytes, and what the store has, but for what it had not written of the
// recording when a kill came.
func TestE2EReplay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	b := newE2EBed(t, buildSluice(t))
	cmd := b.start()
	b.firstLook()
	b.sluice("record", "--config", b.config(), "--for", "1h")
	b.kill(cmd)
	b.kills = 0
	b.killUnderLoad(8, rand.New(rand.NewPCG(seed, 4)))
	now := b.sluice("replay", "--config", b.config(), "--json")
	if again := b.sluice("replay", "--config", b.config(), "--json"); again != now {
		t.Fatal("a second replay gave other bytes")
	}
	differs := b.sluice("replay", "--config", b.config(), "--recorded")
	for line := range strings.Lines(differs) {
		if !strings.HasSuffix(line, " the same, 0 changed, 0 only before, 0 only now\n") {
			t.Errorf("seed %d: the replay differs from what was recorded: %s", seed, line)
		}
	}
	stored := map[string]int{}
	total := 0
	for line := range strings.Lines(b.sluice("events", "export", "--config", b.config())) {
		var e struct {
			Type, Subject string
			Data          json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Type, "dev.sluice.counter.") || strings.HasPrefix(e.Type, "dev.sluice.startstop.") {
			stored[e.Subject+" "+string(e.Data)]++
			total++
		}
	}
	replayed := 0
	for line := range strings.Lines(now) {
		var e replayedEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind != "counter" && e.Kind != "startstop" {
			continue
		}
		if stored[string(e.Machine)+" "+string(e.Data)]--; stored[string(e.Machine)+" "+string(e.Data)] < 0 {
			t.Errorf("seed %d: the replay gives an event that the store does not have: %s", seed, line)
		}
		replayed++
	}
	t.Logf("seed %d: %d kills, %d events stored, %d of them replayed", seed, b.kills, total, replayed)
	if b.kills < 8 || replayed < 100 || replayed < total*8/10 {
		t.Errorf("%d kills, %d events of %d replayed: too few to prove anything", b.kills, replayed, total)
	}
}

// sluice runs a command of the binary that must work, and returns its stdout.
func (b *e2eBed) sluice(args ...string) string {
	b.t.Helper()
	cmd := exec.Command(b.binary, args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("sluice %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), talk.String())
	}
	return out.String()
}
