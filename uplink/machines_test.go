package uplink

import (
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

func TestMachinesTake(t *testing.T) {
	for _, c := range []struct {
		patterns Machines
		machine  plant.MachineID
		want     bool
	}{
		{nil, "PRESS-01", true},
		{Machines{"PRESS-01"}, "PRESS-01", true},
		{Machines{"PRESS-01"}, "PRESS-011", false},
		{Machines{"press-01"}, "PRESS-01", false},
		{Machines{"PRESS-*"}, "PRESS-", true},
		{Machines{"PRESS-*"}, "FILLER-01", false},
		{Machines{"PRESS-?"}, "PRESS-1", true},
		{Machines{"PRESS-?"}, "PRESS-", false},
		{Machines{"PRESS-?"}, "PRESS-Ü", true},
		{Machines{"*-01"}, "A-01-01", true},
		{Machines{"*a*b"}, "xaxbxb", true},
		{Machines{"*a*b"}, "xbxa", false},
		{Machines{"**"}, "", true},
		{Machines{"[1]"}, "[1]", true},
		{Machines{"[1]"}, "1", false},
		{Machines{"FILLER-01", "PRESS-*"}, "PRESS-02", true},
		{Machines{"FILLER-01"}, plant.GatewayStream, true},
	} {
		if got := c.patterns.Take(c.machine); got != c.want {
			t.Errorf("%q takes %q: %v", c.patterns, c.machine, got)
		}
	}
	// A pattern of many stars must not take for ever.
	if (Machines{strings.Repeat("*a", 200) + "b"}).Take(plant.MachineID(strings.Repeat("a", 5000))) {
		t.Error("a text without a b ends with one")
	}
}

func TestMachinesStrangers(t *testing.T) {
	got := Machines{"PRESS-*", "PRES-*", "FILLER-01"}.Strangers([]plant.MachineID{"PRESS-01", "FILLER-01"})
	if len(got) != 1 || got[0] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestMachinesValidate(t *testing.T) {
	if err := (Machines{"PRESS-*", "F?"}).Validate(); err != nil {
		t.Error(err)
	}
	err := Machines{"A", " ", "A"}.Validate()
	if err == nil || !strings.Contains(err.Error(), "it is empty") || !strings.Contains(err.Error(), "named twice") {
		t.Errorf("got %v", err)
	}
}
