package mqttsession

import (
	"context"
	"fmt"
	"io"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Listen is a topic, without wildcards, whose messages a Session takes for as
// long as it lives.
type Listen struct {
	Topic string
	// Limit bounds a message. Heard gets each, nil for one that is larger; it is
	// called by the goroutine that reads, one call after the other, and must not
	// block.
	Limit int
	Heard func(payload []byte)
	// Refused is told why the broker lets this client not listen, nil once it does.
	Refused func(err error)
}

// subscribe begins to listen on a new session. A broker that refuses is told of,
// and the session goes on without.
func (c *connection) subscribe() error {
	l := c.session.o.Listen
	if l == nil {
		return nil
	}
	c.wire.mu.Lock()
	c.wire.listening, c.wire.asked = l, true
	c.wire.mu.Unlock()
	token := c.client.Subscribe(l.Topic, 0, nil)
	if err := c.confirm(c.session.life, token, "SUBACK", l.Topic); err != nil {
		err = fmt.Errorf("while it was asked for the messages at %q; may this client subscribe there? %w", l.Topic, err)
		l.Refused(err)
		return err
	}
	if code := token.(*mqtt.SubscribeToken).Result()[l.Topic]; code != 0 {
		l.Refused(&RefusedError{Topic: l.Topic, Code: code})
		return nil
	}
	l.Refused(nil)
	return nil
}

// heard takes the payload of a message at the topic that is listened to, and
// reports whether it was one.
func (w *wire) heard(topic string, size int) (bool, error) {
	w.mu.Lock()
	l := w.listening
	w.mu.Unlock()
	if l == nil || l.Topic != topic {
		return false, nil
	}
	if size > l.Limit {
		if _, err := w.in.Discard(size); err != nil {
			return true, err
		}
		l.Heard(nil)
		return true, nil
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(w.in, payload); err != nil {
		return true, err
	}
	l.Heard(payload)
	return true, nil
}

// rivalWait is how long a broker has for the status that another client of the
// same id has left.
const rivalWait = 200 * time.Millisecond

// lastStatus asks for the status that is retained, nil for none.
func (c *connection) lastStatus() ([]byte, error) {
	c.looking.Store(true)
	defer c.looking.Store(false)
	ctx, cancel := context.WithTimeout(c.session.life, 2*rivalWait)
	defer cancel()
	const limit = 4 << 10
	return c.ask(ctx, c.session.o.StatusTopic, limit, rivalWait)
}
