package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// sink is a receiver, with the ledger of what it was sent.
type sink struct {
	w    *world
	name string
	// away are the times at which nothing gets to it.
	away []window

	mu sync.Mutex
	// prints are of the bytes of each event that it took or refused.
	prints  map[plant.EventID]uint64
	refused map[plant.EventID]bool
	// last is the newest sequence of a machine that it answered for, kinds that of
	// a kind, newest that of a kind that it accepted.
	last   map[plant.MachineID]plant.Sequence
	kinds  map[plant.MachineID]map[plant.EventKind]plant.Sequence
	newest map[plant.MachineID]map[plant.EventKind]plant.Sequence
	ids    map[plant.MachineID]map[plant.Sequence]plant.Epoch
	good   map[plant.MachineID]int64
	twice  int
	dials  int
	// wanted are the keys that a sender waits for; children is the newest child of
	// each parent that came.
	wanted   map[string]bool
	children map[string]plant.Sequence
}

func newSink(w *world, name string) *sink {
	k := &sink{
		w: w, name: name, wanted: map[string]bool{}, children: map[string]plant.Sequence{}, prints: map[plant.EventID]uint64{}, refused: map[plant.EventID]bool{}, last: map[plant.MachineID]plant.Sequence{},
		newest: map[plant.MachineID]map[plant.EventKind]plant.Sequence{}, kinds: map[plant.MachineID]map[plant.EventKind]plant.Sequence{}, ids: map[plant.MachineID]map[plant.Sequence]plant.Epoch{},
		good: map[plant.MachineID]int64{}, away: windows(dice(w.plan.Seed, "away "+name), w.plan.Storm, w.plan.Outage),
	}
	for _, m := range w.machines {
		k.newest[m], k.kinds[m] = map[plant.EventKind]plant.Sequence{}, map[plant.EventKind]plant.Sequence{}
		k.ids[m] = map[plant.Sequence]plant.Epoch{}
	}
	return k
}

// answered reports whether the receiver has e, or refused it.
func (k *sink) answered(e *plant.Event, rejected bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if rejected {
		return k.refused[e.ID()]
	}
	if _, had := k.prints[e.ID()]; had && !k.refused[e.ID()] {
		return true
	}
	// A later total contains an earlier one.
	return k.w.plan.Merge && e.Kind == plant.KindCounter && k.newest[e.Machine][e.Kind] > e.Sequence
}

