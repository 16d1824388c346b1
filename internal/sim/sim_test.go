// Package sim runs the gateway's own scheduler, rules, forwarder, breaker and
// back-off against a simulated plant: PLCs, a network, a disk and receivers
// that fail by a seed, in time that does not pass. Each run must keep every
// promise while there are faults, and deliver everything soon after they end.
package sim

import (
	"flag"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

var (
	oneSeed = flag.Uint64("sim.seed", 0, "run this seed only, and print its history")
	first   = flag.Uint64("sim.first", 1, "the first seed")
	seeds   = flag.Int("sim.seeds", 300, "how many seeds")
	replays = flag.Int("sim.replays", 50, "how many seeds are run twice")
)

// TestMain takes one processor: what happens within one instant of the simulated
// time then happens in the same order in each run.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400) // a run is short, and there are thousands
	os.Exit(m.Run())
}

// TestSimulation runs seeds: safety first, then everything is healed and has to
// arrive.
func TestSimulation(t *testing.T) {
	if *oneSeed != 0 {
		o := simulate(t, *oneSeed, none)
		for _, line := range o.lines {
			t.Log(line)
		}
		if len(o.faults) > 0 {
			t.Error(o.String())
		}
		return
	}
	began := time.Now()
	total, events, twice, longest := map[string]int{}, 0, 0, time.Duration(0)
	for i := range *seeds {
		o := simulate(t, *first+uint64(i), none)
		if len(o.faults) > 0 {
			t.Fatal(o.String())
		}
		for what, n := range o.tally {
			total[what] += n
		}
		events, twice, longest = events+o.events, twice+o.twice, max(longest, o.drained)
	}
	t.Logf("%d seeds in %v: %d events, %d of them sent again, everything there at most %v after the healing; %v",
		*seeds, time.Since(began).Round(time.Millisecond), events, twice, longest.Round(time.Millisecond), total)
}

// TestASeedReplays runs seeds twice: to the nanosecond the same happens.
func TestASeedReplays(t *testing.T) {
	for seed := range uint64(*replays) {
		a, b := simulate(t, seed+1, none), simulate(t, seed+1, none)
		if a.sum == b.sum {
			continue
		}
		for i := range min(len(a.lines), len(b.lines)) {
			if a.lines[i] != b.lines[i] {
				t.Errorf("seed %d takes two ways:\n%s\n%s", seed+1, a.lines[i], b.lines[i])
				break
			}
		}
	}
}

// TestEachBugIsCaught is the negative control: each component that is broken on
// purpose is found out within so many seeds.
func TestEachBugIsCaught(t *testing.T) {
	const within = 60
	for _, b := range bugs {
		t.Run(string(b), func(t *testing.T) {
			for seed := range uint64(within) {
				if o := simulate(t, seed+1, b); len(o.faults) > 0 {
					t.Logf("seed %d: %s", o.plan.Seed, o.faults[0])
					return
				}
			}
			t.Errorf("not caught within %d seeds: the simulation is broken", within)
		})
	}
}
