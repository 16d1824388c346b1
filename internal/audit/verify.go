package audit

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Report is what Verify found.
type Report struct {
	// Entries counts the good lines, from First to Last.
	Entries uint64 `json:"entries"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	// Head is the hash of the newest line. Written down elsewhere, it also shows
	// a log that was rewritten as a whole, head included.
	Head string `json:"head"`
	// Broken is empty if the chain holds; else it names the first line that does
	// not, as file:line, and why.
	Broken string `json:"broken,omitempty"`
}

// Read calls each for every entry beside the store in folder, oldest first. A
// line that cannot be read is given as an error beside its place and does not
// end the listing; an error of each does. It only reads, also while a gateway
// writes.
func Read(folder string, each func(r Record, broken error) error) error {
	folder = filepath.Join(folder, folderName)
	names, err := files(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		n := 0
		if err := eachLine(folder, name, func(line []byte, _ int64, whole bool) error {
			n++
			r, _, err := decode(line)
			if err != nil {
				if !whole {
					return nil // being written just now, or cut by a kill
				}
				err = fmt.Errorf("%s:%d: %w", name, n, err)
			}
			return each(r, err)
		}); err != nil {
			return err
		}
	}
	return nil
}

// errBroken ends a walk at the first line that does not fit.
var errBroken = errors.New("broken")

// Verify follows the chain beside the store in folder from its first line to
// the head that is kept apart. The error is of the disk; a broken chain is in
// the Report. It only reads, also while a gateway writes.
func Verify(folder string) (Report, error) {
	// The head is read first: what is written meanwhile only adds lines.
	h, err := readHead(filepath.Join(folder, headName))
	if err != nil {
		return Report{}, err
	}
	v := verifier{head: h}
	if h.First > 1 {
		v.next, v.prev = h.First, h.FirstPrev
	} else {
		v.next = 1
	}
	logs := filepath.Join(folder, folderName)
	names, err := files(logs)
	if err != nil {
		return Report{}, err
	}
	for _, name := range names {
		v.name, v.line = name, 0
		if err := eachLine(logs, name, v.take); err != nil && !errors.Is(err, errBroken) {
			return Report{}, err
		} else if err != nil {
			break
		}
	}
	v.end()
	return v.report, nil
}

type verifier struct {
	head   head
	report Report
	name   string
	line   int
	next   uint64
	prev   hash
	// atHead is set once the entry that the head names was passed.
	atHead bool
}

func (v *verifier) broken(format string, args ...any) error {
	v.report.Broken = fmt.Sprintf("%s:%d: ", v.name, v.line) + fmt.Sprintf(format, args...)
	return errBroken
}

func (v *verifier) take(line []byte, _ int64, whole bool) error {
	v.line++
	r, h, err := decode(line)
	switch {
	case err != nil && !whole && v.report.Last >= v.head.Number:
		return nil // not acknowledged yet: written just now, or cut by a kill
	case err != nil:
		return v.broken("%v", err)
	case v.head.First > 0 && r.Number < v.head.First && v.report.Entries == 0:
		return nil // dropped by the bound; a kill came before its file was removed
	case r.Number != v.next:
		return v.broken("entry %d stands where %d belongs: lines are missing or were moved", r.Number, v.next)
	case r.Prev != v.prev:
		return v.broken("entry %d does not follow the one before it", r.Number)
	}
	if r.Number == v.head.Number {
		if h != v.head.Hash {
			return v.broken("entry %d is not the one that the head names", r.Number)
		}
		v.atHead = true
	}
	if v.report.Entries == 0 {
		v.report.First = r.Number
	}
	v.report.Entries++
	v.report.Last, v.report.Head = r.Number, h.String()
	v.next, v.prev = r.Number+1, h
	return nil
}

// end compares the end of the chain with the head.
func (v *verifier) end() {
	switch {
	case v.report.Broken != "":
	case v.head.Broken != "":
		v.report.Broken = v.head.Broken
	case v.head.Number > 0 && !v.atHead:
		v.report.Broken = fmt.Sprintf("the log ends at entry %d, the head in %s names %d: the end of the log was removed", v.report.Last, headName, v.head.Number)
	case v.head.Number == 0 && v.report.Entries > 1:
		v.report.Broken = fmt.Sprintf("the log has %d entries, and the head in %s is missing", v.report.Entries, headName)
	}
}
