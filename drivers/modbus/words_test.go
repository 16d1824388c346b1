package modbus

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An answer behind its time is named as one, with how long it took, and ends the
// session all the same.
func TestALateAnswerOverTCPIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openWired(t, strings.Replace(twoTags, "250ms", "150ms", 1), func(r []byte) [][]byte {
			<-time.After(250 * time.Millisecond) // a slow device
			return [][]byte{frame(r, 1, 3, 4, 1, 2, 3, 4)}
		})
		defer d.Close()
		var err error
		for session := uint64(1); session < 60; session++ { // the machine may be busy
			if err = d.Connect(t.Context(), session); err != nil {
				continue
			}
			if _, err = d.Read(t.Context()); err == nil {
				t.Fatal("a late answer was taken")
			}
			if strings.Contains(err.Error(), "no answer within 150ms, but one came after") && strings.Contains(err.Error(), "raise timeout") {
				return
			}
		}
		t.Errorf("the cause names no late answer: %v", err)
	})
}

// A frame with a right check sum that is no answer to the request is named for
// what is wrong with it, not for its check sum.
func TestAWholeFrameThatIsNoAnswerIsNamed(t *testing.T) {
	for _, c := range []struct {
		name, want string
		answer     func(r []byte) []byte
	}{
		{"function", "it is to function 4, and 3 was asked for", func(r []byte) []byte { return rtuFrame(r[0], 4, 2, 9, 9) }},
		{"unit", "it is of unit 9, and unit 7 was asked", func(r []byte) []byte { return rtuFrame(9, 3, 2, 9, 9) }},
		{"length", "it has 4 bytes of data instead of", func(r []byte) []byte { return rtuFrame(r[0], 3, 4, 9, 9, 9, 9) }},
		{"byte count", "it says 6 bytes of data, and 2 are in it", func(r []byte) []byte { return rtuFrame(r[0], 3, 6, 9, 9) }},
		{"exception", "it is an exception without its code", func(r []byte) []byte { return rtuFrame(r[0], 0x83, 0) }},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			b := newBareBus(func(r []byte) [][]byte { return [][]byte{c.answer(r)} })
			d := onLine(t, onWire(t, b, ""), "unit: 7\ntimeout: 100ms\ntags: {a: holding:0}\n")
			defer d.Close()
			var err error
			for session := uint64(1); session < 20; session++ {
				if err = d.Connect(t.Context(), session); err != nil {
					t.Fatal(err)
				}
				if _, err = d.Read(t.Context()); err == nil {
					t.Fatal("it was taken")
				}
				if strings.Contains(err.Error(), "check sum") {
					t.Fatal(err)
				}
				if strings.Contains(err.Error(), c.want) {
					return
				}
			}
			t.Errorf("%v, want %q", err, c.want)
		})
	}
}
