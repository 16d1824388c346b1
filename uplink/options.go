package uplink

import "time"

// Options says how the Forwarder drives one Sender.
type Options struct {
	// Concurrent is the number of machines that are sent at once.
	Concurrent int
	// BatchEvents and BatchBytes bound what one Send gets.
	BatchEvents int
	BatchBytes  int
	// SendTimeout bounds one Send; past it the Send is abandoned and retried.
	SendTimeout time.Duration
	// BackoffMin and BackoffMax bound the jittered wait after a failure.
	BackoffMin, BackoffMax time.Duration
}
