package uplinktest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// This file is a whole uplink, as small as one can be, that passes the suite. It
// is the example of docs/adding-an-uplink.md, which shows parts of it word for
// word, and shows that the suite asks nothing that only MQTT has. The receiver
// takes an event a line and answers "ok", or "no" with its reason.

// Kind is "driver: lines" of an uplink.
var Kind = kind.NewKind("lines", defaults, plan)

// TestEventsAreValid: what every uplink is tried with is what rules make.
func TestEventsAreValid(t *testing.T) {
	schemas, err := schematest.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := schemas.Events(uplinktest.Events("FILLER-01", 1, 3)); err != nil {
		t.Error(err)
	}
}

// Options is what a config says of such an uplink.
type Options struct {
	Address    string          `yaml:"address,required"`
	AckTimeout config.Duration `yaml:"ack_timeout"`

	uplink.Options `yaml:",inline"`
}

func defaults() Options {
	return Options{AckTimeout: config.Duration(10 * time.Second), Options: uplink.DefaultOptions()}
}

// Validate returns the faults of o; the inlined Options are checked here, too.
func (o Options) Validate() error {
	errs := []error{o.Options.Validate()}
	if o.AckTimeout <= 0 {
		errs = append(errs, config.Field("ack_timeout", "it must be above 0", "leave it out for 10s"))
	}
	return errors.Join(errs...)
}

func plan(_ string, o Options) (uplink.Plan, error) {
	return uplink.Plan{
		Endpoint: o.Address,
		Carries:  func(plant.EventKind) bool { return true },
		Options:  o.Options,
		Open:     func(uplink.Env) uplink.Sender { return newSender(o) },
	}, nil
}

// Sender delivers the events of all machines over one connection, one after the
// other; a better one would not let machines wait for each other.
type Sender struct {
	o Options
	// life ends with Close, and with it whatever waits for the receiver.
	life context.Context
	end  context.CancelFunc

	mu      sync.Mutex
	conn    net.Conn
	answers *bufio.Reader
}

var _ uplink.Sender = (*Sender)(nil)

func newSender(o Options) *Sender {
	s := &Sender{o: o}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Send implements uplink.Sender.
func (s *Sender) Send(ctx context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.life, stop)()
	s.mu.Lock()
	defer s.mu.Unlock()
	var results []plant.Result
	for i := range events {
		r := plant.Result{First: events[i].Sequence, Last: events[i].Sequence}
		refusal, err := s.deliver(ctx, &events[i])
		switch {
		case err != nil: // the zero Status is Retry; the whole link is in doubt
			s.drop()
			r.Cause = &uplink.LinkError{Err: fmt.Errorf("lines: %w", err)}
			return append(results, r)
		case refusal != "":
			r.Status, r.Cause = plant.Rejected, errors.New(refusal)
			return append(results, r) // those behind it come again with the next Send
		}
		r.Status = plant.Delivered
		results = append(results, r)
	}
	return results
}

// deliver sends one event and waits for what the receiver says of it.
func (s *Sender) deliver(ctx context.Context, e *plant.Event) (refusal string, err error) {
	if err := s.connect(ctx); err != nil {
		return "", err
	}
	conn := s.conn
	if err := conn.SetDeadline(time.Now().Add(s.o.AckTimeout.Std())); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append(uplink.AppendCloudEvent(nil, e), '\n')); err != nil {
		return "", err
	}
	answer, err := s.answers.ReadString('\n')
	if err != nil {
		return "", err
	}
	if word, why, _ := strings.Cut(strings.TrimSpace(answer), " "); word != "ok" {
		return "refused: " + why, nil
	}
	return "", nil
}

func (s *Sender) connect(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.conn != nil {
		return nil
	}
	dialer := net.Dialer{Timeout: s.o.AckTimeout.Std()}
	conn, err := dialer.DialContext(ctx, "tcp", s.o.Address)
	if err != nil {
		return err
	}
	s.conn, s.answers = conn, bufio.NewReader(conn)
	return nil
}

// drop ends the connection: an answer that is still due must never be taken for
// that of another event.
func (s *Sender) drop() {
	if s.conn != nil {
		_ = s.conn.Close() // nothing is left to say to it
		s.conn = nil
	}
}

// Close implements io.Closer.
func (s *Sender) Close() error {
	s.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	return nil
}

// receiver is a system of the protocol.
type receiver struct {
	server *faultnet.Server
	mu     sync.Mutex
	all    []uplinktest.Arrival
}

var _ uplinktest.Receiver = (*receiver)(nil)

func (r *receiver) Addr() string { return r.server.Addr() }

func (r *receiver) Arrivals() []uplinktest.Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *receiver) Stop() {
	if err := r.server.Stop(); err != nil {
		panic(err)
	}
}

func (r *receiver) Start() {
	if err := r.server.Start(); err != nil {
		panic(err)
	}
}

func (r *receiver) take(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // half a line is no event
		}
		var e struct{ Source, ID string }
		switch {
		case len(line) > tooLarge:
			fmt.Fprintln(c, "no that is too large")
		case json.Unmarshal(line, &e) != nil:
			fmt.Fprintln(c, "no that is no JSON")
		default:
			r.mu.Lock()
			r.all = append(r.all, uplinktest.Arrival{Source: e.Source, ID: e.ID, Body: line})
			r.mu.Unlock()
			fmt.Fprintln(c, "ok")
		}
	}
}

const tooLarge = 16 << 10

func TestConformance(t *testing.T) {
	uplinktest.Run(t, uplinktest.Subject{
		Receiver: func(t testing.TB) uplinktest.Receiver {
			r := &receiver{}
			r.server = faultnet.NewServer(r.take)
			r.Start()
			t.Cleanup(r.Stop)
			return r
		},
		Open: func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender {
			s, _ := config.ParseSection("mes", "test.yaml", "{driver: lines, address: "+addr+", ack_timeout: "+ackTimeout.String()+"}")
			p, faults := Kind.Check(s)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			return p.Open(uplink.Env{Name: "mes"})
		},
		TooLarge: tooLarge,
	})
}
