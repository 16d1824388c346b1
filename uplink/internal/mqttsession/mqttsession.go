// Package mqttsession keeps one MQTT 3.1.1 session for an uplink, over paho, in
// the only way in which paho's word for a PUBACK can be believed: a new client
// and a clean session for each connection, no reconnect below us, no store of
// its own. Messages of several machines share the session and its window; a
// message counts as delivered after the PUBACK of that very packet, and
// whatever is uncertain ends the session and is sent again on the next. paho's
// package-wide loggers (mqtt.ERROR and others) are left alone: they are globals,
// silent unless a program sets them, and each failure that they would tell of
// comes back from here as an error. A Session subscribes to nothing but, on
// demand and for a moment, the topic of one question (Ask).
package mqttsession

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/card"
)

// Options says how a Session connects. All fields but TLS, User, Password and
// the status are needed; there are no defaults here.
type Options struct {
	// Brokers are tried in their order at each connect: the first that can be had
	// is used. There is one at least. FailBack is how soon, after another than the
	// first is used, those before it are tried again.
	Brokers  []Broker
	FailBack time.Duration
	// Bind is the network card that they are reached over, empty as the routes say.
	Bind card.Bind
	// ClientID must be unique at the broker: MQTT 3.1.1 section 3.1.4 lets a
	// second client of the same id throw out the first.
	ClientID string
	User     string
	// Password is asked for at each connect, so that nothing here holds it.
	Password func() string

	// StatusTopic gets Online, retained, at each connect, and Offline, retained,
	// before an orderly end and as the will. Empty: no status.
	StatusTopic     string
	Online, Offline []byte

	// Rival names who wrote a status that is not this client's, empty if it is; nil
	// for nobody is named.
	Rival func(status []byte) string
	// Twin names who else uses ClientID at these brokers, in Rival's words, where that
	// is known beforehand; empty if nobody does.
	Twin string
	// Rest is how long another client of the same id is left alone at a broker
	// before this one connects there again.
	Rest time.Duration

	// Listen is what the Session takes besides; nil for nothing.
	Listen *Listen

	// Window and WindowBytes bound what is in flight, over all machines.
	Window, WindowBytes int
	// KeepAlive is a whole number of seconds (section 3.1.2.10). A broker that says
	// nothing is given up within one and a half of it.
	KeepAlive time.Duration
	// ConnectTimeout bounds dialling, TLS and CONNACK together; WriteTimeout one
	// write; AckTimeout the wait for one PUBACK.
	ConnectTimeout, WriteTimeout, AckTimeout time.Duration

	Log *zap.Logger
}

// Message is one message to be published with QoS 1. ID names it
// within its stream, the same at each attempt. Payload must not change until
// the session has ended.
type Message struct {
	ID      uint64
	Topic   string
	Payload []byte
	// Retained makes the broker keep it as the topic's last.
	Retained bool
}

// ErrClosed is returned by a Publish during or after Close.
var ErrClosed = errors.New("the session is closed")

// Session is one session after the other with one broker. Publish may be called
// from any number of goroutines.
type Session struct {
	o Options
	// controlAge is controlAge, less in tests.
	controlAge time.Duration

	// life ends at Close, and with it a dial under way.
	life context.Context
	end  context.CancelFunc

	// returning are the attempts to go back to an earlier broker.
	returning sync.WaitGroup

	mu       sync.Mutex
	current  *connection
	place    Place
	dialling *dial
	closed   bool
	suspects map[string]suspect
	// takeovers are by the places in Options.Brokers.
	takeovers []takeover
	// unreachable is set while the last attempt to connect has failed.
	unreachable bool
	// refused says that the broker refused the last attempt as only a person can
	// cure; nobody who publishes tries again before refusedUntil.
	refused      *WaitError
	refusedUntil time.Time
	// No question is asked before restUntil, because of restCause; rest was the
	// last such wait.
	rest      time.Duration
	restUntil time.Time
	restCause error
}

