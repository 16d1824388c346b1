package mqttsession

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// soon makes controls short, so that a test takes milliseconds.
func soon(s *Session) *Session {
	s.controlAge = 20 * time.Millisecond
	return s
}

// run publishes a stream as an uplink does, waiting as it is told, until all is
// acknowledged or given up, or until the time is over. It returns what was given
// up, how many are left and the last error.
func run(s *Session, stream string, left []Message, until time.Time) (rejected []uint64, rest []Message, last error) {
	for len(left) > 0 && time.Now().Before(until) {
		n, err := s.Publish(s.life, stream, left[:min(len(left), 20)])
		left = left[n:]
		if err == nil {
			continue
		}
		last = err
		var poison *PoisonError
		var suspect *SuspectError
		wait := time.Millisecond
		switch {
		case errors.As(err, &poison):
			rejected = append(rejected, left[0].ID)
			left = left[1:]
		case errors.As(err, &suspect):
			wait = min(suspect.For, 50*time.Millisecond)
		}
		<-time.After(wait)
	}
	return rejected, left, last
}

func TestPoisonIsProvedAndItsNeighboursGoOn(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		if p.topic == "large" {
			return false // the broker ends the session
		}
		reply(ack(p.id))
		return true
	}
	s := soon(b.session())
	until := time.Now().Add(20 * time.Second)
	done := make(chan struct{})
	var good sync.WaitGroup
	good.Go(func() {
		for from := uint64(100); ; from += 4 {
			select {
			case <-done:
				return
			default:
			}
			if rejected, left, err := run(s, "good", messages(from, 4), until); len(rejected)+len(left) > 0 {
				t.Errorf("good stream: %v given up, %d left: %v", rejected, len(left), err)
				return
			}
		}
	})
	bad := messages(1, 8)
	bad[6].Topic = "large"
	rejected, left, last := run(s, "bad", bad, until)
	close(done)
	good.Wait()
	if len(rejected) != 1 || rejected[0] != 7 || len(left) != 0 {
		t.Errorf("given up %v, left %d; want message 7 and none (%v)", rejected, len(left), last)
	}
}

// TestSickBrokerIsNoProof has the shapes in which innocent messages were once
// given up. None may be, and all must arrive once the broker is well.
func TestSickBrokerIsNoProof(t *testing.T) {
	const sickFor = 600 * time.Millisecond
	healthy := func(_ int, p publish, reply func([]byte)) bool { reply(ack(p.id)); return true }
	for name, c := range map[string]struct {
		sick    func(b *broker) func(int, publish, func([]byte)) bool
		streams int
		words   string
	}{
		"closes at each PUBLISH, one stream": {streams: 1, words: "sessions ended while this message was sent", sick: func(*broker) func(int, publish, func([]byte)) bool {
			return func(int, publish, func([]byte)) bool { return false }
		}},
		"closes at each PUBLISH, eight streams": {streams: 8, words: "the broker ended the session", sick: func(*broker) func(int, publish, func([]byte)) bool {
			return func(int, publish, func([]byte)) bool { return false }
		}},
		"withholds each PUBACK": {streams: 3, words: "no PUBACK within", sick: func(*broker) func(int, publish, func([]byte)) bool {
			return func(int, publish, func([]byte)) bool { return true }
		}},
		"a link that is cut before the PUBACK is back": {streams: 3, words: "", sick: func(*broker) func(int, publish, func([]byte)) bool {
			return func(_ int, p publish, reply func([]byte)) bool {
				<-time.After(2 * time.Millisecond)
				return false
			}
		}},
		"takes the others a little and dies": {streams: 3, words: "", sick: func(*broker) func(int, publish, func([]byte)) bool {
			var mu sync.Mutex
			n := 0
			return func(_ int, p publish, reply func([]byte)) bool {
				mu.Lock()
				defer mu.Unlock()
				if n++; n%9 == 0 || strings.HasPrefix(p.topic, "s0") {
					return false
				}
				reply(ack(p.id))
				return true
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t)
			b.onPublish = c.sick(b)
			s := soon(b.session(func(o *Options) { o.AckTimeout = 40 * time.Millisecond }))
			var streams, heard sync.WaitGroup
			cured := make(chan struct{})
			heard.Add(c.streams)
			for i := range c.streams {
				streams.Go(func() {
					stream := fmt.Sprint("s", i)
					all := messages(1, 40)
					for j := range all {
						all[j].Topic = stream
					}
					told := func(err error) bool { return i > 0 || err != nil && strings.Contains(err.Error(), c.words) }
					rejected, left, err := run(s, stream, all, time.Now().Add(sickFor))
					for deadline := time.Now().Add(20 * time.Second); !told(err) && time.Now().Before(deadline); { // a busy computer
						var more []uint64
						more, left, err = run(s, stream, left, time.Now().Add(sickFor))
						rejected = append(rejected, more...)
					}
					if !told(err) {
						t.Errorf("%s: %v, want words with %q", stream, err, c.words)
					}
					heard.Done()
					<-cured
					later, left, err := run(s, stream, left, time.Now().Add(10*time.Second))
					if rejected = append(rejected, later...); len(rejected)+len(left) > 0 {
						t.Errorf("%s: given up %v, %d left: %v", stream, rejected, len(left), err)
					}
				})
			}
			heard.Wait() // until then the broker is sick
			b.mu.Lock()
			b.onPublish = healthy
			b.mu.Unlock()
			close(cured)
			streams.Wait()
		})
	}
}

