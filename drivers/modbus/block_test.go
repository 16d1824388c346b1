package modbus

import (
	"fmt"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

func points(specs ...string) []*point {
	var out []*point
	for i, s := range specs {
		address, kind, _ := strings.Cut(s, " ")
		tag := Tag{Address: at(address)}
		if kind != "" {
			if err := tag.Type.UnmarshalText([]byte(kind)); err != nil {
				panic(err)
			}
		}
		out = append(out, newPoint(fmt.Sprint("t", i), tag, ABCD))
	}
	return out
}

func TestJoin(t *testing.T) {
	for _, c := range []struct {
		specs      []string
		limit, gap int
		want       string
	}{
		{[]string{"holding:0"}, 125, 8, "holding:0"},
		{[]string{"holding:1", "holding:0", "holding:2"}, 125, 0, "holding:0…2"},
		{[]string{"holding:0", "holding:9"}, 125, 8, "holding:0…9"},
		{[]string{"holding:0", "holding:10"}, 125, 8, "holding:0 holding:10"},
		{[]string{"holding:0", "holding:2"}, 125, 0, "holding:0 holding:2"},
		{[]string{"holding:0", "holding:124"}, 125, 125, "holding:0…124"},
		{[]string{"holding:0", "holding:125"}, 125, 125, "holding:0 holding:125"},
		{[]string{"holding:0", "holding:124 int32"}, 125, 125, "holding:0 holding:124…125"}, // never divided
		{[]string{"holding:0 int64", "holding:1", "holding:2"}, 4, 0, "holding:0…3"},        // overlapping
		{[]string{"holding:0", "holding:0", "holding:0"}, 125, 8, "holding:0"},
		{[]string{"holding:0", "input:1", "coil:2", "discrete:3"}, 125, 8, "coil:2 discrete:3 input:1 holding:0"},
		{[]string{"coil:0", "coil:129", "coil:300"}, 125, 8, "coil:0…129 coil:300"},
		{[]string{"coil:0", "coil:2000"}, 125, 125, "coil:0 coil:2000"},
		{[]string{"holding:0", "holding:1", "holding:2"}, 1, 8, "holding:0 holding:1 holding:2"},
	} {
		var got []string
		for _, b := range join(points(c.specs...), c.limit, c.gap) {
			got = append(got, b.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("join(%v, %d, %d) = %v, want %s", c.specs, c.limit, c.gap, got, c.want)
		}
	}
}

func TestJoinKeepsEveryPointInOneRequest(t *testing.T) {
	if err := quick.Check(func(starts []uint16, limit, gap uint8) bool {
		var all []*point
		for _, s := range starts {
			all = append(all, points(fmt.Sprintf("holding:%d int32", s%2000))...)
		}
		max := 2 + int(limit)%124
		seen := map[*point]int{}
		for _, b := range join(all, max, int(gap)) {
			for _, p := range b.points {
				seen[p]++
				if p.start < b.start || p.end() > b.start+b.count || b.count > max {
					return false
				}
			}
		}
		for _, p := range all {
			if seen[p] != 1 {
				return false
			}
		}
		return true
	}, nil); err != nil {
		t.Error(err)
	}
}

const hundred = "driver: modbus\nendpoint: ENDPOINT\nmax_gap: 8\ntags:\n"

// hundredTags are holding:0…99 with other tables beside.
func hundredTags() string {
	var b strings.Builder
	b.WriteString(hundred)
	for i := range 100 {
		fmt.Fprintf(&b, "  t%d: holding:%d\n", i, i)
	}
	b.WriteString("  other: input:1\n")
	return b.String()
}

func TestOneRefusedAddressCostsItsNeighboursNothing(t *testing.T) {
	m := startPLC(t).(plc)
	defer m.Stop()
	m.Update(func(b *plantsim.Bank) {
		b.Heal()
		for i := range uint16(100) {
			b.SetHolding(i, 1000+i)
		}
		b.Fail(plantsim.Holding, 37, 37, plantsim.IllegalDataAddress)
	})
	d := openDriver(t, hundredTags(), m.Addr())
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		before := m.Counts()
		scans, err := d.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, s := range scans {
			for _, r := range s.Readings {
				n++
				switch {
				case r.Tag == "t37":
					if r.Quality != plant.Bad || !strings.Contains(r.Cause, "exception 2") || !strings.Contains(r.Cause, "holding:37") || !strings.Contains(r.Cause, "counted from 0") {
						t.Errorf("t37: %v %q", r.Quality, r.Cause)
					}
				case r.Quality != plant.Good:
					t.Errorf("round %d: %s: %s", round, r.Tag, r.Cause)
				}
			}
		}
		if n != 101 {
			t.Errorf("%d readings, want 101", n)
		}
		after := m.Counts()
		if asked := after.Reads - before.Reads; round > 0 && (asked > 9 || after.Exceptions != before.Exceptions) {
			t.Errorf("round %d: %d requests, %d refused; want few and none", round, asked, after.Exceptions-before.Exceptions)
		}
	}
}

// Many refused addresses must not keep the good ones waiting.
func TestTheSearchForRefusedAddressesIsBounded(t *testing.T) {
	m := startPLC(t).(plc)
	defer m.Stop()
	m.Update(func(b *plantsim.Bank) {
		b.Heal()
		b.Fail(plantsim.Holding, 0, 65535, plantsim.IllegalDataAddress)
	})
	d := openDriver(t, hundredTags(), m.Addr())
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for round := range 12 {
		before := m.Counts()
		scans, err := d.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		good := 0
		for _, s := range scans {
			for _, r := range s.Readings {
				if r.Quality == plant.Good {
					good++
				}
			}
		}
		if good != 1 {
			t.Errorf("round %d: %d good readings, want the one input register", round, good)
		}
		asked := m.Counts().Reads - before.Reads
		if asked > 200 || round == 0 && asked > 2+2*maxSplits || round == 11 && asked != 1 {
			t.Errorf("round %d: %d requests", round, asked)
		}
	}
}

func TestExceptions(t *testing.T) {
	for exception, want := range map[plantsim.Exception]string{
		plantsim.IllegalFunction: "does not offer this table", plantsim.IllegalDataAddress: "has nothing there",
		plantsim.IllegalDataValue: "max_registers", plantsim.DeviceFailure: "look at the device",
		plantsim.Acknowledge: "needs longer", plantsim.DeviceBusy: "busy", plantsim.MemoryParityError: "broken memory",
		plantsim.GatewayPathMissing: "no line for this unit", plantsim.GatewayTargetMissing: "behind the gateway is silent",
	} {
		m := startPLC(t).(plc)
		m.Update(func(b *plantsim.Bank) { b.Fail(plantsim.Holding, 0, 65535, exception) })
		d := openDriver(t, strings.Replace(patientTwoTags, "  a: holding:0", "  a: holding:0\n  i: input:5", 1), m.Addr())
		if err := d.Connect(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			scans, err := d.Read(t.Context())
			if err != nil {
				t.Fatalf("exception %d ended the session: %v", exception, err)
			}
			for _, s := range scans {
				for _, r := range s.Readings {
					if r.Tag == "i" {
						if r.Quality != plant.Good {
							t.Errorf("exception %d hurt another block: %s", exception, r.Cause)
						}
					} else if r.Quality != plant.Bad || !r.Value.IsZero() || !strings.Contains(r.Cause, want) || !strings.Contains(r.Cause, fmt.Sprintf("exception %d (", exception)) {
						t.Errorf("exception %d: %v, %q; want %q", exception, r.Value, r.Cause, want)
					}
				}
			}
		}
		err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "b", Value: plant.IntValue(1)})
		if exception == plantsim.IllegalFunction || exception == plantsim.IllegalDataAddress || exception == plantsim.IllegalDataValue {
			want = "allow writing there"
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "holding:1") {
			t.Errorf("write with exception %d: %v, want %q", exception, err, want)
		}
		m.Update(func(b *plantsim.Bank) { b.Heal() })
		scans, err := d.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var b plant.Reading
		for _, s := range scans {
			for _, r := range s.Readings {
				if r.Tag == "b" {
					b = r
				}
			}
		}
		// What is refused by itself rests.
		if wantGood := exception != plantsim.IllegalDataAddress && exception != plantsim.IllegalDataValue; (b.Quality == plant.Good) != wantGood {
			t.Errorf("after exception %d was over: %v %q", exception, b.Quality, b.Cause)
		}
		for _, block := range d.(*driver).blocks {
			block.retryAt = time.Now()
		}
		if scans, err = d.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range scans {
			for _, r := range s.Readings {
				if r.Quality != plant.Good || r.Cause != "" {
					t.Errorf("after the rest, exception %d: %s is %v %q", exception, r.Tag, r.Quality, r.Cause)
				}
			}
		}
		d.Close()
		m.Stop()
	}
}

