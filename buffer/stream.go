package buffer

import (
	"context"
	"encoding/binary"
	"sort"

	"github.com/sluice-edge/sluice/plant"
)

// stream is one machine's events in memory: where they begin and end, and of the
// events themselves the newest ones, as many as recentBytes allows.
type stream struct {
	machine plant.MachineID
	index   int
	// turn holds a token while somebody commits to the stream, so that the
	// number of an event is known before the commit and never given twice.
	turn chan struct{}
	// stateSize is what the state takes; owned by the holder of turn.
	stateSize int64
	// loaded is set once the machine's rules have begun, unheard while they have
	// counted without a loss that a gap event tells; owned by the holder of turn.
	loaded, unheard bool
	// stateRead and headDamaged say, while the store is opened, whether the end of
	// the stream was read out of the state's record, and whether a record that has
	// it is damaged.
	stateRead, headDamaged bool

	// The rest is guarded by Buffer.mu. Events after low up to head are stored.
	head, low position
	// thin is the place up to which the kinds that are evicted first are gone, if
	// it lies after low; gone is what those between the two took. Sums between low
	// and thin are of what is still there; at thin they are exact again.
	thin position
	gone int64
	// evicting is set while an eviction is under way and closed at its end, wanted
	// while one waits for a receiver's answer.
	evicting chan struct{}
	wanted   bool
	// deleting is the sequence up to which a deletion is under way.
	deleting plant.Sequence
	// headEpoch is the epoch of the newest event ever committed.
	headEpoch plant.Epoch
	// lowRecorded is when the oldest stored event was recorded, if lowKnown.
	lowRecorded int64
	lowKnown    bool
	// lost is every event known to be lost, untold those of them that no gap
	// event tells yet.
	lost   ranges
	untold []gap
	// telling is set while gap events of what was untold are on their way to the
	// disk.
	telling bool
	// recent are the newest events that are kept in memory, in order and
	// without a gap.
	recent []*chunk
}

func newStream(m plant.MachineID, index int) *stream {
	return &stream{machine: m, index: index, turn: make(chan struct{}, 1)}
}

func (s *stream) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stream) unlock() { <-s.turn }

// live is what the stored events take.
func (s *stream) live() int64 { return int64(s.head.bytes-s.low.bytes) - s.gone }

// cross puts at, which lies before the thin mark, on it if next is behind it.
func (s *stream) cross(at *position, next plant.Sequence) {
	if at.sequence < s.thin.sequence && next > s.thin.sequence {
		at.set(&s.thin)
	}
}

// pass moves at over one event that is there.
func (s *stream) pass(at *position, sequence plant.Sequence, size, kind int) {
	s.cross(at, sequence)
	at.add(sequence, size, kind)
	if sequence == s.thin.sequence {
		at.set(&s.thin)
	}
}

// freed is what goes when the stream begins at that place. It is called with
// Buffer.mu held.
func (s *stream) freed(low *position) int64 {
	freed := int64(low.bytes - s.low.bytes)
	if low.sequence >= s.thin.sequence {
		freed -= s.gone
	}
	return freed
}

// setLow moves the beginning. It is called with Buffer.mu held.
func (s *stream) setLow(low *position) {
	s.low.set(low)
	if low.sequence >= s.thin.sequence {
		s.gone = 0
	}
}

// evicted is the number of events between low and head that are evicted. It is
// called with Buffer.mu held.
func (b *Buffer) evicted(s *stream) (n uint64) {
	if s.thin.sequence <= s.low.sequence {
		return 0
	}
	for kind, c := range s.thin.counts {
		if evictable(b.kinds.names[kind]) {
			n += c - min(c, s.low.count(kind))
		}
	}
	return n
}

func appendStreamRecord(dst, key []byte, head *position, epoch plant.Epoch, k *kinds) []byte {
	at := len(dst)
	dst = appendEnvelope(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
	dst = appendPosition(dst, head, k)
	seal(dst, at, key, envelopeSize)
	return dst
}

// maxStateHead bounds the end of the stream in a state's record. A stream with
// so many kinds that it does not fit has a record of its own.
const maxStateHead = 4 << 10

// appendState appends a state's record, which also says where the stream ends:
// so a commit needs no second record for it. whole is false if that did not
// fit; such a record says nothing of the stream, as those of a machine without
// events.
func appendState(dst, key, state []byte, head *position, epoch plant.Epoch, k *kinds) (record []byte, whole bool) {
	at := len(dst)
	dst = appendEnvelope(dst)
	whole = true
	if head.sequence > 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
		dst = appendPosition(dst, head, k)
		if whole = len(dst)-at <= maxStateHead; !whole {
			dst = dst[:at+envelopeSize]
		}
	}
	fixed := len(dst) - at
	dst = append(dst, state...)
	seal(dst, at, key, fixed)
	return dst, whole
}

// decodeStateHead returns where the stream ends according to a state's record,
// sequence 0 if the record does not say.
func decodeStateHead(key, record []byte, k *kinds) (head position, epoch plant.Epoch, err error) {
	fixed, err := unseal(key, record)
	if err != nil || fixed == envelopeSize {
		return position{}, 0, err
	}
	f := fields{rest: record[envelopeSize:fixed]}
	epoch = plant.Epoch(f.uint64())
	head = f.position(k)
	return head, epoch, f.err("end of the stream")
}

func decodeStreamRecord(key, record []byte, k *kinds) (head position, epoch plant.Epoch, err error) {
	body, err := opaque(key, record)
	if err != nil {
		return position{}, 0, err
	}
	f := fields{rest: body}
	epoch = plant.Epoch(f.uint64())
	head = f.position(k)
	return head, epoch, f.err("stream record")
}

func appendLowRecord(dst, key []byte, low *position, k *kinds) []byte {
	at := len(dst)
	dst = appendPosition(appendEnvelope(dst), low, k)
	seal(dst, at, key, envelopeSize)
	return dst
}

func decodeLowRecord(key, record []byte, k *kinds) (low position, err error) {
	body, err := opaque(key, record)
	if err != nil {
		return position{}, err
	}
	f := fields{rest: body}
	low = f.position(k)
	return low, f.err("low mark")
}

// maxRanges bounds what is remembered of a stream's damage; beyond it the
// newest damage is joined to its neighbour.
const maxRanges = 1024

// ranges is a set of sequences as sorted, disjoint intervals.
type ranges []span

type span struct{ first, last plant.Sequence }

// add puts first…last into the set and returns how many were not in it.
func (r *ranges) add(first, last plant.Sequence) (fresh uint64) {
	old := *r
	fresh = uint64(last-first) + 1
	from := sort.Search(len(old), func(i int) bool { return old[i].last+1 >= first })
	to := from
	merged := span{first, last}
	for to < len(old) && old[to].first <= last+1 {
		lo, hi := max(first, old[to].first), min(last, old[to].last)
		if lo <= hi {
			fresh -= uint64(hi-lo) + 1
		}
		merged.first, merged.last = min(merged.first, old[to].first), max(merged.last, old[to].last)
		to++
	}
	if from == to && len(old) >= maxRanges {
		if from == len(old) {
			from--
		}
		to = from + 1
		merged.first, merged.last = min(merged.first, old[from].first), max(merged.last, old[from].last)
	}
	*r = append(old[:from:from], append([]span{merged}, old[to:]...)...)
	return fresh
}
