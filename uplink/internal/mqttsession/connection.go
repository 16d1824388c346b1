package mqttsession

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
)

// errOwn marks the end of a session that was our decision, not the broker's.
var errOwn = errors.New("given up by this side")

// connection is one network connection with its own paho client, used for one
// session and never again.
type connection struct {
	session *Session
	// at is the broker, by its place in Options.Brokers.
	at     int
	client mqtt.Client
	wire   *wire
	window *window
	// born is when CONNACK came. The session may be lost before it is set.
	born atomic.Pointer[time.Time]
	// served counts the events that were acknowledged; trial is the one that is
	// alone in flight, if any.
	served atomic.Int64
	trial  atomic.Pointer[trial]

	// leaving is set once the session goes on at another broker.
	leaving atomic.Bool
	// looking is set while it asks for the status of another client.
	looking atomic.Bool
	// announced is set once the broker has the status of this client.
	announced atomic.Bool

	once sync.Once
	// lost is closed when the session is over; err and ended are set before.
	lost  chan struct{}
	err   error
	ended time.Time
	// tried is set if the broker closed the connection during a trial.
	tried bool
}

// open connects, waits for CONNACK and for the acknowledgement of the online
// status: a session that is handed out has worked once.
func (s *Session) open(at int) (*connection, error) {
	connected := func() bool { return true }
	c := &connection{session: s, at: at, window: newWindow(s.o.Window, s.o.WindowBytes), lost: make(chan struct{})}
	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + s.o.Brokers[at].Address). // for the URL only, dialWire does the dialling
		SetClientID(s.o.ClientID).
		SetProtocolVersion(4). // else paho tries every refused CONNECT again as 3.1
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(false).
		SetKeepAlive(pingAfter(s.o.KeepAlive)).
		SetPingTimeout(s.o.KeepAlive / 4).
		SetConnectTimeout(s.o.ConnectTimeout).
		// Handing a packet to the wire never blocks while the session lives, so
		// this only bounds a Publish that meets its end.
		SetWriteTimeout(time.Second).
		SetStore(noStore{}).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			w, err := s.dialWire(at)
			if err != nil {
				return nil, err
			}
			c.wire = w
			// A broker that accepts and says nothing must not delay Close.
			connected = context.AfterFunc(s.life, w.abort)
			return w, nil
		}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			_ = c.abandon(fmt.Errorf("the broker ended the session: %w", err)) // kept, for who waits
		})
	if s.o.User != "" {
		options.SetUsername(s.o.User)
		options.SetPassword(s.o.Password())
	}
	if s.o.StatusTopic != "" {
		options.SetBinaryWill(s.o.StatusTopic, s.o.Offline, 1, true)
	}
	c.client = mqtt.NewClient(options)
	token := c.client.Connect()
	<-token.Done() // bounded by ConnectTimeout and by life
	connected()
	if err := token.Error(); err != nil {
		if c.wire != nil {
			c.wire.abort()
		}
		s.away(at)
		return nil, connectError(s.o, token.(*mqtt.ConnectToken).ReturnCode(), err)
	}
	now := time.Now()
	c.born.Store(&now)
	c.lookForRival()
	if err := c.announce(); err != nil {
		return nil, err
	}
	c.announced.Store(true)
	if err := c.subscribe(); err != nil {
		return nil, err
	}
	s.o.Log.Debug("mqtt session open", zap.String("broker", s.o.Brokers[at].Address), zap.String("client_id", s.o.ClientID))
	return c, nil
}

// age returns how long ago CONNACK came, 0 if it has not been seen yet.
func (c *connection) age() time.Duration {
	if born := c.born.Load(); born != nil {
		return time.Since(*born)
	}
	return 0
}

// pingAfter is the keep-alive that paho and the broker are told, so that a broker
// that says nothing is given up within one and a half of the one that is asked
// for: paho looks each quarter of what it was told, and waits a quarter of what is
// asked for, for the answer to its ping.
func pingAfter(keepAlive time.Duration) time.Duration {
	return max(time.Second, (keepAlive * 3 / 4).Truncate(time.Second))
}

// dialWire opens the network connection, with TLS if it is configured.
func (s *Session) dialWire(at int) (*wire, error) {
	broker := &s.o.Brokers[at]
	ctx, cancel := context.WithTimeout(s.life, s.o.ConnectTimeout)
	defer cancel()
	tcp, err := s.o.Bind.Dial(ctx, "tcp", broker.Address)
	if err != nil {
		return nil, err
	}
	conn := tcp
	if broker.TLS != nil {
		config, err := broker.TLS()
		if config == nil {
			_ = tcp.Close() // nothing was said on it
			return nil, err
		}
		secure := tls.Client(tcp, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = tcp.Close() // the handshake's error is the one to tell
			return nil, err
		}
		conn = secure
	}
	return newWire(conn, tcp, s.o.WriteTimeout), nil
}

// announce publishes the online status and waits for its PUBACK.
func (c *connection) announce() error {
	o := c.session.o
	if o.StatusTopic == "" {
		return nil
	}
	token := c.client.Publish(o.StatusTopic, 1, true, o.Online)
	timer := time.NewTimer(o.AckTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		if token.Error() == nil {
			return nil
		}
		return c.abandon(fmt.Errorf("the broker ended the session at the status %q; may this client publish there? %w", o.StatusTopic, c.wire.why(token.Error())))
	case <-c.lost:
		return c.cause()
	case <-timer.C:
		return c.abandon(fmt.Errorf("no PUBACK for the status %q within %v: %w", o.StatusTopic, o.AckTimeout, errOwn))
	case <-c.session.life.Done():
		return c.abandon(ErrClosed)
	}
}

