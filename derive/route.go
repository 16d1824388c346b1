package derive

import "github.com/sluice-edge/sluice/plant"

// mostRoute is how many places of a scan are remembered: 100 KiB for a device
// with more tags than that.
const mostRoute = 4096

// route remembers which tag was where in the last scan of a device, and what it is
// used for: drivers read the same tags in the same order nearly always, and then
// no tag is looked up. It is of one goroutine. The zero route knows nothing.
type route struct {
	uses  map[plant.TagID]*use
	stops []stop
}

// stop is a place in a scan. A tag without a use is another machine's.
type stop struct {
	tag plant.TagID
	use *use
}

// find returns what the tag of the i-th reading is used for; nil if for nothing.
func (r *route) find(i int, tag plant.TagID) *use {
	// Of the same driver, equal tags are the same text, which costs no comparison.
	if i < len(r.stops) && r.stops[i].tag == tag {
		return r.stops[i].use
	}
	u := r.uses[tag]
	switch {
	case i < len(r.stops):
		r.stops[i] = stop{tag, u}
	case i == len(r.stops) && i < mostRoute:
		r.stops = append(r.stops, stop{tag, u})
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
	made := &route{uses: uses}
	(*r)[d] = made
	return made
}
