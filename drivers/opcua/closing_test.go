package opcua

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// meddler passes the messages of a channel without security on, counts the sessions
// that the server makes and closes, and does something to the answers of a service.
type meddler struct {
	t      *testing.T
	server string
	addr   string
	conns  sync.WaitGroup

	mu           sync.Mutex
	service      uint16
	do           fault
	edit         func(ua.Response) (kept bool) // what changed does
	made, closed int
	answers      map[uint16]int // by service
}

// fault is what a meddler does to an answer.
type fault int

const (
	nothing fault = iota
	wrongHandle
	cutOff  // the connection goes instead
	swallow // nothing comes
	changed // by edit
)

// each is every service.
const each = 0

func newMeddler(t *testing.T, server string) *meddler {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{t: t, server: server, addr: l.Addr().String(), answers: make(map[uint16]int)}
	m.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.conns.Go(func() { m.pass(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		m.conns.Wait() // the devices are closed before
	})
	return m
}

// pass joins a client and the server until either hangs up, or is cut off.
func (m *meddler) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", m.server)
	if err != nil {
		m.t.Error(err)
		return
	}
	defer server.Close()
	m.conns.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client) // until either hangs up
	})
	buf := make([]byte, bufferSize)
	for {
		b, err := readChunk(server, buf)
		if err != nil {
			return
		}
		switch m.meddle(b) {
		case cutOff:
			return
		case swallow:
			continue
		case changed:
			if b = m.edited(b); b == nil {
				continue
			}
		}
		if _, err := client.Write(b); err != nil {
			return
		}
	}
}

// meddle counts an answer, may change it, and returns what is to be done to it.
func (m *meddler) meddle(b []byte) fault {
	const kind, handle = chunkHead + 8 + sequenceHead + 2, chunkHead + 8 + sequenceHead + 4 + 8
	if string(b[:3]) != "MSG" || len(b) < handle+4 {
		return nothing
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	service := binary.LittleEndian.Uint16(b[kind:])
	m.answers[service]++
	switch service {
	case id.CreateSessionResponse_Encoding_DefaultBinary:
		m.made++
	case id.CloseSessionResponse_Encoding_DefaultBinary:
		m.closed++
	}
	if service != m.service && m.service != each || m.do == nothing {
		return nothing
	}
	if m.do == wrongHandle {
		binary.LittleEndian.PutUint32(b[handle:], binary.LittleEndian.Uint32(b[handle:])+1)
	}
	return m.do
}

// edited is an answer of one chunk as edit makes it, nil if nothing is to come.
func (m *meddler) edited(b []byte) []byte {
	const head = chunkHead + 8 + sequenceHead
	body, err := decode(bytes.Clone(b[head:]))
	if err != nil {
		m.t.Error(err)
		return b
	}
	m.mu.Lock()
	kept := m.edit(body.(ua.Response))
	m.mu.Unlock()
	if !kept {
		return nil
	}
	part, err := encode(body)
	if err != nil {
		m.t.Error(err)
	}
	return finish(append(bytes.Clone(b[:head]), part...))
}

// change lets edit have the answers of a service.
func (m *meddler) change(service uint16, edit func(ua.Response) (kept bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.service, m.do, m.edit = service, changed, edit
}

// count returns how many answers of a service have come.
func (m *meddler) count(service uint16) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answers[service]
}

func (m *meddler) set(service uint16, do fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.service, m.do = service, do
}

// sessions returns how many the server has made and closed.
func (m *meddler) sessions() (made, closed int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made, m.closed
}

// A session is closed at the server also where an attempt to connect fails after it
// was made: on its own channel, or where that was lost on the next one.
func TestASessionOfAFailedAttemptIsClosed(t *testing.T) {
	for _, c := range []struct {
		name    string
		service uint16
		do      fault
		later   bool // closed on the next channel
	}{
		{"a wrong handle at CreateSession", id.CreateSessionResponse_Encoding_DefaultBinary, wrongHandle, false},
		{"a wrong handle at ActivateSession", id.ActivateSessionResponse_Encoding_DefaultBinary, wrongHandle, false},
		{"a wrong handle at Read", id.ReadResponse_Encoding_DefaultBinary, wrongHandle, false},
		{"a wrong handle at CreateSubscription", id.CreateSubscriptionResponse_Encoding_DefaultBinary, wrongHandle, false},
		{"a wrong handle at each answer", each, wrongHandle, false},
		{"a cut at ActivateSession", id.ActivateSessionResponse_Encoding_DefaultBinary, cutOff, true},
		{"a cut at Read", id.ReadResponse_Encoding_DefaultBinary, cutOff, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPLC(t, plantsim.OPCUAOptions{})
			m := newMeddler(t, s.Addr())
			d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 50ms\ntags: {made: ns=2;s=Line.Made}\n", m.addr)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			m.set(c.service, c.do)
			const attempts = 4
			for number := range uint64(attempts) {
				err := d.Connect(ctx, number+1)
				if err == nil {
					t.Fatal("it connected")
				}
				if c.do == wrongHandle && !strings.Contains(err.Error(), "the answer to another one") {
					t.Errorf("the attempt ends with %v", err)
				}
			}
			if made, closed := m.sessions(); made != attempts || !c.later && closed != attempts {
				t.Errorf("%d sessions made and %d closed, want %d", made, closed, attempts)
			}
			m.set(0, nothing)
			connect(t, d, attempts+1)
			if made, closed := m.sessions(); made != attempts+1 || closed != attempts {
				t.Errorf("%d sessions made and %d closed once it was connected, want %d and %d", made, closed, attempts+1, attempts)
			}
			_ = d.Close()
		})
	}
}

// A running session whose server begins to answer other requests is closed on its
// own channel, whether it reads or is told.
func TestASessionThatIsNotBelievedIsClosed(t *testing.T) {
	for mode, service := range map[string]uint16{
		"publishing": id.PublishResponse_Encoding_DefaultBinary, "poll": id.ReadResponse_Encoding_DefaultBinary,
	} {
		s := newPLC(t, plantsim.OPCUAOptions{})
		m := newMeddler(t, s.Addr())
		d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\n"+mode+": 50ms\ntags: {made: ns=2;s=Line.Made}\n", m.addr)
		connect(t, d, 1)
		until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
		m.set(service, wrongHandle)
		s.Set("Line.Made", uint32(77))
		_, err := readErr(t, d)
		if err == nil || !strings.Contains(err.Error(), "the answer to another one") {
			t.Errorf("%s: %v", mode, err)
		}
		if err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "made"}); err == nil {
			t.Errorf("%s: it writes", mode)
		}
		_ = d.Close()
		if made, closed := m.sessions(); made != 1 || closed != 1 {
			t.Errorf("%s: %d sessions made and %d closed", mode, made, closed)
		}
	}
}
