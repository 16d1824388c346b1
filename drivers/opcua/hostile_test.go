package opcua

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"

	"github.com/sluice-edge/sluice/config"
)

// hostile is a server of raw bytes on a connection.
type hostile struct {
	t    *testing.T
	conn net.Conn
	buf  []byte // so that the server's own memory is not counted
}

// read returns the next chunk of the client; nil after the end.
func (h *hostile) read() []byte {
	b, err := readChunk(h.conn, make([]byte, 1<<16))
	if err != nil {
		return nil
	}
	return b
}

func (h *hostile) write(b []byte) { _, _ = h.conn.Write(b) } // the client may have gone

// greet answers Hello properly.
func (h *hostile) greet() {
	h.read()
	h.write(acknowledge(uacp.Acknowledge{ReceiveBufSize: bufferSize, SendBufSize: bufferSize}))
}

func acknowledge(ack uacp.Acknowledge) []byte {
	body, err := ack.Encode()
	if err != nil {
		panic(err)
	}
	return finish(append(startChunk("ACK", final), body...))
}

// open answers Hello and OpenSecureChannel properly, without security.
func (h *hostile) open() {
	h.greet()
	h.read()
	body, err := encode(&ua.OpenSecureChannelResponse{
		ResponseHeader: &ua.ResponseHeader{RequestHandle: 1, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
		SecurityToken:  &ua.ChannelSecurityToken{ChannelID: 7, TokenID: 9, RevisedLifetime: 3_600_000},
	})
	if err != nil {
		h.t.Error(err)
	}
	s := unsecured()
	b, err := seal(openHead(7, &s), 1, 1, body, nil, false, false)
	if err != nil {
		h.t.Error(err)
	}
	h.write(b)
}

// answer sends a part of an answer to a request.
func (h *hostile) answer(more byte, request uint32, part []byte) {
	h.buf = append(h.buf[:0], 'M', 'S', 'G', more, 0, 0, 0, 0)
	for _, n := range []uint32{7, 9, 2, request} {
		h.buf = binary.LittleEndian.AppendUint32(h.buf, n)
	}
	h.buf = append(h.buf, part...)
	h.write(finish(h.buf))
}

// asked waits for the client's first request and returns its number.
func (h *hostile) asked() uint32 {
	b := h.read()
	if len(b) < 24 {
		h.t.Error("the client does not ask")
		return 0
	}
	return binary.LittleEndian.Uint32(b[20:])
}

// answerAll sends a whole message in chunks.
func (h *hostile) answerAll(request uint32, message []byte) {
	for len(message) > 60_000 {
		h.answer(intermediate, request, message[:60_000])
		message = message[60_000:]
	}
	h.answer(final, request, message)
}

// head is the beginning of an answer to GetEndpoints, up to ServiceDiagnostics.
func responseHead(kind uint16) []byte {
	id, err := ua.NewFourByteExpandedNodeID(0, kind).Encode()
	if err != nil {
		panic(err)
	}
	return append(id, make([]byte, 8+4+4)...) // time, handle, status
}

const (
	endpointsResponse = 431 // the encodings of GetEndpointsResponse and ReadResponse
	readResponse      = 634
)

// nested is a message whose diagnostics lie n deep in each other, a byte each.
func nested(n int) []byte {
	return append(responseHead(endpointsResponse), append(bytes.Repeat([]byte{ua.DiagnosticInfoInnerDiagnosticInfo}, n), 0)...)
}

// values is an answer to Read whose only value is encoded like that.
func values(variant ...byte) []byte {
	b := append(responseHead(readResponse), 0)              // no diagnostics
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0)          // no strings, no more header
	b = binary.LittleEndian.AppendUint32(b, 1)              // one result
	return append(append(b, ua.DataValueValue), variant...) // only a value
}

