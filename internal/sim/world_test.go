package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
)

// world is what outlives a process: the disk, the PLCs, the receivers; and the
// judge of all that happens.
type world struct {
	plan     plan
	began    time.Time
	machines []plant.MachineID
	store    *store
	plcs     map[plant.MachineID]*plc
	sinks    []*sink
	// schemas are what events are held against; nil for not at all.
	schemas schematest.Schemas
	// calm is set when everything is healed, frozen when the PLCs make no more.
	calm, frozen atomic.Bool
	// servers are the receivers' connections, which outlive a process for a moment.
	servers sync.WaitGroup

	mu     sync.Mutex
	faults []string
	lines  []string
	// sum is of all lines, whatever their order within one instant.
	sum uint64
	// tally says what happened, so that it can be shown that it did.
	tally map[string]int
}

func newWorld(p plan) *world {
	w := &world{plan: p, began: time.Now(), machines: p.machines(), plcs: map[plant.MachineID]*plc{}, tally: map[string]int{}}
	w.store = newStore(w)
	for _, m := range w.machines {
		w.plcs[m] = newPLC(w, m)
	}
	for i := range p.Uplinks {
		w.sinks = append(w.sinks, newSink(w, fmt.Sprintf("U%d", i+1)))
	}
	return w
}

// note writes a line of the run's history and counts what.
func (w *world) note(what, format string, args ...any) {
	line := fmt.Sprintf("%13.9f %s %s", time.Since(w.began).Seconds(), what, fmt.Sprintf(format, args...))
	h := fnv.New64a()
	_, _ = io.WriteString(h, line) // a hash takes everything
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally[what]++
	w.sum += h.Sum64()
	w.lines = append(w.lines, line)
}

// violation is what the history calls a broken promise.
const violation = "VIOLATION"

// violated notes that a promise is broken.
func (w *world) violated(format string, args ...any) {
	w.note(violation, format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf("at %.6f s: ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) broken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.faults) > 0
}

// errCrashed is what a component of a dead process gets from everybody.
var errCrashed = errors.New("the process is dead")

// process is one life of the gateway. What belongs to it is lost when it dies.
type process struct {
	w   *world
	no  int
	ctx context.Context
	// kill is called once; dead is closed then.
	stop func()
	dead chan struct{}
	once sync.Once

	// point is the await point at which it dies, after so many passes; none for "".
	point string

	mu     sync.Mutex
	passes int
	conns  []net.Conn
	// spins are the settlements of nothing in this instant.
	spins  int
	spinAt time.Time
	// calls are failed attempts, by who made them.
	calls map[string][]time.Time
}

func newProcess(w *world, no int) *process {
	ctx, stop := context.WithCancel(context.Background())
	return &process{w: w, no: no, ctx: ctx, stop: stop, dead: make(chan struct{}), calls: map[string][]time.Time{}}
}

// crash kills the process: whatever it holds in memory is gone, its connections
// break, and nothing that its goroutines still do has an effect.
func (p *process) crash() {
	p.once.Do(func() {
		close(p.dead)
		p.w.store.crashed()
		p.stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.conns {
			_ = c.Close() // a pipe's Close does not fail
		}
	})
}

func (p *process) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// at is passed at each await point. It returns errCrashed where the process is
// dead, which it may be from here on.
func (p *process) at(point string, who string) error {
	p.mu.Lock()
	if p.point != "" && p.point == point+" "+who {
		p.passes--
		if p.passes <= 0 {
			p.point = ""
			p.mu.Unlock()
			p.w.note("crash", "at the point %s of %s", point, who)
			p.crash()
			return errCrashed
		}
	}
	p.mu.Unlock()
	if p.isDead() {
		return errCrashed
	}
	return nil
}

// sleep waits for d of the process's time.
func (p *process) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.dead:
		return errCrashed
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		if p.isDead() {
			return errCrashed
		}
		return nil
	}
}

// keep notes a connection that breaks when the process dies.
func (p *process) keep(c net.Conn) {
	p.mu.Lock()
	p.conns = append(p.conns, c)
	p.mu.Unlock()
	if p.isDead() {
		_ = c.Close() // a pipe's Close does not fail
	}
}

// failed notes a failed attempt of who, and that there are not more than most
// within a second.
func (p *process) failed(who string, most int) {
	now := time.Now()
	p.mu.Lock()
	calls := append(p.calls[who], now)
	calls = slices.DeleteFunc(calls, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	p.calls[who] = calls
	p.mu.Unlock()
	if len(calls) > most {
		p.w.violated("busy loop: %s failed %d times within a second, %d are enough", who, len(calls), most)
	}
}

// idle notes that a machine was leased for nothing.
func (p *process) idle(who string) {
	p.mu.Lock()
	now := time.Now()
	if !now.Equal(p.spinAt) {
		p.spinAt, p.spins = now, 0
	}
	p.spins++
	spins := p.spins
	p.mu.Unlock()
	if spins > 100 {
		p.w.violated("busy loop: %s leases and settles nothing, %d times in one instant", who, spins)
		p.crash()
	}
}

// points are the await points at which a process may die.
var points = []string{
	"commit.before", "commit.middle", "commit.durable", "commit.after", "load", "queue.peek",
	"settle.before", "settle.durable", "settle.after", "send.before", "send.dialled", "send.written", "send.answered", "letter.before", "letter.durable",
	"plc.connect", "plc.asked", "plc.served", "plc.record", "ack.before", "ack.written",
}
