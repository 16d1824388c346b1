package uplink

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// What a person has written stands; the default follows what the other options
// need, within a bound.
func TestTheDefaultSendTimeoutIsLongEnough(t *testing.T) {
	for _, test := range []struct{ written, least, want time.Duration }{
		{30 * time.Second, 25 * time.Second, 30 * time.Second},
		{30 * time.Second, 35 * time.Second, 35 * time.Second},
		{30 * time.Second, 24 * time.Hour, 10 * time.Minute},
		{31 * time.Second, 35 * time.Second, 31 * time.Second},
		{time.Second, 35 * time.Second, time.Second},
	} {
		o := DefaultOptions()
		o.SendTimeout = config.Duration(test.written)
		o.NeedsTime(config.Duration(test.least))
		if o.SendTimeout.Std() != test.want {
			t.Errorf("%v with %v needed: %v, want %v", test.written, test.least, o.SendTimeout, test.want)
		}
	}
}
