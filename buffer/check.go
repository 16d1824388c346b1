package buffer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// FileCheck is what a check found of one file.
type FileCheck struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// Records counts the good records, Events those that are events, Removed the
	// notes of a deletion, Damaged the records whose checksum is wrong.
	Records uint64 `json:"records"`
	Events  uint64 `json:"events"`
	Removed uint64 `json:"removed"`
	Damaged uint64 `json:"damaged"`
	// Problem says what is wrong with the file; empty if nothing is.
	Problem string `json:"problem,omitempty"`
	// Note says what is worth knowing and no damage.
	Note string `json:"note,omitempty"`
}

// StoreCheck is what a check found of a store. Its counts are of what stands in
// the files: one that was written again or deleted since counts, too.
type StoreCheck struct {
	Path    string      `json:"path"`
	Files   []FileCheck `json:"files"`
	Records uint64      `json:"records"`
	Events  uint64      `json:"events"`
	Damaged uint64      `json:"damaged"`
	// Problems counts the files with a problem.
	Problems int `json:"problems"`
}

// Check reads every file of a store that nobody has open, by itself: Badger does
// not open it, so nothing in it changes, and damage that makes Badger panic is
// named with its file. It takes memory for the largest file. The error is of the
// disk, or says that the store is open, or encrypted with another key than o.Key;
// damage is in the report.
func Check(ctx context.Context, o Options) (StoreCheck, error) {
	locks, err := lockBuffer(o.Path)
	if err != nil {
		return StoreCheck{}, fmt.Errorf("buffer: check %s: %w", o.Path, err)
	}
	report, err := o.check(ctx)
	return report, errors.Join(err, locks.release())
}

// check is Check where the caller has the locks.
func (o *Options) check(ctx context.Context) (StoreCheck, error) {
	s, err := newSalvage(*o)
	if err == nil {
		err = s.walk(ctx, nil)
	}
	if err != nil {
		return StoreCheck{}, fmt.Errorf("buffer: check %s: %w", o.Path, err)
	}
	return s.report, nil
}

// found is one version of one key, as a file has it.
type found struct {
	key     []byte
	version uint64
	value   []byte
	removed bool
}

// salvage reads the files of a store.
type salvage struct {
	folder   string
	report   StoreCheck
	each     func(found) error
	file     *FileCheck
	machines map[plant.MachineID]bool
	// formatVersion is the newest version of the format record, format whether that
	// one is there and good.
	formatVersion uint64
	format        bool
	// broken are the files in which the events are looked for byte by byte.
	broken []string
	// keys are those of an encrypted store, keyOf what the manifest says of its
	// tables; registry is what is wrong with the file that holds them.
	keys     dataKeys
	keyOf    map[string]uint64
	registry string
}

// newSalvage is for who has the locks.
func newSalvage(o Options) (*salvage, error) {
	folder := filepath.Join(o.Path, storeFolder)
	if _, err := os.Stat(folder); err != nil {
		return nil, err
	}
	s := &salvage{folder: folder, report: StoreCheck{Path: folder}, machines: map[plant.MachineID]bool{}}
	if err := s.unseal(o.Key); err != nil {
		return nil, err
	}
	if mark, err := readMark(o.Path); err == nil {
		for _, stream := range mark.streams {
			s.machines[stream.machine] = true
		}
	}
	for m := range o.Modes {
		s.machines[m] = true
	}
	return s, nil
}

// unseal gets the keys of an encrypted store, and refuses a key that is not its
// own.
func (s *salvage) unseal(k Key) error {
	err := k.fits(s.folder)
	if errors.Is(err, errRegistry) {
		s.registry = "it is damaged; a store that is not encrypted needs none: it is made again"
		return nil
	}
	if len(k) == 0 {
		return err
	}
	ring, readErr := k.ring(s.folder)
	if err != nil && (readErr != nil || !ring.keys.fitsAny(s.folder)) {
		return err
	}
	if readErr != nil {
		return readErr
	}
	s.keys, s.registry = ring.keys, ring.problem
	if err != nil && s.registry == "" {
		s.registry = "its head is damaged"
	}
	switch {
	case len(ring.lost) > 0 && s.registry != "":
		s.registry += "; nobody has key " + strings.Trim(fmt.Sprint(ring.lost), "[]") + " any more, and what is encrypted with it cannot be read by anybody: put a copy of the file back"
	case ring.image != nil:
		s.registry = cmp.Or(s.registry, "it has lost a key") + "; all keys that the store needs are known, and the next start mends it"
	}
	return nil
}

