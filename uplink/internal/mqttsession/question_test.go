package mqttsession

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const testWait = 100 * time.Millisecond

func (b *broker) subscriptions() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.subscribed)
}

// waitFor waits for a SUBSCRIBE.
func (b *broker) waitFor(topic string) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !slices.Contains(b.subscriptions(), topic); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s is not asked for", topic)
		}
	}
}

// TestAskReturnsWhatIsRetained: also where it comes before the SUBACK, and whatever
// else comes with it; the subscription is taken back, and publishing goes on.
func TestAskReturnsWhatIsRetained(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for name, c := range map[string]struct {
		send func(id uint16, topic string, reply func([]byte))
		want string
		err  string
	}{
		"after the SUBACK": {func(id uint16, topic string, reply func([]byte)) {
			reply(subscribed(id, 0))
			reply(retained(topic, "seven"))
		}, "seven", ""},
		"before the SUBACK": {func(id uint16, topic string, reply func([]byte)) {
			reply(append(retained(topic, "seven"), subscribed(id, 0)...))
		}, "seven", ""},
		"nothing": {func(id uint16, _ string, reply func([]byte)) { reply(subscribed(id, 0)) }, "", ""},
		"of another topic": {func(id uint16, _ string, reply func([]byte)) {
			reply(subscribed(id, 0))
			reply(retained("elsewhere", "nine"))
		}, "", ""},
		"followed by a change": {func(id uint16, topic string, reply func([]byte)) {
			reply(subscribed(id, 0))
			reply(append(retained(topic, "seven"), retained(topic, "eight")...))
		}, "seven", ""},
		"as long as it may be": {func(id uint16, topic string, reply func([]byte)) {
			reply(subscribed(id, 0))
			reply(retained(topic, long))
		}, long, ""},
		"too long": {func(id uint16, topic string, reply func([]byte)) {
			reply(subscribed(id, 0))
			reply(retained(topic, strings.Repeat("x", 3<<20)))
		}, "", "has 3145728 bytes, more than 1000"},
		"refused": {func(id uint16, _ string, reply func([]byte)) { reply(subscribed(id, 0x80)) }, "", "refuses the subscription to \"cursor/M\" (code 0x80)"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			b.onSubscribe = func(id uint16, topic string, reply func([]byte)) bool {
				c.send(id, topic, reply)
				return true
			}
			s := b.session(func(o *Options) { o.AckTimeout = 10 * time.Second })
			wait := testWait
			if c.want != "" || c.err != "" {
				wait = 10 * time.Second // an answer comes, however loaded the computer is
			}
			got, err := s.Ask(t.Context(), "cursor/M", 1000, wait)
			if string(got) != c.want || (c.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Errorf("Ask = %.20q, %v; want %.20q, %q", got, err, c.want, c.err)
			}
			if n, err := s.Publish(t.Context(), "m", messages(1, 3)); n != 3 || err != nil {
				t.Errorf("Publish = %d, %v", n, err)
			}
			want := []string{"cursor/M", "-"}
			if strings.Contains(c.err, "refuses") {
				want = want[:1]
			}
			if subs := b.subscriptions(); !slices.Equal(subs, want) || b.count() != 1 {
				t.Errorf("subscriptions %q in %d sessions, want %q in one", subs, b.count(), want)
			}
		})
	}
}

