package drivers

import "github.com/sluice-edge/sluice/plant"

// asOnePoll marks which of the scans of one Read are followed by others, besides
// records: rules may then judge together what the device was asked for in several
// requests.
func asOnePoll(scans []plant.Scan) {
	more := false
	for i := len(scans) - 1; i >= 0; i-- {
		if scans[i].Record == "" {
			scans[i].More, more = more, true
		}
	}
}
