package buffer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestAFullDiskOfOurOwn has a store without a receiver outgrow a small disk, of
// which half is for it, twice over: it makes room, is never ended by the kernel, and tells each loss.
func TestAFullDiskOfOurOwn(t *testing.T) {
	for name, disk := range map[string]func(*testing.T) string{
		"tmpfs": func(t *testing.T) string { return smallDisk(t, "192m") },
		"ext4":  func(t *testing.T) string { return loopDisk(t, 208<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(disk(t))
			o.Quota, o.Keep, o.WhenFull, o.housework = 0, 0, EvictOldest, 50*time.Millisecond
			b := open(t, o)
			queue(t, b, "mes", all)
			batch := plant.Batch{State: []byte("s")}
			for range 8 {
				batch.Events = append(batch.Events, heavy(count(1), 8000))
			}
			lowest, refused := int64(1<<40), 0
			last, written := plant.Sequence(0), int64(0)
			for deadline := time.Now().Add(2 * time.Minute); written < 128<<20; {
				first, err := b.Commit(context.Background(), "M1", batch)
				switch {
				case errors.Is(err, plant.ErrFull):
					refused++
					turn(t, b)
				case err != nil:
					t.Fatal(err)
				default:
					last, written = first+7, written+8*8000
				}
				free, err := freeSpace(o.Path)
				if err != nil {
					t.Fatal(err)
				}
				lowest = min(lowest, free)
				if time.Now().After(deadline) {
					t.Fatalf("only %d MiB were taken, %d times refused", written>>20, refused)
				}
			}
			t.Logf("%d MiB taken, %d times refused, at least %d MiB free", written>>20, refused, lowest>>20)
			if lowest < 4<<20 {
				t.Errorf("only %d KiB were free", lowest>>10)
			}
			checkBytes(t, b)
			o.WhenFull, o.EvictParameters = Stop, false
			mustClose(t, b)
			b = open(t, o)
			receive(t, b, "mes", all).missing(t, "M1", last, "mes")
		})
	}
}
