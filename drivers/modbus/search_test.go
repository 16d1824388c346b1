package modbus

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/plant"
)

// moody is a device of holding registers that hold their own address, with
// exceptions that depend on the time. It lives in a bubble, behind a pipe.
type moody struct {
	refuse func(start, end int, now time.Duration) exception // 0 for none
	begin  time.Time
	asked  []string
	driver *driver
}

// newMoody opens a driver on the device; the test closes it.
func newMoody(t *testing.T, tags string, refuse func(start, end int, now time.Duration) exception) *moody {
	t.Helper()
	return newMoodyText(t, "tags:\n"+tags, refuse)
}

// newMoodyText is newMoody with the device's own keys.
func newMoodyText(t *testing.T, text string, refuse func(start, end int, now time.Duration) exception) *moody {
	t.Helper()
	m := &moody{refuse: refuse, begin: time.Now()}
	near, far := net.Pipe()
	go m.serve(far)
	m.driver = openPlan(t, "driver: modbus\nendpoint: ENDPOINT\n"+text, "10.0.0.7").Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()}).(*driver)
	m.driver.own.start(near, 1)
	m.driver.session, m.driver.roots = 1, fresh(m.driver.planned)
	return m
}

func (m *moody) serve(c net.Conn) {
	defer c.Close()
	for request := make([]byte, 12); ; {
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		start, count := int(binary.BigEndian.Uint16(request[8:])), int(binary.BigEndian.Uint16(request[10:]))
		m.asked = append(m.asked, fmt.Sprintf("%d+%d", start, count))
		body := []byte{1, 3, byte(2 * count)}
		for i := range count {
			body = binary.BigEndian.AppendUint16(body, uint16(start+i))
		}
		if e := m.refuse(start, start+count, time.Since(m.begin)); e != 0 {
			body = []byte{1, 0x83, byte(e)}
		}
		if _, err := c.Write(frame(request, body...)); err != nil {
			return
		}
	}
}

// read does one Read and returns how many tags are good; a good tag has the
// value of its address, and every tag is given once.
func (m *moody) read(t *testing.T) (good int) {
	t.Helper()
	m.asked = m.asked[:0]
	scans, err := m.driver.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	given := map[plant.TagID]bool{}
	for _, s := range scans {
		for _, r := range s.Readings {
			if given[r.Tag] {
				t.Errorf("%s is given twice", r.Tag)
			}
			given[r.Tag] = true
			switch {
			case r.Quality != plant.Good && (r.Cause == "" || !r.Value.IsZero()):
				t.Errorf("%s is bad: %v %q", r.Tag, r.Value, r.Cause)
			case r.Quality == plant.Good:
				good++
				if at := m.driver.points[r.Tag].start; r.Value != plant.UintValue(uint64(at)) {
					t.Errorf("%s = %v, want %d", r.Tag, r.Value, at)
				}
			}
		}
	}
	if len(given) != len(m.driver.points) {
		t.Errorf("%d tags given of %d", len(given), len(m.driver.points))
	}
	return good
}

// readUntil reads once a second until all of n tags are good, and returns when.
func (m *moody) readUntil(t *testing.T, n int, limit time.Duration) time.Duration {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(time.Second) {
		if m.read(t) == n {
			return time.Since(begin)
		}
	}
	t.Fatalf("%d tags were never good within %v", n, limit)
	return 0
}

func registers(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "  t%d: holding:%d\n", i, i)
	}
	return b.String()
}

func touches(address int, e exception) func(int, int, time.Duration) exception {
	return func(start, end int, _ time.Duration) exception {
		if start <= address && address < end {
			return e
		}
		return 0
	}
}

// One address that refuses with whatever exception costs its neighbours at most
// some reads; those of the unit need a block beside that is answered.
func TestEveryExceptionOfOneAddressIsFound(t *testing.T) {
	for e := exception(1); e < 14; e++ {
		limit := 14 * time.Second
		switch {
		case e.ofAddress():
			limit = time.Second
		case e.ofUnit():
			limit = unitPatience + 3*time.Second
		}
		synctest.Test(t, func(t *testing.T) {
			m := newMoody(t, registers(0, 12)+"  other: holding:500\n", touches(5, e))
			defer m.driver.Close()
			took := m.readUntil(t, 12, limit)
			if e.ofUnit() && took < unitPatience {
				t.Errorf("exception %d divided after %v", e, took)
			}
			for range 100 {
				time.Sleep(time.Second)
				if good := m.read(t); good != 12 {
					t.Errorf("exception %d: %d tags are good, later", e, good)
				}
			}
		})
	}
}

