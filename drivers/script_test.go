package drivers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// script is a device that does what a test says.
type script struct {
	connect func(ctx context.Context, session uint64) error
	read    func(ctx context.Context) ([]plant.Scan, error)
	write   func(ctx context.Context, w plant.Write) error

	mu       sync.Mutex
	connects []time.Duration // since the start of the test
	reads    []time.Duration
	sessions []uint64
	closes   int
	start    time.Time
}

var _ Driver = (*script)(nil)

func (s *script) Connect(ctx context.Context, session uint64) error {
	s.mu.Lock()
	s.connects = append(s.connects, time.Since(s.start))
	s.sessions = append(s.sessions, session)
	s.mu.Unlock()
	if s.connect == nil {
		return nil
	}
	return s.connect(ctx, session)
}

func (s *script) Read(ctx context.Context) ([]plant.Scan, error) {
	s.mu.Lock()
	s.reads = append(s.reads, time.Since(s.start))
	s.mu.Unlock()
	if s.read == nil {
		return nil, nil
	}
	return s.read(ctx)
}

func (s *script) Write(ctx context.Context, w plant.Write) error { return s.write(ctx, w) }

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closes++
	return nil
}

// tape is a Sink that keeps what it is offered, also as readable lines.
type tape struct {
	start time.Time
	lines []string
	scans []plant.Scan
}

var _ Sink = (*tape)(nil)

func (t *tape) Offer(in plant.Input) {
	at := in.When().Sub(t.start)
	switch in := in.(type) {
	case plant.DeviceState:
		t.lines = append(t.lines, strings.TrimSpace(fmt.Sprintf("%v session %d connected %v %s", at, in.Session, in.Connected, in.Cause)))
	case plant.Scan:
		t.scans = append(t.scans, in)
		t.lines = append(t.lines, fmt.Sprintf("%v session %d %d readings", at, in.Session, len(in.Readings)))
	}
}

// bench runs a Poller over a script in a bubble of synctest.
type bench struct {
	*Poller
	script *script
	tape   *tape
	logs   *observer.ObservedLogs
	stop   func()
}

func run(t *testing.T, s *script, o PollerOptions) *bench {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	s.start = time.Now()
	o.Device = "press"
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	b := &bench{script: s, tape: &tape{start: s.start}, logs: logs}
	b.Poller = NewPoller(o, s, []Sink{b.tape}, zap.New(core))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return b
}

func (b *bench) messages() []string {
	var out []string
	for _, e := range b.logs.All() {
		out = append(out, e.Message)
	}
	return out
}

// scan is one good reading now.
func scan(session uint64, quality plant.Quality, cause string) []plant.Scan {
	return []plant.Scan{{
		Device: "press", Session: session, Received: time.Now(),
		Readings: []plant.Reading{{Tag: "made", Value: plant.UintValue(1), Quality: quality, Cause: cause}},
	}}
}
