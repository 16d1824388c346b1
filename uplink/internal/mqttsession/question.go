package mqttsession

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// question is one topic whose retained message is asked for. The message is taken
// off the wire below paho, which therefore has no handler that could block or
// come too late, and allocates nothing that a broker announces.
type question struct {
	limit  int
	answer chan answer // one is enough, so that the wire never waits
}

// answer is a message on the topic of a question; payload is nil if it is larger
// than the limit.
type answer struct {
	payload []byte
	size    int
}

// RefusedError says that the broker does not let this client subscribe to a topic.
type RefusedError struct {
	Topic string
	// Code is that of the SUBACK, 0x80 by MQTT 3.1.1 section 3.9.3.
	Code byte
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the broker refuses the subscription to %q (code %#x); let this user or client_id read there in the broker's access rules", e.Topic, e.Code)
}

var (
	// errNoSession is returned to a question while the broker is out of reach:
	// whoever publishes finds out when it is back, and a second attempt to connect
	// beside that one would help nobody.
	errNoSession = errors.New("there is no session with the broker")
	errAskedNow  = errors.New("that topic is being asked for")
	// errUnconfirmed is our own decision, too, but the question's fault.
	errUnconfirmed = fmt.Errorf("unconfirmed: %w", errOwn)
)

// A session that ends while a question is open may end because of it: some
// brokers close the connection where others refuse the subscription. No question
// is asked for so long then, and twice as long each time it happens again.
const leastRest, mostRest = time.Minute, time.Hour

// Ask returns the message that is retained at a topic, without wildcards, nil if
// there is none within wait after the broker has taken the subscription (MQTT has
// no word for "there is none"). It connects if there is no session, unless the
// last attempt failed, and takes the subscription back before it returns. A
// message of more than limit bytes is an error. Ask may be called from any
// goroutine, beside Publish, not twice at once for one topic. It blocks for at
// most ConnectTimeout, wait and twice AckTimeout, or until ctx ends.
func (s *Session) Ask(ctx context.Context, topic string, limit int, wait time.Duration) ([]byte, error) {
	if err := s.mayAsk(); err != nil {
		return nil, err
	}
	c, err := s.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	payload, err := c.ask(ctx, topic, limit, wait)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.rest = 0
	s.mu.Unlock()
	return payload, nil
}

// mayAsk returns why no question is asked now.
func (s *Session) mayAsk() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.restUntil) {
		return fmt.Errorf("not asked again before %s: %w", s.restUntil.Format(time.TimeOnly), s.restCause)
	}
	if s.current == nil && s.unreachable {
		return errNoSession
	}
	return nil
}

// restQuestions notes that a session ended while a question was open, and returns
// the error for those who waited. It is called with mu held.
func (s *Session) restQuestions(topic string, err error) error {
	s.rest = min(max(2*s.rest, leastRest), mostRest)
	s.restUntil = time.Now().Add(s.rest)
	s.restCause = fmt.Errorf("the session ended while the broker was asked for what is retained at %q; if that comes again, it does not let this client subscribe there: %w", topic, err)
	return s.restCause
}

// ask subscribes, waits for the retained message, and takes the subscription
// back: each later change would be a message, too.
func (c *connection) ask(ctx context.Context, topic string, limit int, wait time.Duration) ([]byte, error) {
	q, err := c.wire.listen(topic, limit)
	if err != nil {
		return nil, err
	}
	defer c.wire.deaf(topic)
	// QoS 0: over one TCP connection it is not less certain, and nothing has to be
	// acknowledged.
	token := c.client.Subscribe(topic, 0, nil)
	err = c.confirm(ctx, token, "SUBACK", topic)
	if err == nil {
		if code := token.(*mqtt.SubscribeToken).Result()[topic]; code != 0 {
			return nil, &RefusedError{Topic: topic, Code: code}
		}
	}
	var a answer
	if err == nil {
		a, err = c.answered(ctx, q, wait)
	}
	if c.over() {
		return nil, c.cause()
	}
	gone := c.client.Unsubscribe(topic)
	if err != nil {
		return nil, err
	}
	if err := c.confirm(ctx, gone, "UNSUBACK", topic); err != nil {
		return nil, err
	}
	if a.size > limit {
		return nil, fmt.Errorf("the message retained at %q has %d bytes, more than %d", topic, a.size, limit)
	}
	return a.payload, nil
}

