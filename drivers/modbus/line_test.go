package modbus

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/plant"
)

// rtuPLC is the device of section behind a device server.
type rtuPLC struct {
	plc
	front *bus
}

func (p rtuPLC) Addr() string { return p.front.listener.Addr().String() }

func (p rtuPLC) Stop() error {
	err := p.plc.Stop()
	p.front.hangUp()
	return err
}

func TestConformanceOnALine(t *testing.T) {
	device := strings.NewReplacer("endpoint: ENDPOINT", "line: hall", "timeout: 1s", "timeout: 400ms").Replace(section)
	for _, framing := range []string{"rtu", "tcp"} {
		t.Run(framing, func(t *testing.T) {
			open := func(t *testing.T, addr string, record plant.Record) drivers.Driver {
				l := openLine(t, "endpoint: "+addr+"\nframing: "+framing+"\n")
				return openPlan(t, device, "").Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Records: []plant.Record{record}, Line: l})
			}
			driverstest.Run(t, driverstest.Subject{
				Start: func(t *testing.T) driverstest.Server {
					server := startPLC(t).(plc)
					if framing == "tcp" {
						return server
					}
					return rtuPLC{server, tcpFront(t, server.Addr())}
				},
				Open:     func(t *testing.T, addr string) drivers.Driver { return open(t, addr, conformanceRecord) },
				Timeout:  time.Second,
				Values:   sectionValues,
				Bad:      "refused",
				Changing: "made", NewValue: plant.UintValue(4712),
				Record: conformanceRecord, Offered: plant.BoolValue(true),
				Order: orderRecord, Changed: nextOrder,
				OpenOrder: func(t *testing.T, addr string) drivers.Driver { return open(t, addr, orderRecord) },
				Writable:  "long", NewWritten: plant.UintValue(1<<63 + 5), ReadOnly: "made",
			})
		})
	}
}

// fourTags are for a wire inside a bubble, or for units that are silent; patientTags
// for those that answer over a socket, on a computer as busy as it may be.
var patientTags = strings.Replace(fourTags, "400ms", "20s", 1)

const fourTags = `
timeout: 400ms
tags:
  a: {address: "holding:1", writable: true}
  b: holding:50
  c: holding:100
  d: holding:150
`

// wantOwn checks that every good reading is the register that was asked for.
func wantOwn(t *testing.T, unit int, scans []plant.Scan) (good int) {
	t.Helper()
	for _, s := range scans {
		for _, r := range s.Readings {
			want := map[plant.TagID]int{"a": 1, "b": 50, "c": 100, "d": 150}[r.Tag] + 1000*unit
			if r.Quality != plant.Good {
				continue
			}
			good++
			if r.Value != plant.UintValue(uint64(want)) {
				t.Errorf("%s = %v, want %d", r.Tag, r.Value, want)
			}
		}
	}
	return good
}

// What hangs on this line answers wrongly in every way, now and then. A value is
// the right one or there is none, and the session goes on over single faults.
func TestHostileLine(t *testing.T) {
	whole := func(f []byte) [][]byte { return [][]byte{f} }
	for _, c := range []struct {
		name   string
		answer func(request, right []byte) [][]byte // every third time
		lost   bool                                 // the right answer cannot be found in it
	}{
		{"noise before", func(_, f []byte) [][]byte { return whole(append([]byte{0xFF, 0x00, 0xF8}, f...)) }, false},
		{"noise behind", func(_, f []byte) [][]byte { return whole(append(f, 0xFF, 0x00)) }, false},
		{"an echo of the request", func(r, f []byte) [][]byte { return [][]byte{r, f} }, false},
		{"single bytes", func(_, f []byte) [][]byte { return slices.Collect(slices.Chunk(f, 1)) }, false},
		{"another unit first", func(r, f []byte) [][]byte {
			other := rtuFrame(9, 3, 2, 9, 9)
			return whole(append(other, f...))
		}, false},
		{"an answer of another length first", func(r, f []byte) [][]byte { return whole(append(rtuFrame(r[0], 3, 4, 9, 9, 9, 9), f...)) }, false},
		{"an answer of another function first", func(r, f []byte) [][]byte { return whole(append(rtuFrame(r[0], 4, 2, 9, 9), f...)) }, false},
		{"silence", func(_, _ []byte) [][]byte { return nil }, true},
		{"half an answer", func(_, f []byte) [][]byte { return whole(f[:4]) }, true},
		{"a wrong check sum", func(_, f []byte) [][]byte {
			f[len(f)-1] ^= 1
			return whole(f)
		}, true},
		{"a bit is flipped", func(_, f []byte) [][]byte {
			f[4] ^= 0x10
			return whole(f)
		}, true},
		{"wrong unit", func(r, f []byte) [][]byte { return whole(rtuFrame(r[0]+1, 3, 2, 9, 9)) }, true},
		{"wrong function", func(r, f []byte) [][]byte { return whole(rtuFrame(r[0], 4, 2, 9, 9)) }, true},
		{"exception of another function", func(r, f []byte) [][]byte { return whole(rtuFrame(r[0], 0x84, 2)) }, true},
		{"exception without a code", func(r, f []byte) [][]byte { return whole(rtuFrame(r[0], 0x83, 0)) }, true},
		{"too many registers", func(r, f []byte) [][]byte { return whole(rtuFrame(r[0], 3, 4, 9, 9, 9, 9)) }, true},
		{"count and length disagree", func(r, f []byte) [][]byte { return whole(rtuFrame(r[0], 3, 4, 9, 9)) }, true},
		{"text", func(_, _ []byte) [][]byte { return whole([]byte("login: ")) }, true},
		{"the right answer twice", func(_, f []byte) [][]byte { return whole(append(f, f...)) }, false},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			var n atomic.Int64
			b := newBareBus(func(request []byte) [][]byte {
				right := ownRegisters(request)
				if n.Add(1)%3 == 0 {
					return c.answer(request, right)
				}
				return whole(right)
			})
			d := onLine(t, onWire(t, b, ""), "unit: 7\n"+fourTags)
			defer d.Close()
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				scans, err := d.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if good := wantOwn(t, 7, scans); good != 4 {
					t.Errorf("%d good readings, want 4", good)
				}
			}
		})
	}
}

