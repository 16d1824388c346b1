package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// plan is everything that a run is made of. It follows from the seed alone, and
// is printed with a failure.
type plan struct {
	Seed uint64
	// Machines, each with a PLC of its own; Uplinks, each with a receiver.
	Machines, Uplinks int
	Interval          time.Duration
	// Storm is how long there are faults; then everything is healed.
	Storm time.Duration

	// Connect and Read are faults of a PLC, per mille of the requests.
	Connect, Read int
	// Full is how much of the storm the disk is full, in percent; Commit the most
	// that a commit takes; Batch the most events that one may hold.
	Full   int
	Commit time.Duration
	Batch  int

	// Concurrent, BatchEvents and Merge are the uplinks' options.
	Concurrent, BatchEvents int
	Merge                   bool
	BackoffMin, BackoffMax  time.Duration
	SendTimeout             time.Duration
	// Outage is how much of the storm a receiver is away, in percent.
	Outage int
	// Net are faults of the way to the receivers, per mille of the requests.
	Net netFaults

	// Orphans are the doses that need a parent which comes later, per mille of their
	// groups. Filtered is set if the second receiver gets the odd machines only.
	Orphans  int
	Filtered bool

	// Life is the most that a process lives in the storm. Points is the share, in
	// percent, of those that die at an await point; Stops of those that stop in
	// order. The rest dies at some moment.
	Life          time.Duration
	Points, Stops int

	// Bug is what is broken on purpose, in a negative control.
	Bug bug
}

// netFaults are per mille of the requests.
type netFaults struct {
	// Refuse: the connection is refused. Blackhole: nobody answers to it.
	Refuse, Blackhole int
	// Loss: the request does not arrive, the connection stays half open. Reset:
	// the connection ends before it arrives.
	Loss, Reset int
	// LostReply: the receiver has it, and the answer never comes. ResetReply: the
	// connection ends instead of, or within, the answer.
	LostReply, ResetReply int
	// Slow: the answer comes, perhaps later than anybody waits for it.
	Slow int
	// Busy: 429 with Retry-After. Fail: 500. Part: some events are taken, the
	// rest is asked for again. Reject: an event is refused for good.
	Busy, Fail, Part, Reject int
}

// bug is a component that is broken on purpose.
type bug string

// The bugs of the negative controls.
const (
	none bug = ""
	// settleEarly: the sender takes silence for an answer.
	settleEarly bug = "settles before the answer"
	// staleReply: the sender takes the late answer to one request for the answer
	// to the next.
	staleReply bug = "takes a late answer for the next one's"
	// commitLate: Commit returns before the batch is durable.
	commitLate bug = "acknowledges before the commit"
	// reuseIDs: after a crash the store has forgotten its last events and gives
	// their ids again.
	reuseIDs bug = "uses an id again after a crash"
	// stateOnly: a crash in the commit keeps the state and not its events.
	stateOnly bug = "keeps the state without its events"
	// overtake: the sender goes on behind an event that failed.
	overtake bug = "sends the next event before the failed one"
	// deadLink: the sender never dials again.
	deadLink bug = "never connects again"
	// eager: there is hardly any back-off.
	eager bug = "asks again at once"
	// impatient: the sender does not hand over Retry-After.
	impatient bug = "does not wait as it was asked to"
	// sibling: the sender sends a child whose parent is there, though an older one
	// is still set aside.
	sibling bug = "sends a child before its older sibling"
)

// bugs are all of them.
var bugs = []bug{settleEarly, staleReply, commitLate, reuseIDs, stateOnly, overtake, deadLink, eager, impatient, sibling}

func newPlan(seed uint64, b bug) plan {
	r := dice(seed, "plan")
	often := func(most int) int { // none at all in half of the runs
		if r.IntN(2) == 0 {
			return 0
		}
		return 1 + r.IntN(most)
	}
	p := plan{
		Seed: seed, Bug: b,
		Machines: 1 + r.IntN(4), Uplinks: 1 + r.IntN(2),
		Interval: time.Duration(200+r.IntN(1000)) * time.Millisecond,
		Storm:    time.Duration(5+r.IntN(20)) * time.Second,
		Connect:  often(400), Read: often(150),
		Full: often(40), Commit: time.Duration(1+r.IntN(300)) * time.Millisecond, Batch: 8 + r.IntN(40),
		Concurrent: 1 + r.IntN(4), BatchEvents: 1 + r.IntN(20), Merge: r.IntN(3) == 0,
		BackoffMin: time.Duration(100+r.IntN(400)) * time.Millisecond, BackoffMax: time.Duration(2+r.IntN(18)) * time.Second,
		Outage: often(60), SendTimeout: time.Duration(1+r.IntN(8)) * time.Second,
		Net: netFaults{
			Refuse: often(300), Blackhole: often(100), Loss: often(100), Reset: often(100), LostReply: often(200),
			ResetReply: often(200), Slow: often(100), Busy: often(200), Fail: often(100), Part: often(200), Reject: often(30),
		},
		Life:   time.Duration(3+r.IntN(20)) * time.Second,
		Points: r.IntN(80), Stops: r.IntN(20),
	}
	p.Orphans, p.Filtered = often(700), r.IntN(3) == 0
	return p
}

// window is a part of the storm.
type window struct{ from, to time.Duration }

// windows returns parts of the storm that are so many percent of it.
func windows(r *rand.Rand, storm time.Duration, percent int) (all []window) {
	for at := time.Duration(0); percent > 0 && at < storm; {
		both := among(r, 20*time.Second)
		part := both * time.Duration(percent) / 100
		all = append(all, window{at + both - part, at + both})
		at += both
	}
	return all
}

// in reports whether now is in one of the windows.
func (w *world) in(all []window) bool {
	since := time.Since(w.began)
	return !w.calm.Load() && slices.ContainsFunc(all, func(v window) bool { return since >= v.from && since < v.to })
}

func (p *plan) machines() []plant.MachineID {
	names := make([]plant.MachineID, p.Machines)
	for i := range names {
		names[i] = plant.MachineID(fmt.Sprintf("M%d", i+1))
	}
	return names
}

// dice returns the random source of one part of a run. Parts do not share one:
// what is drawn must not depend on who comes first within one instant.
func dice(seed uint64, part string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(part))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// among returns a duration above 0 and up to most, odd in its nanoseconds, so
// that two parts hardly ever meet in one instant.
func among(r *rand.Rand, most time.Duration) time.Duration {
	return 1 + time.Duration(r.Int64N(int64(most)))
}

// hits reports whether something of so many per mille happens.
func hits(r *rand.Rand, perMille int) bool { return r.IntN(1000) < perMille }