// A unit that is busy as a whole is no reason to search for an address. Of one
// that is not there one block is asked for at a time, each in its turn.
func TestABusyUnitIsNotDivided(t *testing.T) {
	for _, e := range []exception{acknowledge, deviceBusy, gatewayPathMissing, gatewayTargetLost} {
		synctest.Test(t, func(t *testing.T) {
			m := newMoody(t, registers(0, 12)+"  other: holding:500\n", func(_, _ int, now time.Duration) exception {
				if now < 5*time.Minute {
					return e
				}
				return 0
			})
			defer m.driver.Close()
			want, turns := 2, map[string]int{}
			if e.ofWay() {
				want = 1
			}
			for range 299 {
				if good := m.read(t); good != 0 || len(m.asked) != want {
					t.Fatalf("exception %d: asked %v, %d good", e, m.asked, good)
				}
				turns[m.asked[0]]++
				time.Sleep(time.Second)
			}
			if e.ofWay() && (len(turns) != 2 || turns["0+12"] < 149 || turns["500+1"] < 149) {
				t.Errorf("exception %d: %v", e, turns)
			}
			m.readUntil(t, 13, 3*time.Second)
			if len(m.asked) != 2 {
				t.Errorf("exception %d: asked %v afterwards", e, m.asked)
			}
		})
	}
}

// A register in a hole that nobody asked for costs no tag, and is left out.
func TestARefusedHoleIsLeftOut(t *testing.T) {
	for _, e := range []exception{illegalFunction, illegalAddress, illegalValue, 4, 7, 9} {
		synctest.Test(t, func(t *testing.T) {
			m := newMoody(t, registers(0, 3)+registers(6, 20), touches(4, e))
			defer m.driver.Close()
			m.readUntil(t, 17, 5*time.Second)
			whole := 0
			for range 600 {
				time.Sleep(time.Second)
				if good := m.read(t); good != 17 {
					t.Fatalf("%d tags are good", good)
				}
				if len(m.asked) == 3 {
					whole++
				} else if len(m.asked) != 2 || m.asked[0] != "0+3" || m.asked[1] != "6+14" {
					t.Fatalf("asked %v", m.asked)
				}
			}
			if whole < 1 || whole > 7 {
				t.Errorf("the whole was tried %d times in 10 minutes", whole)
			}
		})
	}
}

// A PLC that boots refuses everything, then has it: all tags are back within
// twice the time, in one request again, and no Read asks for too much.
func TestAPLCThatBoots(t *testing.T) {
	for _, boot := range []time.Duration{300 * time.Millisecond, 4 * time.Second, 40 * time.Second} {
		for _, e := range []exception{illegalFunction, illegalAddress, illegalValue, 4} {
			synctest.Test(t, func(t *testing.T) {
				m := newMoody(t, registers(0, 100), func(_, _ int, now time.Duration) exception {
					if now < boot {
						return e
					}
					return 0
				})
				defer m.driver.Close()
				const interval = 50 * time.Millisecond
				for time.Since(m.begin) < boot {
					m.read(t)
					if len(m.asked) == 0 || len(m.asked) > 1+maxExtra {
						t.Fatalf("exception %d: %d requests in one Read", e, len(m.asked))
					}
					time.Sleep(interval)
				}
				for m.read(t) != 100 {
					if time.Since(m.begin) > 2*boot+2*time.Second {
						t.Fatalf("exception %d: not back %v after a boot of %v", e, time.Since(m.begin)-boot, boot)
					}
					time.Sleep(interval)
				}
				// A search that the end of the boot interrupted leaves parts to join.
				for range 11 {
					time.Sleep(time.Second)
					m.read(t)
				}
				time.Sleep(interval)
				if m.read(t); len(m.asked) != 1 {
					t.Errorf("exception %d: afterwards it asks %v", e, m.asked)
				}
			})
		}
	}
}

