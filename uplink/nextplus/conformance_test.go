package nextplus

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// receiver is a stand-in that can be stopped, and remembers what it took by the
// key of the request.
type receiver struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	server   *http.Server
	arrivals []uplinktest.Arrival
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{t: t, addr: uplinktest.Address(t)}
	r.Start()
	t.Cleanup(r.Stop)
	return r
}

func (r *receiver) Addr() string { return r.addr }

func (r *receiver) Arrivals() []uplinktest.Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uplinktest.Arrival(nil), r.arrivals...)
}

func (r *receiver) Start() {
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	erp := fake.New(fake.ERP{HonoursKeys: true, NeedsKeys: true})
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		q.Body = io.NopCloser(bytes.NewReader(body))
		id := q.Header.Get("Idempotency-Key")
		machine := strings.Split(id, "/")[1]
		r.mu.Lock()
		r.arrivals = append(r.arrivals, uplinktest.Arrival{Source: "/acme/lisbon/packing/" + machine, ID: id, Body: body})
		r.mu.Unlock()
		erp.ServeHTTP(w, q)
	})}
	r.mu.Lock()
	r.server = server
	r.mu.Unlock()
	go func() { _ = server.Serve(l) }() // it ends with Stop
}

func (r *receiver) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.server.Close()
}

// translated makes the suite's counter events operations, of the same ids.
type translated struct{ *Sender }

func (s translated) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	own := make([]plant.Event, len(events))
	for i, e := range events {
		n := plant.WholeDecimal(int64(e.Sequence))
		data, err := json.Marshal(plant.Operation{Head: head(m, testOrder), Action: "add", Valid: &n})
		if err != nil {
			panic(err) // it is built from constants
		}
		e.Kind, e.Data = plant.KindOperation, data
		own[i] = e
	}
	return s.Sender.Send(ctx, m, own)
}

// TestConformance: what every sender owes.
func TestConformance(t *testing.T) {
	uplinktest.Run(t, uplinktest.Subject{
		Receiver: func(t testing.TB) uplinktest.Receiver { return newReceiver(t) },
		Open: func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender {
			o := testOptions("http://" + addr)
			o.Timeout, o.SendTimeout = config.Duration(ackTimeout), config.Duration(time.Minute)
			p, err := plan("erp", o)
			if err != nil {
				t.Fatal(err)
			}
			return translated{p.Open(uplink.Env{Name: "erp", Gateway: "gw", Log: zap.NewNop(), Memory: func(string) ([]byte, error) { return nil, nil }}).(*Sender)}
		},
	})
}

// TestHTTPConformance: what every sender over HTTP owes, counted at the stand-in;
// with serial numbers, so that ids are kept over the faults.
func TestHTTPConformance(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		once   bool
		fake.ERP
	}{
		"a receiver that knows keys":      {func(*Options) {}, true, fake.ERP{HonoursKeys: true, NeedsKeys: true}},
		"a receiver that books all again": {func(*Options) {}, false, fake.ERP{NeedsKeys: true}},
	} {
		t.Run(name, func(t *testing.T) {
			uplinktest.RunHTTP(t, uplinktest.HTTPSubject{
				System: func(testing.TB) uplinktest.HTTPSystem {
					erp := fake.New(c.ERP)
					return uplinktest.HTTPSystem{
						Handler: erp, Faults: &erp.Faults, Violations: erp.Violations,
						Secrets: func() []string { return []string{"hunter2-hunter2"} },
						Booked: func(e *plant.Event) int {
							if d := erp.Device(serialOf(e)); d != nil {
								return d.Times
							}
							return 0
						},
					}
				},
				Open: func(t testing.TB, to uplinktest.HTTPTarget) uplink.Sender {
					o := testOptions(to.URL)
					o.CA, o.Timeout, o.SendTimeout = to.CA, config.Duration(to.Timeout), config.Duration(time.Minute)
					o.Auth.Bearer = config.NewSecret("hunter2-hunter2")
					c.change(&o)
					p, err := plan("erp", o)
					if err != nil {
						t.Fatal(err)
					}
					return p.Open(to.Env)
				},
				Events: func(from plant.Sequence, n int) []plant.Event {
					events := uplinktest.Events("M-1", from, n)
					for i := range events {
						data, err := json.Marshal(plant.Serial{Head: head("M-1", testOrder), Action: "add", SKU: "PUMP", Serial: serialOf(&events[i])})
						if err != nil {
							t.Fatal(err)
						}
						events[i].Kind, events[i].Data = plant.KindSerial, data
					}
					return events
				},
				Permanent: []int{400, 409, 413, 422},
				Success:   []int{300, 301, 302, 303, 304, 307, 308},
				Once:      c.once,
				Allowed:   []string{fake.RuleDouble},
			})
		})
	}
}

// serialOf is the serial number of an event of the suite.
func serialOf(e *plant.Event) string { return "SN-" + e.Sequence.String() }
