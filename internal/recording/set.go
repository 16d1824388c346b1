package recording

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/durable"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// Suffix is how the names of recordings end.
	Suffix = ".rec"
	// activeName is the file that says what is being recorded, for the next start.
	activeName = "active.json"
	// flushAfter is how long a step waits at most for others in its block.
	flushAfter = time.Second
	// maxFile bounds one file: as much is lost at most behind damage.
	maxFile = 16 << 20
	// MinSize is the least room for each machine, in bytes.
	MinSize = 4 << 20
	// MaxFor is the longest recording.
	MaxFor = 31 * 24 * time.Hour
)

// Options say where recordings are and whose they are.
type Options struct {
	// Folder holds the files; it is made when a recording begins.
	Folder string
	// Gateway and Program are noted in each file.
	Gateway, Program string
	// Machines are all that may be recorded.
	Machines []plant.MachineID
	// Tags returns what a machine's rules read and how, for Head.Tags; nil means that
	// nobody knows. It is called from any goroutine, once for each file.
	Tags func(m plant.MachineID) map[string]string
	// Attach gives a machine its Recorder, nil to take it away.
	Attach func(m plant.MachineID, r derive.Recorder)
	// Room says why the disk has no room for another file now; nil means that
	// nobody knows.
	Room func() error
	// Now is the clock; nil means the operating system's.
	Now func() time.Time
}

// Stats is one machine's recording, also one that is over.
type Stats struct {
	Machine plant.MachineID `json:"machine"`
	// Begun is when somebody began it, also before a restart of the gateway.
	Begun time.Time `json:"begun,omitzero"`
	Until time.Time `json:"until"`
	// Files are those that are there, Inputs what they hold.
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"`
	Inputs uint64 `json:"inputs"`
	Over   bool   `json:"over"`
	// Problem says why it ended by itself.
	Problem string `json:"problem,omitempty"`
}

// Set records machines of a gateway. Its methods may be called from any
// goroutine; Run writes what waits.
type Set struct {
	o   Options
	log *zap.Logger

	// size bounds all files together, share is how large one may become.
	size, share atomic.Int64

	// mu comes before a recorder's, and that before disk and notes.
	mu        sync.Mutex
	recorders []*recorder

	disk sync.Mutex
	// open are the names of the files that are being written.
	open map[string]bool
	// counted says how many inputs files hold that nobody writes.
	counted map[string]uint64

	notes sync.Mutex
	wrong map[plant.MachineID]Failure
}

// Failure says that a recording has ended by itself.
type Failure struct {
	// Machine is empty where it is not known what was being recorded.
	Machine plant.MachineID
	Cause   string
	Since   time.Time
}

// NewSet returns a Set. It does no I/O.
func NewSet(o Options, log *zap.Logger) *Set {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Room == nil {
		o.Room = func() error { return nil }
	}
	return &Set{o: o, log: log, open: make(map[string]bool), counted: make(map[string]uint64), wrong: make(map[plant.MachineID]Failure)}
}

// tags are those of a machine that its heads name, nil where they are too many.
func (s *Set) tags(m plant.MachineID) map[string]string {
	if s.o.Tags == nil {
		return nil
	}
	tags, size := s.o.Tags(m), 0
	for name, reads := range tags {
		size += len(name) + len(reads)
	}
	if size > maxTags {
		return nil
	}
	return tags
}

// Folder returns where the files are.
func (s *Set) Folder() string { return s.o.Folder }

// active is what is being recorded, as it is kept over a restart.
type active struct {
	Size     int64                         `json:"size_bytes"`
	Machines map[plant.MachineID]time.Time `json:"machines"`
	// Begun is when each of them was begun.
	Begun map[plant.MachineID]time.Time `json:"begun,omitempty"`
}

// readActive reads what was being recorded; no machine if nothing was.
func readActive(path string) (a active, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(&a)
	}
	if err == nil && len(a.Machines) == 0 {
		err = errors.New("it names no machine, and such a file is not left")
	}
	if err != nil {
		return a, fmt.Errorf("what was being recorded is not known: %s: %w", path, err)
	}
	return a, nil
}