// take enters one event into the ledger and says whether it is accepted.
func (k *sink) take(e *plant.Event, refuse bool) bool {
	id, is := e.ID(), imprint(e)
	kept := k.w.store.event(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.w.note("arrival", "%s %s", k.name, id)
	if before, had := k.prints[id]; had {
		k.twice++
		if before != is {
			k.w.violated("%s: %s came before with other bytes", k.name, id)
		}
		return !k.refused[id]
	}
	if kept != is {
		k.w.violated("%s: %s is on no disk, or with other bytes: %s", k.name, id, e.Data)
	}
	if epoch, given := k.ids[e.Machine][e.Sequence]; given && epoch != e.Epoch {
		k.w.violated("%s: number %d of %s was given in epoch %s and %s", k.name, e.Sequence, e.Machine, epoch, e.Epoch)
	}
	last := k.last[e.Machine]
	if k.w.plan.Merge {
		// Merging moves an event behind those of other kinds; order holds by kind.
		last = k.kinds[e.Machine][e.Kind]
	}
	k.inOrder(e, last)
	if !k.takes(e.Machine) {
		k.w.violated("%s: %s is of a machine that is not for it", k.name, id)
	}
	k.ids[e.Machine][e.Sequence] = e.Epoch
	k.prints[id], k.last[e.Machine], k.kinds[e.Machine][e.Kind] = is, max(last, e.Sequence), max(k.kinds[e.Machine][e.Kind], e.Sequence)
	if refuse {
		k.refused[id] = true
		return false
	}
	k.newest[e.Machine][e.Kind] = e.Sequence
	if e.Kind == plant.KindCounter {
		var c plant.Counter
		if err := json.Unmarshal(e.Data, &c); err != nil {
			k.w.violated("%s: %s: %v", k.name, id, err)
		}
		k.good[e.Machine] = c.Good
	}
	return true
}

// wireEvent is an event on its way.
type wireEvent struct {
	Epoch    plant.Epoch
	Sequence plant.Sequence
	Kind     plant.EventKind
	Time     time.Time
	Data     json.RawMessage
}

type request struct {
	Number  int
	Machine plant.MachineID
	Events  []wireEvent
}

// reply answers for the first events, one status each; code is that of HTTP.
type reply struct {
	Number     int
	Code       int
	RetryAfter time.Duration
	Statuses   []plant.Status
}

// serve is the receiver's side of one connection, with what the network does to
// it.
func (k *sink) serve(conn net.Conn, r *rand.Rand) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var q request
		if err := receive(in, &q); err != nil {
			return
		}
		elapse(among(r, 40*time.Millisecond))
		n := &k.w.plan.Net
		happens := func(what string, perMille int) bool {
			if !hits(r, perMille) || k.w.calm.Load() {
				return false
			}
			k.w.note(what, "%s %s request %d", k.name, q.Machine, q.Number)
			return true
		}
		switch {
		case happens("net.loss", n.Loss):
			_, _ = io.Copy(io.Discard, conn) // half open: it ends when the sender gives up
			return
		case k.w.in(k.away), happens("net.reset", n.Reset):
			return
		}
		p := k.answer(&q, r, happens)
		if happens("net.slow", n.Slow) {
			elapse(among(r, 8*time.Second))
		}
		elapse(among(r, 40*time.Millisecond))
		switch {
		case happens("net.lostReply", n.LostReply):
			_, _ = io.Copy(io.Discard, conn) // as above
			return
		case happens("net.resetReply", n.ResetReply):
			if b, err := json.Marshal(p); err == nil {
				_, _ = conn.Write(b[:r.IntN(len(b))]) // it is cut anyway
			}
			return
		}
		// A network holds an answer that nobody reads yet; a failed write is one to a
		// sender that has gone.
		k.w.servers.Go(func() { _ = transmit(conn, p) })
	}
}

// answer is what the receiver makes of a request that has arrived.
func (k *sink) answer(q *request, r *rand.Rand, happens func(string, int) bool) reply {
	n := &k.w.plan.Net
	p := reply{Number: q.Number, Code: 200}
	switch {
	case happens("net.busy", n.Busy):
		return reply{Number: q.Number, Code: 429, RetryAfter: among(r, 15*time.Second)}
	case happens("net.fail", n.Fail):
		return reply{Number: q.Number, Code: 500}
	}
	take := len(q.Events)
	if happens("net.part", n.Part) {
		take = r.IntN(take)
	}
	for _, e := range q.Events[:take] {
		event := plant.Event{Gateway: "gw", Machine: q.Machine, Epoch: e.Epoch, Sequence: e.Sequence, Kind: e.Kind, Time: e.Time, Data: e.Data}
		status := plant.Delivered
		// Totals are what conservation is judged by, so they are not refused.
		if !k.take(&event, e.Kind != plant.KindCounter && happens("net.reject", n.Reject)) {
			status = plant.Rejected
		}
		p.Statuses = append(p.Statuses, status)
	}
	return p
}

// sender is a plain, careful uplink.Sender: one connection a machine, one request
// a Send, and a new connection after whatever was not a whole answer.
type sender struct {
	k *sink
	p *process
	// queue and forwarder are what a sender is lent.
	queue     *queue
	forwarder *uplink.Forwarder

	mu    sync.Mutex
	conns map[plant.MachineID]*session
	dice  map[plant.MachineID]*rand.Rand
	busy  map[plant.MachineID]bool
	// until is when the receiver wants to be asked again, asked since when.
	until, asked time.Time
	requests     int
	closed       bool
}

