package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheUnitIsOneForSystemd has systemd itself read the unit.
func TestTheUnitIsOneForSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this computer has no systemd-analyze, which alone knows what systemd reads")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit := readPage(t, filepath.Join("..", "..", "deploy", "systemd", "sluice.service"))
	installed := strings.ReplaceAll(unit, "/usr/bin/sluice", program)
	file := filepath.Join(t.TempDir(), "sluice.service")
	if err := os.WriteFile(file, []byte(installed), 0o600); err != nil || installed == unit {
		t.Fatalf("the unit starts no /usr/bin/sluice: %v", err)
	}
	// Older than 254, systemd leaves the growing delay of a restart out.
	known := regexp.MustCompile(`Unknown key '(RestartSteps|RestartMaxDelaySec)'`)
	words, err := exec.CommandContext(t.Context(), analyze, "verify", file).CombinedOutput()
	for line := range strings.Lines(string(words)) {
		// It looks at the units of this computer too.
		if strings.Contains(line, "sluice.service") && !known.MatchString(line) {
			t.Errorf("systemd says: %s", line)
		}
	}
	if err != nil {
		t.Errorf("%v: %s", err, words)
	}
}

// TestDeployedExamplesLoad checks each config under deploy/examples as the
// gateway would: an example that warns teaches a doubtful habit.
func TestDeployedExamplesLoad(t *testing.T) {
	examples := filepath.Join("..", "..", "deploy", "examples")
	found := 0
	err := filepath.WalkDir(examples, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".yaml" {
			return err
		}
		found++
		t.Run(strings.TrimPrefix(filepath.ToSlash(file), filepath.ToSlash(examples)+"/"), func(t *testing.T) {
			for _, m := range envSecret.FindAllStringSubmatch(readPage(t, file), -1) {
				t.Setenv(m[1], "for-the-test")
			}
			p, faults := loadPlan(file, driverKinds, uplinkKinds)
			for _, f := range faults {
				t.Error(f)
			}
			if len(p.Devices) == 0 || len(p.Machines) == 0 || len(p.Uplinks) == 0 {
				t.Errorf("%d devices, %d machines, %d uplinks", len(p.Devices), len(p.Machines), len(p.Uplinks))
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("there is no example")
	}
}