// A unit that always answers too late, by less and by more than a time-out: the
// answers to other registers come where the next ones are waited for.
func TestLateAnswersOnALine(t *testing.T) {
	const timeout = 40 * time.Millisecond
	for _, lag := range []time.Duration{timeout / 2, timeout * 3 / 2, timeout * 5 / 2, timeout * 9 / 2} {
		inBubble(t, lag.String(), func(t *testing.T) {
			late := make(chan []byte, 1000)
			var l drivers.Line
			b := newBareBus(nil)
			b.answer = func(request []byte) [][]byte {
				answer := ownRegisters(request)
				time.AfterFunc(lag, func() { late <- answer })
				return nil
			}
			stop := make(chan struct{})
			var sending sync.WaitGroup
			sending.Go(func() {
				for {
					select {
					case <-stop:
						return
					case f := <-late:
						b.send(f)
					}
				}
			})
			defer sending.Wait()
			defer close(stop)
			l = onWire(t, b, "")
			d := onLine(t, l, strings.Replace("unit: 7\n"+fourTags, "400ms", timeout.String(), 1))
			defer d.Close()
			named := false
			for session, begin := uint64(1), time.Now(); time.Since(begin) < 2*time.Second; session++ {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				err := d.Connect(ctx, session)
				for err == nil {
					var scans []plant.Scan
					if scans, err = d.Read(ctx); err == nil {
						wantOwn(t, 7, scans)
						if time.Since(begin) > 2*time.Second {
							break
						}
					}
				}
				cancel()
				named = named || err != nil && strings.Contains(err.Error(), "raise timeout")
				d.Close()
			}
			if lag > timeout && !named {
				t.Error("no cause says that timeout is too short")
			}
		})
	}
}

// Dead units cost the good ones little, all together, and are found again.
func TestDeadUnitsOnALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Bool
		b := newBareBus(func(request []byte) [][]byte {
			if request[0] >= 10 && !back.Load() {
				return nil
			}
			return [][]byte{ownRegisters(request)}
		})
		l := onWire(t, b, "")
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		pollers := map[int]*drivers.Poller{}
		for _, unit := range []int{1, 2, 10, 11, 12} {
			if unit == 10 { // a line that only dead units use is closed in between
				await(t, "the good units are connected", func() bool { return pollers[1].Stats().Connected && pollers[2].Stats().Connected })
			}
			p := openPlan(t, "driver: modbus\nline: hall\ninterval: 50ms\ntimeout: 100ms\nunit: "+itoa(unit)+"\ntags: {a: holding:1}\n", "")
			o := p.PollerOptions(plant.DeviceID("unit-" + itoa(unit)))
			o.MinBackoff, o.MaxBackoff = time.Millisecond, 2*time.Millisecond // as hard as it gets
			poller := drivers.NewPoller(o, p.Open(drivers.Env{Name: o.Device, Log: zap.NewNop(), Line: l}), nil, zap.NewNop())
			pollers[unit] = poller
			running.Go(func() { _ = poller.Run(ctx) })
		}
		begin := time.Now()
		await(t, "the good units are read", func() bool { return pollers[1].Stats().Reads > 50 && pollers[2].Stats().Reads > 50 })
		took := time.Since(begin)
		dead := b.count(10) + b.count(11) + b.count(12)
		// Each once at the start, and one part in five of the time afterwards.
		if most := 3 + int(took/(100*time.Millisecond*probeShare)) + 1; dead > most {
			t.Errorf("the dead units were asked %d times in %v, want at most %d", dead, took, most)
		}
		for _, unit := range []int{10, 11, 12} {
			s := pollers[unit].Stats()
			if s.Connected || !strings.Contains(s.LastError, "no answer of unit "+itoa(unit)) {
				t.Errorf("unit %d: connected %v, %q", unit, s.Connected, s.LastError)
			}
		}
		b.mu.Lock()
		if b.connections != 1 {
			t.Errorf("%d connections, want 1", b.connections)
		}
		b.mu.Unlock()
		back.Store(true)
		await(t, "the dead units are back", func() bool {
			return pollers[10].Stats().Connected && pollers[11].Stats().Connected && pollers[12].Stats().Connected
		})
		if s := pollers[1].Stats(); s.Reconnects != 0 {
			t.Errorf("a good unit was lost %d times", s.Reconnects)
		}
	})
}