type session struct {
	conn net.Conn
	in   *bufio.Reader
	// late is of the broken sender that waits on after a time-out, once.
	late bool
}

// transmit writes v as one line.
func transmit(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// receive reads one line into v.
func receive(r *bufio.Reader, v any) error {
	b, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

var _ uplink.Sender = (*sender)(nil)

func newSender(p *process, k *sink) *sender {
	s := &sender{k: k, p: p, conns: map[plant.MachineID]*session{}, dice: map[plant.MachineID]*rand.Rand{}, busy: map[plant.MachineID]bool{}}
	for _, m := range p.w.machines {
		s.dice[m] = dice(p.w.plan.Seed, fmt.Sprint("net ", k.name, m, p.no))
	}
	return s
}

// merging is a sender to a receiver that wants the newest total only.
type merging struct{ *sender }

var _ uplink.Merger = merging{}

func (merging) Merge(earlier, later plant.Event) (plant.Event, bool) {
	return later, earlier.Kind == plant.KindCounter && later.Kind == plant.KindCounter
}

var errRefused = errors.New("connection refused")

// dial connects; the caller is the only one for m.
func (s *sender) dial(ctx context.Context, m plant.MachineID) (*session, error) {
	s.mu.Lock()
	c := s.conns[m]
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	r, w := s.dice[m], s.p.w
	if err := s.p.sleep(ctx, among(r, 40*time.Millisecond)); err != nil {
		return nil, err
	}
	refused, nobody := hits(r, w.plan.Net.Refuse), hits(r, w.plan.Net.Blackhole)
	switch {
	case w.calm.Load():
	case refused || w.in(s.k.away):
		w.note("net.refuse", "%s %s", s.k.name, m)
		return nil, errRefused
	case nobody:
		w.note("net.blackhole", "%s %s", s.k.name, m)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.p.dead:
			return nil, errCrashed
		}
	}
	here, there := net.Pipe()
	s.p.keep(here)
	s.k.mu.Lock()
	s.k.dials++
	name := fmt.Sprint("server ", s.k.name, m, s.p.no, r.Uint64())
	s.k.mu.Unlock()
	w.servers.Go(func() { s.k.serve(there, dice(w.plan.Seed, name)) })
	c = &session{conn: here, in: bufio.NewReader(here)}
	s.mu.Lock()
	s.conns[m] = c
	s.mu.Unlock()
	return c, nil
}

func (s *sender) drop(m plant.MachineID) {
	s.mu.Lock()
	c := s.conns[m]
	delete(s.conns, m)
	s.mu.Unlock()
	if c != nil {
		_ = c.conn.Close() // a pipe's Close does not fail
	}
}

// entering is what it takes from the leave to send to the Send: reading a batch.
const entering = 20 * time.Millisecond

// enter holds the Forwarder to the contract of a Sender.
func (s *sender) enter(m plant.MachineID) (number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.busy[m] {
		s.p.w.violated("%s: two Sends at once for %s", s.k.name, m)
	}
	if s.closed && !s.p.isDead() {
		s.p.w.violated("%s: a Send after Close", s.k.name)
	}
	if now.After(s.asked.Add(entering)) && now.Before(s.until) {
		s.p.w.violated("%s: a Send for %s %v before the receiver wants one", s.k.name, m, s.until.Sub(now))
	}
	s.busy[m] = true
	s.requests++
	return s.requests
}

// Send implements uplink.Sender.
func (s *sender) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	all := events
	events, held := s.part(m, events)
	number := s.enter(m)
	if len(events) == 0 {
		s.leave(m, reply{})
		return together(all, nil, held)
	}
	p, err := s.exchange(ctx, m, number, events)
	s.leave(m, p)
	if err != nil || p.Code != 200 {
		// Once a back-off all who are under way may fail, and each machine by itself,
		// with what it has set aside as well.
		plan := &s.p.w.plan
		rounds := int(time.Second/plan.BackoffMin) + 1
		s.p.failed(s.k.name, (plan.Concurrent+2*plan.Machines)*rounds+plan.Concurrent)
	}
	return together(all, s.results(events, &p, err), held)
}

