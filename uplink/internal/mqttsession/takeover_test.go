package mqttsession

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// Two clients that throw each other out slow down more and more, each is named
// though its sessions live for as long as the other waits, and is forgotten once
// a session has lived.
func TestTakeoverSlowsDown(t *testing.T) {
	now := time.Unix(1, 0)
	s := &Session{o: Options{ClientID: "c-1"}}
	s.takeover.found(now, `another gateway "gw"`)
	for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 2 * time.Minute, 2 * time.Minute} {
		age := time.Second
		if i > 0 {
			age = want
		}
		err := s.takeover.lost(now, age, "c-1", io.EOF)
		var wait *WaitError
		if !errors.As(err, &wait) || wait.For != want || !strings.Contains(err.Error(), `another gateway "gw" uses the client_id "c-1" too`) {
			t.Fatalf("%d: %v, want a wait of %v", i, err, want)
		}
		if err := s.takeover.resting(now.Add(want - time.Second)); !errors.As(err, &wait) || wait.For != time.Second {
			t.Errorf("%d: it may begin too early: %v", i, err)
		}
		now = now.Add(want)
		if err := s.takeover.resting(now); err != nil {
			t.Errorf("%d: it may not begin: %v", i, err)
		}
		if who, since := s.Rival(); who == "" || !since.Equal(time.Unix(1, 0)) {
			t.Errorf("%d: %q since %v", i, who, since)
		}
	}
	if err := s.takeover.lost(now, takeoverQuiet+time.Second, "c-1", io.EOF); !errors.Is(err, io.EOF) || err.Error() != "EOF" {
		t.Errorf("after a long session: %v", err)
	}
	if who, _ := s.Rival(); who != "" {
		t.Errorf("still named: %q", who)
	}
}

// While the other client is waited for nobody connects, whoever asks.
func TestNoSessionWhileItRests(t *testing.T) {
	b := newBroker(t)
	s := b.session()
	s.takeover.found(time.Now(), "another gateway")
	_ = s.takeover.lost(time.Now(), 0, "c-1", io.EOF) // its words are looked at elsewhere
	var wait *WaitError
	if err := s.Connect(t.Context(), true); !errors.As(err, &wait) {
		t.Errorf("Connect = %v", err)
	}
	if _, err := s.Publish(t.Context(), "m", messages(0, 1)); !errors.As(err, &wait) {
		t.Errorf("Publish = %v", err)
	}
	if b.count() != 0 {
		t.Errorf("%d sessions", b.count())
	}
}
