package modbus

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// peer starts a server that answers each request by the bytes that answer
// returns for it, one write each.
func peer(t testing.TB, answer func(request []byte) [][]byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go servePeer(c, answer)
		}
	}()
	return l.Addr().String()
}

func servePeer(c net.Conn, answer func(request []byte) [][]byte) {
	defer c.Close()
	for {
		request := make([]byte, headerSize)
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		request = append(request, make([]byte, int(binary.BigEndian.Uint16(request[4:]))-1)...)
		if _, err := io.ReadFull(c, request[headerSize:]); err != nil {
			return
		}
		for _, b := range answer(request) {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}

// frame builds an answer to request from the unit id on.
func frame(request []byte, body ...byte) []byte {
	f := append([]byte{}, request[:4]...)
	f = binary.BigEndian.AppendUint16(f, uint16(len(body)))
	return append(f, body...)
}

func withTransaction(f []byte, id uint16) []byte {
	binary.BigEndian.PutUint16(f, id)
	return f
}

// patientTwoTags are for a peer that answers over a socket, on a computer as busy
// as it may be.
var patientTwoTags = strings.Replace(twoTags, "250ms", "20s", 1)

const twoTags = `
driver: modbus
endpoint: ENDPOINT
timeout: 250ms
tags:
  a: holding:0
  b: {address: "holding:1", writable: true}
`

// The peers of this table answer a read of two registers. Whatever they send,
// the tags are 0x1122 and 0x3344 or there is an error in time.
func TestHostileAnswers(t *testing.T) {
	const good, bad = "", "an error"
	request := func(r []byte) uint16 { return binary.BigEndian.Uint16(r) }
	value := []byte{0x11, 0x22, 0x33, 0x44}
	answer := func(r []byte) []byte { return frame(r, append([]byte{1, 3, 4}, value...)...) }
	for _, c := range []struct {
		name   string
		answer func(r []byte) [][]byte
		want   string // a part of the error
	}{
		{"right", func(r []byte) [][]byte { return [][]byte{answer(r)} }, good},
		{"wrong transaction id only", func(r []byte) [][]byte { return [][]byte{withTransaction(answer(r), request(r)+1)} }, "none of the last"},
		{"late answer to the request before", func(r []byte) [][]byte {
			late := withTransaction(frame(r, 1, 3, 4, 9, 9, 9, 9), request(r)-1)
			return [][]byte{append(late, answer(r)...)}
		}, "none of the last"},
		{"endless answers to nobody", func(r []byte) [][]byte {
			var out [][]byte
			for i := range 1000 {
				out = append(out, withTransaction(answer(r), request(r)+1+uint16(i)))
			}
			return out
		}, "none of the last"},
		{"wrong unit", func(r []byte) [][]byte { return [][]byte{frame(r, 2, 3, 4, 9, 9, 9, 9)} }, "unit 2"},
		{"wrong function", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 4, 4, 9, 9, 9, 9)} }, "function 4"},
		{"exception of another function", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 0x84, 2)} }, "function 132"},
		{"exception without a code", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 0x83)} }, "exception without"},
		{"exception with more", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 0x83, 2, 2)} }, "exception without"},
		{"exception 0", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 0x83, 0)} }, "exception without"},
		{"too few registers", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 3, 2, 9, 9)} }, "instead of"},
		{"too many registers", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 3, 6, 9, 9, 9, 9, 9, 9)} }, "instead of"},
		{"no registers", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 3, 0)} }, "instead of"},
		{"no data", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 3)} }, "without data"},
		{"count and length disagree", func(r []byte) [][]byte { return [][]byte{frame(r, 1, 3, 6, 9, 9, 9, 9)} }, "says 6 bytes of data, and 4 are in it"},
		{"length 0", func(r []byte) [][]byte { return [][]byte{append(append([]byte{}, r[:4]...), 0, 0, 1)} }, "length 0"},
		{"length 1", func(r []byte) [][]byte { return [][]byte{append(append([]byte{}, r[:4]...), 0, 1, 1)} }, "length 1"},
		{"length 65535", func(r []byte) [][]byte {
			f := append(append([]byte{}, r[:4]...), 0xFF, 0xFF, 1)
			return [][]byte{append(f, make([]byte, 70000)...)}
		}, "length 65535"},
		{"wrong protocol id", func(r []byte) [][]byte {
			f := answer(r)
			f[3] = 1
			return [][]byte{f}
		}, "protocol id 1"},
		{"text", func([]byte) [][]byte { return [][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n")} }, "protocol"},
		{"single bytes", func(r []byte) [][]byte {
			var out [][]byte
			for _, b := range answer(r) {
				out = append(out, []byte{b})
			}
			return out
		}, good},
		{"half an answer", func(r []byte) [][]byte { return [][]byte{answer(r)[:9]} }, "only 9 bytes of one"},
		{"silence", func([]byte) [][]byte { return nil }, "no answer within"},
		{"endless repetition", func(r []byte) [][]byte { return [][]byte{bytes.Repeat(answer(r), 20)} }, "given before"},
		{"another answer together with the right one", func(r []byte) [][]byte {
			return [][]byte{append(answer(r), frame(r, 1, 3, 4, 9, 9, 9, 9)...)}
		}, "different answer"},
		{"another answer before the right one", func(r []byte) [][]byte {
			return [][]byte{append(frame(r, 1, 3, 4, 9, 9, 9, 9), answer(r)...)}
		}, "different answer"},
		{"an exception, then the answer", func(r []byte) [][]byte {
			return [][]byte{append(frame(r, 1, 0x83, 11), answer(r)...)}
		}, "different answer"},
		{"junk behind the answer", func(r []byte) [][]byte { return [][]byte{append(answer(r), "HTTP/1.1 400"...)} }, "protocol id"},
		{"the answer twice together", func(r []byte) [][]byte { return [][]byte{bytes.Repeat(answer(r), 2)} }, good},
		{"the answer twice", func(r []byte) [][]byte { return [][]byte{answer(r), answer(r)} }, good},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			d := openWired(t, twoTags, c.answer)
			defer d.Close()
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for range 3 {
				scans, err := d.Read(t.Context())
				if c.want != good {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Fatalf("read: %v, want %q", err, c.want)
					}
					if _, err := d.Read(t.Context()); !errors.Is(err, drivers.ErrNotConnected) {
						t.Errorf("the session went on: %v", err)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for i, want := range []uint64{0x1122, 0x3344} {
					if got := scans[0].Readings[i]; got.Value != plant.UintValue(want) || got.Quality != plant.Good {
						t.Errorf("%s = %v (%v), want %d", got.Tag, got.Value, got.Quality, want)
					}
				}
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A repeated answer is dropped, whenever it comes, and counted.
func TestRepeatedAnswersAreCounted(t *testing.T) {
	var last []byte
	d := openDriver(t, patientTwoTags, peer(t, func(r []byte) [][]byte {
		before := last
		last = frame(r, 1, 3, 4, byte(len(before)), 2, 3, 4)
		return [][]byte{bytes.Clone(append(before, last...))}
	}))
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := d.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.(drivers.DuplicateCounter).Duplicates(); n != 4 {
		t.Errorf("%d duplicates counted, want 4", n)
	}
}

// A wrong answer to one request of a Read, contradicted during the next: nothing
// of that Read is handed over.
func TestAContradictedReadIsNotHandedOver(t *testing.T) {
	var second []byte
	d := openDriver(t, patientTwoTags+"  far: holding:500\n", peer(t, func(r []byte) [][]byte {
		if r[11] == 2 {
			second = frame(r, 1, 3, 4, 1, 1, 1, 1)
			return [][]byte{frame(r, 1, 3, 4, 9, 9, 9, 9)}
		}
		return [][]byte{second, frame(r, 1, 3, 2, 5, 5)}
	}))
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if scans, err := d.Read(t.Context()); err == nil || len(scans) != 0 || !strings.Contains(err.Error(), "different answer") {
		t.Errorf("read: %v, %v", scans, err)
	}
}

// One byte a second keeps a time-out of single reads from ever firing; ours is
// for the whole answer.
func TestASlowAnswerIsBoundedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openWired(t, twoTags, func(r []byte) [][]byte {
			time.Sleep(100 * time.Millisecond) // a peer's pace, nothing is waited for
			return [][]byte{frame(r, 1, 3, 4)[:7]}
		})
		defer d.Close()
		if err := d.Connect(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := d.Read(t.Context()); err == nil {
			t.Error("half an answer was taken")
		}
		if took := time.Since(start); took > 350*time.Millisecond+time.Second {
			t.Errorf("it took %v, the time-out is 250ms", took)
		}
	})
}

func TestABabblingPeerCostsNoMemory(t *testing.T) {
	address := peer(t, func(r []byte) [][]byte {
		f := make([]byte, 0, 1<<20)
		for len(f) < 1<<20-300 {
			f = append(f, withTransaction(frame(r, 1, 3, 4, 0, 0, 0, 0), 0xFFFF)...)
		}
		return [][]byte{f, f, f, f}
	})
	d := openDriver(t, twoTags, address)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for session := range uint64(20) {
		if err := d.Connect(t.Context(), session+1); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Read(t.Context()); err == nil {
			t.Error("babble was taken for an answer")
		}
		d.Close()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func TestAWriteNeedsItsEcho(t *testing.T) {
	address := peer(t, func(r []byte) [][]byte {
		f := frame(r, r[6:]...)
		f[len(f)-1]++ // another value than was written
		return [][]byte{f}
	})
	d := openDriver(t, patientTwoTags, address)
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w := plant.Write{Session: 1, Tag: "b", Value: plant.IntValue(7)}
	if err := d.Write(t.Context(), w); err == nil || !strings.Contains(err.Error(), "confirms") {
		t.Errorf("write: %v", err)
	}
	if err := d.Write(t.Context(), w); !errors.Is(err, drivers.ErrNotConnected) {
		t.Errorf("the session went on: %v", err)
	}
}

func TestWaitingForTheLineEndsWithTheContext(t *testing.T) {
	release := make(chan struct{})
	address := peer(t, func([]byte) [][]byte { <-release; return nil })
	defer close(release)
	d := openDriver(t, strings.Replace(twoTags, "250ms", "1h", 1), address)
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	readCtx, stopRead := context.WithCancel(t.Context())
	read := make(chan error)
	go func() { _, err := d.Read(readCtx); read <- err }()
	for len(d.(*driver).carrier.(*transport).busy) == 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := d.Write(ctx, plant.Write{Session: 1, Tag: "b", Value: plant.IntValue(7)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write behind a stuck read: %v", err)
	}
	stopRead()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzTransport lets a peer send anything. Send gives an answer to this very
// request or an error, never the bytes of something else.
func FuzzTransport(f *testing.F) {
	for _, s := range []string{
		"000100000007010304112233440000", "0001000000030183020000", "000000000007010304999999990001000000070103041122334400",
		"00010000ffff01", "0001000000000103", "000100010007010304", "485454502f312e31203430300d0a0d0a",
		"000100000007020304112233440000", "000100000007010404112233440000", "00010000000501030211220000",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(3), uint16(2))
	}
	f.Add([]byte{0, 1, 0, 0, 0, 6, 1, 5, 0, 9, 0xFF, 0}, byte(5), uint16(0xFF00))
	f.Fuzz(func(t *testing.T, input []byte, function byte, count uint16) {
		function = 1 + function%6
		request := []byte{0, 1, 0, 0, 0, 6, 1, function, 0, 9, byte(count >> 8), byte(count)}
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := io.ReadFull(far, make([]byte, len(request))); err == nil {
				_, _ = far.Write(input) // the driver may hang up at any byte
			}
		}()
		tr := newTransport(5*time.Second, 0, nil, zap.NewNop())
		tr.start(near, 1)
		if _, err := tr.acquire(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		defer tr.release()
		answer, err := tr.Send(request)
		if err != nil {
			if tr.link != nil {
				t.Error("an error left the session open")
			}
			return
		}
		defer near.Close()
		if answer[0] != 0 || answer[1] != 1 || answer[6] != 1 || answer[7]&0x7F != function || !strings.Contains(string(input), string(answer)) {
			t.Errorf("request % x was answered by % x", request, answer)
		}
		if answer[7]&0x80 != 0 {
			return
		}
		switch {
		case function <= 2 && len(answer) != 9+(int(count)+7)/8, function > 2 && function <= 4 && len(answer) != 9+2*int(count), function > 4 && len(answer) != 12:
			t.Errorf("request % x was answered by %d bytes", request, len(answer))
		}
	})
}
