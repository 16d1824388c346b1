// Package buffer keeps events, machine states, uplink cursors and dead letters
// on disk, in Badger, and is the only one who numbers events. A commit has
// returned only after its fsync; the first failed commit latches and is fatal
// to the process. It implements derive's Log, and its cursors are uplink's
// Queue, without knowing either.
package buffer

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Stats is a snapshot of the store, by value.
type Stats struct {
	Path  string
	Epoch plant.Epoch
	// Commits counts batches, Groups the fsyncs that made them durable.
	Commits, Groups uint64
	Events          uint64
	// LiveBytes is what the retained records take before Badger's overhead;
	// DiskBytes what the directory takes in blocks. Quota bounds LiveBytes; 0 is
	// no bound.
	LiveBytes, DiskBytes, Quota int64
	// FreeBytes is the free space of the file system, Reserve what is kept free.
	FreeBytes, Reserve int64
	// Full is set while new events are refused for lack of space, since
	// FullSince; FullReason says in plain words what is short.
	Full       bool
	FullSince  time.Time
	FullReason string
	// Ballast is the size of the file that may be given up, 0 while there is none.
	Ballast int64
	// Warnings say in plain words what about the file system may cost events.
	Warnings []string
	// Fault is the error that latched the store; empty if healthy.
	Fault string
	// Lost counts records that a read found damaged or missing, Damage has the
	// newest of these findings.
	Lost   uint64
	Damage []Damage
	// Gaps are the newest losses that gap events told since the store was opened,
	// Missing the number of events in all of them, by cause.
	Gaps    []Gap
	Missing map[plant.GapCause]uint64
	// Quarantine is what is left of damaged records, beside the store.
	Quarantine Quarantine
	// DeadLetters is how many refused events are kept for all uplinks and DeadBytes
	// what they take; DeadMost and DeadMostBytes are their bound, 0 for none.
	DeadLetters, DeadMost    uint64
	DeadBytes, DeadMostBytes int64
	// Streams has one entry for each machine.
	Streams []StreamStats
	// Queues has one entry for each uplink, also for one that is not configured
	// any more.
	Queues []QueueStats
}

// StreamStats is what is stored of one machine.
type StreamStats struct {
	Machine plant.MachineID
	// Last is the newest sequence ever given, Before the one before the oldest event
	// that may be kept, Stored the number of events that are, Bytes what they take.
	Last   plant.Sequence
	Before plant.Sequence
	Stored uint64
	Bytes  int64
}

// QueueStats is one uplink's place in the streams.
type QueueStats struct {
	Uplink string
	// Backlog is the number of events recorded and not settled; Oldest is the
	// time of the oldest of them, zero for none.
	Backlog uint64
	Oldest  time.Time
	// Bytes is what is kept for an uplink that is not in the config any more, by
	// the sums of its cursors; 0 for the others.
	Bytes int64
	// DeadLetters is the number of refused events kept.
	DeadLetters uint64
	// Problem says in plain words what is wrong with the queue; empty if
	// nothing is.
	Problem string
}

// Damage is one finding of records that cannot be read.
type Damage struct {
	// Machine is empty for a record that belongs to none.
	Machine plant.MachineID
	// First and Last are the lost events, 0 for a record that is no event.
	First, Last plant.Sequence
	Reason      string
	Found       time.Time
}

// Stats returns a snapshot. It reads memory only and may be called from any
// goroutine.
func (b *Buffer) Stats() Stats {
	s := Stats{
		Path: b.opts.Path, Epoch: b.epoch, Quota: b.opts.Quota, Reserve: b.opts.Reserve,
		Commits: b.committer.commits.Load(), Groups: b.committer.groups.Load(),
		Events: b.events.Load(), Lost: b.lost.Load(),
	}
	if err := b.Err(); err != nil {
		s.Fault = err.Error()
	}
	s.Quarantine = b.aside.stats()
	s.DeadMost, s.DeadMostBytes = b.deadLimit()
	b.space.mu.Lock()
	s.FreeBytes, s.DiskBytes, s.Ballast = b.space.free, b.space.disk, b.space.ballast
	s.Warnings = slices.Clone(b.warnings)
	s.Full, s.FullSince = b.full(), b.space.since
	switch {
	case b.space.blind:
		s.FullReason = "the free disk space cannot be read: look at the disk and its mount"
	case b.space.shut:
		s.FullReason = "the disk is nearly full: make space on it"
	case s.Full:
		s.FullReason = "the quota, or the room that the disk has, is used up by events that are not delivered: bring the uplinks back, raise the quota or give the disk more room"
	}
	b.space.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	s.LiveBytes = b.eventBytes + b.side.bytes()
	s.DeadLetters, s.DeadBytes = b.side.deadCount, b.side.deadBytes
	s.Damage = append([]Damage(nil), b.damage...)
	s.Gaps = append([]Gap(nil), b.gaps...)
	s.Missing = maps.Clone(b.missing)
	for _, st := range b.order {
		s.Streams = append(s.Streams, StreamStats{
			Machine: st.machine, Last: st.head.sequence, Before: st.low.sequence, Bytes: st.live(),
			Stored: uint64(st.head.sequence-st.low.sequence) - b.evicted(st),
		})
	}
	for _, q := range b.queues {
		s.Queues = append(s.Queues, q.stats())
	}
	return s
}
