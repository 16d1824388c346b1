package uplink

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Stats is a snapshot of one uplink, by value.
type Stats struct {
	Uplink string
	// Endpoint is for the gateway to fill in from the Plan.
	Endpoint string
	// Expires are the ends that are known, the nearest first, Unmapped the codes that
	// its tables do not have, and UnmappedMore the lookups of others that had no
	// room; all are for the gateway to fill in.
	Expires      []Expiry
	Unmapped     []UnmappedCode
	UnmappedMore uint64
	// Breaker is "closed", "half-open" or "open".
	Breaker string
	// Since is when Breaker last changed.
	Since time.Time
	// Delivered and Rejected count events since the start. Retried counts how
	// often an event was in a Send and has to be sent again.
	Delivered, Rejected, Retried uint64
	// Skipped counts the events that are no business of the system, by its config,
	// so that nothing was sent.
	Skipped uint64
	// PassedOver are the same by their reasons, the most frequent first.
	PassedOver []PassedOver
	// LastDelivery is when an event was last acknowledged.
	LastDelivery time.Time
	// LastError is the receiver's or the network's words; empty if none yet.
	LastError   string
	LastErrorAt time.Time
	// Concurrent is the number of Sends under way.
	Concurrent int
	// Down is set while the system cannot be reached, since DownSince.
	Down      bool
	DownSince time.Time
	// Next is when it is tried again; zero while nothing keeps Sends back.
	Next time.Time
	// Waiting is the number of machines that have events and wait for their
	// next attempt while the others go on.
	Waiting int
	// Shelved is the number of events that wait, among the dead letters, for what
	// another event has to bring first, while their machines' others go on.
	Shelved int
	// Silent is the number of machines of which the receiver was asked what it had
	// last, and has not said it.
	Silent int
	// Accepted counts the events that the receiver behind a broker has acknowledged
	// itself; Unaccepted are those that it has not, since Oldest. Both are 0 where
	// nobody is asked: then Delivered is all that is known.
	Accepted   uint64
	Unaccepted int
	Oldest     time.Time
	// BadAcks counts acknowledgements that could not be read.
	BadAcks uint64
	// Notices are what the Sender has to tell.
	Notices []Notice
	// Problems are the machines whose streams do not move, in the order of
	// their codes.
	Problems []Problem
}

// Problem says why one machine's stream does not move.
type Problem struct {
	Machine plant.MachineID
	// Kind is the kind of event that the receiver refuses; empty for a failure
	// that is not a refusal.
	Kind plant.EventKind
	// Held is set when the refusals look like a wrong configuration, so that the
	// stream is held until the receiver accepts.
	Held bool
	// Since is when it began; Next when the stream is tried again.
	Since, Next time.Time
	// Text is in plain words, with the receiver's own.
	Text string
	// Remedy is set if the receiver was not asked, since no request can be made of
	// these events: what is to be mended in the config.
	Remedy string
}