// leave notes that a Send is over, and what was asked for.
func (s *sender) leave(m plant.MachineID, p reply) {
	s.mu.Lock()
	s.busy[m] = false
	if p.RetryAfter > 0 {
		s.asked = time.Now()
		if until := s.asked.Add(p.RetryAfter); until.After(s.until) {
			s.until = until
		}
	}
	s.mu.Unlock()
}

func (s *sender) results(events []plant.Event, p *reply, err error) (results []plant.Result) {
	bug := s.p.w.plan.Bug
	if err != nil {
		if bug == settleEarly && errors.Is(err, os.ErrDeadlineExceeded) {
			p.Statuses = make([]plant.Status, len(events))
			for i := range p.Statuses {
				p.Statuses[i] = plant.Delivered
			}
		} else {
			return []plant.Result{{First: events[0].Sequence, Last: events[0].Sequence, Status: plant.Retry, Cause: &uplink.LinkError{Err: err}}}
		}
	}
	for i, status := range p.Statuses {
		if i >= len(events) {
			break
		}
		r := plant.Result{First: events[i].Sequence, Last: events[i].Sequence, Status: status}
		if status == plant.Rejected {
			r.Cause = errors.New("no such order")
		}
		results = append(results, r)
	}
	if len(results) == len(events) {
		return results
	}
	next := events[len(results)].Sequence
	rest := plant.Result{First: next, Last: next, Status: plant.Retry, Wait: p.RetryAfter, Cause: fmt.Errorf("the receiver said %d", p.Code)}
	if p.Code == 429 {
		rest.Cause = &uplink.LinkError{Err: rest.Cause}
		if bug == impatient {
			rest.Wait = 0
		}
	}
	return append(results, rest)
}

// exchange sends one request and reads its answer.
func (s *sender) exchange(ctx context.Context, m plant.MachineID, number int, events []plant.Event) (p reply, err error) {
	who := s.k.name
	if err := s.p.at("send.before", who); err != nil {
		return p, err
	}
	c, err := s.dial(ctx, m)
	if err != nil {
		return p, err
	}
	defer func() {
		switch late := errors.Is(err, os.ErrDeadlineExceeded); s.p.w.plan.Bug {
		case deadLink:
			return
		case staleReply:
			if late && !c.late {
				c.late = true
				return
			}
		}
		if err != nil {
			s.drop(m)
		}
	}()
	if err := s.p.at("send.dialled", who); err != nil {
		return p, err
	}
	_ = c.conn.SetDeadline(time.Time{}) // a pipe's deadline can be set
	end := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now()) })
	defer end()
	q := request{Number: number, Machine: m}
	for i := range events {
		e := &events[i]
		q.Events = append(q.Events, wireEvent{e.Epoch, e.Sequence, e.Kind, e.Time, e.Data})
	}
	if n := len(q.Events); s.p.w.plan.Bug == overtake && n > 1 {
		q.Events[0], q.Events[n-1] = q.Events[n-1], q.Events[0]
	}
	if err := transmit(c.conn, q); err != nil {
		return p, err
	}
	if err := s.p.at("send.written", who); err != nil {
		return p, err
	}
	if err := receive(c.in, &p); err != nil {
		return reply{}, err
	}
	if p.Number != number && s.p.w.plan.Bug != staleReply {
		return reply{}, fmt.Errorf("the answer is to request %d, not %d", p.Number, number)
	}
	return p, s.p.at("send.answered", who)
}

// Close implements uplink.Sender.
func (s *sender) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, m := range s.p.w.machines {
		s.drop(m)
	}
	return nil
}
