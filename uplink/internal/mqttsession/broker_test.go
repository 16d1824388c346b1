package mqttsession

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// broker is a hand-made MQTT 3.1.1 broker that does exactly what a test wants,
// also what no broker should.
type broker struct {
	t        testing.TB
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	sessions int
	seen     []publish
	wills    []publish
	users    []string

	// connack is the return code of CONNECT; hangUp ends each session behind it.
	connack byte
	hangUp  bool
	// onPublish answers a PUBLISH of the events: reply writes, and false ends
	// the session. nil acknowledges.
	onPublish func(session int, p publish, reply func([]byte)) bool
	// onSubscribe answers a SUBSCRIBE, and onUnsubscribe its end, in the same way.
	// nil takes it and has nothing retained.
	onSubscribe   func(id uint16, topic string, reply func([]byte)) bool
	onUnsubscribe func(id uint16, reply func([]byte)) bool
	// subscribed are the topics of each SUBSCRIBE, "-" for an UNSUBSCRIBE.
	subscribed []string
}

type publish struct {
	session  int
	id       uint16
	topic    string
	payload  string
	retained bool
}

const statusTopic = "status"

func newBroker(t testing.TB) *broker {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &broker{t: t, listener: l}
}

// accept begins to serve; what the broker does is set before.
func (b *broker) accept() {
	b.running.Go(func() {
		for {
			conn, err := b.listener.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() { b.serve(conn) })
		}
	})
}

// stop must come after the sessions under test are closed.
func (b *broker) stop() {
	_ = b.listener.Close() // ends Accept
	b.running.Wait()
}

func (b *broker) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	reply := func(p []byte) { _, _ = conn.Write(p) } // the client may be gone
	clean := false
	var will *publish
	b.mu.Lock()
	b.sessions++
	session := b.sessions
	code := b.connack
	b.mu.Unlock()
	defer func() {
		if will != nil && !clean {
			b.mu.Lock()
			b.wills = append(b.wills, *will)
			b.mu.Unlock()
		}
	}()
	for {
		kind, body, err := readPacket(in)
		if err != nil {
			return
		}
		switch kind >> 4 {
		case 1:
			will = b.connect(body)
			reply([]byte{0x20, 2, 0, code})
			if code != 0 || b.hangUp {
				return
			}
		case 3:
			p := publish{session: session, retained: kind&1 != 0}
			n := int(binary.BigEndian.Uint16(body))
			p.topic, p.id, p.payload = string(body[2:2+n]), binary.BigEndian.Uint16(body[2+n:]), string(body[4+n:])
			b.mu.Lock()
			b.seen = append(b.seen, p)
			answer := b.onPublish
			b.mu.Unlock()
			if p.topic == statusTopic || answer == nil {
				reply(ack(p.id))
			} else if !answer(session, p, reply) {
				return
			}
		case 8, 10:
			if !b.subscription(kind>>4, body, reply) {
				return
			}
		case 12:
			reply([]byte{0xd0, 0})
		case 14:
			clean = true
		}
	}
}

func (b *broker) connect(body []byte) *publish {
	field := func() string {
		n := int(binary.BigEndian.Uint16(body))
		s := string(body[2 : 2+n])
		body = body[2+n:]
		return s
	}
	field()
	flags := body[1]
	body = body[4:]
	field()
	var will *publish
	if flags&0x04 != 0 {
		will = &publish{topic: field(), payload: field(), retained: flags&0x20 != 0}
	}
	if flags&0x80 != 0 {
		user := field()
		if flags&0x40 != 0 {
			user += ":" + field()
		}
		b.mu.Lock()
		b.users = append(b.users, user)
		b.mu.Unlock()
	}
	return will
}

func (b *broker) subscription(kind byte, body []byte, reply func([]byte)) bool {
	id := binary.BigEndian.Uint16(body)
	topic := string(body[4 : 4+binary.BigEndian.Uint16(body[2:])])
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind == 10 {
		b.subscribed = append(b.subscribed, "-")
		if b.onUnsubscribe != nil {
			return b.onUnsubscribe(id, reply)
		}
		reply([]byte{0xb0, 2, byte(id >> 8), byte(id)})
		return true
	}
	b.subscribed = append(b.subscribed, topic)
	if b.onSubscribe != nil {
		return b.onSubscribe(id, topic, reply)
	}
	reply(subscribed(id, 0))
	return true
}

// subscribed is a SUBACK.
func subscribed(id uint16, code byte) []byte { return []byte{0x90, 3, byte(id >> 8), byte(id), code} }

// retained is a PUBLISH of the broker's.
func retained(topic, payload string) []byte {
	p := binary.AppendUvarint([]byte{0x31}, uint64(2+len(topic)+len(payload)))
	p = binary.BigEndian.AppendUint16(p, uint16(len(topic)))
	return append(append(p, topic...), payload...)
}

func ack(id uint16) []byte { return []byte{0x40, 2, byte(id >> 8), byte(id)} }

func readPacket(in *bufio.Reader) (kind byte, body []byte, err error) {
	if kind, err = in.ReadByte(); err != nil {
		return
	}
	length, err := binary.ReadUvarint(in)
	if err != nil {
		return
	}
	body = make([]byte, length)
	_, err = io.ReadFull(in, body)
	return
}

func (b *broker) count() (sessions int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions
}

func (b *broker) published() []publish {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]publish(nil), b.seen...)
}

func (b *broker) options() Options {
	return Options{
		Brokers: []Broker{{Address: b.listener.Addr().String()}}, FailBack: time.Minute, ClientID: "c-1", Password: func() string { return "" },
		StatusTopic: statusTopic, Online: []byte("online"), Offline: []byte("offline"),
		Window: 4, WindowBytes: 1 << 20, KeepAlive: time.Second,
		ConnectTimeout: time.Second, WriteTimeout: time.Second, AckTimeout: 500 * time.Millisecond,
		Rest: 50 * time.Millisecond, Log: zap.NewNop(),
	}
}

// session returns a Session to b that ends before b does.
func (b *broker) session(change ...func(*Options)) *Session {
	b.accept()
	o := b.options()
	for _, c := range change {
		c(&o)
	}
	s := New(o)
	b.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.t.Errorf("Close: %v", err)
		}
		b.stop()
	})
	return s
}

func messages(from uint64, n int) []Message {
	m := make([]Message, n)
	for i := range m {
		m[i] = Message{ID: from + uint64(i), Topic: "t", Payload: []byte{'m', byte('0' + from + uint64(i))}}
	}
	return m
}
