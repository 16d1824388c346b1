package prodsmart

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

const (
	// pageSize is how many items Prodsmart gives a page.
	pageSize = 25
	// mostPages bounds the pages that are read of one list.
	mostPages = 40
)

// openProductions is what Prodsmart said of productions that somebody has begun
// and not ended: only those get the pieces of a counter. The Sender's lock guards
// it.
type openProductions struct {
	// looking is set while one Send reads the list; next is when it is read again,
	// page the next page of a list that is half read, and found its machines.
	looking bool
	next    time.Time
	page    int
	found   map[string]bool
	// machines are those of the last whole list, read at at; nil before the first.
	machines map[string]bool
	at       time.Time
}

// lookForProductions asks, now and then and when nothing else is to be sent, on
// which machines a production is open, and tells of a machine that counts without
// one.
func (w *work) lookForProductions(ctx context.Context) {
	if w.options.OpenProduction > 0 && w.m.Count != nil && w.m.Count.Theirs > 0 && w.beginLook() {
		w.endLook(w.readProductions(ctx))
	}
	w.tellClosed()
}

// beginLook reports whether it is time to read the list, and nobody else does.
func (w *work) beginLook() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &w.open
	if o.looking || time.Now().Before(o.next) {
		return false
	}
	o.looking = true
	if o.page == 0 {
		o.page, o.found = 1, make(map[string]bool)
	}
	return true
}

// endLook keeps what was found; it is the whole list if through is set.
func (w *work) endLook(through bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &w.open
	o.looking = false
	if through {
		o.machines, o.at, o.page = o.found, time.Now(), 0
		o.next = o.at.Add(w.options.OpenProduction.Std())
	}
}

// readProductions reads pages until the list is through. A list that cannot be
// read is left for later: nothing depends on it.
func (w *work) readProductions(ctx context.Context) (through bool) {
	until := time.Now().Add(2 * lookAgain) // the machine's next stop must not wait for long
	for {
		w.mu.Lock()
		page := w.open.page
		w.mu.Unlock()
		a, o, h := w.withToken(ctx, &call{
			class: classOrders, method: http.MethodGet, path: "productions", whole: true, asked: uplink.OutcomeAsked, until: until,
			query: url.Values{"checked-out": {"false"}, "page": {strconv.Itoa(page)}},
		})
		var items []struct {
			Machine    struct{ Code string } `json:"machine"`
			CheckedOut *bool                 `json:"checked-out"`
		}
		if h != nil || o != taken || a.BodyErr != nil || json.Unmarshal(a.Body, &items) != nil {
			if h == nil || !waitsForRoom(h) {
				w.mu.Lock()
				w.open.next, w.open.page = time.Now().Add(w.options.OpenProduction.Std()), 0
				w.mu.Unlock()
			}
			return false
		}
		w.mu.Lock()
		for _, p := range items {
			if p.CheckedOut == nil || !*p.CheckedOut {
				w.open.found[p.Machine.Code] = true
			}
		}
		w.open.page++
		w.mu.Unlock()
		if len(items) < pageSize || page >= mostPages {
			return true
		}
	}
}

// tellClosed tells once of a machine whose pieces go nowhere.
func (w *work) tellClosed() {
	if w.m.Count == nil || w.m.Count.Theirs == 0 {
		return // no code was sent
	}
	code, _ := w.env.Codes.Lookup(plant.CodeMachine, string(w.m.id)) // as it is where it is not mapped
	w.mu.Lock()
	defer w.mu.Unlock()
	switch closed := w.open.machines != nil && !w.open.machines[code]; {
	case closed && w.m.closed.IsZero():
		w.m.closed = time.Now()
		w.log.Warn("no open production on this machine in Prodsmart: its pieces may be credited to nobody; a worker has to start one there", zap.String("machine", string(w.m.id)))
	case !closed && !w.m.closed.IsZero():
		w.m.closed = time.Time{}
		w.log.Info("a production is open on this machine in Prodsmart", zap.String("machine", string(w.m.id)))
	}
}

// closedNotice names the machines that count where nobody has begun a production;
// the zero Notice if there are none. The caller has the lock.
func (s *Sender) closedNotice() (n uplink.Notice) {
	var names []string
	for id, m := range s.machines {
		if m.closed.IsZero() {
			continue
		}
		names = append(names, string(id))
		if n.Since.IsZero() || m.closed.Before(n.Since) {
			n.Since = m.closed
		}
	}
	if len(names) == 0 {
		return n
	}
	slices.Sort(names)
	more := ""
	if over := len(names) - mostTwice; over > 0 {
		names, more = names[:mostTwice], fmt.Sprintf(" and %d more", over)
	}
	n.Text = "Prodsmart has no open production on " + strings.Join(names, ", ") + more + ": their pieces may be credited to nobody"
	n.Do = "A worker has to start a production there."
	return n
}
