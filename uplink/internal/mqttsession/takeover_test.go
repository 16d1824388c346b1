package mqttsession

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const testRest = 10 * time.Second

// noticed is a takeover at a time at which it is certain who the other client is.
func noticed(now time.Time) takeover {
	var t takeover
	t.found(now, `another gateway "gw"`)
	t.found(now, `another gateway "gw"`)
	return t
}

func asksToWait(err error) bool {
	var wait *WaitError
	return errors.As(err, &wait)
}

// Who was seen twice in a row is the other client: each loss makes all wait, also
// that of a session that lived for as long as the other one waited, until one lives.
func TestTheOtherClientIsLeftInPeace(t *testing.T) {
	now := time.Unix(1, 0)
	s := &Session{takeovers: []takeover{noticed(now)}, o: Options{ClientID: "c-1", Rest: testRest}}
	x := &s.takeovers[0]
	for i, age := range []time.Duration{time.Second, testRest, takeoverQuiet * testRest} {
		err := x.lost(now, age, testRest, i > 0, "c-1", io.EOF)
		var wait *WaitError
		if !errors.As(err, &wait) || wait.For != testRest || !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), `another gateway "gw" uses the client_id "c-1" too`) {
			t.Fatalf("%v: %v", age, err)
		}
		if err := x.resting(now.Add(testRest - time.Second)); !errors.As(err, &wait) || wait.For != time.Second {
			t.Errorf("%v: it may begin too early: %v", age, err)
		}
		now = now.Add(testRest)
		if err := x.resting(now); err != nil {
			t.Errorf("%v: it may not begin: %v", age, err)
		}
		if who, sure, since := s.Rival(); who == "" || !sure || !since.Equal(time.Unix(1, 0)) {
			t.Errorf("%v: %q since %v", age, who, since)
		}
	}
	if err := x.lost(now, takeoverQuiet*testRest+1, testRest, true, "c-1", io.EOF); asksToWait(err) {
		t.Errorf("after a long session: %v", err)
	}
	if who, _, _ := s.Rival(); who != "" {
		t.Errorf("still named: %q", who)
	}
}

// Where it is known beforehand who it is, nobody guesses, and it is logged once also
// if that one is seen later.
func TestTheOtherUplinkIsNamedWithoutASight(t *testing.T) {
	core, log := observer.New(zap.InfoLevel)
	s := New(Options{ClientID: "c-1", Rest: testRest, Log: zap.New(core), Brokers: make([]Broker, 1), Twin: "uplink b1"})
	x, now := &s.takeovers[0], time.Unix(1, 0)
	if who, _, _ := s.Rival(); who != "" {
		t.Fatalf("before anything happens: %q", who)
	}
	for range maybeEnds {
		before := *x
		x.hint(now, testRest, testRest)
		s.tell(0, before)
		now = now.Add(testRest)
	}
	const want = `uplink b1 uses the client_id "c-1" too`
	if who, sure, _ := s.Rival(); who != want || !sure {
		t.Errorf("%q, %v", who, sure)
	}
	before := *x
	x.found(now, "uplink b1")
	x.found(now, "uplink b1")
	s.tell(0, before)
	if n := log.FilterField(zap.String("who", want)).Len(); n != 1 {
		t.Errorf("the log names it %d times", n)
	}
	x.over()
	for i := range takeoverLosses + 1 {
		if err := x.lost(now.Add(time.Duration(i)*time.Second), time.Second, testRest, true, "c-1", io.EOF); i == takeoverLosses && !strings.Contains(err.Error(), want) {
			t.Errorf("the cause is %v", err)
		}
	}
}

// A guess makes all wait only where the broker closed the sessions in order, as one
// does that throws a client out, and never after a line that was cut.
func TestAGuessRestsOnlyWhereTheBrokerClosed(t *testing.T) {
	for name, orderly := range map[string]bool{"closed": true, "cut": false} {
		var x takeover
		now := time.Unix(1, 0)
		for i := range takeoverLosses + 1 {
			err := x.lost(now, time.Second, testRest, orderly, "c-1", io.EOF)
			var wait *WaitError
			if last := i == takeoverLosses; errors.As(err, &wait) != last || last && !strings.Contains(err.Error(), "another client probably uses") {
				t.Errorf("%s: loss %d: %v", name, i, err)
			}
			now = now.Add(time.Second)
		}
		if resting := x.resting(now) != nil; resting != orderly {
			t.Errorf("%s: resting %v", name, resting)
		}
	}
	var x takeover
	for i := range 20 { // a line that is cut again and again at once
		now := time.Unix(1, 0).Add(time.Duration(i) * takeoverBurst / 10)
		if err := x.lost(now, time.Millisecond, testRest, true, "c-1", io.EOF); asksToWait(err) {
			t.Errorf("cut %d: %v", i, err)
		}
	}
	x = takeover{}
	for i := range 20 { // a broker that ends a session every 3 s is none that throws out
		if err := x.lost(time.Unix(int64(3*i), 0), takeoverYoung+1, testRest, true, "c-1", io.EOF); asksToWait(err) {
			t.Errorf("%v", err)
		}
	}
}

