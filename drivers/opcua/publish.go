package opcua

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
	"go.uber.org/zap"
)

const (
	// publishRequests is how many publish requests the server holds at a time:
	// while one answer is on its way there are others to take what comes next
	// (OPC 10000-4, 5.14.1.2 and 5.14.5).
	publishRequests = 3
	// lateMessage is how long a message may be missing after a later one is here.
	// The server sends them in order over one connection, so the missing one is
	// in this process already, unless it was lost.
	lateMessage = time.Second
	// mostEarly is how many later messages are held while one is missing. The
	// answers arrive in goroutines of their own, of which one may be held up by a
	// busy computer while the others fetch a backlog.
	mostEarly = 100
)

// publish is what the server said in one message, and since when it may have
// been under way: its request was sent at asked.
type publish struct {
	changes []sample
	asked   time.Time
}

// message is a message of the server with the time at which its request was sent.
type message struct {
	*publishAnswer
	asked time.Time
}

// inbox takes the answers to several publish requests, which arrive in goroutines
// of their own, and puts them back into the order of the server.
type inbox struct {
	subscription uint32
	answers      chan message

	mu          sync.Mutex
	acknowledge []*ua.SubscriptionAcknowledgement
	pace        pace
	stray       uint32 // the newest subscription of nobody's that was reported for

	// Of the goroutine of publishing.
	next  uint32 // the sequence number that is due; 0 before the first message
	early map[uint32]message
}

func newInbox(subscription uint32, interval time.Duration) *inbox {
	return &inbox{subscription: subscription, answers: make(chan message), early: make(map[uint32]message), pace: pace{gap: min(interval/8, longestGap)}}
}

// publishing keeps publish requests at the server and hands over what comes. We do
// it ourselves: the library shows neither keep-alives nor sequence numbers.
func (s *session) publishing() error {
	in := newInbox(s.subscription, s.interval)
	keep := func() { s.running.Go(func() { s.guard(func() error { return s.keepRequest(in) }) }) }
	keep() // one alone until the first message says where the numbers begin
	more := s.d.publishes.Load() - 1
	silent, late := time.NewTimer(s.silence), time.NewTimer(lateMessage)
	defer silent.Stop()
	defer late.Stop()
	late.Stop()
	heard, missed := false, uint32(0) // the message that is waited for, 0 for none
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case <-silent.C:
			if !heard && s.d.subscribes.mute() {
				s.d.subscribes.refuse("it makes one and never reports anything")
			}
			if stray := in.strays(); stray != 0 {
				return fmt.Errorf("the subscription is silent: the server answers for subscription %d, and %d was made", stray, in.subscription)
			}
			return fmt.Errorf("the subscription is silent: nothing came for %v, not even a keep-alive", s.silence)
		case <-late.C:
			return in.missing()
		case m := <-in.answers:
			if !heard {
				heard = true
				s.d.subscribes.heard()
			}
			if err := in.take(m, s.deliver); err != nil {
				return err
			}
			for ; in.next != 0 && more > 0; more-- {
				keep()
			}
			silent.Reset(s.silence) // after deliver, which waits for Read
			switch {
			case len(in.early) == 0:
				late.Stop()
				missed = 0
			case missed != in.next: // what comes behind does not give it more time
				late.Reset(lateMessage)
				missed = in.next
			}
		}
	}
}

// keepRequest keeps one publish request at the server.
func (s *session) keepRequest(in *inbox) error {
	for {
		var answer *publishAnswer
		asked := time.Now()
		err := s.client.Send(s.ctx, &ua.PublishRequest{SubscriptionAcknowledgements: in.acknowledgements()}, func(v ua.Response) error {
			var ok bool
			if answer, ok = v.(*publishAnswer); !ok {
				return fmt.Errorf("an answer of the wrong type %T", v)
			}
			return nil
		})
		switch {
		case errors.Is(err, ua.StatusBadTooManyPublishRequests):
			// The library stops its client at any refusal; the next session asks less.
			s.d.publishes.Store(1)
			return fmt.Errorf("publish: %w", refusal(err))
		case err != nil:
			return fmt.Errorf("publish: %w", s.d.subscribes.judge(refusal(err)))
		}
		s.d.heard.Store(time.Now().UnixNano())
		if answer.subscription == in.subscription {
			select {
			case in.answers <- message{answer, asked}:
			case <-s.ctx.Done():
				return nil
			}
		}
		if wait := in.counted(answer.subscription); wait > 0 {
			s.tellHaste(in)
			select {
			case <-time.After(wait):
			case <-s.ctx.Done():
				return nil
			}
		}
	}
}

