package main

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

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
				t.Setenv(m[1], "for the test")
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
