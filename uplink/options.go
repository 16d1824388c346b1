package uplink

import (
	"errors"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// Options says how the Forwarder drives one Sender. A kind inlines it in its
// own options, so that every uplink is tuned by the same words.
type Options struct {
	// Concurrent is the number of machines that are sent at once.
	Concurrent int `yaml:"concurrent"`
	// BatchEvents and BatchBytes bound what one Send gets. An event is never
	// split, so one event may exceed BatchBytes.
	BatchEvents int         `yaml:"batch_events"`
	BatchBytes  config.Size `yaml:"batch_bytes"`
	// SendTimeout bounds one Send.
	SendTimeout config.Duration `yaml:"send_timeout"`
	// BackoffMin and BackoffMax bound the jittered wait after a failure.
	BackoffMin config.Duration `yaml:"backoff_min"`
	BackoffMax config.Duration `yaml:"backoff_max"`
	// HoldAfter is the number of refusals of the same sort in a row, for one
	// machine and kind, that are taken for a wrong configuration: the machine's
	// stream is then held instead of drained into the dead letters.
	HoldAfter int `yaml:"hold_after"`
	// HoldRetry is how often the first event of a held stream is tried again.
	HoldRetry config.Duration `yaml:"hold_retry"`
	// StopTimeout is what a Send under way gets to end when the uplink stops.
	StopTimeout config.Duration `yaml:"stop_timeout"`
	// Deduplicates says that the receiver drops an event whose id it has had, as
	// every receiver of CloudEvents must. Where it does not, sending again on
	// command is refused unless it is forced.
	Deduplicates bool `yaml:"deduplicates"`
	// Kinds are the kinds of events that go to this system, Machines the machines.
	Kinds    Kinds    `yaml:"kinds"`
	Machines Machines `yaml:"machines"`
	// From is where the uplink begins when it is new: oldest, with all events
	// that are kept, or now.
	From string `yaml:"from"`
}

// DefaultOptions returns what an uplink runs with if its config says nothing.
func DefaultOptions() Options {
	return Options{
		Concurrent:  16,
		BatchEvents: 500,
		BatchBytes:  1 << 20,
		SendTimeout: config.Duration(30 * time.Second),
		BackoffMin:  config.Duration(500 * time.Millisecond),
		BackoffMax:  config.Duration(20 * time.Second),
		HoldAfter:   5,
		HoldRetry:   config.Duration(time.Minute),
		StopTimeout: config.Duration(2 * time.Second),

		Deduplicates: true,
		From:         "oldest",
	}
}

// longestSend bounds what NeedsTime takes for granted: who wants one call to last
// longer says so.
const longestSend = config.Duration(10 * time.Minute)

// NeedsTime raises a SendTimeout that is the default to what one Send needs at least
// by the other options, so that nobody has to know that key to use those. A kind
// calls it before it validates and in its plan.
func (o *Options) NeedsTime(least config.Duration) {
	if o.SendTimeout == DefaultOptions().SendTimeout {
		o.SendTimeout = max(o.SendTimeout, min(least, longestSend))
	}
}

// Validate returns the faults of o as config.FieldErrors, nil if there are none.
func (o Options) Validate() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if o.Concurrent < 1 || o.Concurrent > 256 {
		bad("concurrent", "it must be from 1 to 256", "16 suits most systems; 1 sends one machine after the other")
	}
	if o.BatchEvents < 1 || o.BatchEvents > 10_000 {
		bad("batch_events", "it must be from 1 to 10000", "leave it out for 500")
	}
	if o.BatchBytes < 1<<10 || o.BatchBytes > 64<<20 {
		bad("batch_bytes", "it must be from 1 KiB to 64 MiB", "leave it out for 1 MiB")
	}
	if o.SendTimeout <= 0 {
		bad("send_timeout", "it must be above 0", "leave it out for 30s")
	}
	if o.BackoffMin < config.Duration(10*time.Millisecond) {
		bad("backoff_min", "it must be at least 10ms", "leave it out for 500ms")
	}
	if o.BackoffMax < o.BackoffMin {
		bad("backoff_max", "it is below backoff_min", "leave it out for 20s")
	}
	if o.HoldAfter < 1 {
		bad("hold_after", "it must be at least 1", "leave it out for 5")
	}
	if o.HoldRetry < config.Duration(time.Second) {
		bad("hold_retry", "it must be at least 1s", "leave it out for 1m")
	}
	if o.From != "oldest" && o.From != "now" {
		bad("from", strconv.Quote(o.From)+" is no beginning", "write oldest, for all events that are kept, or now")
	}
	if o.StopTimeout <= 0 || o.StopTimeout > config.Duration(3*time.Second) {
		bad("stop_timeout", "it must be above 0 and at most 3s, since the gateway stops within 10s", "leave it out for 2s")
	}
	return errors.Join(errs...)
}