// counted notes an answer and returns how long the next request is to wait, so that
// a server that answers at once, whatever it has to say, takes no computer to itself.
func (in *inbox) counted(subscription uint32) time.Duration {
	in.mu.Lock()
	defer in.mu.Unlock()
	if subscription != in.subscription {
		in.stray = subscription
	}
	return in.pace.wait(time.Now())
}

// strays returns the subscription that the server reported for in place of ours, 0
// for none.
func (in *inbox) strays() uint32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stray
}

// tellHaste says on the page that the server is held back, once that has lasted.
func (s *session) tellHaste(in *inbox) {
	in.mu.Lock()
	held := in.pace.held
	in.mu.Unlock()
	if held > longHeld && s.d.advice.say(onHaste, "the server reports more often than it was asked to, and is held back: values may come late: restart the server, update its firmware, or write poll") {
		s.d.log.Warn("the server reports more often than it was asked to, and is held back", zap.String("device", string(s.d.device)))
	}
}

const (
	// longestGap is the time between two publish requests on the average, or an
	// eighth of the publishing interval where that is shorter; paceBurst of them
	// may come at once, for a backlog and for many first values.
	longestGap = 5 * time.Millisecond
	paceBurst  = 256
	// longHeld is how long requests have waited, all together and without a calm time
	// between, before that is told.
	longHeld = 10 * time.Second
)

// pace says when the next of many events may be.
type pace struct {
	gap  time.Duration
	next time.Time
	held time.Duration // all waits since nothing was held back
}

// wait counts an event and returns how long the one behind it is to wait.
func (p *pace) wait(now time.Time) time.Duration {
	if least := now.Add(-paceBurst * p.gap); p.next.Before(least) {
		p.next, p.held = least, 0
	}
	p.next = p.next.Add(p.gap)
	wait := max(0, p.next.Sub(now))
	p.held += wait
	return wait
}

// acknowledgements returns what the next request acknowledges, and forgets it.
func (in *inbox) acknowledgements() []*ua.SubscriptionAcknowledgement {
	in.mu.Lock()
	defer in.mu.Unlock()
	all := in.acknowledge
	in.acknowledge = nil
	return all
}

// take hands over a message, and those that waited for it, in the order of their
// numbers.
func (in *inbox) take(m message, deliver func(message) error) error {
	if m.parts == 0 {
		return nil // a keep-alive: its number is that of the next message
	}
	if in.next == 0 {
		in.next = m.number
	}
	if _, twice := in.early[m.number]; twice || in.ahead(m.number) >= mostEarly {
		return fmt.Errorf("publish: the server sent message %d where %d was due: what it sent in between is lost", m.number, in.next)
	}
	in.early[m.number] = m
	for {
		m, ok := in.early[in.next]
		if !ok {
			return nil
		}
		delete(in.early, in.next)
		in.mu.Lock()
		in.acknowledge = append(in.acknowledge, &ua.SubscriptionAcknowledgement{SubscriptionID: in.subscription, SequenceNumber: in.next})
		in.mu.Unlock()
		if in.next++; in.next == 0 {
			in.next = 1
		}
		if err := deliver(m); err != nil {
			return err
		}
	}
}

// ahead returns how many messages lie between the one that is due and number.
// Numbers go round from the highest to 1 (OPC 10000-4, 5.14.1.1).
func (in *inbox) ahead(number uint32) uint32 {
	if number < in.next {
		return number - in.next - 1
	}
	return number - in.next
}

// missing says which message did not come.
func (in *inbox) missing() error {
	return fmt.Errorf("publish: message %d is missing, and later ones are here: what it held is lost", in.next)
}

// deliver hands the changes of a message to Read.
func (s *session) deliver(m message) error {
	if m.end != nil || len(m.changes) == 0 {
		return m.end
	}
	select {
	case s.published <- publish{changes: m.changes, asked: m.asked}:
	case <-s.ctx.Done():
	}
	return nil
}
