package mqttsession

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// heardAll collects what a Session hears.
type heardAll struct {
	mu      sync.Mutex
	all     []string
	refused error
}

func (h *heardAll) listen(o *Options) {
	o.Listen = &Listen{Topic: "ack", Limit: 10, Heard: func(p []byte) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if p == nil {
			p = []byte("too large")
		}
		h.all = append(h.all, string(p))
	}, Refused: func(err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.refused = err
	}}
}

func (h *heardAll) has(want ...string) func() bool {
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Equal(h.all, want)
	}
}

// What comes at the topic is heard beside the PUBACKs, a message that is too large
// costs no memory, and questions go on as without.
func TestListen(t *testing.T) {
	b := newBroker(t)
	b.onSubscribe = func(id uint16, topic string, reply func([]byte)) bool {
		reply(subscribed(id, 0))
		if topic == "had" {
			reply(retained("had", "seven"))
		}
		return true
	}
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		reply(retained("ack", p.payload))
		reply(ack(p.id))
		return true
	}
	var h heardAll
	s := b.session(h.listen)
	if n, err := s.Publish(t.Context(), "m", messages(0, 2)); n != 2 || err != nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	if n, err := s.Publish(t.Context(), "m", []Message{{ID: 2, Topic: "t", Payload: []byte(strings.Repeat("x", 1000))}}); n != 1 || err != nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	eventually(t, "all to be heard", h.has("m0", "m1", "too large"))
	if got, err := s.Ask(t.Context(), "had", 10, time.Second); string(got) != "seven" || err != nil {
		t.Errorf("Ask = %q, %v", got, err)
	}
	if b.count() != 1 {
		t.Errorf("%d sessions", b.count())
	}
}

// A broker that does not let the client listen is named, and events go on.
func TestListenIsRefused(t *testing.T) {
	b := newBroker(t)
	b.onSubscribe = func(id uint16, _ string, reply func([]byte)) bool {
		reply(subscribed(id, 0x80))
		return true
	}
	var h heardAll
	s := b.session(h.listen)
	if n, err := s.Publish(t.Context(), "m", messages(0, 2)); n != 2 || err != nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	var refused *RefusedError
	if !errors.As(h.refused, &refused) || refused.Topic != "ack" {
		t.Errorf("refused: %v", h.refused)
	}
}

// Where sessions are taken over again and again the status tells by whom, if it is
// another gateway.
func TestTheOtherClientIsNamed(t *testing.T) {
	b := newBroker(t)
	b.onSubscribe = func(id uint16, topic string, reply func([]byte)) bool {
		reply(append(subscribed(id, 0), retained(topic, "the other")...))
		return true
	}
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		reply(ack(p.id))
		return false
	}
	s := b.session(func(o *Options) {
		o.Rival = func(status []byte) string { return "gateway " + string(status) }
	})
	for i := range uint64(20) {
		_, err := s.Publish(t.Context(), "m", messages(i, 2))
		var wait *WaitError
		if errors.As(err, &wait) && strings.Contains(err.Error(), `gateway the other uses the client_id "c-1"`) {
			return
		}
	}
	t.Errorf("nobody is named, though the broker was asked: %q", b.subscriptions())
}