// What a server sends costs no more memory than the bounds say, and the fault has
// a name. The first two are the bytes of the design documents (G1, G2).
func TestAHostileServerTakesNoMemory(t *testing.T) {
	huge := uacp.Acknowledge{ReceiveBufSize: 1<<31 - 1, SendBufSize: 1<<31 - 1, MaxMessageSize: 1<<31 - 1, MaxChunkCount: 1<<31 - 1}
	if n := len(acknowledge(huge)); n != 28 {
		t.Fatalf("an Acknowledge of %d bytes, want 28", n)
	}
	matrix := binary.LittleEndian.AppendUint32([]byte{0xc6, 1, 0, 0, 0, 1, 0, 0, 0}, 1<<31-1)
	bomb, megabyte := nested(12<<20), nested(1<<20-100)
	var deep []byte
	for range 100_000 {
		deep = append(deep, 0x98, 0xff, 0xff, 0, 0) // an array of 65535 Variants, the first of which is one
	}
	for _, c := range []struct {
		name  string
		serve func(h *hostile)
		want  string
	}{
		{"28 bytes of Acknowledge that announce 2 GiB, and a chunk as long", func(h *hostile) {
			h.read()
			h.write(acknowledge(huge))
			h.read()
			h.write(binary.LittleEndian.AppendUint32([]byte("MSGF"), 1<<31-8))
		}, "a chunk of 2147483640 bytes"},
		{"12 MB of diagnostics in diagnostics", func(h *hostile) {
			h.open()
			h.answerAll(h.asked(), bomb)
		}, "longer than 1048576 bytes"},
		{"1 MB of them", func(h *hostile) {
			h.open()
			h.answerAll(h.asked(), megabyte)
		}, "more than 100 deep"},
		{"an Acknowledge of no bytes at a time", func(h *hostile) {
			h.read()
			h.write(acknowledge(uacp.Acknowledge{}))
		}, "takes 0 bytes at a time"},
		{"a short Acknowledge", func(h *hostile) {
			h.read()
			h.write(finish(startChunk("ACK", final)))
		}, "too short"},
		{"an array of -2 values", func(h *hostile) {
			h.open()
			h.answerAll(h.asked(), values(0x86, 0xfe, 0xff, 0xff, 0xff))
		}, "an array of -2 values"},
		{"2 Gi dimensions", func(h *hostile) {
			h.open()
			h.answerAll(h.asked(), values(matrix...))
		}, "2147483647 dimensions"},
		{"arrays of arrays", func(h *hostile) {
			h.open()
			h.answerAll(h.asked(), values(deep...))
		}, "not decoded"},
		{"more results than bytes", func(h *hostile) {
			h.open()
			b := values()
			h.answerAll(h.asked(), binary.LittleEndian.AppendUint32(b[:len(b)-5], 1<<31-1))
		}, "ends in the middle"},
		{"a megabyte of empty results", func(h *hostile) {
			h.open()
			b := values()
			b = binary.LittleEndian.AppendUint32(b[:len(b)-5], 900_000)
			h.answerAll(h.asked(), append(b, make([]byte, 900_000)...))
		}, "more memory than"},
		{"an answer that does not end", func(h *hostile) {
			h.open()
			request, part := h.asked(), make([]byte, 60_000)
			for range 100 {
				h.answer(intermediate, request, part)
			}
		}, "longer than 1048576 bytes"},
		{"answers to nobody", func(h *hostile) {
			h.open()
			request, part := h.asked(), make([]byte, 60_000)
			for i := range uint32(500) {
				h.answer(intermediate, request+1+i, part)
			}
			h.answer('X', request, nil)
		}, "unknown kind"},
		{"a chunk of 7 bytes", func(h *hostile) {
			h.open()
			h.asked()
			h.write([]byte{'M', 'S', 'G', 'F', 7, 0, 0, 0})
		}, "a chunk of 7 bytes"},
		{"a chunk without a body", func(h *hostile) {
			h.open()
			h.asked()
			h.write([]byte{'M', 'S', 'G', 'F', 16, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0})
		}, "not sealed as agreed"},
		{"a key that nobody knows", func(h *hostile) {
			h.open()
			h.asked()
			h.write([]byte{'M', 'S', 'G', 'F', 16, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0})
		}, "which nobody knows"},
		{"a channel that nobody asked for", func(h *hostile) {
			h.open()
			h.asked()
			h.write(finish(startChunk("OPN", final)))
		}, "nobody asked for"},
		{"an unknown message", func(h *hostile) {
			h.open()
			h.answerAll(h.asked(), []byte{1, 0, 0xff, 0xff})
		}, "cannot be decoded"},
		{"a web server", func(h *hostile) {
			h.read()
			h.write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		}, "no OPC UA server"},
		{"an error", func(h *hostile) {
			h.read()
			body, err := (&uacp.Error{ErrorCode: uint32(ua.StatusBadTCPEndpointURLInvalid), Reason: "no"}).Encode()
			if err != nil {
				h.t.Error(err)
			}
			h.write(finish(append(startChunk("ERR", final), body...)))
		}, "BadTCPEndpointURLInvalid"},
		{"another policy", func(h *hostile) {
			h.greet()
			h.read()
			s := security{policy: strong}
			h.write(finish(openHead(7, &s)))
		}, "opens the channel with the policy"},
		{"nothing", func(h *hostile) { h.open() }, "the server gives no answer within"},
		{"the end", func(h *hostile) {
			h.open()
			h.asked()
			h.conn.Close()
		}, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			allocated, stacks, err := attacked(t, c.serve)
			if err == nil || !strings.Contains(err.Error()+statusName(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			// Sixteen times the longest message, for both sides of it.
			if limit := uint64(16 << 20); allocated > limit || stacks > limit {
				t.Errorf("%d bytes were allocated and %d of stacks, want less than %d", allocated, stacks, limit)
			}
		})
	}
}

// attacked asks a hostile server for its endpoints, and returns how many bytes
// both sides have allocated for that, and how much their stacks have grown.
func attacked(t *testing.T, serve func(*hostile)) (allocated, stacks uint64, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		serve(&hostile{t: t, conn: conn})
		_, _ = io.Copy(io.Discard, conn) // until the client hangs up
	}()
	o := defaults()
	o.Endpoint = Endpoint("opc.tcp://" + l.Addr().String())
	// Long enough for a loaded machine where an answer comes.
	o.Timeout = config.Duration(20 * time.Second)
	if strings.HasSuffix(t.Name(), "/nothing") {
		o.Timeout = config.Duration(200 * time.Millisecond)
	}
	var before, after runtime.MemStats
	s := &session{d: &driver{o: o, lifetime: time.Hour}, lost: make(chan struct{})}
	runtime.ReadMemStats(&before)
	_, err = s.endpoints(t.Context())
	runtime.ReadMemStats(&after)
	<-done
	return after.TotalAlloc - before.TotalAlloc, max(after.StackSys, before.StackSys) - before.StackSys, err
}

