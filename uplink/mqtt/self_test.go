package mqtt

import (
	"strings"
	"testing"
)

// Another gateway is the other one only if it uses the same client_id: two
// uplinks of one gateway share the status topic.
func TestRivalIsWhoUsesTheSameClientID(t *testing.T) {
	me := whoami("gw", "c-1")
	for name, test := range map[string]struct {
		status []byte
		rival  bool
	}{
		"this one":             {me.status("offline"), false},
		"a copied disk":        {whoami("gw", "c-1").status("online"), true},
		"another uplink":       {whoami("gw", "c-2").status("online"), false},
		"a version without it": {whoami("gw", "").status("online"), true},
		"no status of ours":    {[]byte("up"), false},
		"one without instance": {[]byte(`{"gateway":"gw","status":"online"}`), false},
	} {
		if got := me.rival(test.status); strings.HasPrefix(got, `another gateway "gw"`) != test.rival {
			t.Errorf("%s: %q", name, got)
		}
	}
}
