package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"go.uber.org/zap"
)

// How the Go heap is held. What lives in it depends on the config (measured:
// about 1 KiB a tag that a rule reads) and on the traffic, not on a backlog;
// garbage need not double it.
const (
	// leastMemory is the least limit of the heap. It is for a drain and a
	// compaction at once, which take about 100 MiB with the garbage that Go's own
	// pace leaves: at 56 MiB the collector took 40 % of the drain's rate (bench P6).
	leastMemory = 112 << 20
	// spareMemory is what the limit leaves above one and a half times what lives.
	spareMemory = 16 << 20

	// quietPercent is GOGC while little is allocated: collecting often then costs
	// next to nothing. busyPercent is Go's own.
	quietPercent, busyPercent = 12, 100
	// quietBelow and busyAbove are bytes a second.
	quietBelow, busyAbove = 4 << 20, 8 << 20
	// memoryLook is how often the rate is looked at.
	memoryLook = time.Second

	// returnAbove is how much of the heap may lie free while little is allocated;
	// Go keeps what a burst took for minutes. Giving it back collects once, some
	// milliseconds of one core, so it is done at most once in returnWait.
	returnAbove = 4 << 20
	returnWait  = 5 * memoryLook
)

// holdMemory keeps the heap near what lives in it until ctx ends. It begins by
// giving back what reading the config has taken, so it is started once all is
// built. GOMEMLIMIT, if it is lower, and GOGC have the last word.
func (g *gateway) holdMemory(ctx context.Context) error {
	debug.FreeOSMemory()
	live, allocated, _ := heapNow()
	limit := min(debug.SetMemoryLimit(-1), max(leastMemory, int64(live)*3/2+spareMemory))
	debug.SetMemoryLimit(limit)
	g.log.Debug("the heap is bounded", zap.Uint64("live_bytes", live), zap.Int64("limit_bytes", limit))
	if os.Getenv("GOGC") != "" {
		return nil
	}
	percent, returned := busyPercent, time.Now()
	ticker := time.NewTicker(memoryLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		_, now, free := heapNow()
		wanted := collectAt(percent, float64(now-allocated)/memoryLook.Seconds())
		if allocated = now; wanted != percent {
			percent = wanted
			debug.SetGCPercent(percent)
		}
		if percent == quietPercent && free > returnAbove && time.Since(returned) >= returnWait {
			debug.FreeOSMemory()
			returned = time.Now()
		}
	}
}

// collectAt returns the GOGC for so many bytes a second, close to the one that
// is set.
func collectAt(percent int, rate float64) int {
	switch {
	case rate < quietBelow:
		return quietPercent
	case rate > busyAbove:
		return busyPercent
	default:
		return percent
	}
}

// heapNow returns what lived at the last collection, what was ever allocated, and
// what lies free without having been given back, in bytes. It does not stop the
// world.
func heapNow() (live, allocated, free uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
}