// What lies in a structure of a vendor's, which skim cannot look into, is skimmed
// when it is taken apart.
func TestAHostileStructure(t *testing.T) {
	l := &layout{name: "Line", fields: []field{{name: "any", built: ua.TypeIDVariant}}}
	encoding := ua.NewStringNodeID(2, "hostile")
	keepBodies(encoding)
	for _, c := range []struct {
		bytes []byte
		want  string
	}{
		{[]byte{0x06, 1, 0, 0, 0}, ""},
		{[]byte{0x86, 0xfe, 0xff, 0xff, 0xff}, "an array of -2 values"},
		{binary.LittleEndian.AppendUint32([]byte{0xc6, 1, 0, 0, 0, 1, 0, 0, 0}, 1<<31-1), "2147483647 dimensions"},
	} {
		b, err := encode(&ua.ReadResponse{ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}, Results: []*ua.DataValue{{
			EncodingMask: ua.DataValueValue, Value: ua.MustVariant(&ua.ExtensionObject{TypeID: ua.NewExpandedNodeID(encoding, "", 0), EncodingMask: ua.ExtensionObjectBinary, Value: &body{c.bytes}}),
		}}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		eo, _ := m.(*ua.ReadResponse).Results[0].Value.Value().(*ua.ExtensionObject)
		_, problem := layouts{byEncoding: map[string]*layout{encoding.String(): l}}.open(eo)
		if (problem == "") != (c.want == "") || !strings.Contains(problem, c.want) {
			t.Errorf("%x: %s, want %q", c.bytes, problem, c.want)
		}
	}
}

// Requests that wait when the channel ends all return, with its cause.
func TestTheEndOfAChannelIsEverybodysEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		h := &hostile{t: t, conn: conn}
		h.open()
		for range 5 {
			h.asked()
		}
		h.write(finish(startChunk("ERR", final)))
	}()
	o := defaults()
	o.Endpoint = Endpoint("opc.tcp://" + l.Addr().String())
	link, err := dialLink(t.Context(), new(socket), &o, unsecured(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 5)
	for range 5 {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := link.channel.call(ctx, nil, &ua.GetEndpointsRequest{})
			errs <- err
		}()
	}
	for range 5 {
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "an error that cannot be read") {
			t.Error(err)
		}
	}
	link.close(t.Context())
}
