package recording

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// recorder records one machine: a derive.Recorder that writes files in turn.
type recorder struct {
	set     *Set
	machine plant.MachineID
	// run names what is recorded since this start of the gateway, since is when
	// somebody began the recording, until when it ends.
	run          string
	since, until time.Time

	mu   sync.Mutex
	file *os.File
	w    *Writer
	part int
	// limit is how large the file may become.
	limit int64
	// waits is since when something waits for a block; zero if nothing does.
	waits time.Time
	// over is set once it has ended, by itself or because somebody said so;
	// problem says why it ended by itself.
	over    bool
	problem string
	// inputs are those of the file.
	inputs uint64
}

var _ derive.Recorder = (*recorder)(nil)

// Due implements derive.Recorder.
func (r *recorder) Due() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.over && (r.w == nil || r.w.Size() >= r.limit)
}

// Begin implements derive.Recorder: it goes on in a new file.
func (r *recorder) Begin(state []byte, keyed []plant.KV) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if r.w != nil {
		if err := r.close("the next file goes on", true); err != nil {
			r.fail(err)
			return
		}
	}
	if err := r.open(state, keyed); err != nil {
		r.fail(err)
	}
}

func (r *recorder) open(state []byte, keyed []plant.KV) error {
	now := r.set.o.Now().UTC()
	r.part++
	name := fmt.Sprintf("%s-%s-%s-%04d%s", url.QueryEscape(string(r.machine)), now.Format(nameTime), r.run, r.part, Suffix)
	f, err := r.set.create(name)
	if err != nil {
		return err
	}
	head := Head{Machine: r.machine, Gateway: r.set.o.Gateway, Program: r.set.o.Program, Begun: now, Run: r.run, Part: r.part, Tags: r.set.tags(r.machine)}
	w, err := NewWriter(f, head, state, keyed)
	r.file, r.w, r.inputs = f, w, 0
	if err != nil {
		return err
	}
	// A file is worth the state at its beginning.
	r.limit = max(r.set.share.Load(), 4*w.Size())
	return nil
}

// Record implements derive.Recorder.
func (r *recorder) Record(steps []derive.Step, events []plant.Event, first plant.Sequence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.w == nil {
		return
	}
	if err := r.w.Add(steps, events, first); err != nil {
		r.fail(err)
		return
	}
	// What led to events is written with them, as they are: so a kill costs what
	// led to none.
	if len(events) > 0 {
		if err := r.w.Flush(); err != nil {
			r.fail(err)
			return
		}
	}
	r.inputs += uint64(len(steps))
	switch {
	case r.w.Waiting() == 0:
		r.waits = time.Time{}
	case r.waits.IsZero():
		r.waits = r.set.o.Now()
	}
}

// flush writes a block of what has waited for a second.
func (r *recorder) flush(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.w == nil || r.waits.IsZero() || now.Sub(r.waits) < flushAfter {
		return
	}
	r.waits = time.Time{}
	if err := r.w.Flush(); err != nil {
		r.fail(err)
	}
}

// end ends the recording; it may have ended before.
func (r *recorder) end(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over = true
	if r.w != nil {
		if err := r.close(reason, false); err != nil {
			r.problem = err.Error()
		}
	}
}

// cut ends the recording since the disk is short, and its file as whole as it can
// be. It reports whether it was under way.
func (r *recorder) cut(cause error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	if r.w != nil {
		cause = errors.Join(cause, r.close("the disk is short of space", false))
	}
	r.fail(cause)
	return true
}

// fail ends the recording with what is wrong; r.mu is held. The machine goes on.
func (r *recorder) fail(cause error) {
	r.over, r.problem = true, cause.Error()
	if r.file != nil {
		// What is written is whole up to its last block; the cause is told already.
		_ = r.file.Close()
		r.set.closed(r.file, r.inputs)
		r.file = nil
	}
	r.set.failed(r.machine, cause)
}

// close ends the file; r.mu is held.
func (r *recorder) close(reason string, full bool) error {
	err := r.w.End(reason, full)
	if err == nil {
		err = r.file.Sync()
	}
	if closed := r.file.Close(); err == nil {
		err = closed
	}
	r.set.closed(r.file, r.inputs)
	r.file, r.w = nil, nil
	return err
}

// stats returns where it stands, without what its files hold.
func (r *recorder) stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Machine: r.machine, Begun: r.since, Until: r.until, Over: r.over, Problem: r.problem}
}

// writing returns the name of the file that is being written and how many inputs it
// has; empty for none.
func (r *recorder) writing() (name string, inputs uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return "", 0
	}
	return filepath.Base(r.file.Name()), r.inputs
}
