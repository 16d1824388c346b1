package modbus

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Two units: one asks six short things in a row, the other always waits for a turn
// and takes it for long. The first waits for the second once a poll, not six times.
func TestTheCheapUnitWaitsForTheDearOneOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long, short = 460 * time.Millisecond, 10 * time.Millisecond
		var line turns
		var cheap, dear time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		var both sync.WaitGroup
		turn := func(used *time.Duration, took time.Duration) {
			if line.take(ctx, used, false) == nil {
				time.Sleep(took)
				line.give(used, took)
			}
		}
		dearTurns := 0
		both.Go(func() {
			for ctx.Err() == nil {
				turn(&dear, long)
				dearTurns++
			}
		})
		for range 20 {
			begun := time.Now()
			for range 6 {
				turn(&cheap, short)
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(begun); took > long+6*(short+time.Millisecond) {
				t.Errorf("a poll of the cheap unit took %v", took)
			}
			time.Sleep(500 * time.Millisecond)
		}
		cancel()
		both.Wait()
		if dearTurns < 20 {
			t.Errorf("the dear unit had %d turns", dearTurns)
		}
		if err := line.take(t.Context(), &cheap, false); err != nil { // nobody is kept waiting for ever
			t.Error(err)
		}
	})
}

// A unit whose third answer each is wrong is named, though the second try is right.
func TestAUnitThatAnswersWronglyNowAndThenIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := newBareBus(func(request []byte) [][]byte {
			answer := ownRegisters(request)
			if n++; n%3 == 0 {
				answer = rtuFrame(request[0], 4, 2, 0, 7) // to another function
			}
			return [][]byte{answer}
		})
		d := onLine(t, onWire(t, b, ""), "unit: 3\ntimeout: 50ms\ntags: {a: holding:0}\n")
		defer d.Close()
		if err := d.Connect(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if notices := d.Notices(); len(notices) != 0 {
			t.Errorf("before anything happened: %v", notices)
		}
		deadline := time.Now().Add(20 * time.Second)
		for session := uint64(2); len(d.Notices()) == 0; session++ {
			if time.Now().After(deadline) {
				t.Fatal("nobody names it")
			}
			if _, err := d.Read(t.Context()); err != nil {
				if err := d.Connect(t.Context(), session); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := d.Notices()[0]; got.Text != "unit 3 answers wrongly now and then: what came is whole, but no answer to this request; it is asked again each time, which takes the line's time" || got.Do == "" {
			t.Errorf("%+v", got)
		}
	})
}
