package drivers

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestAWrongClockIsNamed: by what changes, not by values that are old; and what
// is late on its way is no wrong clock.
func TestAWrongClockIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const behind = -2 * time.Hour
		var mended atomic.Bool
		last := time.Now().Add(-24 * time.Hour)
		s := &script{}
		reads := 0
		s.read = func(context.Context) ([]plant.Scan, error) {
			now := time.Now()
			source, way := now, 300*time.Millisecond
			if !mended.Load() {
				source = now.Add(behind)
			}
			if reads++; reads%10 != 0 {
				way = 20 * time.Second // held up on its way
			}
			return []plant.Scan{{Session: 1, Received: now, Snapshot: reads == 1, Readings: []plant.Reading{
				{Tag: "idle", Value: plant.IntValue(1), Quality: plant.Good, Source: last},
				{Tag: "made", Value: plant.IntValue(int64(reads)), Quality: plant.Good, Source: source.Add(-way)},
			}}}, nil
		}
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(25 * time.Second)
		if st := b.Stats(); st.ClockKnown {
			t.Errorf("after 25 s: %+v", st)
		}
		time.Sleep(10 * time.Minute)
		first := b.Stats()
		if want := behind - 300*time.Millisecond; !first.ClockWrong || first.ClockOffset != want || first.ClockSince.IsZero() {
			t.Errorf("offset %v, wrong %v since %v, want %v", first.ClockOffset, first.ClockWrong, first.ClockSince, want)
		}
		mended.Store(true)
		time.Sleep(2 * time.Minute)
		if st := b.Stats(); st.ClockWrong || st.ClockOffset != -300*time.Millisecond || !st.ClockSince.After(first.ClockSince) {
			t.Errorf("mended, offset %v, wrong %v since %v", st.ClockOffset, st.ClockWrong, st.ClockSince)
		}
		for _, words := range []string{"the device's clock is wrong", "the device's clock is right again"} {
			n := 0
			for _, e := range b.logs.All() {
				if strings.HasPrefix(e.Message, words) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%q was logged %d times", words, n)
			}
		}
		b.stop()
	})
}

// TestOldValuesSayNothingOfTheClock: a machine that stands for a night keeps the
// times of the evening, through reconnects as well.
func TestOldValuesSayNothingOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		evening := time.Now().Add(-8 * time.Hour)
		s := &script{}
		reads := 0
		s.read = func(context.Context) ([]plant.Scan, error) {
			reads++
			return []plant.Scan{{Session: 1, Received: time.Now(), Snapshot: reads%7 == 1, Readings: []plant.Reading{
				{Tag: "made", Value: plant.IntValue(7), Quality: plant.Good, Source: evening.Add(time.Duration((reads-1)/7) * time.Minute)},
			}}}, nil
		}
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(10 * time.Minute)
		if st := b.Stats(); st.ClockKnown {
			t.Errorf("an offset of %v", st.ClockOffset)
		}
		b.stop()
	})
}

// In whatever order tags come, each has its own last time.
func TestEachTagHasItsOwnTime(t *testing.T) {
	var c deviceClock
	want := map[plant.TagID]int64{}
	for round, order := range []string{"abcd", "abcd", "badc", "d", "efab", "abcdef", "ffa"} {
		next := 0
		for i, name := range order {
			tag := plant.TagID(name)
			place, seen := c.place(tag, next)
			if before, known := want[tag]; seen != known || c.stamps[place].tag != tag || c.stamps[place].at != before {
				t.Fatalf("round %d: %s is at %d with %+v, seen %v; want %d, %v", round, tag, place, c.stamps[place], seen, before, known)
			}
			c.stamps[place].at, want[tag] = int64(10*round+i), int64(10*round+i)
			next = place + 1
		}
	}
	if len(c.stamps) != 6 || len(c.places) != 6 {
		t.Errorf("%d stamps, %d places of 6 tags", len(c.stamps), len(c.places))
	}
}