// TestRandomlySickBrokerNeverLosesAnEvent draws sick brokers: sessions that end
// at random messages or ages, PUBACKs that never come, spells of health between.
func TestRandomlySickBrokerNeverLosesAnEvent(t *testing.T) {
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			closes, withholds, age := random.Float64()*0.8, random.Float64()*0.05, time.Duration(1+random.IntN(60))*time.Millisecond
			spell := 1 + random.IntN(200)
			var mu sync.Mutex
			born := map[int]time.Time{}
			n, well := 0, false
			b := newBroker(t)
			b.onPublish = func(session int, p publish, reply func([]byte)) bool {
				mu.Lock()
				defer mu.Unlock()
				if born[session].IsZero() {
					born[session] = time.Now()
				}
				n++
				if sick := !well && n/spell%2 == 0; sick {
					switch draw := random.Float64(); {
					case draw < closes, i%2 == 0 && time.Since(born[session]) > age:
						return false
					case draw < closes+withholds:
						return true
					}
				}
				reply(ack(p.id))
				return true
			}
			s := soon(b.session(func(o *Options) { o.AckTimeout = 30 * time.Millisecond }))
			cure := time.AfterFunc(700*time.Millisecond, func() {
				mu.Lock()
				well = true
				mu.Unlock()
			})
			defer cure.Stop()
			var streams sync.WaitGroup
			for k := range 4 {
				streams.Go(func() {
					rejected, left, err := run(s, fmt.Sprint(k), messages(1, 1500), time.Now().Add(15*time.Second))
					if len(rejected)+len(left) > 0 {
						t.Errorf("stream %d: given up %v, %d left: %v", k, rejected, len(left), err)
					}
				})
			}
			streams.Wait()
		})
	}
}

func TestFloodOfStrayPubacksEndsTheSession(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, _ publish, reply func([]byte)) bool {
		for id := uint16(40_000); id < 40_000+2*maxStrays; id++ {
			reply(ack(id))
		}
		return true
	}
	s := b.session(func(o *Options) { o.AckTimeout = 20 * time.Second })
	begun := time.Now()
	n, err := s.Publish(t.Context(), "m", messages(1, 1))
	if n != 0 || err == nil || !strings.Contains(err.Error(), "101 PUBACKs in a row") || time.Since(begun) > 5*time.Second {
		t.Errorf("Publish = %d, %v after %v", n, err, time.Since(begun))
	}
}

func TestRepeatedPubacksAreBorne(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		for range 4 {
			reply(ack(p.id))
		}
		return true
	}
	s := b.session()
	if n, err := s.Publish(t.Context(), "m", messages(1, 400)); n != 400 || err != nil || b.count() != 1 {
		t.Errorf("Publish = %d, %v, %d sessions; want all in one", n, err, b.count())
	}
}

// TestCloseDoesNotWaitForABrokerThatSaysNothing: neither for its CONNACK nor for
// its reading.
func TestCloseDoesNotWaitForABrokerThatSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			accepted <- conn
		}
	}()
	o := (&broker{listener: l}).options()
	o.ConnectTimeout = 20 * time.Second
	s := New(o)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Publish(t.Context(), "m", messages(1, 1))
		ended <- err
	}()
	conn := <-accepted
	defer conn.Close()
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) || time.Since(begun) > 2*time.Second {
		t.Errorf("Publish = %v after %v; want ErrClosed at once", err, time.Since(begun))
	}
}
