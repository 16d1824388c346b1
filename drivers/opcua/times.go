package opcua

import "encoding/binary"

// The times that the library can hold, in 100 ns since 1601 as they come over the
// wire: it counts nanoseconds since 1970 in 64 bits, and 9999 would be 1816 to it.
const (
	unixEpoch    = 116_444_736_000_000_000
	earliestTime = unixEpoch - (1<<63-1)/100 // 1677-09-21
	latestTime   = unixEpoch + (1<<63-1)/100 // 2262-04-11
)

// bounded returns a time that the library can hold: a later one is the latest, an
// earlier one none, as OPC 10000-6, 5.2.2.5 has it.
func bounded(at int64) int64 {
	switch {
	case at > latestTime:
		return latestTime
	case at < earliestTime:
		return 0
	default:
		return at
	}
}

// boundTime bounds the time that b begins with.
func boundTime(b []byte) {
	if len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, uint64(bounded(int64(binary.LittleEndian.Uint64(b)))))
	}
}

// times skips so many times, and bounds them.
func (s *skimmer) times(n int) {
	for b := s.take(8 * n); len(b) >= 8; b = b[8:] {
		if at := int64(binary.LittleEndian.Uint64(b)); !s.mends && bounded(at) != at {
			s.fail(errUncommon)
			return
		}
		boundTime(b)
	}
}