// TestAskTrustsNoBroker: what no broker sends ends the session instead of being
// taken for the acknowledgement of something else, or for an allocation.
func TestAskTrustsNoBroker(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(id uint16, topic string) []byte
		err    string
	}{
		"SUBACK of another packet":    {func(id uint16, _ string) []byte { return subscribed(id+1, 0) }, "which asks for none"},
		"UNSUBACK for a SUBSCRIBE":    {func(id uint16, _ string) []byte { return []byte{0xb0, 2, byte(id >> 8), byte(id)} }, "which asks for none"},
		"PUBACK for a SUBSCRIBE":      {func(id uint16, _ string) []byte { return ack(id) }, "with a PUBACK"},
		"SUBACK with two codes":       {func(id uint16, _ string) []byte { return []byte{0x90, 4, byte(id >> 8), byte(id), 0, 0} }, "type 9 and length byte 4"},
		"message of QoS 1":            {func(_ uint16, topic string) []byte { return append([]byte{0x32}, retained(topic, "xx")[1:]...) }, "QoS 1 or 2"},
		"topic beyond the message":    {func(uint16, string) []byte { return []byte{0x30, 3, 0, 9, 'a'} }, "longer than the message"},
		"length of five bytes":        {func(uint16, string) []byte { return []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01} }, "more than four bytes"},
		"messages nobody asked for":   {func(uint16, string) []byte { return []byte(strings.Repeat(string(retained("x", "y")), maxStrays+1)) }, "nobody asked for"},
		"a SUBSCRIBE of the broker's": {func(uint16, string) []byte { return []byte{0x82, 6, 0, 1, 0, 1, 'a', 0} }, "type 8"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			b.onSubscribe = func(id uint16, topic string, reply func([]byte)) bool {
				reply(c.answer(id, topic))
				return true
			}
			s := b.session(func(o *Options) { o.AckTimeout = 10 * time.Second })
			if got, err := s.Ask(t.Context(), "cursor/M", 1000, testWait); got != nil || err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("Ask = %q, %v; want %q", got, err, c.err)
			}
			b.mu.Lock()
			b.onSubscribe = nil
			b.mu.Unlock()
			if n, err := s.Publish(t.Context(), "m", messages(1, 1)); n != 1 || err != nil {
				t.Errorf("Publish = %d, %v", n, err)
			}
		})
	}
}

// TestAMessageWithoutAQuestionEndsTheSession: a client that has never asked is sent
// nothing.
func TestAMessageWithoutAQuestionEndsTheSession(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		reply(retained("t", "x"))
		reply(ack(p.id))
		return true
	}
	s := b.session()
	if n, err := s.Publish(t.Context(), "m", messages(1, 1)); n != 0 || err == nil || !strings.Contains(err.Error(), "type 3") {
		t.Errorf("Publish = %d, %v", n, err)
	}
}

// TestAQuestionThatEndsTheSessionIsLeftAlone: some brokers close the connection
// where others refuse. Publishing must not suffer for it again and again.
func TestAQuestionThatEndsTheSessionIsLeftAlone(t *testing.T) {
	for name, silent := range map[string]bool{"closed": false, "no SUBACK": true} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			b.onSubscribe = func(uint16, string, func([]byte)) bool { return silent }
			s := b.session()
			for range 3 {
				if got, err := s.Ask(t.Context(), "cursor/M", 1000, testWait); got != nil || err == nil || !strings.Contains(err.Error(), "does not let this client subscribe there") {
					t.Errorf("Ask = %q, %v", got, err)
				}
				if n, err := s.Publish(t.Context(), "m", messages(1, 2)); n != 2 || err != nil {
					t.Errorf("Publish = %d, %v", n, err)
				}
			}
			if b.count() != 2 || len(b.subscriptions()) != 1 {
				t.Errorf("%d sessions and the subscriptions %q, want one question and a session after it", b.count(), b.subscriptions())
			}
			s.mu.Lock()
			s.restUntil = time.Time{}
			s.mu.Unlock()
			b.mu.Lock()
			b.onSubscribe = nil
			b.mu.Unlock()
			if got, err := s.Ask(t.Context(), "cursor/M", 1000, testWait); got != nil || err != nil {
				t.Errorf("after the rest: Ask = %q, %v", got, err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.rest != 0 {
				t.Errorf("the next rest would follow on one of %v", s.rest)
			}
		})
	}
}