// The other client rests, so that the sessions here live for as long: after three of
// them it is said that there may be one, without a wait, until a session lives or the
// broker cannot be had, which no other client does.
func TestTheOtherClientThatRestsIsHintedAt(t *testing.T) {
	s := &Session{takeovers: make([]takeover, 1), o: Options{ClientID: "c-1", Rest: testRest, Log: zap.NewNop(), Brokers: make([]Broker, 1)}}
	x := &s.takeovers[0]
	now := time.Unix(1, 0)
	end := func(age time.Duration) {
		t.Helper()
		x.hint(now, age, testRest)
		if err := x.lost(now, age, testRest, true, "c-1", io.EOF); asksToWait(err) {
			t.Fatalf("it waits: %v", err)
		}
		now = now.Add(testRest)
	}
	end(time.Hour)
	for i := range maybeEnds {
		if who, _, _ := s.Rival(); who != "" {
			t.Fatalf("after %d: %q", i, who)
		}
		end(testRest)
	}
	who, sure, since := s.Rival()
	if sure || !strings.Contains(who, `another client may use the client_id "c-1" too`) || !since.Equal(now.Add(-testRest)) {
		t.Errorf("got %q (%v) since %v", who, sure, since)
	}
	end(takeoverQuiet*testRest + 1)
	if who, _, _ := s.Rival(); who != "" {
		t.Errorf("a session has lived: %q", who)
	}
	for range maybeEnds - 1 {
		end(testRest)
	}
	s.away(0)
	end(testRest)
	if who, _, _ := s.Rival(); who != "" {
		t.Errorf("the broker was away in between: %q", who)
	}
	end(time.Hour)
	for range 2 * maybeEnds {
		end(2*testRest + testRest/2)
		now = now.Add(2*testRest + testRest/2)
	}
	if who, _, _ := s.Rival(); who != "" {
		t.Errorf("too seldom: %q", who)
	}
}

// One sight of another's status is no proof, nor are two that lie far apart, nor two
// with nobody between.
func TestOneSightIsNoProof(t *testing.T) {
	now := time.Unix(1, 0)
	var x takeover
	x.found(now, "a")
	x.found(now.Add(sightedSpan+1), "a")
	x.found(now.Add(sightedSpan+2), "")
	x.found(now.Add(sightedSpan+3), "a")
	if x.rival != "" || !x.since.IsZero() {
		t.Errorf("named %q", x.rival)
	}
	x.found(now.Add(sightedSpan+4), "a")
	if x.rival != "a" || x.since.IsZero() {
		t.Errorf("named %q since %v", x.rival, x.since)
	}
}

// A broker is asked seldom while nobody is sighted, more and more seldom where it
// answers nothing, and at each loss once somebody is.
func TestABrokerIsAskedSeldom(t *testing.T) {
	now := time.Unix(1, 0)
	var x takeover
	looks := func() (n int) {
		for range 100 {
			x.look = true
			if x.mayLook(now) {
				n++
			}
			now = now.Add(time.Second)
		}
		return n
	}
	if n := looks(); n != 5 { // after 0, 5, 15, 35 and 75 s
		t.Errorf("%d looks in 100 s", n)
	}
	x.found(now, "")
	x.lookAfter = time.Time{}
	for range 10 { // each is answered
		if !x.mayLook(now) {
			t.Error("not asked again 5 s after an answer")
		}
		x.found(now, "")
		x.look = true
		now = now.Add(leastLook)
	}
	x.found(now, "a")
	if n := looks(); n != 100 {
		t.Errorf("%d looks at 100 losses once somebody was sighted", n)
	}
	x.look = false
	if x.mayLook(now) {
		t.Error("asked without a loss")
	}
}

// While the other client is left in peace nobody connects to that broker, whoever
// asks; another broker is used at once.
func TestNoSessionWhileItRests(t *testing.T) {
	rests := func(s *Session) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.takeovers[0] = noticed(time.Now())
		_ = s.takeovers[0].lost(time.Now(), 0, time.Hour, true, "c-1", io.EOF) // its words are looked at elsewhere
	}
	b := newBroker(t)
	s := b.session()
	rests(s)
	var wait *WaitError
	if err := s.Connect(t.Context(), true); !errors.As(err, &wait) || wait.For < 59*time.Minute {
		t.Errorf("Connect = %v", err)
	}
	if _, err := s.Publish(t.Context(), "m", messages(0, 1)); !errors.As(err, &wait) || !strings.Contains(err.Error(), `another gateway "gw"`) {
		t.Errorf("Publish = %v", err)
	}
	if b.count() != 0 {
		t.Errorf("%d sessions", b.count())
	}

	first, second, s := pair(t)
	rests(s)
	if n, err := s.Publish(t.Context(), "m", messages(0, 1)); n != 1 || err != nil || first.count() != 0 || second.count() != 1 {
		t.Errorf("Publish = %d, %v with %d and %d sessions", n, err, first.count(), second.count())
	}
	if p := s.Place(); p.Broker != 1 || !strings.Contains(p.Passed.Error(), `another gateway "gw"`) {
		t.Errorf("the session is at %+v", p)
	}
	if who, _, _ := s.Rival(); !strings.Contains(who, `another gateway "gw"`) {
		t.Errorf("told of %q", who)
	}
}

// A broker that sends DISCONNECT, as one of MQTT 5 does, has ended the session in
// order.
func TestDisconnectOfTheBrokerIsAnOrderlyEnd(t *testing.T) {
	b := newBroker(t)
	b.onPublish = func(_ int, p publish, reply func([]byte)) bool {
		reply(append(ack(p.id), 0xe0, 0))
		return true
	}
	s := b.session(func(o *Options) { o.Rest = time.Hour })
	var wait *WaitError
	eventually(t, "a rest", func() bool {
		if err := s.Connect(t.Context(), true); errors.As(err, &wait) {
			return true
		}
		_, _ = s.Publish(t.Context(), "m", messages(0, 1)) // some meet the end of the session before
		return false
	})
	if !errors.Is(wait, errThrownOut) || wait.For < 59*time.Minute {
		t.Errorf("%v", wait)
	}
}
