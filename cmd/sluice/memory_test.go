package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestCollectAt(t *testing.T) {
	for _, c := range []struct {
		set  int
		rate float64
		want int
	}{
		{busyPercent, 0, quietPercent},
		{busyPercent, quietBelow + 1, busyPercent},
		{quietPercent, quietBelow + 1, quietPercent},
		{quietPercent, busyAbove + 1, busyPercent},
	} {
		if got := collectAt(c.set, c.rate); got != c.want {
			t.Errorf("collectAt(%d, %.0f) = %d instead of %d", c.set, c.rate, got, c.want)
		}
	}
}

func TestHeapNowSeesWhatLives(t *testing.T) {
	const size = 8 << 20
	runtime.GC()
	live, allocated, _ := heapNow()
	kept := make([]byte, size)
	runtime.GC()
	liveThen, allocatedThen, _ := heapNow()
	runtime.KeepAlive(kept)
	if liveThen < live+size/2 || allocatedThen < allocated+size {
		t.Errorf("8 MiB more: live %d, then %d; allocated %d, then %d", live, liveThen, allocated, allocatedThen)
	}
}

// TestHeapNowSeesWhatLiesFree holds the figure that decides when memory is given
// back.
func TestHeapNowSeesWhatLiesFree(t *testing.T) {
	const size = 64 << 20
	func() {
		burst := make([]byte, size)
		runtime.KeepAlive(burst)
	}()
	runtime.GC()
	_, _, free := heapNow()
	debug.FreeOSMemory()
	if _, _, after := heapNow(); after > free/2 || after > returnAbove {
		t.Errorf("%d bytes lay free, %d after giving back", free, after)
	}
}
