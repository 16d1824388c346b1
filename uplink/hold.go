package uplink

import (
	"context"
	"strings"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// heldPrefix begins the keys of streams that are held for a refusal: the kind, a
// slash, the machine. The value is the sort of the refusal.
const heldPrefix = "_held/"

func heldKey(m plant.MachineID, kind plant.EventKind) string {
	return heldPrefix + string(kind) + "/" + string(m)
}

// loadHolds reads which streams were held when the last run ended, so that the
// first refusal of the same sort holds them again: else each restart would make
// dead letters of some more events that only a wrong setting keeps back.
func (f *Forwarder) loadHolds(ctx context.Context) {
	if f.shelf == nil {
		return
	}
	err := f.shelf.Each(ctx, heldPrefix, func(kv plant.KV) bool {
		kind, m, ok := strings.Cut(strings.TrimPrefix(kv.Key, heldPrefix), "/")
		if !ok || m == "" {
			return true
		}
		r := &f.machine(plant.MachineID(m)).refusals
		if r.kinds == nil {
			r.kinds = map[plant.EventKind]refusal{}
		}
		r.kinds[plant.EventKind(kind)] = refusal{sort: string(kv.Value), n: f.options.HoldAfter}
		r.keep(plant.EventKind(kind))
		return true
	})
	if err != nil && ctx.Err() == nil {
		f.log.Warn("which streams were held cannot be read to the end: a few more of their events may become dead letters before they are held again", zap.Error(err))
	}
}

// keepHolds makes it durable, with the settlement of v, that a stream is held and
// that it is not any more. The caller has the machine's lease.
func (f *Forwarder) keepHolds(st *machine, v *verdict) {
	r := &st.refusals
	if f.shelf == nil || len(r.kept) == 0 && !v.held {
		return
	}
	if len(v.results) > 0 {
		last := &v.results[len(v.results)-1]
		for kind := range r.kept {
			if now, refused := r.kinds[kind]; !refused || now.n < f.options.HoldAfter {
				last.Put = append(last.Put, plant.KV{Key: heldKey(st.id, kind)})
				delete(r.kept, kind)
			}
		}
	}
	if v.held && !r.kept[v.kind] {
		v.results = append(v.results, plant.Result{
			First: v.stop.First, Last: v.stop.Last, Status: plant.Held,
			Put: []plant.KV{{Key: heldKey(st.id, v.kind), Value: []byte(r.kinds[v.kind].sort)}},
		})
		r.keep(v.kind)
	}
}

// keep notes that a hold of that kind is durable.
func (r *refusals) keep(kind plant.EventKind) {
	if r.kept == nil {
		r.kept = map[plant.EventKind]bool{}
	}
	r.kept[kind] = true
}
