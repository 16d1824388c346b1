package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Reader reads the log beside a store, also while a gateway writes it. Its
// methods may be called from any goroutine; they block on disk reads.
type Reader struct{ folder string }

// NewReader returns a Reader of the log beside the store in folder. It does no
// I/O.
func NewReader(folder string) Reader { return Reader{folder: filepath.Join(folder, folderName)} }

// Folder returns where the files are.
func (r *Reader) Folder() string { return r.folder }

// Found is an answer to Search.
type Found struct {
	// Entries are newest first.
	Entries []Entry
	// More is set if there may be older ones: search on with Before.
	More   bool
	Before uint64
	// Damaged counts lines that could not be read.
	Damaged int
	// Back is the time of the oldest entry that was looked at, zero for none.
	Back time.Time
}

// Search returns the newest entries that f means, at most limit, with numbers
// below before (0: all). It looks for no longer than patience, since a rare text
// in a large log takes a while; More then says so.
func (r *Reader) Search(ctx context.Context, f Filter, before uint64, limit int, patience time.Duration) (found Found, err error) {
	names, err := r.names()
	if err != nil {
		return found, err
	}
	if before == 0 {
		before = ^uint64(0)
	}
	found.Before = before
	deadline := time.Now().Add(patience)
	needles := f.needles()
	for _, name := range slices.Backward(names) {
		if firstNumber(name) >= before {
			continue
		}
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		if found.Before < before && time.Now().After(deadline) {
			found.More = true
			return found, nil
		}
		data, err := r.file(name)
		if err != nil {
			return found, err
		}
		if found.back(data, &f, needles, limit) {
			return found, nil
		}
	}
	return found, nil
}

// back goes through a file from its end and reports whether that is enough.
func (found *Found) back(data []byte, f *Filter, needles [][]byte, limit int) (enough bool) {
	for end := bytes.LastIndexByte(data, '\n'); end >= 0; {
		start := bytes.LastIndexByte(data[:end], '\n')
		line := data[start+1 : end]
		end = start
		if !whole(line) {
			found.Damaged++
			continue
		}
		if !hasAll(line, needles) {
			continue
		}
		e, err := parse(line)
		switch {
		case err != nil:
			found.Damaged++
			continue
		case e.Number >= found.Before:
			continue
		case len(found.Entries) == limit:
			found.More = true
			return true
		}
		found.Before, found.Back = e.Number, e.Time
		if f.match(&e) {
			found.Entries = append(found.Entries, e)
		}
	}
	return false
}

// file returns a file's content; one that has gone meanwhile is empty.
func (r *Reader) file(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(r.folder, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return data, nil
}

// Each calls each for every entry that f means with a number above after, oldest
// first. It returns the number of the newest entry that it has passed, and how
// many lines could not be read. An error of each ends it and is returned.
func (r *Reader) Each(ctx context.Context, f Filter, after uint64, each func(*Entry) error) (last uint64, damaged int, err error) {
	names, err := r.names()
	if err != nil {
		return after, 0, err
	}
	last = after
	needles := f.needles()
	for i, name := range names {
		if i+1 < len(names) && firstNumber(names[i+1]) <= after+1 {
			continue // all of it was passed
		}
		if ctx.Err() != nil {
			return last, damaged, ctx.Err()
		}
		data, err := r.file(name)
		if err != nil {
			return last, damaged, err
		}
		for line := range bytes.Lines(data[:bytes.LastIndexByte(data, '\n')+1]) {
			line = line[:len(line)-1]
			n, ok := numberOf(line)
			if !ok {
				damaged++
				continue
			}
			if n <= after {
				continue
			}
			last = max(last, n)
			if !hasAll(line, needles) {
				continue // most lines: to parse them all takes ten times as long
			}
			e, err := parse(line)
			if err != nil {
				damaged++
				continue
			}
			if !f.match(&e) {
				continue
			}
			if err := each(&e); err != nil {
				return last, damaged, err
			}
		}
	}
	return last, damaged, nil
}
