//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// conduct is how the scripted broker behaves. The zero value is a broker that
// does all right.
type conduct struct {
	connack     byte // the return code (MQTT 3.1.1, section 3.2.2.3)
	hangUp      bool // ends the connection at CONNECT
	hangUpAfter bool // ends it after the CONNACK
	cut         bool // ends it at a PUBLISH, which it does not take
	withhold    bool // takes events and acknowledges none
	late        time.Duration
	twice       bool // acknowledges each twice
	reversed    bool // acknowledges what came together in reverse
	wrong       bool // acknowledges another packet than came
	unknown     bool // acknowledges one that never came, too
	received    bool // says PUBREC where PUBACK belongs
}

// script is an MQTT 3.1.1 broker for one publisher, which misbehaves as it is
// told. It takes events as the broker of the sinks does. Its methods may be
// called from any goroutine.
type script struct {
	listener net.Listener
	take     func(payload []byte)
	how      atomic.Pointer[conduct]
	// connects and faults count connections, and what conduct made of them.
	connects, faults atomic.Int64

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	ended   bool
	running sync.WaitGroup
}

func newScript(take func(payload []byte)) (*script, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &script{listener: l, take: take, conns: map[net.Conn]struct{}{}}
	s.how.Store(&conduct{})
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.connects.Add(1)
			s.serve(conn)
		}
	})
	return s, nil
}

// behave sets the conduct, for open connections too.
func (s *script) behave(c conduct) { s.how.Store(&c) }

// restart cuts every connection; the broker has forgotten all sessions.
func (s *script) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *script) close() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	_ = s.listener.Close()
	s.restart()
	s.running.Wait()
}

func (s *script) serve(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		_ = conn.Close()
		return
	}
	s.conns[conn] = struct{}{}
	s.running.Go(func() {
		c := &scripted{script: s, conn: conn, acks: make(chan uint16, 1000), done: make(chan struct{})}
		var acking sync.WaitGroup
		acking.Go(c.acknowledge)
		c.read()
		close(c.done)
		_ = conn.Close()
		acking.Wait()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	})
}

// scripted is one connection.
type scripted struct {
	*script
	conn net.Conn
	acks chan uint16
	done chan struct{}
	mu   sync.Mutex
}

func (c *scripted) say(packet ...byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.conn.Write(packet) // the reader sees that the client has gone
}

// read serves the client until it goes, or has to.
func (c *scripted) read() {
	r := bufio.NewReader(c.conn)
	for {
		header, err := r.ReadByte()
		if err != nil {
			return
		}
		length, err := binary.ReadUvarint(r) // section 2.2.3 is the same coding
		if err != nil || length > 1<<20 {
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		if !c.packet(header, body) {
			return
		}
	}
}

// packet answers one packet and reports whether the connection goes on.
func (c *scripted) packet(header byte, body []byte) bool {
	how := c.how.Load()
	switch header >> 4 {
	case 1: // CONNECT
		return c.connect(how)
	case 3: // PUBLISH
		return c.publish(how, header, body)
	case 8: // SUBSCRIBE: granted
		c.say(0x90, 3, body[0], body[1], 1)
	case 12: // PINGREQ
		c.say(0xd0, 0)
	case 14: // DISCONNECT
		return false
	}
	return true
}

func (c *scripted) connect(how *conduct) bool {
	if how.hangUp || how.connack != 0 || how.hangUpAfter {
		c.faults.Add(1)
	}
	if how.hangUp {
		return false
	}
	c.say(0x20, 2, 0, how.connack)
	return how.connack == 0 && !how.hangUpAfter
}

func (c *scripted) publish(how *conduct, header byte, body []byte) bool {
	topic, rest, err := field(body)
	if err != nil {
		return false
	}
	id := uint16(0)
	if header&6 != 0 {
		if len(rest) < 2 {
			return false
		}
		id, rest = binary.BigEndian.Uint16(rest), rest[2:]
	}
	if strings.HasSuffix(topic, "/status") {
		if id != 0 {
			c.acks <- id
		}
		return true
	}
	if how.cut {
		c.faults.Add(1)
		return false
	}
	c.take(rest)
	if how.withhold {
		c.faults.Add(1)
		return true
	}
	select {
	case c.acks <- id:
	case <-c.done:
	}
	return true
}

func field(body []byte) (text string, rest []byte, err error) {
	if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
		return "", nil, errors.New("a field that is cut off")
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	return string(body[2:n]), body[n:], nil
}

// together is how long acknowledgements are gathered that go in another order.
const together = 20 * time.Millisecond

// acknowledge says what is to be said of the packets that came.
func (c *scripted) acknowledge() {
	for {
		var ids []uint16
		select {
		case id := <-c.acks:
			ids = append(ids, id)
		case <-c.done:
			return
		}
		how := c.how.Load()
		if how.reversed {
			ids = c.gather(ids)
			slices.Reverse(ids)
		}
		if how.late > 0 {
			select {
			case <-time.After(how.late):
			case <-c.done:
				return
			}
		}
		for _, id := range ids {
			c.ack(how, id)
		}
	}
}

func (c *scripted) gather(ids []uint16) []uint16 {
	end := time.After(together)
	for {
		select {
		case id := <-c.acks:
			ids = append(ids, id)
		case <-end:
			return ids
		case <-c.done:
			return nil
		}
	}
}

func (c *scripted) ack(how *conduct, id uint16) {
	if *how != (conduct{}) {
		c.faults.Add(1)
	}
	kind := byte(0x40)
	if how.received {
		kind = 0x50
	}
	if how.wrong {
		id += 1000
	}
	word := []byte{kind, 2, byte(id >> 8), byte(id)}
	c.say(word...)
	if how.twice {
		c.say(word...)
	}
	if how.unknown {
		c.say(kind, 2, 0xff, 0xf0)
	}
}
