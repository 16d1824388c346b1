package mqttsession

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair are two brokers and a session that prefers the first.
func pair(t *testing.T, change ...func(*Options)) (first, second *broker, s *Session) {
	first, second = newBroker(t), newBroker(t)
	second.accept()
	t.Cleanup(second.stop) // after the session's end
	s = first.session(append([]func(*Options){func(o *Options) {
		o.Brokers = append(o.Brokers, Broker{Address: second.listener.Addr().String()})
		o.FailBack = 50 * time.Millisecond
	}}, change...)...)
	return first, second, s
}

// events are what a broker was sent but for the status.
func (b *broker) events() (all []string) {
	for _, p := range b.published() {
		if p.topic != statusTopic {
			all = append(all, p.payload)
		}
	}
	return all
}

// refuse makes a broker refuse each CONNECT with a code, 0 for not any more.
func (b *broker) refuse(code byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connack = code
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// A session goes to the second broker while the first cannot be had, says so, and
// goes back by itself without losing or repeating an event, since what is in
// flight is finished first.
func TestSecondBroker(t *testing.T) {
	first, second, s := pair(t)
	first.refuse(3)
	if n, err := s.Publish(t.Context(), "m", messages(0, 3)); n != 3 || err != nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	if p := s.Place(); p.Broker != 1 || !p.Connected || p.Passed == nil || !strings.Contains(p.Passed.Error(), "not available") || p.Address != s.o.Brokers[1].Address {
		t.Errorf("the session is at %+v", p)
	}
	if len(first.events()) != 0 || len(second.events()) != 3 {
		t.Errorf("the first broker has %q, the second %q", first.events(), second.events())
	}

	var sending sync.WaitGroup
	stop := make(chan struct{})
	sent := 3
	sending.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			m := []Message{{ID: uint64(sent), Topic: "t", Payload: fmt.Appendf(nil, "e%d", sent)}}
			if n, err := s.Publish(t.Context(), "m", m); n != 1 || err != nil {
				t.Errorf("Publish while the session moves = %d, %v", n, err)
				return
			}
			sent++
		}
	})
	eventually(t, "some events while the first is still away", func() bool { return len(second.events()) > 10 })
	first.refuse(0)
	eventually(t, "the way back", func() bool { return s.Place().Broker == 0 && len(first.events()) > 20 })
	close(stop)
	sending.Wait()
	if p := s.Place(); p.Passed != nil {
		t.Errorf("at the first broker: %+v", p)
	}
	got := append(second.events(), first.events()...)
	if len(got) != sent {
		t.Fatalf("%d events at both brokers, want %d", len(got), sent)
	}
	for i := 3; i < sent; i++ {
		if got[i] != fmt.Sprintf("e%d", i) {
			t.Fatalf("event %d is %s", i, got[i])
		}
	}
	eventually(t, "the farewell at the second broker", func() bool {
		all := second.published()
		last := all[len(all)-1]
		return last.topic == statusTopic && last.payload == "offline"
	})
}

// A broker that dies is left for the other one at once.
func TestBrokerDies(t *testing.T) {
	first, second, s := pair(t, func(o *Options) { o.FailBack = time.Hour })
	if n, err := s.Publish(t.Context(), "m", messages(0, 1)); n != 1 || err != nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	_ = first.listener.Close() // no new connections
	first.mu.Lock()
	first.onPublish = func(int, publish, func([]byte)) bool { return false } // and the old one ends
	first.mu.Unlock()
	eventually(t, "an event at the second broker", func() bool {
		_, _ = s.Publish(t.Context(), "m", messages(1, 1)) // the first attempt meets the end
		return len(second.events()) > 0
	})
	if p := s.Place(); p.Broker != 1 || !p.Connected {
		t.Errorf("the session is at %+v", p)
	}
}

// Where no broker can be had each is named, and a wait of a minute is asked for only
// if none may be back earlier.
func TestNoBroker(t *testing.T) {
	for name, c := range map[string]struct {
		first, second byte
		waits         bool
	}{"both refuse the user": {4, 5, true}, "one is away": {4, 3, false}} {
		t.Run(name, func(t *testing.T) {
			first, second, s := pair(t)
			first.refuse(c.first)
			second.refuse(c.second)
			_, err := s.Publish(t.Context(), "m", messages(0, 1))
			var wait *WaitError
			if err == nil || errors.As(err, &wait) != c.waits {
				t.Fatalf("%v, waits %v", err, !c.waits)
			}
			for _, b := range s.o.Brokers {
				if !strings.Contains(err.Error(), b.Address) {
					t.Errorf("%v does not name %s", err, b.Address)
				}
			}
		})
	}
}

// A broker that says nothing any more is given up within one and a half keep-alives,
// though nothing is published.
func TestSilentBrokerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	ended := make(chan time.Time, 1)
	serving.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 4096)
		_, _ = conn.Read(buffer)
		_, _ = conn.Write([]byte{0x20, 2, 0, 0}) // CONNACK, and nothing from then on
		for {
			if _, err := conn.Read(buffer); err != nil {
				ended <- time.Now()
				return
			}
		}
	})
	o := (&broker{t: t, listener: l}).options()
	o.StatusTopic, o.KeepAlive = "", 2*time.Second
	s := New(o)
	defer serving.Wait()
	defer l.Close()
	defer s.Close()
	if err := s.Connect(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case at := <-ended:
		if took := at.Sub(began); took > 3*time.Second+500*time.Millisecond || took < time.Second {
			t.Errorf("given up after %v, want at most one and a half of %v", took, o.KeepAlive)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a broker that says nothing is kept")
	}
	eventually(t, "the place to say so", func() bool { return !s.Place().Connected })
}