// walk reads every file, and calls each, if it is not nil, for what is good.
func (s *salvage) walk(ctx context.Context, each func(found) error) error {
	s.each = each
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	listed, manifestProblem := s.manifest()
	var tables, logs []fs.DirEntry
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case tableExt:
			tables = append(tables, e)
		case logExt:
			logs = append(logs, e)
		default:
			s.other(e, manifestProblem)
		}
	}
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == badger.ManifestFilename }) && len(tables)+len(logs) > 0 {
		s.add(FileCheck{Name: badger.ManifestFilename, Problem: "it is missing"})
	}
	if s.registry != "" && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == badger.KeyRegistryFileName }) {
		s.add(FileCheck{Name: badger.KeyRegistryFileName, Problem: s.registry})
	}
	var unlisted []string
	all := manifestProblem != "" || s.missing(listed, tables)
	for _, e := range append(tables, logs...) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if filepath.Ext(e.Name()) == tableExt && !all && !listed[e.Name()] {
			s.add(FileCheck{Name: e.Name(), Note: "not in use: a kill left it behind, Badger removes it"})
			unlisted = append(unlisted, e.Name())
			continue
		}
		if err := s.read(e.Name()); err != nil {
			return err
		}
	}
	if err := s.readUnlisted(unlisted); err != nil {
		return err
	}
	if err := s.search(ctx); err != nil {
		return err
	}
	if !s.format && s.report.Records > 0 && s.report.Problems == 0 { // else a file's damage explains it
		s.add(FileCheck{Name: formatName, Problem: "it is gone or damaged, which says what wrote the store and which one it is: a repair writes it again"})
	}
	return nil
}

// formatName is how a report names the format record, which is in no file of its own.
const formatName = "the format record"

// readUnlisted reads the tables that the manifest does not list where the format
// record is in none of the others: a manifest that is cut within its first entry is
// whole for Badger, and lists nothing.
func (s *salvage) readUnlisted(names []string) error {
	if s.format || len(names) == 0 {
		return nil
	}
	s.report.Files = slices.DeleteFunc(s.report.Files, func(c FileCheck) bool { return slices.Contains(names, c.Name) })
	for _, name := range names {
		if err := s.read(name); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(s.report.Files, func(c FileCheck) bool { return c.Name == badger.ManifestFilename })
	if s.format && i >= 0 && s.report.Files[i].Problem == "" {
		s.report.Files[i].Problem = "it has lost its end: it does not name " + strings.Join(names, ", ")
		s.report.Problems++
	}
	return nil
}

// manifest returns the names of the tables that are in use.
func (s *salvage) manifest() (listed map[string]bool, problem string) {
	f, err := os.Open(filepath.Join(s.folder, badger.ManifestFilename))
	if err != nil {
		return nil, oneLine{err}.Error()
	}
	defer func() {
		if p := recover(); p != nil {
			problem = fmt.Sprint(p)
		}
		_ = f.Close() // only read
	}()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(s.folder))
	if err != nil {
		return nil, oneLine{err}.Error()
	}
	listed, s.keyOf = map[string]bool{}, map[string]uint64{}
	for id, t := range m.Tables {
		name := fmt.Sprintf("%06d.sst", id)
		listed[name], s.keyOf[name] = true, t.KeyID
	}
	return listed, ""
}

