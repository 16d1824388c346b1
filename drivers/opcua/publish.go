package opcua

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
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

	// Of the goroutine of publishing.
	next  uint32 // the sequence number that is due; 0 before the first message
	early map[uint32]message
}

func newInbox(subscription uint32) *inbox {
	return &inbox{subscription: subscription, answers: make(chan message), early: make(map[uint32]message)}
}

// publishing keeps publish requests at the server and hands over what comes. We do
// it ourselves: the library shows neither keep-alives nor sequence numbers.
func (s *session) publishing() error {
	in := newInbox(s.subscription)
	keep := func() { s.running.Go(func() { s.guard(func() error { return s.keepRequest(in) }) }) }
	keep() // one alone until the first message says where the numbers begin
	more := s.d.publishes.Load() - 1
	silent, late := time.NewTimer(s.silence), time.NewTimer(lateMessage)
	defer silent.Stop()
	defer late.Stop()
	late.Stop()
	heard := false
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case <-silent.C:
			if !heard && s.d.subscribes.mute() {
				s.d.subscribes.refuse("it makes one and never reports anything")
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
			if len(in.early) == 0 {
				late.Stop()
			} else {
				late.Reset(lateMessage)
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
		if answer.subscription != in.subscription {
			continue
		}
		select {
		case in.answers <- message{answer, asked}:
		case <-s.ctx.Done():
			return nil
		}
	}
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
	if _, twice := in.early[m.number]; twice || in.ahead(m.number) >= publishRequests {
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