// TestAQuestionBlamesNoMessage: a message that is on trial while a question ends
// the session is not proved guilty by that.
func TestAQuestionBlamesNoMessage(t *testing.T) {
	b := newBroker(t)
	inFlight := make(chan struct{}, 1)
	b.onPublish = func(session int, p publish, reply func([]byte)) bool {
		if session <= aloneAfter {
			return false
		}
		if session == aloneAfter+1 {
			inFlight <- struct{}{}
			return true // it stays in flight until the question ends the session
		}
		reply(ack(p.id))
		return true
	}
	b.onSubscribe = func(uint16, string, func([]byte)) bool { return false }
	s := b.session(func(o *Options) { o.AckTimeout = 10 * time.Second })
	for range aloneAfter {
		if n, err := s.Publish(t.Context(), "m", messages(1, 1)); n != 0 || err == nil {
			t.Fatalf("Publish = %d, %v", n, err)
		}
	}
	asked := make(chan error, 1)
	go func() {
		<-inFlight
		_, err := s.Ask(context.Background(), "cursor/M", 1000, testWait)
		asked <- err
	}()
	if n, err := s.Publish(t.Context(), "m", messages(1, 1)); n != 0 || err == nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	if err := <-asked; err == nil {
		t.Error("the question has an answer")
	}
	s.mu.Lock()
	x := s.suspects["m"]
	s.mu.Unlock()
	if x.sessions != aloneAfter+1 || x.proofs != 0 || x.quiet != 0 {
		t.Errorf("suspect %+v, want %d sessions and no proof", x, aloneAfter+1)
	}
}

// TestAskConnectsOnceOnly: while the broker is away, finding out is for those who
// publish.
func TestAskConnectsOnceOnly(t *testing.T) {
	b := newBroker(t)
	b.connack = 3
	s := b.session()
	if _, err := s.Ask(t.Context(), "cursor/M", 1000, testWait); err == nil {
		t.Fatal("asked without a session")
	}
	for range 3 {
		if _, err := s.Ask(t.Context(), "cursor/M", 1000, testWait); !errors.Is(err, errNoSession) {
			t.Errorf("Ask: %v", err)
		}
	}
	if b.count() != 1 {
		t.Errorf("%d sessions, want 1", b.count())
	}
	b.mu.Lock()
	b.connack = 0
	b.mu.Unlock()
	if n, err := s.Publish(t.Context(), "m", messages(1, 1)); n != 1 || err != nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	if got, err := s.Ask(t.Context(), "cursor/M", 1000, testWait); got != nil || err != nil {
		t.Errorf("Ask = %q, %v", got, err)
	}
}

// TestManyAskAndPublishAtOnce, each about a topic of its own; a second question
// about the same one is refused.
func TestManyAskAndPublishAtOnce(t *testing.T) {
	b := newBroker(t)
	b.onSubscribe = func(id uint16, topic string, reply func([]byte)) bool {
		reply(subscribed(id, 0))
		reply(retained(topic, "of "+topic))
		return true
	}
	s := b.session(func(o *Options) { o.AckTimeout = 10 * time.Second })
	errs := make(chan error, 40)
	for i := range 20 {
		topic := "cursor/" + string(rune('a'+i))
		go func() {
			got, err := s.Ask(t.Context(), topic, 1000, 10*time.Second)
			if err == nil && string(got) != "of "+topic {
				err = errors.New("answered " + string(got))
			}
			errs <- err
		}()
		go func() {
			_, err := s.Publish(t.Context(), topic, messages(1, 5))
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	b.mu.Lock()
	b.onSubscribe = nil
	b.mu.Unlock()
	first := make(chan error, 1)
	go func() {
		_, err := s.Ask(t.Context(), "cursor/M", 1000, time.Second)
		first <- err
	}()
	b.waitFor("cursor/M")
	if _, err := s.Ask(t.Context(), "cursor/M", 1000, time.Millisecond); !errors.Is(err, errAskedNow) {
		t.Errorf("a second question about the same topic: %v", err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestAskEndsWithItsContextAndWithClose, and no broker can delay that.
func TestAskEndsWithItsContextAndWithClose(t *testing.T) {
	b := newBroker(t)
	s := b.session(func(o *Options) { o.AckTimeout = 10 * time.Second })
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	if _, err := s.Ask(ctx, "cursor/M", 1000, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ask: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Ask(t.Context(), "cursor/N", 1000, time.Minute)
		ended <- err
	}()
	b.waitFor("cursor/N")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("Ask: %v", err)
	}
}