// A line that hangs up ends every session at once, is opened again by whoever
// comes first, and never spins.
func TestALineThatHangsUp(t *testing.T) {
	b := newBus(t, func(request []byte) [][]byte { return [][]byte{ownRegisters(request)} })
	l := openLine(t, "endpoint: "+b.listener.Addr().String())
	one, two := onLine(t, l, "unit: 1\n"+patientTags), onLine(t, l, "unit: 2\n"+patientTags)
	defer one.Close()
	defer two.Close()
	for session := uint64(1); session < 4; session++ {
		for unit, d := range []*driver{one, two} {
			if err := d.Connect(t.Context(), session); err != nil {
				t.Fatal(err)
			}
			scans, err := d.Read(t.Context())
			if err != nil || wantOwn(t, unit+1, scans) != 4 {
				t.Fatal(scans, err)
			}
		}
		b.hangUp()
		if _, err := one.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "hung up") && !strings.Contains(err.Error(), "reset") {
			t.Errorf("read of a line that hung up: %v", err)
		}
		if _, err := two.Read(t.Context()); !errors.Is(err, drivers.ErrNotConnected) {
			t.Errorf("the other unit: %v, want ErrNotConnected", err)
		}
		w := plant.Write{Session: session, Tag: "a", Value: plant.IntValue(1)}
		if err := two.Write(t.Context(), w); !errors.Is(err, drivers.ErrNotConnected) {
			t.Errorf("write: %v, want ErrNotConnected", err)
		}
		one.Close()
		two.Close()
	}
}

// A unit whose request is cancelled costs the others nothing, and what it still
// answers is nobody's value.
func TestACancelledRequestOnALine(t *testing.T) {
	held := make(chan []byte, 1)
	b := newBus(t, nil)
	b.answer = func(request []byte) [][]byte {
		if request[0] == 1 && len(held) == 0 {
			held <- ownRegisters(request)
			return nil
		}
		return [][]byte{ownRegisters(request)}
	}
	l := openLine(t, "endpoint: "+b.listener.Addr().String())
	one, two := onLine(t, l, strings.Replace("unit: 1\n"+fourTags, "400ms", "1h", 1)), onLine(t, l, "unit: 2\n"+patientTags)
	defer one.Close()
	defer two.Close()
	if err := two.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := one.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan error)
	go func() { _, err := one.Read(ctx); read <- err }()
	await(t, "unit 1 is asked", func() bool { return len(held) == 1 })
	cancel()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	b.send(<-held)
	for range 3 {
		scans, err := two.Read(t.Context())
		if err != nil || wantOwn(t, 2, scans) != 4 {
			t.Fatal(scans, err)
		}
	}
}

// An adaptor that gives back what is sent: the echo of a write is not taken for
// its confirmation.
func TestAnEchoConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes atomic.Int64
		b := newBareBus(func(request []byte) [][]byte {
			if request[1] == 6 {
				writes.Add(1)
				return [][]byte{bytes.Clone(request)} // the echo alone: the unit is off
			}
			return [][]byte{bytes.Clone(request), ownRegisters(request)}
		})
		d := onLine(t, onWire(t, b, ""), "unit: 7\n"+fourTags)
		defer d.Close()
		if err := d.Connect(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "a", Value: plant.IntValue(5)}); err == nil || writes.Load() != 1 {
			t.Errorf("a write that was only echoed: %v after %d requests", err, writes.Load())
		}
	})
}

func itoa(n int) string { return strconv.Itoa(n) }

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: " + what)
		}
	}
}
