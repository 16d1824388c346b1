//go:build !chaos

package fault

import "testing"

// TestReleaseBuildHasNoFaults sets a plan that a chaos build would obey.
func TestReleaseBuildHasNoFaults(t *testing.T) {
	t.Setenv("SLUICE_FAIL", "a=1+:eio,b=1+:exit,c=on")
	if err := Hit("a"); err != nil {
		t.Errorf("Hit returned %v", err)
	}
	Pass("b")
	if Enabled("c") {
		t.Error("a protection can be switched off")
	}
}
