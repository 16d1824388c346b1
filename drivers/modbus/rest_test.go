package modbus

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goburrow/serial"

	"github.com/sluice-edge/sluice/config"
)

// The options of a port reach the library, which hands those of RS485 to the kernel.
func TestOptionsOfAPort(t *testing.T) {
	o := LineOptions{
		Port: " /dev/ttyUSB0 ", Baud: 9600, Parity: "odd", StopBits: 2,
		RS485: &RS485{SendHigh: true, Before: config.Duration(time.Millisecond), After: config.Duration(2 * time.Millisecond), Hear: true},
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	c := o.serial()
	want := serial.RS485Config{Enabled: true, RtsHighDuringSend: true, DelayRtsBeforeSend: time.Millisecond, DelayRtsAfterSend: 2 * time.Millisecond, RxDuringTx: true}
	if c.RS485 != want || c.Address != "/dev/ttyUSB0" || c.BaudRate != 9600 || c.DataBits != 8 || c.Parity != "O" || c.StopBits != 2 {
		t.Errorf("%+v", c)
	}
	if o.RS485 = nil; o.serial().RS485.Enabled {
		t.Error("RS485 is switched without being asked for")
	}
}

// A device's pause comes before each of its requests, a line's turnaround before
// one to another unit than the last only.
func TestRestsOnALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause, turnaround = 30 * time.Millisecond, 60 * time.Millisecond
		var mu sync.Mutex
		var gap time.Duration // before the newest request
		var done time.Time
		b := newBareBus(func(r []byte) [][]byte {
			mu.Lock()
			defer mu.Unlock()
			gap, done = time.Since(done), time.Now()
			return [][]byte{ownRegisters(r)}
		})
		l := onWire(t, b, "turnaround: 60ms\n")
		one, two := onLine(t, l, "unit: 1\npause: 30ms\ntags: {a: holding:1}\n"), onLine(t, l, "unit: 2\ntags: {a: holding:1}\n")
		defer one.Close()
		defer two.Close()
		for _, d := range []*driver{one, two} {
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		soonest := time.Hour // of unit 2 behind itself
		for i, c := range []struct {
			d     *driver
			least time.Duration
		}{{one, 0}, {one, pause}, {two, turnaround}, {two, 0}, {two, 0}, {two, 0}, {two, 0}, {one, turnaround}, {one, pause}} {
			if _, err := c.d.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			if gap < c.least-time.Millisecond {
				t.Errorf("request %d comes %v behind the one before, want %v", i, gap, c.least)
			}
			if c.d == two && c.least == 0 {
				soonest = min(soonest, gap)
			}
			mu.Unlock()
		}
		if soonest >= turnaround {
			t.Errorf("a unit without a pause waits %v behind itself", soonest)
		}
	})
}
