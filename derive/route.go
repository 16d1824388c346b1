package derive

import "github.com/sluice-edge/sluice/plant"

// mostRoute is how many tags of a device are remembered in their order: 100 KiB
// for one with more than that.
const mostRoute = 4096

// route remembers in which order a device's tags come, one poll after the other,
// and what each is used for: a driver reads the same tags in the same order nearly
// always, and then none is looked up by its name. A poll may be several scans. It
// is of one goroutine.
type route struct {
	uses  map[plant.TagID]*use
	stops []stop
	next  int // the stop that is expected
	// at are the stops of the machine's own tags by use.index, one too high; 0 is
	// none.
	at     []int32
	missed int // since the route was begun
}

// stop is one tag on the way. A tag without a use is another machine's.
type stop struct {
	tag plant.TagID
	use *use
}

// find returns what a tag is used for; nil if for nothing.
func (r *route) find(tag plant.TagID) *use {
	if r.next == len(r.stops) && r.next > 0 && r.stops[0].tag == tag {
		r.next = 0 // the next poll
	}
	// Of one driver, equal tags are the same text, which costs no comparison.
	if r.next < len(r.stops) && r.stops[r.next].tag == tag {
		r.next++
		return r.stops[r.next-1].use
	}
	return r.search(tag)
}

// search finds a tag that is not expected, and where the way goes on behind it.
func (r *route) search(tag plant.TagID) *use {
	u := r.uses[tag]
	if r.missed++; r.missed > 2*mostRoute { // it has led nowhere: the order is another one now
		clear(r.at)
		r.stops, r.next, r.missed = r.stops[:0], 0, 0
	}
	if u != nil && r.at[u.index] > 0 {
		r.next = int(r.at[u.index])
		return u
	}
	if r.next != len(r.stops) || r.next == mostRoute {
		return u
	}
	r.stops = append(r.stops, stop{tag, u})
	r.next++
	if u != nil {
		r.at[u.index] = int32(r.next)
	}
	return u
}

// routes are those of a machine's devices.
type routes map[plant.DeviceID]*route

// of returns the route of a device; nil if no tag of it is used.
func (r *routes) of(m *Model, d plant.DeviceID) *route {
	if known := (*r)[d]; known != nil {
		return known
	}
	uses := m.devices[d]
	if uses == nil {
		return nil
	}
	if *r == nil {
		*r = make(routes)
	}
	made := &route{uses: uses, at: make([]int32, len(m.tags))}
	(*r)[d] = made
	return made
}
