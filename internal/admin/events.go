package admin

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// followEvery is how often the ends of the streams are looked at for tail.
const followEvery = 200 * time.Millisecond

// filter says which events are meant.
type filter struct {
	machines []plant.MachineID
	kinds    []plant.EventKind
	from, to time.Time
	// newest, if above 0, is how many of each machine are meant; follow waits for
	// more.
	newest uint64
	follow bool
}

func parseFilter(q url.Values) (f filter, err error) {
	for key, values := range q {
		switch key {
		case "machine":
			for _, v := range values {
				f.machines = append(f.machines, plant.MachineID(v))
			}
			continue
		case "kind":
			for _, v := range values {
				f.kinds = append(f.kinds, plant.EventKind(v))
			}
			continue
		}
		if len(values) != 1 {
			return f, badRequest("%s is given %d times", key, len(values))
		}
		switch v := values[0]; key {
		case "from":
			f.from, err = time.Parse(time.RFC3339Nano, v)
		case "to":
			f.to, err = time.Parse(time.RFC3339Nano, v)
		case "newest":
			f.newest, err = strconv.ParseUint(v, 10, 64)
		case "follow":
			f.follow, err = strconv.ParseBool(v)
		default:
			return f, badRequest("%q is not known", key)
		}
		if err != nil {
			return f, badRequest("%s: %v", key, err)
		}
	}
	if !f.from.IsZero() && !f.to.IsZero() && !f.from.Before(f.to) {
		return f, badRequest("from is not before to: nothing can be in between")
	}
	return f, nil
}

// inTime reports whether a time is within from (inclusive) and to (exclusive).
func inTime(t, from, to time.Time) bool {
	return (from.IsZero() || !t.Before(from)) && (to.IsZero() || t.Before(to))
}

func (f *filter) has(e *plant.Event) bool {
	return (len(f.kinds) == 0 || slices.Contains(f.kinds, e.Kind)) && inTime(e.Time, f.from, f.to)
}

// check refuses names that nobody knows, so that a typing error is not an empty
// answer.
func (f *filter) check(known []plant.MachineID) error {
	for _, m := range f.machines {
		if !slices.Contains(known, m) {
			return notFound("%s", unknown("machine with events", string(m), texts(known)))
		}
	}
	for _, k := range f.kinds {
		if !slices.Contains(plant.EventKinds(), k) {
			return badRequest("%s", unknown("kind of event", string(k), texts(plant.EventKinds())))
		}
	}
	return nil
}

// texts are names as texts.
func texts[T ~string](names []T) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = string(name)
	}
	return all
}

// span is what is stored of one machine.
type span struct{ after, last plant.Sequence }

func spans(st *buffer.Stats) map[plant.MachineID]span {
	all := make(map[plant.MachineID]span, len(st.Streams))
	for _, s := range st.Streams {
		all[s.Machine] = span{after: s.Before, last: s.Last}
	}
	return all
}

// events streams stored events as CloudEvents, one a line, by machine and in
// their order.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		return err
	}
	known := s.Store.Machines()
	if err := f.check(known); err != nil {
		return err
	}
	machines := func() []plant.MachineID {
		if len(f.machines) > 0 {
			return f.machines
		}
		return s.Store.Machines()
	}
	out := newStream(w, "application/x-ndjson")
	st := s.Store.Stats()
	at := spans(&st)
	if f.newest > 0 {
		for m, here := range at {
			here.after = max(here.after, here.last-min(here.last, plant.Sequence(f.newest)))
			at[m] = here
		}
	}
	var line []byte
	for {
		for _, m := range machines() {
			here := at[m]
			if line, err = s.list(r.Context(), out, m, &here, &f, line); err != nil {
				return out.end(err)
			}
			at[m] = here
		}
		if !f.follow {
			return out.end(nil)
		}
		if err := out.flush(); err != nil {
			return out.end(err)
		}
		select {
		case <-r.Context().Done():
			return out.end(nil)
		case <-time.After(followEvery):
		}
		if err := s.Store.Err(); err != nil {
			return out.end(err)
		}
		st := s.Store.Stats()
		for m, now := range spans(&st) {
			at[m] = span{after: max(at[m].after, now.after), last: now.last}
		}
	}
}

// list writes what f has of one machine from here.after to here.last.
func (s *Server) list(ctx context.Context, out *lineStream, m plant.MachineID, here *span, f *filter, line []byte) ([]byte, error) {
	if here.after >= here.last {
		return line, nil
	}
	for e, err := range s.Store.Events(ctx, m, here.after, math.MaxInt) {
		if err != nil {
			return line, err
		}
		if e.Sequence > here.last {
			break
		}
		if !f.has(&e) {
			continue
		}
		line = append(uplink.AppendCloudEvent(line[:0], &e), '\n')
		if err := out.line(line); err != nil {
			return line, err
		}
	}
	here.after = here.last
	return line, nil
}

// event answers with one event.
func (s *Server) event(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	m := plant.MachineID(q.Get("machine"))
	n, err := strconv.ParseUint(q.Get("sequence"), 10, 64)
	if err != nil || n == 0 {
		return badRequest("sequence: %q is no number from 1", q.Get("sequence"))
	}
	for e, err := range s.Store.Events(r.Context(), m, plant.Sequence(n-1), 1) {
		if err != nil {
			return err
		}
		if e.Sequence != plant.Sequence(n) {
			break
		}
		if epoch := q.Get("epoch"); epoch != "" && epoch != e.Epoch.String() {
			return notFound("event %d of %s has the epoch %s, not %s", n, string(m), e.Epoch, epoch)
		}
		w.Header().Set("Content-Type", uplink.ContentType)
		_, _ = w.Write(append(uplink.AppendCloudEvent(nil, &e), '\n'))
		return nil
	}
	if known := s.Store.Machines(); !slices.Contains(known, m) {
		return notFound("%s", unknown("machine with events", string(m), texts(known)))
	}
	return notFound("event %d of %q is not stored: it was never given, is deleted after keep, or is damaged", n, string(m))
}
