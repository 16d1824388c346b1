package derive

import (
	"slices"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// item is one waiting input: a scan, whose readings the mailbox owns, or
// another input.
type item struct {
	scan plant.Scan
	in   plant.Input
	// edge is set if a scan shows a change that no other waiting scan shows.
	edge bool
	// large stands for the texts that were taken out of the scan.
	large largeInput
	// done is answered once what followed from the input is durable.
	done chan<- error
}

// when is the time of the input.
func (it *item) when() time.Time {
	if it.in != nil {
		return it.in.When()
	}
	return it.scan.Received
}

const (
	// maxReadings bounds the readings that wait, and so the memory of a machine
	// with many tags.
	maxReadings = 32 << 10
	// maxFree is how many scans' memory is kept for the next ones.
	maxFree = 8
)

// mailbox stands between the pollers and one machine. It is bounded: once limit
// inputs or maxReadings wait, scans without an edge are merged into the newest one of their
// device, so that totals and process values keep their newest value; twice as
// many with edges are kept apart. What does not fit even then is counted and
// becomes a gap.
type mailbox struct {
	m     *Model
	limit int
	// signal has a token while something waits.
	signal chan struct{}

	mu       sync.Mutex
	items    []item
	readings int
	// late are records that a driver reads once and that did not fit: of each
	// handshake the newest.
	late []item
	free [][]plant.Reading
	last []plant.Value
	// routes find what the readings of scans are used for.
	routes routes
	// open is set while the newest scan of the device whose polls a rule follows says
	// that others come.
	open bool
	gap  plant.Gap
	// stored is a loss of the store that waits; several are one.
	stored    plant.Input
	overflows uint64
}

func newMailbox(m *Model, limit int) *mailbox {
	return &mailbox{m: m, limit: limit, signal: make(chan struct{}, 1), last: make([]plant.Value, len(m.tags))}
}

// offer takes an input without blocking and copies what it keeps.
func (b *mailbox) offer(in plant.Input) {
	switch in := in.(type) {
	case *plant.Scan:
		b.offerScan(in)
	case plant.Scan:
		b.offerScan(&in)
	case plant.DeviceState:
		if b.m.devices[in.Device] != nil {
			b.offerState(in)
		}
	default:
		b.offerOther(in)
	}
}

func (b *mailbox) offerScan(in *plant.Scan) {
	if b.m.devices[in.Device] == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	once, wanted := false, in.Record == ""
	if !wanted {
		if once, wanted = b.m.wants(in.Record); !wanted {
			return // another machine's
		}
	}
	kept, edge := b.keep(in)
	ends := in.Record == "" && b.ends(in, len(kept) > 0)
	if len(kept) == 0 && !ends {
		b.release(kept)
		return
	}
	it := item{scan: *in, edge: edge}
	it.scan.Readings = kept
	if in.Record != "" {
		b.putRecord(it, once)
	} else {
		b.put(it)
	}
	b.wake()
}

// ends notes whether further answers of a poll come behind one that is kept, and
// reports whether in says that none do any more: a rule hears of that also where in has
// none of its tags.
func (b *mailbox) ends(in *plant.Scan, kept bool) bool {
	if rule := b.m.startstop; rule == nil || !rule.Polls(in.Device, b.m.valuesKept) {
		return false
	}
	was := b.open
	b.open = in.More && (was || kept)
	return was && !in.More
}

// keep copies the readings of the machine's tags.
func (b *mailbox) keep(in *plant.Scan) (kept []plant.Reading, edge bool) {
	if n := len(b.free); n > 0 {
		kept, b.free = b.free[n-1][:0], b.free[:n-1]
	}
	way := b.routes.of(b.m, in.Device)
	for i := range in.Readings {
		v := &in.Readings[i]
		var u *use
		if in.Record == "" {
			u = way.find(v.Tag)
		} else {
			u = way.uses[v.Tag] // a record has an order of its own
		}
		if u == nil || in.Record == "" && !u.polled {
			continue
		}
		kept = append(kept, *v)
		if in.Record == "" && b.m.edges[u.index] && v.Quality == plant.Good && v.Value != b.last[u.index] {
			b.last[u.index] = v.Value
			edge = true
		}
	}
	return kept, edge
}

// put queues a scan, or merges it where the mailbox is full.
func (b *mailbox) put(it item) {
	if b.room(1) {
		b.add(it)
		return
	}
	into := b.newest(it.scan.Device)
	switch {
	case into != nil && !it.edge && !into.edge && into.scan.Session == it.scan.Session:
		b.merge(into, &it)
	case b.room(2):
		b.add(it)
	default:
		b.overflow(it.scan.Device, &it)
		if into != nil {
			b.merge(into, &it)
			return
		}
		b.release(it.scan.Readings)
	}
}

// room reports whether so many times the limits are not reached yet.
func (b *mailbox) room(times int) bool {
	return len(b.items) < times*b.limit && b.readings < times*maxReadings
}

func (b *mailbox) add(it item) {
	b.items = append(b.items, it)
	b.readings += len(it.scan.Readings)
}

// putRecord queues a handshake record. It is never merged; one that waits
// already, with its trigger unchanged since, is not queued again. What does not
// fit is offered again for as long as nobody answers; what is read once is not, so
// the newest is put aside.
func (b *mailbox) putRecord(it item, once bool) {
	for i := len(b.items) - 1; i >= 0; i-- {
		o := &b.items[i]
		if o.in != nil || o.scan.Device != it.scan.Device {
			continue
		}
		same := o.scan.Record == it.scan.Record
		if same && o.scan.Session == it.scan.Session && slices.Equal(o.scan.Readings, it.scan.Readings) {
			b.release(it.scan.Readings)
			return
		}
		if same || o.edge || o.scan.Session != it.scan.Session {
			break
		}
	}
	switch {
	case len(b.items) < 3*b.limit && b.readings < 3*maxReadings:
		b.add(it)
	case once:
		b.putAside(it)
	default:
		b.release(it.scan.Readings)
	}
}

// putAside keeps a record until there is room. One whose place it takes is lost: a
// PLC that waits for its answer offers no other.
func (b *mailbox) putAside(it item) {
	i := slices.IndexFunc(b.late, func(o item) bool { return o.scan.Record == it.scan.Record })
	if i < 0 {
		b.late = append(b.late, it)
		return
	}
	old := &b.late[i].scan
	if !slices.Equal(old.Readings, it.scan.Readings) {
		b.overflows++
		b.gap.At, b.gap.Device = old.Received, old.Device
		b.gap.Count++
		b.gap.Cause, b.gap.Reason = plant.GapMailbox, "the machine's mailbox was full while commits waited"
	}
	b.release(old.Readings)
	b.late[i] = it
}

// newest returns the newest waiting scan of a device, if there is one. Records
// stand aside: what is merged past one is no edge.
func (b *mailbox) newest(d plant.DeviceID) *item {
	for i := len(b.items) - 1; i >= 0; i-- {
		if it := &b.items[i]; it.in == nil && it.scan.Device == d && it.scan.Record == "" {
			return it
		}
	}
	return nil
}

// merge makes into as if it had been read when it was: good values win over bad
// ones, newer over older.
func (b *mailbox) merge(into, it *item) {
	for i := range it.scan.Readings {
		v := &it.scan.Readings[i]
		at := i
		if at >= len(into.scan.Readings) || into.scan.Readings[at].Tag != v.Tag {
			at = slices.IndexFunc(into.scan.Readings, func(o plant.Reading) bool { return o.Tag == v.Tag })
		}
		switch {
		case at < 0:
			into.scan.Readings = append(into.scan.Readings, *v)
			b.readings++
		case v.Quality >= into.scan.Readings[at].Quality:
			into.scan.Readings[at] = *v
		}
	}
	into.scan.Asked, into.scan.Received, into.scan.Session = it.scan.Asked, it.scan.Received, it.scan.Session
	into.scan.Snapshot, into.scan.More = into.scan.Snapshot || it.scan.Snapshot, it.scan.More
	into.scan.Overflow = into.scan.Overflow || it.scan.Overflow
	into.edge = into.edge || it.edge
	b.release(it.scan.Readings)
}

// overflow counts edges that are lost.
func (b *mailbox) overflow(d plant.DeviceID, it *item) {
	lost := uint64(0)
	for i := range it.scan.Readings {
		if u := b.m.devices[d][it.scan.Readings[i].Tag]; b.m.edges[u.index] {
			lost++
		}
	}
	if !it.edge {
		return
	}
	b.overflows += lost
	b.gap.At, b.gap.Device = it.scan.Received, d
	b.gap.Count += lost
	b.gap.Reason = "the machine's mailbox was full while commits waited"
}

// offerState queues a device's state; where the mailbox is full it takes the
// place of the one before.
func (b *mailbox) offerState(in plant.DeviceState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.wake()
	if len(b.items) >= 2*b.limit {
		for i := len(b.items) - 1; i >= 0; i-- {
			if old, ok := b.items[i].in.(plant.DeviceState); ok && old.Device == in.Device {
				b.items[i].in = in
				return
			}
		}
	}
	b.items = append(b.items, item{in: in})
}

func (b *mailbox) offerOther(in plant.Input) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g, ok := in.(plant.Gap); ok && g.Stored {
		b.stored = in
		b.wake()
		return
	}
	if len(b.items) >= 3*b.limit {
		b.overflows++
		b.gap.At, b.gap.Cause, b.gap.Reason = in.When(), plant.GapMailbox, "the machine's mailbox was full while commits waited"
		b.gap.Count++
		return
	}
	b.items = append(b.items, item{in: in})
	b.wake()
}

func (b *mailbox) wake() {
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// take returns all that waits and keeps spare, which is empty, for what comes.
func (b *mailbox) take(spare []item) []item {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := append(b.items, b.late...)
	b.items, b.readings = spare[:0], 0
	clear(b.late)
	b.late = b.late[:0]
	if b.stored != nil {
		items = append(items, item{in: b.stored})
		b.stored = nil
	}
	if b.gap.Count > 0 {
		items = append(items, item{in: b.gap})
		b.gap = plant.Gap{}
	}
	return items
}

// recycle takes back items that are done with.
func (b *mailbox) recycle(items []item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range items {
		b.release(items[i].scan.Readings)
	}
	clear(items)
}

// release keeps the memory of readings for the next scan; b.mu is held.
func (b *mailbox) release(readings []plant.Reading) {
	if cap(readings) > 0 && len(b.free) < maxFree {
		b.free = append(b.free, readings[:0])
	}
}

func (b *mailbox) lost() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.overflows
}
