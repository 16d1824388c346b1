package uplink

import (
	"time"
)

// Stats is a snapshot of one uplink, by value.
type Stats struct {
	Uplink   string
	Endpoint string
	// Breaker is "closed", "half-open" or "open".
	Breaker string
	// Since is when Breaker last changed.
	Since time.Time
	// Delivered, Rejected and Retried count events since the start.
	Delivered, Rejected, Retried uint64
	// LastDelivery is when an event was last acknowledged.
	LastDelivery time.Time
	// LastError is the receiver's or the network's words; empty if none yet.
	LastError   string
	LastErrorAt time.Time
	// Concurrent is the number of Sends under way.
	Concurrent int
}