// missing notes the tables that the manifest lists and that are not there, and
// reports whether there are any.
func (s *salvage) missing(listed map[string]bool, tables []fs.DirEntry) bool {
	gone := 0
	for name := range listed {
		if !slices.ContainsFunc(tables, func(e fs.DirEntry) bool { return e.Name() == name }) {
			s.add(FileCheck{Name: name, Problem: "it is missing"})
			gone++
		}
	}
	return gone > 0
}

// other notes a file that holds no records.
func (s *salvage) other(e fs.DirEntry, manifestProblem string) {
	c := FileCheck{Name: e.Name()}
	if info, err := e.Info(); err == nil {
		c.Size = info.Size()
	}
	switch {
	case e.Name() == badger.ManifestFilename:
		c.Problem = manifestProblem
	case filepath.Ext(e.Name()) == valueLogExt:
		c.Problem = checkValueLog(filepath.Join(s.folder, e.Name()), s.keys)
	case e.Name() == badger.KeyRegistryFileName:
		c.Problem = s.registry
	}
	s.add(c)
}

func (s *salvage) add(c FileCheck) {
	s.report.Files = append(s.report.Files, c)
	s.report.Records += c.Records
	s.report.Events += c.Events
	s.report.Damaged += c.Damaged
	if c.Problem != "" || c.Damaged > 0 {
		s.report.Problems++
	}
}

// read reads one table or log.
func (s *salvage) read(name string) error {
	c := FileCheck{Name: name}
	s.file = &c
	data, err := os.ReadFile(filepath.Join(s.folder, name))
	if err != nil {
		c.Problem = oneLine{err}.Error()
		s.add(c)
		return nil
	}
	c.Size = int64(len(data))
	content, opened := s.plain(name, data)
	switch {
	case !opened:
		err = fmt.Errorf("%w: none of the keys in %s opens it", errDamaged, badger.KeyRegistryFileName)
	case filepath.Ext(name) == tableExt:
		err = s.table(content)
	default:
		err = s.log(content)
	}
	var stop *stopped
	if errors.As(err, &stop) {
		return stop.cause
	}
	if err != nil {
		c.Problem = firstLine(err)
	} else if filepath.Ext(name) == logExt {
		c.Problem = foreignKey(data, s.keys)
	}
	if c.Problem != "" || c.Damaged > 0 {
		s.broken = append(s.broken, name)
	}
	s.add(c)
	return nil
}

// plain is the content of a table or a log, decrypted, and whether a key was
// there for it.
func (s *salvage) plain(name string, data []byte) ([]byte, bool) {
	if len(s.keys) == 0 {
		return data, true
	}
	return s.keys.plainFile(name, data, s.keyOf[name])
}

// stopped is an error of who gets the records, not of the file.
type stopped struct{ cause error }

// Error implements error.
func (e *stopped) Error() string { return e.cause.Error() }

func firstLine(err error) string {
	for _, line := range strings.Split(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "==") {
			return line[:min(len(line), 300)]
		}
	}
	return "it cannot be read"
}

// take counts one version of a key, and passes it on if it is good.
func (s *salvage) take(f found) error {
	if len(f.key) == 0 || f.key[0] > keyLayout || len(f.key) > 1 && f.key[0] == keyLayout && class(f.key[1]) == classFiller || strings.HasPrefix(string(f.key), "!badger!") {
		return nil
	}
	if m, _, ok := eventOf(f.key); ok {
		s.machines[m] = true
	}
	if bytes.Equal(f.key, formatKey) && f.version >= s.formatVersion {
		_, err := unseal(f.key, f.value)
		s.formatVersion, s.format = f.version, !f.removed && !errors.Is(err, errDamaged)
	}
	if f.removed {
		s.file.Removed++
	} else {
		if _, err := unseal(f.key, f.value); errors.Is(err, errDamaged) {
			s.file.Damaged++
			return nil
		}
		s.file.Records++
		if _, _, ok := eventOf(f.key); ok {
			s.file.Events++
		}
	}
	if s.each == nil {
		return nil
	}
	if err := s.each(f); err != nil {
		return &stopped{err}
	}
	return nil
}
