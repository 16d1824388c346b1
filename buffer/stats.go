// Package buffer keeps events, machine states, uplink cursors and dead letters
// on disk, in Badger, and is the only one who numbers events. A commit has
// returned only after its fsync; the first failed commit latches and is fatal
// to the process. It implements derive's Log, and its cursors are uplink's
// Queue, without knowing either.
package buffer

import (
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
	// DiskBytes what the directory takes in blocks.
	LiveBytes, DiskBytes int64
	// FreeBytes is the free space of the file system, Reserve what is kept free.
	FreeBytes, Reserve int64
	// Full is set while new events are refused for lack of space, since
	// FullSince.
	Full      bool
	FullSince time.Time
	// Fault is the error that latched the store; empty if healthy.
	Fault string
	// Lost counts records that a read found damaged or missing.
	Lost uint64
	// Queues has one entry for each uplink.
	Queues []QueueStats
}

// QueueStats is one uplink's place in the streams.
type QueueStats struct {
	Uplink string
	// Backlog is the number of events recorded and not settled; Oldest is the
	// time of the oldest of them, zero for none.
	Backlog uint64
	Oldest  time.Time
	// DeadLetters is the number of refused events kept.
	DeadLetters uint64
}
