package buffer

import (
	"encoding/binary"
	"fmt"

	"github.com/sluice-edge/sluice/plant"
)

// position is a place in a stream together with what lies before it since the
// stream began: the bytes, and the number of events of each kind (by the index
// that kinds gives). The difference of two positions is what lies between them,
// so backlogs and sizes never need a scan.
type position struct {
	sequence plant.Sequence
	bytes    uint64
	counts   []uint64
}

func (p *position) set(o *position) {
	p.sequence, p.bytes = o.sequence, o.bytes
	p.counts = append(p.counts[:0], o.counts...)
}

func (p *position) clone() position {
	var c position
	c.set(p)
	return c
}

// add passes one event.
func (p *position) add(sequence plant.Sequence, size int, kind int) {
	p.sequence = sequence
	p.bytes += uint64(size)
	p.grow(kind)
	p.counts[kind]++
}

// grow makes room for the count of that kind.
func (p *position) grow(kind int) {
	for len(p.counts) <= kind {
		p.counts = append(p.counts, 0)
	}
}

// raise lifts the sums of p to those of a place that lies before it.
func (p *position) raise(o *position) {
	p.bytes = max(p.bytes, o.bytes)
	for kind, c := range o.counts {
		p.grow(kind)
		p.counts[kind] = max(p.counts[kind], c)
	}
}

func (p *position) count(kind int) uint64 {
	if kind < len(p.counts) {
		return p.counts[kind]
	}
	return 0
}

// kinds gives each kind of event a small index. It only grows. It is guarded by
// Buffer.mu.
type kinds struct {
	names []plant.EventKind
	index map[plant.EventKind]int
}

func (k *kinds) of(name plant.EventKind) int {
	if i, ok := k.index[name]; ok {
		return i
	}
	return k.add(name)
}

// ofBytes is of without an allocation for a known kind.
func (k *kinds) ofBytes(name []byte) int {
	if i, ok := k.index[plant.EventKind(name)]; ok {
		return i
	}
	return k.add(plant.EventKind(name))
}

func (k *kinds) add(name plant.EventKind) int {
	if k.index == nil {
		k.index = map[plant.EventKind]int{}
	}
	i := len(k.names)
	k.names = append(k.names, name)
	k.index[name] = i
	return i
}

// kindView is the kinds as they stood, for a reader without the lock.
type kindView struct {
	b     *Buffer
	names []plant.EventKind
}

// kindsNow is called with Buffer.mu held. The names never change, they only
// grow, so the view stays good.
func (b *Buffer) kindsNow() kindView { return kindView{b: b, names: b.kinds.names} }

func (v *kindView) of(name []byte) int {
	for i := range v.names {
		if string(name) == string(v.names[i]) {
			return i
		}
	}
	v.b.mu.Lock()
	defer v.b.mu.Unlock()
	i := v.b.kinds.ofBytes(name)
	v.names = v.b.kinds.names
	return i
}

func (v *kindView) name(kind int) plant.EventKind { return v.names[kind] }

// appendPosition writes p with the names of the kinds, since indices do not
// outlive the process.
func appendPosition(dst []byte, p *position, k *kinds) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.sequence))
	dst = binary.AppendUvarint(dst, p.bytes)
	n := 0
	for _, c := range p.counts {
		if c > 0 {
			n++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for i, c := range p.counts {
		if c > 0 {
			dst = appendName(dst, string(k.names[i]))
			dst = binary.AppendUvarint(dst, c)
		}
	}
	return dst
}

// fields reads a record's body front to back. After the first short field
// everything is zero and bad is set.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 {
		f.bad, f.rest = true, nil
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

func (f *fields) uint64() uint64 {
	if len(f.rest) < 8 {
		f.bad, f.rest = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(f.rest)
	f.rest = f.rest[8:]
	return v
}

func (f *fields) name() string {
	name, tail, ok := cutName(f.rest)
	if !ok {
		f.bad = true
	}
	f.rest = tail
	return name
}

// bytes reads a length and that many bytes, which point into the record.
func (f *fields) bytes() []byte {
	n := f.uvarint()
	if f.bad || n > uint64(len(f.rest)) {
		f.bad, f.rest = true, nil
		return nil
	}
	v := f.rest[:n]
	f.rest = f.rest[n:]
	return v
}

func (f *fields) position(k *kinds) position {
	p := position{sequence: plant.Sequence(f.uvarint()), bytes: f.uvarint()}
	for n := f.uvarint(); n > 0 && !f.bad; n-- {
		i := k.of(plant.EventKind(f.name()))
		for len(p.counts) <= i {
			p.counts = append(p.counts, 0)
		}
		p.counts[i] = f.uvarint()
	}
	return p
}

func (f *fields) err(what string) error {
	if f.bad {
		return fmt.Errorf("%w: %s cut short", errDamaged, what)
	}
	return nil
}
