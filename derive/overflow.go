package derive

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// overflowPause is the least time between two gap events of one device that loses
// values all the time.
const overflowPause = time.Minute

// overflowed takes an answer before which the device has lost values: the rules
// that count each change of one of its tags have not seen all. Those that read a
// total or a measured value miss nothing that the next one does not say. Nor does a
// handshake: the PLC waits for its answer, or numbers its records.
func (r *run) overflowed(in *plant.Scan, uses map[plant.TagID]*use) {
	var tags []string
	hurt := func(i rule.Input) bool {
		u := uses[i.Ref.Tag]
		return i.Ref.Device == in.Device && u != nil && r.m.edges[u.index] && !u.trigger && slices.ContainsFunc(in.Readings, func(v plant.Reading) bool { return v.Tag == i.Ref.Tag })
	}
	for i := range in.Readings {
		ref := plant.TagRef{Device: in.Device, Tag: in.Readings[i].Tag}
		if hurt(rule.Input{Ref: ref}) {
			tags = append(tags, string(ref.Tag))
		}
	}
	if len(tags) == 0 {
		return
	}
	r.changed = true
	if r.m.counter != nil {
		r.m.counter.Lost(&r.s.counter, hurt)
	}
	if r.m.startstop != nil {
		r.m.startstop.Lost(&r.s.startstop, hurt, r)
	}
	told := &r.s.gateway.Overflowed
	at := rule.Stamp{At: r.now}
	switch i := slices.IndexFunc(*told, func(l lostDevice) bool { return l.Device == in.Device }); {
	case i < 0:
		*told = append(*told, lostDevice{Device: in.Device, At: at})
	case r.now-(*told)[i].At.At < int64(overflowPause):
		return
	default:
		(*told)[i].At = at
	}
	r.emitJSON(plant.KindGap, at, plant.GapData{
		Head: r.headAt(at), Device: in.Device, Cause: plant.GapUnread,
		Reason: fmt.Sprintf("the device has lost values of %s between two reports, and each of them counts: let its queue be longer (queue), or its reports follow sooner (publishing)", strings.Join(tags, ", ")),
	})
}
