package modbus

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	pdu "github.com/goburrow/modbus"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
)

// rtuFrame builds a frame by goburrow, so that our own check sum does not check
// itself.
func rtuFrame(unit, function byte, data ...byte) []byte {
	h := pdu.NewRTUClientHandler("")
	h.SlaveId = unit
	f, err := h.Encode(&pdu.ProtocolDataUnit{FunctionCode: function, Data: data})
	if err != nil {
		panic(err)
	}
	return f
}

// readRTU reads one request; only of those that the driver sends.
func readRTU(r io.Reader) ([]byte, error) {
	request := make([]byte, 8, 300)
	if _, err := io.ReadFull(r, request); err != nil {
		return nil, err
	}
	if request[1] == pdu.FuncCodeWriteMultipleRegisters {
		rest := make([]byte, 1+int(request[6]))
		if _, err := io.ReadFull(r, rest); err != nil {
			return nil, err
		}
		request = append(request, rest...)
	}
	return request, nil
}

// bus is what hangs on a line: it answers each request by what answer gives, one
// write each, nothing for silence. It serves one connection after the other.
type bus struct {
	listener net.Listener
	answer   func(request []byte) [][]byte

	mu          sync.Mutex
	connections int
	asked       map[byte]int
	open        []io.Closer
}

// newBareBus returns a bus that no socket leads to.
func newBareBus(answer func(request []byte) [][]byte) *bus {
	return &bus{answer: answer, asked: map[byte]int{}}
}

func newBus(t testing.TB, answer func(request []byte) [][]byte) *bus {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBareBus(answer)
	b.listener = l
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.connections++
			b.open = append(b.open, c)
			b.mu.Unlock()
			serving.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		b.hangUp()
		serving.Wait()
	})
	return b
}

func (b *bus) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.open {
		c.Close()
	}
	b.open = nil
}

// send writes to all connections what nobody has just asked for.
func (b *bus) send(f []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.open {
		if w, ok := c.(io.Writer); ok {
			_, _ = w.Write(f) // the driver may hang up
		}
	}
}

func (b *bus) serve(c io.ReadWriteCloser) {
	defer c.Close()
	for {
		request, err := readRTU(c)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.asked[request[0]]++
		b.mu.Unlock()
		for _, part := range b.answer(request) {
			if _, err := c.Write(part); err != nil {
				return
			}
		}
	}
}

// count returns how often a unit was asked.
func (b *bus) count(unit byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[unit]
}

// ownRegisters answers a read of registers by their own addresses, plus 1000 times
// the unit.
func ownRegisters(request []byte) []byte {
	start, count := int(binary.BigEndian.Uint16(request[2:])), int(binary.BigEndian.Uint16(request[4:]))
	data := []byte{byte(2 * count)}
	for i := range count {
		data = binary.BigEndian.AppendUint16(data, uint16(start+i+1000*int(request[0])))
	}
	return rtuFrame(request[0], request[1], data...)
}

// openLine opens a line that the text describes.
func openLine(t testing.TB, text string) drivers.Line {
	t.Helper()
	s, faults := config.ParseSection("hall", "test.yaml", text)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	p, faults := LineKind.Check(s)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return p.Open(zap.NewNop())
}

// onLine opens a device of a line.
func onLine(t testing.TB, l drivers.Line, text string) *driver {
	t.Helper()
	return openPlan(t, "driver: modbus\nline: hall\n"+text, "").Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Line: l}).(*driver)
}

// tcpFront is a device server with an RTU device behind that is a Modbus TCP
// server in truth.
func tcpFront(t testing.TB, target string) *bus {
	t.Helper()
	var mu sync.Mutex
	conn, err := net.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	// Once it has answered, the server's goroutine for this connection is there: a
	// test that counts goroutines does not find one more later.
	if _, err := overTCP(conn, rtuFrame(1, pdu.FuncCodeReadHoldingRegisters, 0, 100, 0, 1)); err != nil {
		t.Fatal(err)
	}
	return newBus(t, func(request []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		for range 2 {
			if conn == nil {
				c, err := net.DialTimeout("tcp", target, time.Second)
				if err != nil {
					return nil
				}
				conn = c
			}
			if answer, err := overTCP(conn, request); err == nil {
				return [][]byte{answer}
			}
			conn.Close()
			conn = nil
		}
		return nil
	})
}

func overTCP(c net.Conn, request []byte) ([]byte, error) {
	f := binary.BigEndian.AppendUint16([]byte{0, 1, 0, 0}, uint16(len(request)-2))
	if _, err := c.Write(append(f, request[:len(request)-2]...)); err != nil {
		return nil, err
	}
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(c, header); err != nil {
		return nil, err
	}
	body := make([]byte, int(binary.BigEndian.Uint16(header[4:]))-1)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, err
	}
	return rtuFrame(header[6], body[0], body[1:]...), nil
}
