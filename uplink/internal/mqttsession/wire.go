package mqttsession

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Packet types that a broker may send to a client which publishes and subscribes
// to one topic at a time, and their remaining length (MQTT 3.1.1 sections 3.2,
// 3.4, 3.9, 3.11 and 3.13). A PUBLISH has any length; see hear.
const (
	connack  = 2
	puback   = 4
	suback   = 9
	unsuback = 11
	pingresp = 13
	// What the client itself sends (sections 3.3, 3.8 and 3.10); the broker sends a
	// PUBLISH, too.
	publishType     = 3
	subscribeType   = 8
	unsubscribeType = 10
	// Only a client may send it by MQTT 3.1.1 (section 3.14); some brokers send it,
	// as MQTT 5 does, before they close the connection.
	disconnect = 14
)

// errThrownOut is how a session ends that the broker says to be over.
var errThrownOut = errors.New("the broker sent DISCONNECT")

var remaining = map[byte]byte{connack: 2, puback: 2, suback: 3, unsuback: 2, pingresp: 0}

// wire is the network connection below paho. Inbound it lets through only the
// packets that a publishing client expects: paho allocates what a header
// announces, up to 256 MiB, and takes a CONNACK code that it does not know for a
// success. Outbound it collects packets while a write is under way and writes
// them together, under a deadline; Write itself does not block, since the
// window bounds what can be collected.
type wire struct {
	net.Conn
	// tcp is below TLS; ack acknowledges on it.
	tcp net.Conn
	ack *acker
	in  *bufio.Reader
	// left is what remains of the inbound packet that was let through.
	left int
	// owed is how many PUBACKs the broker owes; wrote is set by each write since
	// the last read, whose segment acknowledges what was read.
	owed  atomic.Int64
	wrote atomic.Bool
	late  *time.Timer
	// peerClosed is set when the other end closed or reset the connection before
	// this one did. strays counts the packets in a row that answer nothing.
	peerClosed atomic.Bool
	strays     int
	// questions are open by their topics; owedAcks are the packet types that the
	// broker owes for a SUBSCRIBE or UNSUBSCRIBE of that identifier.
	questions map[string]*question
	owedAcks  map[uint16]byte
	// asked is set once there was a question, or somebody listens.
	asked     bool
	listening *Listen

	timeout time.Duration
	mu      sync.Mutex
	work    sync.Cond
	out     []byte
	spare   []byte
	closing bool
	// open holds a bit for each packet identifier without its PUBACK.
	open [1 << 16 / 64]uint64
	err  error
	// ended is what reading ended with.
	ended   error
	flushed chan struct{}
}

// spareLimit bounds the write buffer that is kept for the next round.
const spareLimit = 64 << 10

// newWire returns a wire over conn, which is tcp or a TLS connection over it.
func newWire(conn, tcp net.Conn, timeout time.Duration) *wire {
	w := &wire{Conn: conn, tcp: tcp, ack: newAcker(tcp), in: bufio.NewReader(conn), timeout: timeout, flushed: make(chan struct{}),
		questions: map[string]*question{}, owedAcks: map[uint16]byte{}}
	w.work.L = &w.mu
	w.late = time.AfterFunc(ackAfter, w.acknowledge)
	go w.flush()
	return w
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if w.left == 0 {
		if err := w.admit(); err != nil {
			return 0, w.told(err)
		}
	}
	n, err := w.in.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, w.told(err)
}

// told returns why reading ended: the error of the write that closed the
// connection, if there is one. paho takes "use of closed network connection"
// for its own doing, and would never say that the session is lost.
func (w *wire) told(err error) error {
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil && !w.closing {
		return w.err
	}
	w.noteEnd(err)
	if w.ended == nil && !w.closing {
		w.ended = err
	}
	return err
}

// why returns the error that reading ended with, else err: paho tells those who
// wait for an answer only that the connection is lost.
func (w *wire) why(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return cmp.Or(w.ended, err)
}

// closedInOrder reports whether the other end closed the connection as a broker
// does that throws a client out, and no line or firewall cut it.
func (w *wire) closedInOrder() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Is(w.ended, errThrownOut) || errors.Is(w.ended, io.EOF) || errors.Is(w.ended, io.ErrUnexpectedEOF)
}

// noteEnd notes whether err is the other end's doing. It is called with mu held.
func (w *wire) noteEnd(err error) {
	if !w.closing && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		w.peerClosed.Store(true)
	}
}

// admit takes messages of the broker off the wire and looks at the header of the
// packet after them.
func (w *wire) admit() error {
	for {
		kind, length, err := w.header()
		if err != nil {
			return err
		}
		if kind != publishType || !w.hasAsked() {
			return w.examine(kind, length)
		}
		if err := w.hear(); err != nil {
			return err
		}
	}
}

// header waits for the next packet and returns its type and its second byte.
func (w *wire) header() (kind, length byte, err error) {
	blocks := w.in.Buffered() == 0
	if blocks && w.owed.Load() > 0 && !w.wrote.Load() {
		w.late.Reset(ackAfter)
	}
	header, err := w.in.Peek(2)
	if blocks {
		w.wrote.Store(false) // what was written before does not acknowledge this
	}
	if err != nil {
		return 0, 0, err
	}
	return header[0] >> 4, header[1], nil
}