// answered waits for the answer; none comes where nothing is retained.
func (c *connection) answered(ctx context.Context, q *question, wait time.Duration) (answer, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case a := <-q.answer:
		return a, nil
	case <-timer.C:
		return answer{}, nil
	case <-c.lost:
		return answer{}, c.cause()
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// confirm waits until the broker has acknowledged a subscription or its end. One
// that does not is no broker to go on with, as for a PUBACK.
func (c *connection) confirm(ctx context.Context, token mqtt.Token, what, topic string) error {
	timer := time.NewTimer(c.session.o.AckTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return c.abandon(fmt.Errorf("the broker ended the session: %w", c.wire.why(err)))
		}
		return nil
	case <-c.lost:
		return c.cause()
	case <-timer.C:
		return c.abandon(fmt.Errorf("no %s for %q within %v: %w", what, topic, c.session.o.AckTimeout, errUnconfirmed))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen opens a question.
func (w *wire) listen(topic string, limit int) (*question, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.questions[topic] != nil {
		return nil, errAskedNow
	}
	q := &question{limit: limit, answer: make(chan answer, 1)}
	w.questions[topic] = q
	w.asked = true
	return q, nil
}

// deaf closes a question.
func (w *wire) deaf(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.questions, topic)
}

// hasAsked reports whether a message of the broker can be an answer.
func (w *wire) hasAsked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// asking returns the topic of an open question, if there is one.
func (w *wire) asking() (topic string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for topic := range w.questions {
		return topic, true
	}
	return "", false
}

// granted notes the answer to a SUBSCRIBE or UNSUBSCRIBE. paho would take it for
// the answer to whatever else has that identifier, a PUBLISH too.
func (w *wire) granted(kind byte, id uint16) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owedAcks[id] != kind {
		return fmt.Errorf("the broker sent a packet of type %d for the packet %d, which asks for none", kind, id)
	}
	delete(w.owedAcks, id)
	return nil
}

// hear takes a PUBLISH of the broker off the wire (MQTT 3.1.1 section 3.3): the
// answer to a question, or what was under way when the question ended.
func (w *wire) hear() error {
	first, err := w.in.ReadByte()
	if err != nil {
		return err
	}
	if first&0x06 != 0 {
		return errors.New("the broker sent a message with QoS 1 or 2 to a subscription of QoS 0")
	}
	length, err := w.length()
	if err != nil {
		return err
	}
	var head [2]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	size := length - 2 - n
	if size < 0 {
		return errors.New("the broker sent a message whose topic is longer than the message")
	}
	topic := make([]byte, n)
	if _, err := io.ReadFull(w.in, topic); err != nil {
		return err
	}
	if ours, err := w.heard(string(topic), size); ours {
		return err
	}
	q, err := w.addressee(string(topic))
	if err != nil {
		return err
	}
	a := answer{size: size}
	if q == nil || size > q.limit {
		_, err = w.in.Discard(size)
	} else {
		a.payload = make([]byte, size)
		_, err = io.ReadFull(w.in, a.payload)
	}
	if err != nil || q == nil {
		return err
	}
	select {
	case q.answer <- a:
	default: // the first is the answer
	}
	return nil
}

// length reads a remaining length (section 2.2.3).
func (w *wire) length() (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := w.in.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errors.New("the broker sent a packet with a remaining length of more than four bytes")
}

// addressee returns the question that a message answers, nil for none.
func (w *wire) addressee(topic string) (*question, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q := w.questions[topic]; q != nil {
		return q, nil
	}
	if w.strays++; w.strays > maxStrays {
		return nil, fmt.Errorf("the broker sent %d messages in a row that nobody asked for (the last to %q)", w.strays, topic)
	}
	return nil, nil
}