// flight is a message that waits for its PUBACK.
type flight struct {
	token mqtt.Token
	at    time.Time
	slots int
	bytes int
}

// publish sends messages within the window and waits for each PUBACK, in order.
// It returns how many were acknowledged and how many were sent. A trial keeps
// every other message out of the session meanwhile.
func (c *connection) publish(ctx context.Context, messages []Message, alone *trial) (acked, sent int, err error) {
	stop := lastStart(ctx, c.session.o.AckTimeout)
	flights := make([]flight, 0, min(len(messages), c.session.o.Window))
	head := 0
	var patience *time.Timer
	defer func() {
		if patience != nil {
			patience.Stop()
		}
	}()
	for acked < len(messages) {
		for sent < len(messages) && ctx.Err() == nil {
			now := time.Now()
			if now.After(stop) || c.leaving.Load() {
				break
			}
			slots, size := 1, len(messages[sent].Payload)+len(messages[sent].Topic)
			if alone != nil {
				slots = c.session.o.Window
			}
			if !c.window.try(slots, size) {
				if sent > acked {
					break // an acknowledgement of our own makes room
				}
				if err := c.window.wait(ctx, c.lost, slots, size); err != nil {
					if errors.Is(err, errLost) {
						err = c.cause()
					}
					return acked, sent, err
				}
				if c.leaving.Load() {
					c.window.release(slots, size)
					return acked, sent, errMoved
				}
				now = time.Now()
			}
			if head > 0 && len(flights) == cap(flights) {
				flights = append(flights[:0], flights[head:]...)
				head = 0
			}
			if alone != nil {
				c.begin(alone)
			}
			token := c.client.Publish(messages[sent].Topic, 1, messages[sent].Retained, messages[sent].Payload)
			flights = append(flights, flight{token: token, at: now, slots: slots, bytes: size})
			sent++
			fault.Pass("mqtt.afterPublish")
		}
		if sent == acked {
			if c.leaving.Load() && ctx.Err() == nil {
				return acked, sent, errMoved
			}
			return acked, sent, context.DeadlineExceeded
		}
		f := &flights[head]
		if err := c.await(ctx, f, &patience); err != nil {
			return acked, sent, err
		}
		fault.Pass("mqtt.afterPuback")
		if alone != nil {
			c.trial.Store(nil)
		}
		c.served.Add(1)
		c.window.release(f.slots, f.bytes)
		f.token = nil
		head++
		acked++
	}
	return acked, sent, nil
}

// await waits for the PUBACK of the oldest message. Any error ends the session,
// since a message without an answer may still arrive.
func (c *connection) await(ctx context.Context, f *flight, patience **time.Timer) error {
	limit := c.session.o.AckTimeout
	for {
		select {
		case <-f.token.Done():
			if err := f.token.Error(); err != nil {
				return c.abandon(fmt.Errorf("the broker ended the session: %w", c.wire.why(err)))
			}
			return nil
		default:
		}
		if *patience == nil {
			*patience = time.NewTimer(limit)
		}
		select {
		case <-f.token.Done():
		case <-c.lost:
			// What was acknowledged before the end is acknowledged.
			select {
			case <-f.token.Done():
				if f.token.Error() == nil {
					return nil
				}
			default:
			}
			return c.cause()
		case <-ctx.Done():
			return c.abandon(fmt.Errorf("%w: %w", ctx.Err(), errOwn))
		case <-(*patience).C:
			// The timer was set for an older message; look at this one's age.
			age := time.Since(f.at)
			if age >= limit {
				return c.abandon(fmt.Errorf("no PUBACK within %v: %w", limit, errOwn))
			}
			(*patience).Reset(limit - age)
		}
	}
}

// lastStart returns until when messages may be sent, so that the last of them
// can still be acknowledged before ctx's deadline.
func lastStart(ctx context.Context, ack time.Duration) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Now().Add(24 * time.Hour)
	}
	left := time.Until(deadline)
	return deadline.Add(-min(ack, left/2))
}

// abandon ends the session at once, without DISCONNECT, so that the broker
// publishes the will. It returns the cause, the first one if there are several.
func (c *connection) abandon(err error) error {
	c.once.Do(func() {
		c.ended = time.Now()
		c.err = c.session.forget(c, err)
		close(c.lost)
		c.wire.abort()
		c.client.Disconnect(0) // frees paho's goroutines, and waits for nothing
		c.session.o.Log.Debug("mqtt session over", zap.String("broker", c.session.o.Brokers[c.at].Address), zap.Error(c.err))
	})
	return c.cause()
}

// close ends the session in an orderly way.
func (c *connection) close() {
	c.once.Do(func() {
		c.err = ErrClosed
		close(c.lost)
		if o := c.session.o; o.StatusTopic != "" {
			c.client.Publish(o.StatusTopic, 1, true, o.Offline).WaitTimeout(time.Second)
		}
		c.client.Disconnect(500)
		c.wire.abort()
	})
}

// over reports whether the session is over.
func (c *connection) over() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// closedByPeer reports whether it was the broker that closed the connection, as
// far as a client can tell: no time-out, no fault of ours, no word that MQTT does
// not know.
func (c *connection) closedByPeer() bool { return c.wire.peerClosed.Load() }

// cause returns why the session is over; it waits for the end.
func (c *connection) cause() error {
	<-c.lost
	return c.err
}

// died reports whether the session is over by a fault, not by Close.
func (c *connection) died() bool {
	return c.over() && !errors.Is(c.err, ErrClosed) && !errors.Is(c.err, context.Canceled)
}
