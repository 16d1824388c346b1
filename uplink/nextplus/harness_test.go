package nextplus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// testOptions are those of an uplink to a receiver at base.
func testOptions(base string) Options {
	o := defaults()
	o.WorkOrderSource = "ERP"
	o.Device, o.ItemAttach, o.Operation = base+fake.DevicePath, base+fake.ItemPath, base+fake.OperationPath
	o.Timeout = config.Duration(5 * time.Second)
	return o
}

// shop is an uplink in front of a receiver, with the memory that a buffer keeps
// for it.
type shop struct {
	*testing.T
	erp    *fake.Fake
	server *httptest.Server
	// options may be changed before open.
	options Options
	sender  *Sender
	// opened is when the gateway is taken to have been started: before all events.
	opened time.Time
	next   plant.Sequence

	mu     sync.Mutex
	memory map[string][]byte
	notes  []uplink.Exchange
	damage map[string]bool
}

func newShop(t *testing.T, erp fake.ERP) *shop {
	s := &shop{T: t, erp: fake.New(erp), memory: map[string][]byte{}, damage: map[string]bool{}}
	s.server = httptest.NewServer(s.erp)
	t.Cleanup(s.server.Close)
	s.options = testOptions(s.server.URL)
	return s
}

// open begins a new process: what was not settled is forgotten.
func (s *shop) open() *shop {
	s.Helper()
	if err := s.options.Validate(); err != nil {
		for _, e := range []error{err} {
			s.Logf("options: %v", e)
		}
	}
	p, err := plan("erp", s.options)
	if err != nil {
		s.Fatal(err)
	}
	sender := p.Open(uplink.Env{
		Name: "erp", Gateway: "gw", Path: "/acme/lisbon/packing", Log: zap.NewNop(), Memory: s.recall,
		Codes: uplink.NewCodes(p.Codes, nil), Journal: uplink.NewJournal("erp", func(x uplink.Exchange) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.notes = append(s.notes, x)
		}),
	})
	s.sender = sender.(*Sender)
	s.sender.opened = s.opened
	s.Cleanup(func() {
		if err := sender.Close(); err != nil {
			s.Errorf("close: %v", err)
		}
	})
	return s
}

func (s *shop) recall(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damage[key] {
		return nil, plant.ErrUnreadable
	}
	return s.memory[key], nil
}

// settle keeps what the results put, as the buffer does.
func (s *shop) settle(results []plant.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range results {
		for _, kv := range r.Put {
			if kv.Value == nil {
				delete(s.memory, kv.Key)
			} else {
				s.memory[kv.Key] = kv.Value
			}
		}
	}
}

// send sends events of one machine in one Send and settles what came of them.
func (s *shop) send(events ...plant.Event) []plant.Result {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	var all []plant.Result
	for {
		results := s.sender.Send(ctx, events[0].Machine, events)
		s.settle(results)
		last := results[len(results)-1]
		if !errors.Is(last.Cause, errNoted) {
			return append(all, results...)
		}
		// The Forwarder settles what is before it, and comes again at once.
		all = append(all, results[:len(results)-1]...)
		events = events[len(results)-1:]
	}
}

// accepted sends events that must all be delivered.
func (s *shop) accepted(events ...plant.Event) {
	s.Helper()
	results := s.send(events...)
	if len(results) != len(events) {
		s.Fatalf("%d results of %d events: %+v", len(results), len(events), results)
	}
	for _, r := range results {
		if r.Status != plant.Delivered {
			s.Fatalf("event %d is %v: %v", r.First, r.Status, r.Cause)
		}
	}
}

// faultless fails if the receiver has noted something that Next Plus would never
// send, but for the rules that the test provokes.
func (s *shop) faultless(allowed ...string) {
	s.Helper()
	if found := s.erp.Violations(allowed...); len(found) > 0 {
		s.Errorf("the receiver complains:\n%s", central.Words(found))
	}
}

var testOrder = &plant.Order{Number: "WO-1", Source: "ERP", SKU: "PUMP", ExternalID: "ERP-WO-9", Operation: "ASSY", OperationExternalID: "ERP-OPX-3", WorkCenter: "WC-7", Position: "10"}

// event makes the machine's next event.
func (s *shop) event(m plant.MachineID, kind plant.EventKind, data any) plant.Event {
	s.Helper()
	s.next++
	raw, err := json.Marshal(data)
	if err != nil {
		s.Fatal(err)
	}
	return plant.Event{
		Gateway: "gw", Source: "/acme/lisbon/packing/" + string(m), Machine: m, Epoch: 7, Sequence: s.next, Kind: kind, Version: 1,
		Time: time.UnixMilli(1_770_000_000_000).Add(time.Duration(s.next) * time.Second), Data: raw,
	}
}

func head(m plant.MachineID, o *plant.Order) plant.Head {
	return plant.Head{Machine: m, Mode: plant.Production, Order: o}
}

func (s *shop) serial(action, serial, old string) plant.Event {
	return s.event("STATION-1", plant.KindSerial, plant.Serial{Head: head("STATION-1", testOrder), Action: action, Serial: serial, OldSerial: old, SKU: "PUMP"})
}

func (s *shop) attach(action string, id uint64, serial, itemSerial string) plant.Event {
	item := plant.AttachedItem{SKU: "SEAL", Serial: itemSerial, Order: "WO-SUB-4", Lot: "L-9", Unit: "pcs"}
	if itemSerial == "" {
		n := plant.WholeDecimal(5)
		item.Quantity = &n
	}
	return s.event("STATION-1", plant.KindItemAttach, plant.ItemAttach{Head: head("STATION-1", testOrder), Action: action, SKU: "PUMP", Serial: serial, Item: item, AttachID: id})
}

func (s *shop) operation(action string, valid, invalid int64, serial string) plant.Event {
	v, i := plant.WholeDecimal(valid), plant.WholeDecimal(invalid)
	return s.event("STATION-1", plant.KindOperation, plant.Operation{
		Head: head("STATION-1", testOrder), Action: action, RoutingOperation: "TEST", WorkCenter: "WC-8", Position: "20", SKU: "PUMP", Serial: serial, Valid: &v, Invalid: &i,
	})
}

// words are those of the newest request.
func (s *shop) words() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.notes) == 0 {
		return ""
	}
	return s.notes[len(s.notes)-1].Words
}

// bodies returns the payloads that were taken, of one path.
func (s *shop) bodies(path string) (bodies []string) {
	for _, a := range s.erp.Accepted() {
		if a.Path == path {
			bodies = append(bodies, string(a.Body))
		}
	}
	return bodies
}

// statuses returns what became of each event.
func statuses(results []plant.Result) (all []plant.Status) {
	for _, r := range results {
		all = append(all, r.Status)
	}
	return all
}

func same(t *testing.T, got []plant.Status, want ...plant.Status) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// elsewhere is a server that must never be called.
func elsewhere(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request went to another host: %s %s", r.Method, r.URL.Path)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func fields(t *testing.T, body string) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &object); err != nil {
		t.Fatal(fmt.Errorf("%w: %s", err, body))
	}
	return object
}
