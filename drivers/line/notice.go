package line

import (
	"fmt"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/drivers"
)

const (
	// noticeFor is how long the page tells of what is lost after the newest of it.
	noticeFor = time.Hour
	// lateLines is how far behind the device the rules may be before the page says
	// so: a scanner's burst is shorter.
	lateLines = 5 * time.Second
)

// tally counts what is lost for good, for people. It may be used from any
// goroutine.
type tally struct {
	mu            sync.Mutex
	count         uint64
	since, newest time.Time
}

// add counts n more; what was long ago is told of no more.
func (t *tally) add(n uint64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.newest) > noticeFor {
		t.count, t.since = 0, now
	}
	t.count += n
	t.newest = now
}

// look returns how many, since when and until when; 0 if there were none lately.
func (t *tally) look(now time.Time) (count uint64, since, newest time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count == 0 || now.Sub(t.newest) > noticeFor {
		return 0, time.Time{}, time.Time{}
	}
	return t.count, t.since, t.newest
}

// Notices implements drivers.Noticer: callers that were turned away, lines that
// are lost, and lines that wait.
func (d *driver) Notices() (all []drivers.Notice) {
	now := time.Now()
	if n, since, newest := d.counts.turned.look(now); n > 0 {
		often := "once"
		if n > 1 {
			often = fmt.Sprintf("%d times", n)
		}
		all = append(all, drivers.Notice{
			Text: fmt.Sprintf("%s a device was turned away, the last time at %s, since %d were connected: what it sent is lost", often, newest.Format("15:04:05"), mostCallers),
			Do:   "Give some of them a port of their own: a second device with its own listen. Where they hang up behind each line and call again, let them do so sooner.", Since: since,
		})
	}
	if n, since, newest := d.counts.lost.look(now); n > 0 {
		all = append(all, drivers.Notice{
			Text: fmt.Sprintf("%d lines are lost, the newest at %s: they had no place in the queue, or waited when the session ended", n, newest.Format("15:04:05")),
			Do:   "Look for a scanner that is stuck on one code. If all lines are wanted, raise max_rate and queue of this device.", Since: since,
		})
	}
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	if l == nil || d.o.Poll != "" {
		return all
	}
	if waiting := len(l.lines); float64(waiting) > d.o.MaxRate.PerSecond()*lateLines.Seconds() {
		all = append(all, drivers.Notice{
			Text: fmt.Sprintf("%d lines wait, since no more than max_rate (%s) are taken", waiting, d.o.MaxRate),
			Do:   "Look for a scanner that is stuck on one code. If all lines are wanted, raise max_rate.",
		})
	}
	return all
}
