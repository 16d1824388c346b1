package opcua

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// header is the header of an answer that carries a handle.
func header(handle uint32, status ua.StatusCode) *ua.ResponseHeader {
	return &ua.ResponseHeader{RequestHandle: handle, ServiceResult: status, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

// dialHostile connects to a server of raw bytes.
func dialHostile(t *testing.T, serve func(*hostile)) (*link, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		h := &hostile{t: t, conn: conn}
		serve(h)
		for h.read() != nil { // until the client hangs up
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
	})
	o := defaults()
	o.Endpoint = Endpoint("opc.tcp://" + l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return dialLink(ctx, new(socket), &o, unsecured(), time.Hour)
}

// An answer is believed only if it carries the handle of its request: with that of
// another one its values may be those of other tags, and those of the next, too. The
// channel serves to take leave only, whose answer is that to another one as well.
func TestAnAnswerToAnotherRequestIsNotBelieved(t *testing.T) {
	read := func(h *ua.ResponseHeader) ua.Response {
		return &ua.ReadResponse{ResponseHeader: h, Results: []*ua.DataValue{}}
	}
	fault := func(h *ua.ResponseHeader) ua.Response { return &ua.ServiceFault{ResponseHeader: h} }
	for _, c := range []struct {
		name   string
		answer func(*ua.ResponseHeader) ua.Response
		handle func(request uint32) uint32
		status ua.StatusCode
		want   string // "" is believed
	}{
		{"its own", read, func(n uint32) uint32 { return n }, ua.StatusOK, ""},
		{"that of the one before", read, func(n uint32) uint32 { return n - 1 }, ua.StatusOK, "the answer to another one"},
		{"none", read, func(uint32) uint32 { return 0 }, ua.StatusOK, "the answer to another one"},
		{"a fault's own", fault, func(n uint32) uint32 { return n }, ua.StatusBadTooManyOperations, ""},
		{"a fault without one", fault, func(uint32) uint32 { return 0 }, ua.StatusBadTooManyOperations, ""},
		{"a fault of another one", fault, func(n uint32) uint32 { return n + 1 }, ua.StatusBadTooManyOperations, "the answer to another one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := dialHostile(t, func(h *hostile) {
				h.open()
				n := h.asked()
				body, err := encode(c.answer(header(c.handle(n), c.status)))
				if err != nil {
					t.Error(err)
				}
				h.answer(final, n, body)
				if c.want == "" {
					return
				}
				n = h.asked()
				if body, err = encode(&ua.CloseSessionResponse{ResponseHeader: header(n+1, ua.StatusOK)}); err != nil {
					t.Error(err)
				}
				h.answer(final, n, body)
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			got, err := l.channel.call(ctx, nil, &ua.ReadRequest{})
			switch {
			case c.want != "":
				if err == nil || got != nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "restart the server") {
					t.Errorf("%v, %v, want %q", got, err, c.want)
				}
				if _, next := l.channel.call(ctx, nil, &ua.ReadRequest{}); next == nil || next.Error() != err.Error() {
					t.Errorf("the next request: %v, want %v", next, err)
				}
				if _, leave := l.channel.call(ctx, nil, &ua.CloseSessionRequest{}); leave == nil || !strings.Contains(leave.Error(), c.want) {
					t.Errorf("the farewell: %v, want that it was sent and answered wrongly", leave)
				}
			case c.status != ua.StatusOK:
				if !errors.Is(err, c.status) {
					t.Errorf("%v, want %v", err, c.status)
				}
			case err != nil || got == nil:
				t.Errorf("%v, %v", got, err)
			}
			l.channel.fail(errClosed) // this server answers no farewell
			l.channel.running.Wait()
		})
	}
}

// A server that refuses to open the channel says why in a fault, and the gateway
// says what to do.
func TestAFaultAtOpeningIsNamed(t *testing.T) {
	for status, want := range map[ua.StatusCode]string{
		ua.StatusBadSecurityChecksFailed: untrusted,
		ua.StatusBadCertificateUntrusted: untrusted,
		ua.StatusBadTCPServerTooBusy:     "opens no channel",
	} {
		_, err := dialHostile(t, func(h *hostile) {
			h.greet()
			b := h.read()
			body, err := encode(&ua.ServiceFault{ResponseHeader: header(1, status)})
			if err != nil {
				t.Error(err)
			}
			s := unsecured()
			number := binary.LittleEndian.Uint32(b[len(openHead(0, &s))+4:])
			sealed, err := seal(openHead(0, &s), 1, number, body, nil, false, false)
			if err != nil {
				t.Error(err)
			}
			h.write(sealed)
		})
		if got := explain(err); got == nil || !errors.Is(err, status) || !strings.Contains(got.Error(), want) {
			t.Errorf("%v: %v, want %q", status, got, want)
		}
	}
}
