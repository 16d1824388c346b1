package mqttsession

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPublishWaitsForThePubackOfThatVeryPacket(t *testing.T) {
	b := newBroker(t)
	release := make(chan struct{})
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		if p.payload == "m2" {
			reply(ack(p.id + 1000)) // of a packet that was never sent
			reply(ack(p.id - 1))    // of the one before, again
			<-release
		}
		reply(ack(p.id))
		return true
	}
	s := b.session(func(o *Options) { o.AckTimeout = 10 * time.Second })
	ended := make(chan int)
	go func() {
		n, err := s.Publish(t.Context(), "m", messages(1, 3))
		if err != nil {
			t.Error(err)
		}
		ended <- n
	}()
	select {
	case n := <-ended:
		t.Fatalf("%d acknowledged before the PUBACK", n)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if n := <-ended; n != 3 {
		t.Errorf("%d acknowledged, want 3", n)
	}
}

// TestASessionThatEndsAtItsBeginning is lost while it is still being opened; the
// race detector watches.
func TestASessionThatEndsAtItsBeginning(t *testing.T) {
	b := newBroker(t)
	b.hangUp = true
	s := b.session()
	for range 100 {
		if n, err := s.Publish(t.Context(), "m", messages(1, 1)); n != 0 || err == nil {
			t.Fatalf("Publish = %d, %v", n, err)
		}
	}
}

func TestPublishReturnsTheAcknowledgedPrefix(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		if p.payload == "m3" {
			return true // never acknowledged
		}
		reply(ack(p.id))
		return true
	}
	s := b.session()
	n, err := s.Publish(t.Context(), "m", messages(1, 4))
	if n != 2 || err == nil || !strings.Contains(err.Error(), "no PUBACK within 500ms") {
		t.Errorf("Publish = %d, %v; want 2 and a time-out", n, err)
	}
	if b.count() != 1 {
		t.Errorf("%d sessions, want 1: no blind repeat", b.count())
	}
}

func TestPublishKeepsToTheWindow(t *testing.T) {
	b := newBroker(t)
	var mu sync.Mutex
	var open []uint16
	most := 0
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		mu.Lock()
		defer mu.Unlock()
		open = append(open, p.id)
		most = max(most, len(open))
		if len(open) == 4 || p.payload == "last" {
			for _, id := range open {
				reply(ack(id))
			}
			open = nil
		}
		return true
	}
	s := b.session()
	batch := append(messages(1, 24), Message{ID: 99, Topic: "t", Payload: []byte("last")})
	if n, err := s.Publish(t.Context(), "m", batch); n != 25 || err != nil {
		t.Fatalf("Publish = %d, %v", n, err)
	}
	if most != 4 {
		t.Errorf("%d in flight at most, want the window of 4", most)
	}
}

