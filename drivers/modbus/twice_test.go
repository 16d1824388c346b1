package modbus

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// One answer too many of unit 2 is named at unit 2, and costs unit 1 no time.
func TestAUnitThatAnswersTwiceIsSlowAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last []byte
		doubled := false
		b := newBareBus(func(request []byte) [][]byte {
			answer := ownRegisters(request)
			if request[0] == 2 {
				last = answer
			} else if last != nil && !doubled {
				doubled = true
				answer = append(slices.Clone(last), answer...)
			}
			return [][]byte{answer}
		})
		l := onWire(t, b, "")
		one, two := onLine(t, l, "unit: 1\n"+fourTags), onLine(t, l, "unit: 2\n"+fourTags)
		defer one.Close()
		defer two.Close()
		read := func(unit int, d *driver) time.Duration {
			t.Helper()
			begin := time.Now()
			scans, err := d.Read(t.Context())
			if err != nil || wantOwn(t, unit, scans) != 4 {
				t.Fatal(scans, err)
			}
			return time.Since(begin)
		}
		for _, d := range []*driver{one, two} {
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		read(2, two)
		if n := two.Notices(); len(n) != 0 {
			t.Fatalf("notices before anything happened: %v", n)
		}
		read(1, one)
		fastest := read(1, one)
		for range 9 {
			fastest = min(fastest, read(1, one))
		}
		if fastest >= 4*warySilence {
			t.Errorf("4 requests to the good unit take %v at best", fastest)
		}
		if took := read(2, two); took < 4*warySilence {
			t.Errorf("4 requests to the unit that answered twice take %v, want at least %v", took, 4*warySilence)
		}
		if n := one.Notices(); len(n) != 0 {
			t.Errorf("the good unit is blamed: %v", n)
		}
		n := two.Notices()
		if len(n) != 1 || !strings.Contains(n[0].Text, "unit 2 answers twice") || n[0].Do == "" || n[0].Since.IsZero() {
			t.Errorf("notices: %v", n)
		}
	})
}

// Behind a gateway box an answer that came before is read over, however many
// requests of others went by meanwhile, also if it is the second copy of a late
// one. One to a request that was never made still ends the session.
func TestAnOldAnswerBehindABoxHarmsNobody(t *testing.T) {
	const rounds = 3 * answersKept
	var all [][]byte
	var never atomic.Bool
	address := peer(t, func(r []byte) [][]byte {
		data := []byte{r[6], 3, 2 * r[11]}
		for i := range int(r[11]) {
			v := int(r[8])<<8 + int(r[9]) + i + 1000*int(r[6])
			data = append(data, byte(v>>8), byte(v))
		}
		answer := frame(r, data...)
		all = append(all, slices.Clone(answer))
		switch n := len(all); {
		case never.Load():
			return [][]byte{withTransaction(answer, uint16(n)+1)}
		case n > answersKept+1:
			return [][]byte{append(slices.Clone(all[n-answersKept-2]), answer...)}
		default:
			return [][]byte{answer}
		}
	})
	l := openLine(t, "framing: tcp\nendpoint: "+address)
	one, two := onLine(t, l, "unit: 1\n"+patientTags), onLine(t, l, "unit: 2\n"+patientTags)
	defer one.Close()
	defer two.Close()
	for _, d := range []*driver{one, two} {
		if err := d.Connect(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	for range rounds / 8 {
		for i, d := range []*driver{one, two} {
			scans, err := d.Read(t.Context())
			if err != nil || wantOwn(t, i+1, scans) != 4 {
				t.Fatal(scans, err)
			}
		}
	}
	for i, d := range []*driver{one, two} {
		if n := d.Notices(); len(n) != 1 || !strings.HasSuffix(n[0].Text, "unit "+itoa(i+1)+" answers twice") {
			t.Errorf("notices of unit %d: %v", i+1, n)
		}
	}
	never.Store(true)
	if _, err := one.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "none of the last") {
		t.Errorf("an answer to a request that was never made: %v", err)
	}
}

// While a unit that always answers twice is read, the others have the line.
func TestNobodyWaitsForAUnitThatAnswersTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBareBus(nil)
		var copies sync.WaitGroup
		defer copies.Wait()
		b.answer = func(request []byte) [][]byte {
			answer := ownRegisters(request)
			if request[0] == 2 {
				copies.Add(1)
				time.AfterFunc(warySilence/3, func() {
					defer copies.Done()
					b.send(answer)
				})
			}
			return [][]byte{answer}
		}
		l := onWire(t, b, "")
		one, two := onLine(t, l, "unit: 1\n"+fourTags), onLine(t, l, "unit: 2\n"+fourTags)
		defer one.Close()
		defer two.Close()
		read := func(unit int, d *driver) {
			scans, err := d.Read(t.Context())
			if err != nil || unit == 1 && wantOwn(t, unit, scans) != 4 {
				t.Error(unit, scans, err)
			}
		}
		for unit, d := range []*driver{one, two} {
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			read(unit+1, d)
		}
		await(t, "the copy is seen", func() bool { read(1, one); return len(two.Notices()) > 0 })
		good, bad := b.count(1), b.count(2)
		var reading sync.WaitGroup
		stop := make(chan struct{})
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					read(1, one)
				}
			}
		})
		for range 4 {
			read(2, two)
		}
		close(stop)
		reading.Wait()
		if good, bad = b.count(1)-good, b.count(2)-bad; good < 2*bad {
			t.Errorf("%d requests to the good unit while the other one had %d: it waits for it", good, bad)
		}
	})
}

// Behind a gateway box two different answers to one request cost the unit that
// gave them its session, and the others nothing.
func TestADifferentSecondAnswerBehindABoxEndsOneSession(t *testing.T) {
	for _, c := range []struct {
		name  string
		unit  byte // of the second answer
		ended bool // the session of unit 2
	}{{"of the same unit", 2, true}, {"of another unit", 1, false}} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			var second []byte
			address := peer(t, func(r []byte) [][]byte {
				mu.Lock()
				defer mu.Unlock()
				answer := frame(r, r[6], 3, 2, r[6], 1)
				if r[6] == 2 {
					second = frame(r, c.unit, 3, 2, 9, 9)
				} else if second != nil {
					answer, second = append(second, answer...), nil
				}
				return [][]byte{answer}
			})
			l := openLine(t, "framing: tcp\nendpoint: "+address)
			one, two := onLine(t, l, "unit: 1\ntags: {a: holding:1}\n"), onLine(t, l, "unit: 2\ntags: {a: holding:1}\n")
			defer one.Close()
			defer two.Close()
			for _, d := range []*driver{one, two} {
				if err := d.Connect(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := two.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				scans, err := one.Read(t.Context())
				if err != nil || scans[0].Readings[0].Value != plant.UintValue(1<<8+1) {
					t.Fatal(scans, err)
				}
			}
			_, err := two.Read(t.Context())
			if ended := err != nil && strings.Contains(err.Error(), "a second, different answer"); ended != c.ended || !ended && err != nil {
				t.Errorf("unit 2: %v", err)
			}
		})
	}
}
