package modbus

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	pdu "github.com/goburrow/modbus"
	"go.uber.org/zap"
)

// What goburrow and we take for a check sum is the same.
func TestCRC(t *testing.T) {
	for n := range 256 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*7 + n)
		}
		f := rtuFrame(byte(n), 3, b[:min(n, 250)]...)
		if !rightCRC(f) {
			t.Fatalf("% x", f)
		}
		f[n%len(f)] ^= 1 << (n % 8)
		if rightCRC(f) {
			t.Fatalf("a flipped bit is not seen: % x", f)
		}
	}
}

// FuzzRTU lets a line say anything. What is taken for an answer is a frame of it
// with a right check sum that answers this very request; all else is an error
// that names no value.
func FuzzRTU(f *testing.F) {
	f.Add([]byte{7, 3, 4, 0x11, 0x22, 0x33, 0x44, 0, 0}, byte(3), uint16(2))
	f.Fuzz(func(t *testing.T, input []byte, function byte, count uint16) {
		functions := []byte{1, 2, 3, 4, 5, 6, 16}
		if bytes.IndexByte(functions, function) < 0 {
			function = functions[int(function)%len(functions)]
		}
		if function <= 4 {
			count = 1 + count%125
		}
		data := []byte{0, 9, byte(count >> 8), byte(count)}
		request := rtuFrame(7, function, data...)
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			defer far.Close()
			if _, err := io.ReadFull(far, make([]byte, len(request))); err == nil {
				_, _ = far.Write(input) // the driver may hang up at any byte
			}
		}()
		l := &line{name: "hall", log: zap.NewNop(), probing: make(chan struct{}, 1)}
		s := l.station(7, time.Second, 0)
		s.ctx = t.Context()
		answer, err := newRTU(near, l).exchange(s, request, time.Now().Add(time.Second))
		if err != nil {
			if answer != nil {
				t.Error("an error with an answer")
			}
			return
		}
		if !bytes.Contains(input, answer) || !rightCRC(answer) || answer[0] != 7 || answer[1]&0x7F != function {
			t.Fatalf("request % x was answered by % x", request, answer)
		}
		h := pdu.NewRTUClientHandler("")
		h.SlaveId = 7
		if _, err := h.Decode(answer); err != nil {
			t.Errorf("goburrow does not take % x: %v", answer, err)
		}
		switch {
		case answer[1]&0x80 != 0:
			if len(answer) != exceptionRTU || answer[2] == 0 {
				t.Errorf("an exception of % x", answer)
			}
		case function <= 4:
			if want := shapeOf(function, int(count)).size; len(answer) != want || int(answer[2]) != want-5 {
				t.Errorf("% x to a read of %d", answer, count)
			}
		case !bytes.Equal(answer[2:6], data):
			t.Errorf("% x confirms % x", answer, request)
		}
	})
}

// The corpora stay: what was once thought of is tried at each test.
func TestCorpora(t *testing.T) {
	for _, target := range []string{"FuzzRTU", "FuzzTransport", "FuzzParseAddress"} {
		entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", target))
		if err != nil || len(entries) < 60 {
			t.Errorf("%s has %d frames, want 60: %v", target, len(entries), err)
		}
	}
}