// What was refused for a moment, in the middle of a block, is joined again.
func TestADividedBlockIsJoinedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMoody(t, registers(0, 100), func(start, end int, now time.Duration) exception {
			if now < 3*time.Second {
				return touches(37, illegalAddress)(start, end, now)
			}
			return 0
		})
		defer m.driver.Close()
		if good := m.read(t); good != 99 {
			t.Errorf("%d good", good)
		}
		m.readUntil(t, 100, 5*time.Second)
		for range 10 {
			time.Sleep(time.Second)
			m.read(t)
		}
		time.Sleep(time.Second)
		if good := m.read(t); good != 100 || len(m.asked) != 1 {
			t.Errorf("%d good, asked %v", good, m.asked)
		}
	})
}

// After everything was divided one bad address remains: all but the way to it
// is joined again.
func TestAllButTheBadAddressIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMoody(t, registers(0, 100), func(start, end int, now time.Duration) exception {
			if now < time.Second/2 {
				return illegalAddress
			}
			return touches(37, illegalAddress)(start, end, now)
		})
		defer m.driver.Close()
		for range 10 {
			m.read(t)
			time.Sleep(50 * time.Millisecond)
		}
		m.readUntil(t, 99, 3*time.Second)
		for range 30 {
			time.Sleep(time.Second)
			if good := m.read(t); good != 99 {
				t.Errorf("%d good", good)
			}
		}
		if len(m.asked) > 9 {
			t.Errorf("it asks %v", m.asked)
		}
	})
}

// A device whose every address is refused for good costs little.
func TestARefusalForGoodCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMoody(t, registers(0, 1000), func(int, int, time.Duration) exception { return illegalAddress })
		defer m.driver.Close()
		total := 0
		for second := range 600 {
			m.read(t)
			if len(m.asked) == 0 || len(m.asked) > 8+maxExtra {
				t.Fatalf("%d requests in one Read", len(m.asked))
			}
			if second >= 300 {
				total += len(m.asked)
			}
			time.Sleep(time.Second)
		}
		if total > 300*25 {
			t.Errorf("%d requests in 5 minutes for 1000 tags", total)
		}
	})
}

// What a device refuses is known over a reconnect: it is bad from the start, not
// searched for again, and asked for when it would have been.
func TestRefusedAddressesAreKnownOverAReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tags := ""
		for i := range 40 {
			tags += fmt.Sprintf("  t%d: holding:%d\n", i, i)
		}
		mended := false
		m := newMoody(t, tags, func(start, end int, _ time.Duration) exception {
			if start <= 17 && 17 < end && !mended {
				return illegalAddress
			}
			return 0
		})
		reconnect := func() {
			t.Helper()
			if err := m.driver.Close(); err != nil {
				t.Fatal(err)
			}
			near, far := net.Pipe()
			go m.serve(far)
			m.driver.own.dial = func(context.Context) (net.Conn, error) { return near, nil }
			if err := m.driver.Connect(t.Context(), m.driver.session+1); err != nil {
				t.Fatal(err)
			}
		}
		defer func() { _ = m.driver.Close() }()
		for range 30 {
			m.read(t)
			time.Sleep(time.Second)
		}
		m.read(t)
		steady := len(m.asked)
		for range 3 {
			reconnect()
			if good := m.read(t); good != 39 {
				t.Errorf("%d good tags, want 39", good)
			}
			if len(m.asked) > steady+1 {
				t.Errorf("the first Read of a session asks %v: %d requests, usual are %d", m.asked, len(m.asked), steady)
			}
			for _, s := range m.driver.scans {
				if !s.Snapshot {
					t.Errorf("%v is no snapshot in the first Read of a session", s.Readings[0].Tag)
				}
			}
			time.Sleep(time.Second)
		}
		mended = true
		reconnect()
		begin := time.Now()
		for m.read(t) < 40 {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took > maxRest {
			t.Errorf("an address that answers again is found after %v", took)
		}
		// A device that refuses everything may be starting: that says nothing of
		// its addresses, so the next session asks for all of them.
		m.refuse = func(int, int, time.Duration) exception { return illegalAddress }
		for range 30 {
			m.read(t)
			time.Sleep(time.Second)
		}
		m.refuse = func(int, int, time.Duration) exception { return 0 }
		reconnect()
		if good := m.read(t); good != 40 {
			t.Errorf("%d good tags after a start, want 40", good)
		}
	})
}
