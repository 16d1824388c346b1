package drivers

import "testing"

func TestTermsLeaveOutWhatIsNotSaid(t *testing.T) {
	if got := Terms("holding:0", "type", "int16", "offset", "", "scale", "0.1"); got != "holding:0, type int16, scale 0.1" {
		t.Error(got)
	}
}