// A device that refuses everything is asked for something in every Read: only
// so its loss is noticed.
func TestARefusingDeviceCanBeLost(t *testing.T) {
	m := startPLC(t).(plc)
	m.Update(func(b *plantsim.Bank) { b.Fail(plantsim.Holding, 0, 65535, plantsim.IllegalFunction) })
	d := openDriver(t, patientTwoTags, m.Addr())
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m.Stop()
	if _, err := d.Read(t.Context()); err == nil {
		t.Error("the loss went unnoticed")
	}
}

func TestEveryUnitHasItsOwnMemory(t *testing.T) {
	m := startPLC(t).(plc)
	defer m.Stop()
	m.Update(func(b *plantsim.Bank) {
		for unit := range uint16(256) {
			b.Of(uint8(unit)).SetHolding(0, 0, 1000+unit)
		}
	})
	for unit := range 256 {
		if unit > 247 && unit < 255 {
			continue
		}
		d := openDriver(t, fmt.Sprintf("%sunit: %d\n", patientTwoTags, unit), m.Addr())
		if err := d.Connect(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		scans, err := d.Read(t.Context())
		if err != nil || scans[0].Readings[1].Value != plant.UintValue(uint64(1000+unit)) {
			t.Fatalf("unit %d: %v, %v", unit, scans, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
