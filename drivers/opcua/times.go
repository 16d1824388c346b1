package opcua

import "encoding/binary"

// The times that the library can hold, in 100 ns since 1601 as they come over the
// wire: it counts nanoseconds since 1970 in 64 bits, and 9999 would be 1816 to it.
const (
	unixEpoch    = 116_444_736_000_000_000
	earliestTime = unixEpoch - (1<<63-1)/100 // 1677-09-21
	latestTime   = unixEpoch + (1<<63-1)/100 // 2262-04-11
)

// boundTime makes of the time that b begins with one that the library can hold: a
// later one is the latest, an earlier one none, as OPC 10000-6, 5.2.2.5 has it.
func boundTime(b []byte) {
	if len(b) < 8 {
		return
	}
	switch at := int64(binary.LittleEndian.Uint64(b)); {
	case at > latestTime:
		binary.LittleEndian.PutUint64(b, latestTime)
	case at < earliestTime:
		binary.LittleEndian.PutUint64(b, 0)
	}
}

// times skips so many times, and bounds them.
func (s *skimmer) times(n int) {
	for b := s.take(8 * n); len(b) >= 8; b = b[8:] {
		boundTime(b)
	}
}