// Resume goes on with what was being recorded when the gateway stopped. It is
// called before the machines run. Where that cannot be read, the error says so, and
// Failures until recordings are begun again or stopped.
func (s *Set) Resume() error {
	a, err := readActive(filepath.Join(s.o.Folder, activeName))
	if err != nil {
		s.note("", err)
		return fmt.Errorf("recording: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(a.Machines) > 0 {
		s.size.Store(max(a.Size, MinSize))
	}
	for _, m := range s.o.Machines {
		if until, ok := a.Machines[m]; ok && until.After(s.o.Now()) {
			since, ok := a.Begun[m]
			if !ok {
				since = s.o.Now().UTC()
			}
			s.begin(m, since, until)
		}
	}
	return nil
}

// Start records machines, all if none is named, for so long; all recordings
// together take size bytes at most, and the oldest file goes first. A machine
// that is being recorded gets a new end. It returns once the next start of the
// gateway would go on with it.
func (s *Set) Start(machines []plant.MachineID, lasts time.Duration, size int64) error {
	if len(machines) == 0 {
		machines = s.o.Machines
	}
	if err := s.check(machines, lasts); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	running := len(machines)
	for _, r := range s.recorders {
		if !r.stats().Over && !slices.Contains(machines, r.machine) {
			running++
		}
	}
	if size < int64(running)*MinSize {
		return fmt.Errorf("%d bytes are too little for %d machines: give %d MiB or more", size, running, int64(running)*MinSize>>20)
	}
	if err := s.o.Room(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.o.Folder, 0o700); err != nil {
		return err
	}
	s.size.Store(size)
	now := s.o.Now().UTC()
	for _, m := range machines {
		s.begin(m, now, now.Add(lasts))
	}
	return s.save()
}

func (s *Set) check(machines []plant.MachineID, lasts time.Duration) error {
	for _, m := range machines {
		if !slices.Contains(s.o.Machines, m) {
			return fmt.Errorf("the config has no machine %q", string(m))
		}
	}
	if lasts < time.Second || lasts > MaxFor {
		return fmt.Errorf("a recording lasts from 1 second to %d days, not %s", int(MaxFor.Hours()/24), lasts)
	}
	return nil
}

// begin gives a machine a recorder, or the one that it has another end; s.mu is
// held.
func (s *Set) begin(m plant.MachineID, since, until time.Time) {
	if i := s.find(m); i >= 0 {
		r := s.recorders[i]
		r.mu.Lock()
		again := !r.over
		if again {
			r.until = until
		}
		r.mu.Unlock()
		if again {
			return
		}
		s.recorders = slices.Delete(s.recorders, i, i+1)
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // it never fails: crypto/rand ends the process instead
	r := &recorder{set: s, machine: m, run: hex.EncodeToString(id[:]), since: since, until: until}
	s.recorders = append(s.recorders, r)
	// A quarter of the room is for the files that are being written.
	s.share.Store(min(max(s.size.Load()/int64(4*len(s.recorders)), blockSize), maxFile))
	s.note(m, nil)
	s.o.Attach(m, r)
}

func (s *Set) find(m plant.MachineID) int {
	return slices.IndexFunc(s.recorders, func(r *recorder) bool { return r.machine == m })
}

// Stop ends the recordings of machines, of all if none is named.
func (s *Set) Stop(machines []plant.MachineID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range machines {
		if i := s.find(m); i < 0 || s.recorders[i].stats().Over {
			return fmt.Errorf("%q is not being recorded", string(m))
		}
	}
	for _, r := range s.recorders {
		if len(machines) == 0 || slices.Contains(machines, r.machine) {
			s.over(r, "it was ended by hand")
		}
	}
	return s.save()
}

func (s *Set) over(r *recorder, why string) {
	s.o.Attach(r.machine, nil)
	s.note(r.machine, nil)
	r.end(why)
}

// save keeps what is being recorded for the next start; s.mu is held.
func (s *Set) save() error {
	a := active{Size: s.size.Load(), Machines: map[plant.MachineID]time.Time{}, Begun: map[plant.MachineID]time.Time{}}
	for _, r := range s.recorders {
		if st := r.stats(); !st.Over {
			a.Machines[r.machine], a.Begun[r.machine] = st.Until, st.Begun
		}
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	s.note("", nil)
	path := filepath.Join(s.o.Folder, activeName)
	if len(a.Machines) == 0 {
		err := os.Remove(path)
		if err == nil {
			err = durable.SyncFolder(s.o.Folder)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return durable.Replace(path, text, 0o600)
}

// Run writes what waits, and ends recordings whose time is over, and all of them
// where the disk is short, until ctx ends; then it closes the files. The gateway's
// next start goes on with them.
func (s *Set) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushAfter / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.each(func(r *recorder) { r.end("the gateway was stopped") })
			return nil
		case <-ticker.C:
		}
		now, ended := s.o.Now(), s.endWithoutRoom()
		s.each(func(r *recorder) {
			if st := r.stats(); !st.Over && !now.Before(st.Until) {
				s.over(r, "its time was over")
				ended = true
				return
			}
			r.flush(now)
		})
		if ended {
			s.ended()
		}
	}
}

// endWithoutRoom ends all recordings where the disk has no room for them: their
// files would grow on into the room that events need. It reports whether one was
// ended.
func (s *Set) endWithoutRoom() (ended bool) {
	s.mu.Lock()
	idle := !slices.ContainsFunc(s.recorders, func(r *recorder) bool { return !r.stats().Over })
	s.mu.Unlock()
	if idle {
		return false
	}
	cause := s.o.Room()
	if cause == nil {
		return false
	}
	s.each(func(r *recorder) { ended = r.cut(cause) || ended })
	return ended
}

func (s *Set) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.save(); err != nil {
		s.log.Warn("a recording that has ended would go on after a restart", zap.Error(err))
	}
}

func (s *Set) each(do func(*recorder)) {
	s.mu.Lock()
	all := slices.Clone(s.recorders)
	s.mu.Unlock()
	for _, r := range all {
		do(r)
	}
}

// failed takes note that a recording has ended by itself.
func (s *Set) failed(m plant.MachineID, cause error) {
	s.o.Attach(m, nil)
	s.note(m, cause)
	s.log.Error("a recording has ended; the machine itself goes on", zap.String("machine", string(m)), zap.Error(cause))
}

// note remembers why a recording has ended, or forgets it.
func (s *Set) note(m plant.MachineID, cause error) {
	s.notes.Lock()
	defer s.notes.Unlock()
	if cause == nil {
		delete(s.wrong, m)
		return
	}
	s.wrong[m] = Failure{Machine: m, Cause: cause.Error(), Since: s.o.Now()}
}

// Failures returns the recordings that have ended by themselves and were not
// begun again or stopped since. It waits for no disk.
func (s *Set) Failures() []Failure {
	s.notes.Lock()
	defer s.notes.Unlock()
	return slices.SortedFunc(maps.Values(s.wrong), func(a, b Failure) int { return cmp.Compare(a.Machine, b.Machine) })
}

// create makes room for another file and makes it: the oldest that nobody
// writes goes.
func (s *Set) create(name string) (*os.File, error) {
	if err := s.o.Room(); err != nil {
		return nil, err
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	files, total, err := s.files()
	if err != nil {
		return nil, err
	}
	// Each file that is being written may still grow to its share, the new one too.
	size := s.size.Load()
	bound := size - int64(len(s.open)+1)*s.share.Load()
	for _, f := range files {
		if total <= bound {
			break
		}
		if err := os.Remove(f.path); err != nil {
			return nil, err
		}
		delete(s.counted, filepath.Base(f.path))
		total -= f.size
	}
	if total > size {
		return nil, fmt.Errorf("the recordings take %d bytes and may take %d: give them more room", total, size)
	}
	f, err := os.OpenFile(filepath.Join(s.o.Folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		s.open[name] = true
	}
	return f, err
}

// closed takes note that nobody writes a file any more, which has so many inputs.
func (s *Set) closed(f *os.File, inputs uint64) {
	s.disk.Lock()
	defer s.disk.Unlock()
	name := filepath.Base(f.Name())
	delete(s.open, name)
	s.counted[name] = inputs
}

type oldFile struct {
	path     string
	size     int64
	modified time.Time
}

// files returns the recordings that nobody writes, the oldest first, and how
// large all are; s.disk is held.
func (s *Set) files() (closed []oldFile, total int64, err error) {
	entries, err := os.ReadDir(s.o.Folder)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), Suffix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		total += info.Size()
		if !s.open[e.Name()] {
			closed = append(closed, oldFile{filepath.Join(s.o.Folder, e.Name()), info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(closed, func(a, b oldFile) int {
		return cmp.Or(a.modified.Compare(b.modified), cmp.Compare(a.path, b.path))
	})
	return closed, total, nil
}
