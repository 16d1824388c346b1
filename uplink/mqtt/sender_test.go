package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

func TestStatusIsRetained(t *testing.T) {
	b := newEmbedded(t)
	proxy, err := faultnet.New(b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	o := testOptions(proxy.Addr())
	o.StatusTopic = defaults().StatusTopic
	s := openWith(t, o)
	const topic = "sluice/acme/lisbon/packing/_gateway/gw/status "
	online, offline := topic+`{"gateway":"gw","status":"online","host":"here"}`, topic+`{"gateway":"gw","status":"offline","host":"here"}`
	want := []string{online}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	// Host and instance are this process's own.
	mine := regexp.MustCompile(`"host":"` + regexp.QuoteMeta(host) + `","instance":"[A-Z2-7]{8}","client_id":"sluice-gw-broker"`)
	statuses := func() (all []string) {
		for _, text := range b.hook.statuses() {
			all = append(all, mine.ReplaceAllString(text, `"host":"here"`))
		}
		return all
	}
	settle := func() {
		t.Helper()
		eventually(t, fmt.Sprintf("the statuses %q", want), func() bool { return slices.Equal(statuses(), want) })
	}
	events := uplinktest.Events("M", 1, 2)
	if r := s.Send(t.Context(), "M", events[:1]); len(r) != 1 || r[0].Status != plant.Delivered {
		t.Fatalf("results %+v", r)
	}
	settle()
	proxy.Cut()
	want = append(want, "will "+offline)
	settle()
	eventually(t, "a delivery after the cut", func() bool {
		r := s.Send(t.Context(), "M", events[1:])
		return r[0].Status == plant.Delivered
	})
	want = append(want, online)
	settle()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want = append(want, offline)
	settle()
}

func TestWrongPasswordIsNamedAndLeftAlone(t *testing.T) {
	b := newEmbedded(t)
	b.hook.user, b.hook.password = "gateway", "right"
	o := testOptions(b.Addr())
	o.User, o.Password = "gateway", config.NewSecret("wrong")
	s := openWith(t, o)
	defer s.Close()
	events := uplinktest.Events("M", 1, 1)
	r := s.Send(t.Context(), "M", events)
	var link *uplink.LinkError
	if len(r) != 1 || r[0].Status != plant.Retry || r[0].Wait < 30*time.Second || !errors.As(r[0].Cause, &link) || !strings.Contains(link.Error(), "check the password") || strings.Contains(link.Error(), "wrong\"") {
		t.Fatalf("results %+v", r)
	}
	o.Password = config.NewSecret("right")
	good := openWith(t, o)
	defer good.Close()
	if r := good.Send(t.Context(), "M", events); len(r) != 1 || r[0].Status != plant.Delivered {
		t.Errorf("results %+v", r)
	}
}

// TestRefusedUserIsTriedOnce: what the broker has refused to one machine it is not
// asked again for each other, nor for the session that is kept without events. Who
// tests after the cure is not made to wait.
func TestRefusedUserIsTriedOnce(t *testing.T) {
	b := newEmbedded(t)
	b.hook.user, b.hook.password = "gateway", "right"
	o := testOptions(b.Addr())
	o.User, o.Password = "gateway", config.NewSecret("falsch-4711")
	p, err := plan("broker", o)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Open(uplink.Env{Name: "broker", Gateway: "gw", Log: zap.NewNop()})
	defer s.Close()
	ctx, end := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer end()
	all.Go(func() { s.(uplink.Runner).Run(ctx) })
	var machines sync.WaitGroup
	for _, m := range []plant.MachineID{"A", "B", "C", "D"} {
		machines.Go(func() {
			for range 10 {
				r := s.Send(ctx, m, uplinktest.Events(m, 1, 1))
				if len(r) != 1 || r[0].Status != plant.Retry || r[0].Wait <= 30*time.Second || !strings.Contains(r[0].Cause.Error(), "password") {
					t.Errorf("%s: %+v", m, r)
				}
			}
		})
	}
	machines.Wait()
	b.hook.mu.Lock()
	tries := b.hook.connects
	b.hook.password = "falsch-4711"
	b.hook.mu.Unlock()
	if tries < 1 || tries > 3 {
		t.Errorf("the broker was asked %d times, want at most 3", tries)
	}
	if err := s.(uplink.Tester).Test(t.Context()); err != nil {
		t.Errorf("a test after the cure: %v", err)
	}
	if r := s.Send(t.Context(), "A", uplinktest.Events("A", 1, 1)); len(r) != 1 || r[0].Status != plant.Delivered {
		t.Errorf("after the cure: %+v", r)
	}
}

// TestTLSRefusesWhoeverIsNotTheBroker: the peer must prove itself, and so must
// the gateway where the broker asks for it.
func TestTLSRefusesWhoeverIsNotTheBroker(t *testing.T) {
	ours, other := uplinktest.NewAuthority(t), uplinktest.NewAuthority(t)
	soon := time.Now().Add(time.Hour)
	broker := ours.Issue(t, "broker", soon, "127.0.0.1")
	elsewhere := ours.Issue(t, "elsewhere", soon, "broker.example")
	expired := ours.Issue(t, "expired", time.Now().Add(-time.Minute), "127.0.0.1")
	stranger := other.Issue(t, "stranger", soon, "127.0.0.1")
	ours.Issue(t, "gateway", soon)
	clients := ours.Pool(t)

	for name, test := range map[string]struct {
		broker *tls.Config
		option func(*Options)
		fails  string
	}{
		"good":            {broker: &tls.Config{Certificates: []tls.Certificate{broker}}},
		"wrong name":      {broker: &tls.Config{Certificates: []tls.Certificate{elsewhere}}, fails: "certificate"},
		"named otherwise": {broker: &tls.Config{Certificates: []tls.Certificate{elsewhere}}, option: func(o *Options) { o.ServerName = "broker.example" }},
		"expired":         {broker: &tls.Config{Certificates: []tls.Certificate{expired}}, fails: "expired"},
		"another CA":      {broker: &tls.Config{Certificates: []tls.Certificate{stranger}}, fails: "unknown authority"},
		"system's CAs":    {broker: &tls.Config{Certificates: []tls.Certificate{broker}}, option: func(o *Options) { o.CA = "" }, fails: "unknown authority"},
		"TLS 1.1":         {broker: &tls.Config{Certificates: []tls.Certificate{broker}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, fails: "protocol version"},
		"wants a client":  {broker: &tls.Config{Certificates: []tls.Certificate{broker}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, fails: "mqtt: "},
		"knows the client": {broker: &tls.Config{Certificates: []tls.Certificate{broker}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, option: func(o *Options) {
			o.Cert, o.Key = ours.Cert("gateway"), ours.Key("gateway")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newEmbedded(t, func(b *embedded) { b.tls = test.broker })
			o := testOptions(b.Addr())
			o.URL = "tls://" + b.Addr()
			o.CA = ours.CA()
			o.ConnectTimeout = config.Duration(3 * time.Second)
			if test.option != nil {
				test.option(&o)
			}
			s := openWith(t, o)
			defer s.Close()
			r := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			switch {
			case len(r) != 1:
				t.Fatalf("results %+v", r)
			case test.fails == "" && r[0].Status != plant.Delivered:
				t.Errorf("not delivered: %v", r[0].Cause)
			case test.fails != "" && (r[0].Status != plant.Retry || !strings.Contains(r[0].Cause.Error(), test.fails) || len(b.Arrivals()) > 0):
				t.Errorf("status %v cause %v, want a failure with %q", r[0].Status, r[0].Cause, test.fails)
			}
		})
	}
}

// memoryQueue is a Queue of a few streams in memory, for one run. Who holds the
// number of events left may look at the streams.
type memoryQueue struct {
	order   chan plant.MachineID
	streams map[plant.MachineID][]plant.Event
	left    chan int
}

// newMemoryQueue returns a queue of so many machines with so many events each.
func newMemoryQueue(machines, each int) *memoryQueue {
	q := &memoryQueue{order: make(chan plant.MachineID, machines), streams: map[plant.MachineID][]plant.Event{}, left: make(chan int, 1)}
	for i := range machines {
		m := plant.MachineID(fmt.Sprint("M", i))
		q.streams[m] = uplinktest.Events(m, 1, each)
		q.order <- m
	}
	q.left <- machines * each
	return q
}

// remaining returns how many events are not settled yet.
func (q *memoryQueue) remaining() int {
	n := <-q.left
	q.left <- n
	return n
}

// forward runs a Forwarder; stop ends it and waits for it.
func forward(t *testing.T, f *uplink.Forwarder) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func (q *memoryQueue) Next(ctx context.Context) (plant.MachineID, error) {
	select {
	case m := <-q.order:
		return m, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (q *memoryQueue) Peek(_ context.Context, m plant.MachineID, after plant.Sequence, n, _ int) ([]plant.Event, error) {
	left := <-q.left
	defer func() { q.left <- left }()
	stream := q.streams[m]
	return stream[:min(n, len(stream))], nil
}

func (q *memoryQueue) Settle(_ context.Context, m plant.MachineID, upTo plant.Sequence, _ []plant.Result) error {
	left := <-q.left
	stream := q.streams[m]
	for len(stream) > 0 && stream[0].Sequence <= upTo {
		stream = stream[1:]
	}
	left -= len(q.streams[m]) - len(stream)
	q.streams[m] = stream
	if len(stream) > 0 {
		q.order <- m
	}
	q.left <- left
	return nil
}

func (q *memoryQueue) Memory(string) ([]byte, error) { return nil, nil }

// TestForwarderOverABrokerThatComesAndGoes runs the whole uplink: Forwarder,
// breaker, back-off and session, against a broker that stops in the middle.
func TestForwarderOverABrokerThatComesAndGoes(t *testing.T) {
	const machines, each = 10, 300
	b := newEmbedded(t)
	q := newMemoryQueue(machines, each)
	o := testOptions(b.Addr())
	o.BatchEvents, o.BackoffMin, o.BackoffMax = 20, config.Duration(10*time.Millisecond), config.Duration(100*time.Millisecond)
	f := uplink.NewForwarder("broker", q, openWith(t, o), o.Options, zap.NewNop())
	stop := forward(t, f)
	eventually(t, "half of the events", func() bool { return q.remaining() < machines*each/2 })
	b.Stop()
	b.Start()
	eventually(t, "all events", func() bool { return q.remaining() == 0 })
	stop()
	if got := f.Stats(); got.Delivered != machines*each || got.Rejected != 0 || len(got.Problems) != 0 {
		t.Errorf("Stats = %+v", got)
	}
	next := map[string]int{}
	for _, a := range b.Arrivals() {
		var n int
		if _, err := fmt.Sscanf(a.ID[strings.LastIndex(a.ID, "-")+1:], "%d", &n); err != nil {
			t.Fatal(err)
		}
		if n > next[a.Source]+1 {
			t.Fatalf("%s arrived after %d", a.ID, next[a.Source])
		}
		next[a.Source] = max(next[a.Source], n)
	}
	for source, n := range next {
		if n != each {
			t.Errorf("%d of %d events of %s", n, each, source)
		}
	}
	if len(next) != machines {
		t.Errorf("%d machines", len(next))
	}
}
