package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/nobody"
)

// TestWrongCommandLines: each names what is wrong with it and the help that lists
// what there is.
func TestWrongCommandLines(t *testing.T) {
	config, _ := storedPlant(t, "http://127.0.0.1:9/", "")
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for args, want := range map[string]string{
		"dead":                                 "there is no command dead by itself: it is sluice events dead — see: sluice --help",
		"log":                                  "it is sluice uplink log",
		"stats":                                "it is sluice events stats",
		"lunch":                                "unexpected argument lunch — see: sluice --help",
		"check -c":                             "--config: nothing stands behind it — see: sluice check --help",
		"uplink forget old":                    "missing flags: --reason=STRING — see: sluice uplink forget --help",
		"events resend --nix":                  "unknown flag --nix",
		"events dead drop --nix":               "see: sluice events dead drop --help",
		"record --for 5":                       "--for: `5` is no duration — write a number and a unit, for example 250ms, 5s, 2h or 7d — see: sluice record --help",
		"demo --for 1s":                        "too short",
		"restore nofile.bak":                   "there is no file nofile.bak: name the backup",
		"record PRESS-9 -c @":                  "unknown machine `PRESS-9` — did you mean `PRESS-01`?",
		"uplink test nix -c @":                 "unknown uplink `nix` — choose from `mes`",
		"events show FOO/1 -c @":               "unknown machine with events `FOO` — choose from `PRESS-01`",
		"events resend -c @ -u nix":            "see: sluice events resend --help",
		"events resend -c @ --uplink lunch":    "unknown uplink `lunch` — choose from `mes`",
		"events dead list -c @ --uplink lunch": "unknown uplink `lunch` — choose from `mes`",
		"uplink forget -c @ lunch --reason x":  "unknown uplink of the store `lunch` — there is none to choose from",
		"backup -c @ " + nowhere + "/x.bak":    "there is no folder " + nowhere + ": make it, or name a file elsewhere",
		"uplink log -c @ -o " + nowhere + "/x": "there is no folder " + nowhere,
	} {
		_, talk, code := sluice(t, strings.Fields(strings.ReplaceAll(args, "@", config))...)
		if code == 0 || !strings.Contains(talk, want) {
			t.Errorf("sluice %s: exit %d\n%swant %q", args, code, talk, want)
		}
	}
}

// TestCommandsOfAnotherUser: who may not read the files of the gateway is told so,
// by every command that reads them itself.
func TestCommandsOfAnotherUser(t *testing.T) {
	config, _ := storedPlant(t, "http://127.0.0.1:9/", "")
	p, faults := loadPlan(config, driverKinds, uplinkKinds)
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	folder := string(p.Config.Buffer.Path)
	for _, name := range []string{"log", "audit", recordingsFolder} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, recordingsFolder, "PRESS-01-1.rec"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(folder, 0o700), os.Chmod(config, 0o644), os.Chmod(filepath.Dir(filepath.Dir(config)), 0o755)); err != nil {
		t.Fatal(err)
	}
	nobody.Become(t)
	for _, args := range []string{"uplink log", "audit show", "audit verify", "replay", "buffer check", "events stats", "ledger check"} {
		_, talk, code := sluice(t, append(strings.Fields(args), "-c", config)...)
		if code != exitFailed || !strings.Contains(talk, "permission denied") || !strings.Contains(talk, "as root") {
			t.Errorf("sluice %s: exit %d, %s", args, code, talk)
		}
	}
}

func TestAfterwards(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Lisbon")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 10, 24, 14, 0, 0, 0, zone) // the night after it has one hour more
	for text, want := range map[string]time.Time{
		"90m": now.Add(90 * time.Minute), "1h 30m": now.Add(90 * time.Minute), "25h": now.Add(25 * time.Hour), "0.5d": now.Add(12 * time.Hour),
		"1d": time.Date(2026, 10, 25, 14, 0, 0, 0, zone), "1w": time.Date(2026, 10, 31, 14, 0, 0, 0, zone),
	} {
		if got, err := afterwards(now, text, +1); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	if got, err := afterwards(now, "2d", -1); err != nil || !got.Equal(time.Date(2026, 10, 22, 14, 0, 0, 0, zone)) {
		t.Errorf("2d ago: %v, %v", got, err)
	}
	for _, text := range []string{"", "5", "soon", "-1h", "1x"} {
		if got, err := afterwards(now, text, +1); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}
