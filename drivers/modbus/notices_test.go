package modbus

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/drivers"
)

// A unit that is known to answer wrongly now and then is not listened to for its
// whole time-out once something else has come; what is slow and right is found by
// the second try.
func TestAUnitThatAnswersWronglyIsNotListenedToInVain(t *testing.T) {
	const timeout = 5 * time.Second
	for name, wrong := range map[string]func(request []byte) []byte{
		"whole":        func(r []byte) []byte { return rtuFrame(r[0], 4, 2, 0, 7) },
		"a byte short": func(r []byte) []byte { f := ownRegisters(r); return append(f[:4], f[5:]...) },
		"in pieces":    func(r []byte) []byte { return ownRegisters(r)[:4] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var spoilt, again time.Time
			var b *bus
			b = newBus(t, func(request []byte) [][]byte {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case spoilt.IsZero():
					spoilt = time.Now()
					if name == "in pieces" {
						rest := ownRegisters(request)[4:]
						time.AfterFunc(2*rtuGap, func() { b.send(rest) })
					}
					return [][]byte{wrong(request)}
				case again.IsZero():
					again = time.Now()
				}
				return [][]byte{ownRegisters(request)}
			})
			d := onLine(t, openLine(t, "endpoint: "+b.listener.Addr().String()), "unit: 3\ntimeout: "+timeout.String()+"\ntags: {a: holding:1, b: holding:50}\n")
			defer d.Close()
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			d.unit.well = true
			for range spoiltMost {
				d.unit.spoilt = append(d.unit.spoilt, time.Now())
			}
			scans, err := d.Read(t.Context())
			if err != nil || wantOwn(t, 3, scans) != 2 {
				t.Fatalf("read: %v, %v", scans, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if took := again.Sub(spoilt); took < rtuGap || took > timeout*4/5 {
				t.Errorf("it was asked again after %v, with a time-out of %v", took, timeout)
			}
		})
	}
}

// What a gateway box says too late is said as what it is: a longer time-out would
// not bring the device behind it back.
func TestAnExceptionOfABoxThatComesTooLateIsNamed(t *testing.T) {
	const timeout = 50 * time.Millisecond
	address := peer(t, func(r []byte) [][]byte {
		<-time.After(timeout + 30*time.Millisecond) // a box's own time-out
		return [][]byte{frame(r, r[6], 0x83, byte(gatewayTargetLost))}
	})
	l := openLine(t, "framing: tcp\nendpoint: "+address)
	beside := onLine(t, l, "unit: 1\ntags: {a: holding:0}\n") // keeps the line open
	defer beside.Close()
	if err := beside.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]drivers.Driver{
		"connection": openDriver(t, "driver: modbus\nendpoint: ENDPOINT\nunit: 19\ntimeout: 50ms\ntags: {a: holding:0}\n", address),
		"line":       onLine(t, l, "unit: 19\ntimeout: 50ms\ntags: {a: holding:0}\n"),
	} {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			deadline := time.Now().Add(20 * time.Second)
			for session := uint64(1); ; session++ {
				err := d.Connect(t.Context(), session)
				for err == nil {
					_, err = d.Read(t.Context())
				}
				if strings.Contains(err.Error(), "but exception 11 of the gateway box came after ") && !strings.Contains(err.Error(), "raise timeout") {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("nobody says what came too late: %v", err)
				}
			}
		})
	}
}

// What a unit once took too long for is no cause of a silence after it has answered
// in time again; and behind a box the line has no baud.
func TestTheCauseOfASilenceIsThatOfNow(t *testing.T) {
	s := &station{unit: 7, timeout: time.Second, line: &line{name: "hall", rtu: true}}
	said := func() string { return s.silentFor().Error() }
	if got := said(); !strings.Contains(got, "baud and parity of line hall") {
		t.Error(got)
	}
	s.cameLate(2*time.Second, 0)
	if got := said(); !strings.Contains(got, "raise timeout") {
		t.Error(got)
	}
	b := newBus(t, func(r []byte) [][]byte { return [][]byte{ownRegisters(r)} })
	d := onLine(t, openLine(t, "endpoint: "+b.listener.Addr().String()), "unit: 7\ntags: {a: holding:0}\n")
	defer d.Close()
	d.unit.cameLate(time.Hour, 0)
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(t.Context()); err != nil || d.unit.late != 0 {
		t.Errorf("after a good answer: %v, %v", d.unit.late, err)
	}
	s = &station{unit: 7, timeout: time.Second, line: &line{name: "hall"}}
	if got := said(); strings.Contains(got, "baud") || !strings.Contains(got, "the gateway box of line hall") {
		t.Error(got)
	}
}

// An answer too many of a unit that is known to be slow is most likely a late one.
func TestAUnitThatAnswersLateIsToldSo(t *testing.T) {
	l := openLine(t, "endpoint: 127.0.0.1:1")
	d := onLine(t, l, "unit: 3\ntimeout: 300ms\ntags: {a: holding:0}\n")
	d.unit.answersTwice()
	if n := d.Notices(); len(n) != 1 || !strings.HasPrefix(n[0].Text, "unit 3 answers twice; ") || !strings.HasPrefix(n[0].Do, "Give each device") {
		t.Errorf("%+v", n)
	}
	d.unit.cameLate(700*time.Millisecond, deviceBusy)
	if n := d.Notices(); len(n) != 1 || !strings.HasPrefix(n[0].Text, "unit 3 answers twice, or too late: one answer came after 7") || !strings.HasPrefix(n[0].Do, "Raise timeout") || n[0].Since.IsZero() {
		t.Errorf("%+v", n)
	}
}

// A device with a connection of its own that repeats its answers is named while it
// does.
func TestADeviceThatRepeatsItsAnswersIsNamed(t *testing.T) {
	d := openDriver(t, twoTags, peer(t, func(r []byte) [][]byte {
		f := frame(r, 1, 3, 4, 1, 2, 3, 4)
		return [][]byte{append(f, f...)}
	})).(*driver)
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := d.Notices(); len(n) != 0 {
		t.Errorf("before anything happened: %+v", n)
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(d.Notices()) == 0 {
		if _, err := d.Read(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatal("nobody names it", err)
		}
	}
	if n := d.Notices()[0]; !strings.Contains(n.Text, "it answers twice") || n.Do == "" || n.Since.IsZero() {
		t.Errorf("%+v", n)
	}
	if !d.own.repeats.since(time.Now().Add(repeatsFor)).IsZero() {
		t.Error("it is named for ever")
	}
}

// What is too short to hold a code is no exception.
func TestExceptionOf(t *testing.T) {
	for _, c := range []struct {
		answer []byte
		want   exception
	}{{[]byte{3, 2}, 0}, {[]byte{0x83, 11}, gatewayTargetLost}, {[]byte{0x83}, 0}, {nil, 0}} {
		if got := exceptionOf(c.answer); got != c.want {
			t.Errorf("% x: %d", c.answer, got)
		}
	}
}