func TestSessionSaysOnlineAndOffline(t *testing.T) {
	b := newBroker(t)
	s := b.session(func(o *Options) { o.User = "u"; o.Password = func() string { return "secret" } })
	if _, err := s.Publish(t.Context(), "m", messages(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	var status []string
	for _, p := range b.published() {
		if p.topic == statusTopic && p.retained {
			status = append(status, p.payload)
		}
	}
	if strings.Join(status, " ") != "online offline" || len(b.wills) != 0 {
		t.Errorf("status %v, wills %v; want online offline and no will", status, b.wills)
	}
	if len(b.users) != 1 || b.users[0] != "u:secret" {
		t.Errorf("users %q", b.users)
	}
	if _, err := s.Publish(t.Context(), "m", messages(2, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
}

func TestAbandonedSessionLeavesItsWill(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(int, publish, func([]byte)) bool { return true }
	s := b.session()
	if _, err := s.Publish(t.Context(), "m", messages(1, 1)); err == nil {
		t.Fatal("published without a PUBACK")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		wills := append([]publish(nil), b.wills...)
		b.mu.Unlock()
		if len(wills) == 1 && wills[0].topic == statusTopic && wills[0].payload == "offline" && wills[0].retained {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("wills %v", wills)
		}
	}
}

func TestRefusedConnectNamesTheRemedy(t *testing.T) {
	for code, want := range map[byte]string{
		1: "MQTT 3.1.1", 2: `client_id "c-1"`, 3: "not available", 4: "check user and password", 5: "not authorised", 6: "code 6", 135: "code 135",
	} {
		b := newBroker(t)
		b.connack = code
		s := b.session()
		n, err := s.Publish(t.Context(), "m", messages(1, 1))
		if n != 0 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("code %d: %d, %v; want words with %q", code, n, err, want)
		}
		var wait *WaitError
		if permanent := code == 1 || code == 2 || code == 4 || code == 5; errors.As(err, &wait) != permanent {
			t.Errorf("code %d: %v, want a long wait: %v", code, err, permanent)
		}
		if b.count() != 1 {
			t.Errorf("code %d: %d connections, want one", code, b.count())
		}
	}
}

func TestTakeoverIsNamed(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		reply(ack(p.id))
		return false // as if another client of the same id had connected
	}
	s := b.session()
	began := time.Now()
	var wait *WaitError
	i := uint64(0)
	eventually(t, "a name for losses right after CONNACK", func() bool {
		i++
		_, err := s.Publish(t.Context(), "m", messages(i, 2))
		return errors.As(err, &wait)
	})
	if took := time.Since(began); took < takeoverLosses*takeoverBurst || !strings.Contains(wait.Error(), `client_id "c-1"`) {
		t.Errorf("after %d losses in %v: %v", i, took, wait)
	}
}

func TestHostileBrokerCostsNoMemory(t *testing.T) {
	for name, bomb := range map[string][]byte{
		"PUBACK of 256 MiB":            {0x40, 0xff, 0xff, 0xff, 0x7f},
		"PUBLISH to no subscriber":     {0x30, 0x05, 0, 1, 't', 'x', 'x'},
		"PUBLISH of 256 MiB":           {0x30, 0xff, 0xff, 0xff, 0x7f},
		"SUBACK":                       {0x90, 3, 0, 1, 0},
		"type 0":                       {0x00, 0x00},
		"type 15":                      {0xf0, 0x00},
		"a second CONNACK, unknown":    {0x20, 2, 0, 99},
		"PINGRESP with a long body":    {0xd0, 0x80, 0x80, 0x80, 0x01},
		"remaining length of no end":   {0x40, 0xff, 0xff, 0xff, 0xff, 0xff},
		"PUBREC, which QoS 1 has not":  {0x50, 2, 0, 1},
		"PUBREL, which nobody expects": {0x62, 2, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			b.onPublish = func(_ int, _ publish, reply func([]byte)) bool {
				reply(bomb)
				return true
			}
			s := b.session(func(o *Options) { o.AckTimeout = 20 * time.Second })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n, err := s.Publish(t.Context(), "m", messages(1, 1))
			runtime.ReadMemStats(&after)
			if n != 0 || err == nil {
				t.Errorf("Publish = %d, %v", n, err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
				t.Errorf("%d bytes allocated", used)
			}
		})
	}
}

func TestResetIsNoticedAtOnce(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(session int, p publish, reply func([]byte)) bool {
		reply(ack(p.id))
		return session > 1
	}
	s := b.session(func(o *Options) { o.AckTimeout = 30 * time.Second })
	begun := time.Now()
	for i := range uint64(40) {
		_, _ = s.Publish(t.Context(), "m", messages(i, 1)) // one of them meets the end of the first session
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v: a lost session was found by a time-out", took)
	}
}

func TestPublishEndsInTimeForItsDeadline(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		time.Sleep(5 * time.Millisecond) // a slow broker
		reply(ack(p.id))
		return true
	}
	s := b.session(func(o *Options) { o.AckTimeout = 10 * time.Second })
	// Sent is in the first half of it only, the other is for the acknowledgements.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	n, err := s.Publish(ctx, "m", messages(0, 1000))
	if n == 0 || n == 1000 || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("Publish = %d, %v, ctx %v; want some, before the deadline", n, err, ctx.Err())
	}
	if _, err := s.Publish(t.Context(), "m", messages(uint64(n), 1)); err != nil || b.count() != 1 {
		t.Errorf("%v, %d sessions: the slow session should live on", err, b.count())
	}
}

func TestWireReadsWhateverTheChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		for range rapid.IntRange(1, 30).Draw(t, "packets") {
			stream = append(stream, rapid.SampledFrom([][]byte{{0x20, 2, 0, 0}, {0x40, 2, 1, 2}, {0xd0, 0}}).Draw(t, "packet")...)
		}
		near, far := net.Pipe()
		w := newWire(near, near, time.Second)
		cut := rapid.IntRange(0, len(stream)).Draw(t, "cut")
		go func() {
			_, _ = far.Write(stream[:cut]) // the reader checks what arrives
			_, _ = far.Write(stream[cut:])
			far.Close()
		}()
		var got []byte
		buffer := make([]byte, rapid.IntRange(1, 9).Draw(t, "buffer"))
		for {
			n, err := w.Read(buffer)
			got = append(got, buffer[:n]...)
			if err != nil {
				break
			}
		}
		if string(got) != string(stream) {
			t.Errorf("read %x, want %x", got, stream)
		}
		w.abort()
	})
}

func TestWindowIsFair(t *testing.T) {
	w := newWindow(2, 100)
	lost := make(chan struct{})
	if !w.try(2, 10) || w.try(1, 1) {
		t.Fatal("the window has room for two")
	}
	order := make(chan int, 2)
	var waiters sync.WaitGroup
	queued := func(n int) {
		for {
			w.mu.Lock()
			have := len(w.queue)
			w.mu.Unlock()
			if have == n {
				return
			}
			runtime.Gosched()
		}
	}
	for i := range 2 {
		waiters.Go(func() {
			if err := w.wait(t.Context(), lost, 2-i, 1); err != nil {
				t.Error(err)
			}
			order <- i
		})
		queued(i + 1)
	}
	w.release(1, 5)
	if len(order) != 0 {
		t.Error("a small request overtook a large one")
	}
	w.release(1, 5)
	if first := <-order; first != 0 {
		t.Errorf("%d came first", first)
	}
	w.release(2, 1)
	waiters.Wait()
	w.release(1, 1)
	if !w.idle() || w.bytes != 100 {
		t.Errorf("room was lost: %d slots, %d bytes", w.slots, w.bytes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.try(2, 0)
	if err := w.wait(ctx, lost, 1, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("wait = %v", err)
	}
	close(lost)
	if err := w.wait(t.Context(), lost, 1, 1); !errors.Is(err, errLost) {
		t.Errorf("wait = %v", err)
	}
}