// New returns a Session. It connects at the first Publish.
func New(o Options) *Session {
	s := &Session{o: o, place: Place{Address: o.Brokers[0].Address}, controlAge: controlAge, suspects: map[string]suspect{},
		takeovers: make([]takeover, len(o.Brokers))}
	for i := range s.takeovers {
		s.takeovers[i].twin = o.Twin
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Publish publishes the messages of one stream in order and waits for each
// PUBACK. It returns how many of them, from the first, the broker has
// acknowledged, and why not all. It connects if there is no session. It blocks
// until then, until ctx ends or until the session does; it stops sending early
// enough before ctx's deadline that what is in flight can be acknowledged.
// Two calls for one stream must not overlap.
func (s *Session) Publish(ctx context.Context, stream string, messages []Message) (acked int, err error) {
	for acked < len(messages) {
		n, err := s.publishOnce(ctx, stream, messages[acked:])
		acked += n
		if err != nil && !errors.Is(err, errMoved) {
			return acked, err
		}
	}
	return acked, nil
}

// publishOnce publishes on the session under way, or a new one.
func (s *Session) publishOnce(ctx context.Context, stream string, messages []Message) (acked int, err error) {
	c, err := s.connect(ctx, false)
	if err != nil {
		return 0, err
	}
	if t := s.try(stream, &messages[0]); t != nil {
		// Alone in flight, so that nobody else is blamed for it.
		if _, err := s.publish(ctx, c, stream, messages[:1], t); err != nil {
			return 0, err
		}
		acked, messages = 1, messages[1:]
	}
	n, err := s.publish(ctx, c, stream, messages, nil)
	return acked + n, err
}

func (s *Session) publish(ctx context.Context, c *connection, stream string, messages []Message, t *trial) (int, error) {
	acked, sent, err := c.publish(ctx, messages, t)
	if acked > 0 {
		s.cleared(stream)
	}
	if err != nil && acked < sent && c.died() {
		err = s.suspect(c, stream, &messages[acked], t, err)
	}
	return acked, err
}

// Close ends the session in an orderly way: waiting Publishes return ErrClosed,
// the status becomes Offline. It blocks for at most two seconds.
func (s *Session) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	c, d := s.current, s.dialling
	s.current = nil
	s.mu.Unlock()
	s.end()
	if d != nil {
		<-d.done // ends at once with its context
	}
	if c != nil {
		c.close()
	}
	s.returning.Wait() // ends at once with its context, but for a farewell
	return nil
}

// dial is one attempt to connect, shared by all who wait for it.
type dial struct {
	done chan struct{}
	c    *connection
	err  error
}

// connect returns the session under way, or a new one. Only one attempt is made
// at a time, and of many who publish none repeats for itself what the broker has
// just refused to all; retry does.
func (s *Session) connect(ctx context.Context, retry bool) (*connection, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if s.current != nil {
		defer s.mu.Unlock()
		s.settleRival()
		return s.current, nil
	}
	d := s.dialling
	if left := time.Until(s.refusedUntil); d == nil && !retry && left > 0 {
		defer s.mu.Unlock()
		return nil, &WaitError{Err: s.refused.Err, For: left}
	}
	if d == nil {
		d = &dial{done: make(chan struct{})}
		s.dialling = d
		go s.dial(d)
	}
	s.mu.Unlock()
	select {
	case <-d.done:
		return d.c, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dial makes one attempt and tells everybody.
func (s *Session) dial(d *dial) {
	defer close(d.done)
	var passed error
	d.c, passed, d.err = s.openAny()
	s.mu.Lock()
	s.dialling = nil
	closed := s.closed
	s.unreachable = d.err != nil
	s.refusedUntil = time.Time{}
	if errors.As(d.err, &s.refused) && s.refused.refused {
		s.refusedUntil = time.Now().Add(s.refused.For)
	}
	if d.err != nil {
		s.doubt()
	}
	if d.err == nil && !closed && !d.c.over() {
		s.settled(d.c, passed)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if d.err == nil {
		d.err = d.c.abandon(ErrClosed)
	}
	if closed {
		d.err = ErrClosed
	}
	d.c = nil
}

// forget is told of each session that has ended, and why; it returns the error
// for those who waited.
func (s *Session) forget(c *connection, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == c {
		s.current = nil
		s.place.Connected, s.place.Since = false, time.Now()
	}
	if s.closed {
		return ErrClosed
	}
	theirs := !errors.Is(err, errOwn)
	rival := &s.takeovers[c.at]
	if theirs && c.announced.Load() {
		rival.look = true
	}
	if theirs && rival.rival != "" {
		// No message and no question is to blame.
		s.doubt()
		return s.taken(c, err)
	}
	if topic, ok := c.wire.asking(); ok && !c.looking.Load() && (theirs || errors.Is(err, errUnconfirmed)) {
		s.doubt() // it may be the question, and no message is to blame for that
		return s.restQuestions(topic, err)
	}
	if c.trial.Load() != nil && c.closedByPeer() {
		c.tried = true
		return err // what it says of the message is for suspect to find
	}
	s.doubt()
	if theirs && c.announced.Load() && (c.served.Load() > 0 || c.window.idle()) {
		// With a message in flight and none acknowledged, it may be the message.
		err = s.taken(c, err)
	}
	return err
}