// examine lets a packet through that a publishing client expects, and only that.
func (w *wire) examine(kind, length byte) error {
	want, ok := remaining[kind]
	if kind == disconnect {
		return errThrownOut
	}
	if !ok || length != want {
		return fmt.Errorf("the broker sent a packet of type %d and length byte %d, which no MQTT 3.1.1 broker sends to a client that only publishes", kind, length)
	}
	w.left = 2 + int(length)
	if kind == pingresp {
		return nil
	}
	packet, err := w.in.Peek(4)
	if err != nil {
		return err
	}
	id := binary.BigEndian.Uint16(packet[2:])
	switch kind {
	case puback:
		return w.answered(id)
	case suback, unsuback:
		return w.granted(kind, id)
	default:
		if packet[3] > 5 {
			return fmt.Errorf("the broker answered CONNECT with code %d, which MQTT 3.1.1 does not know", packet[3])
		}
		return nil
	}
}

// maxStrays bounds the packets in a row that nobody waits for, PUBACKs and
// messages: a broker that sends nothing else would keep the session and a
// processor busy.
const maxStrays = 100

// answered notes the PUBACK of a packet.
func (w *wire) answered(id uint16) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.owedAcks[id]; ok {
		return fmt.Errorf("the broker answered the subscription of packet %d with a PUBACK", id)
	}
	word, bit := &w.open[id/64], uint64(1)<<(id%64)
	if *word&bit != 0 {
		*word &^= bit
		w.owed.Add(-1)
		w.strays = 0
		return nil
	}
	if w.strays++; w.strays > maxStrays {
		return fmt.Errorf("the broker sent %d PUBACKs in a row for packets that it was not sent or has answered (the last for packet %d)", w.strays, id)
	}
	return nil
}

// expect notes what is owed for p: a PUBACK for a PUBLISH of QoS 1, a SUBACK or
// an UNSUBACK. It is called with mu held. paho writes a packet in one piece.
func (w *wire) expect(p []byte) {
	if len(p) == 0 {
		return
	}
	kind, qos := p[0]>>4, p[0]&0x06
	_, n := binary.Uvarint(p[1:]) // the remaining length is coded in the same way (section 2.2.3)
	if n <= 0 || len(p) < 1+n+2 {
		return
	}
	p = p[1+n:]
	switch kind {
	case subscribeType:
		w.owedAcks[binary.BigEndian.Uint16(p)] = suback
		return
	case unsubscribeType:
		w.owedAcks[binary.BigEndian.Uint16(p)] = unsuback
		return
	}
	if kind != publishType || qos == 0 {
		return
	}
	topic := int(binary.BigEndian.Uint16(p))
	if len(p) < 2+topic+2 {
		return
	}
	id := binary.BigEndian.Uint16(p[2+topic:])
	w.open[id/64] |= 1 << (id % 64)
	w.owed.Add(1)
}

// ackAfter is how long the kernel may hold back the acknowledgement of what was
// read, for something that is written to carry it.
const ackAfter = 500 * time.Microsecond

// acknowledge makes the kernel acknowledge what was read, if the broker owes
// more and nothing that was written since has done so. It runs ackAfter the
// last read.
func (w *wire) acknowledge() {
	if w.owed.Load() > 0 && !w.wrote.Load() {
		w.ack.ack()
	}
}

// Write implements net.Conn. An error of an earlier write is returned here.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.closing {
		return 0, net.ErrClosed
	}
	w.expect(p)
	w.out = append(w.out, p...)
	w.work.Signal()
	return len(p), nil
}

// flush writes what Write has collected, until the end.
func (w *wire) flush() {
	defer close(w.flushed)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.out) == 0 && !w.closing {
			w.work.Wait()
		}
		if len(w.out) == 0 {
			return
		}
		w.collect()
		out := w.out
		w.out, w.spare = w.spare, nil
		w.mu.Unlock()
		err := w.Conn.SetWriteDeadline(time.Now().Add(w.timeout))
		if err == nil {
			_, err = w.Conn.Write(out)
		}
		w.wrote.Store(true)
		w.mu.Lock()
		if err != nil {
			w.noteEnd(err)
			w.err = fmt.Errorf("write to the broker: %w", err)
			_ = w.Conn.Close() // the reader must see the end, too
			return
		}
		if cap(out) <= spareLimit {
			w.spare = out[:0]
		}
	}
}

// collectTurns bounds how often flush lets others run before it writes.
const collectTurns = 4

// collect lets those run who are about to write, as long as it brings more:
// a write to the socket costs more than all else that is done for a message. It
// is called with mu held.
func (w *wire) collect() {
	for range collectTurns {
		before := len(w.out)
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
		if len(w.out) == before || w.closing {
			return
		}
	}
}

// SetDeadline sets the deadline of reads; writes have one of their own.
func (w *wire) SetDeadline(t time.Time) error { return w.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing, as flush sets it.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// Close writes what is left (paho closes right after its DISCONNECT) and
// closes.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closing = true
	w.work.Signal()
	w.mu.Unlock()
	select {
	case <-w.flushed:
	case <-time.After(100 * time.Millisecond):
	}
	return w.Conn.Close()
}

// abort closes without writing what is left.
func (w *wire) abort() {
	w.mu.Lock()
	w.closing = true
	w.out = nil
	w.err = errors.Join(w.err, net.ErrClosed)
	w.work.Signal()
	w.mu.Unlock()
	// What closing says of a broken connection helps nobody. TLS would first
	// send its farewell, for up to five seconds if the broker does not read.
	_ = w.tcp.Close()
	_ = w.Conn.Close()
	<-w.flushed
}
