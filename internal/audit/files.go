package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/internal/durable"
)

// fileName names a file by the number of its first entry, so that names sort.
func fileName(first uint64) string { return fmt.Sprintf("audit-%012d.jsonl", first) }

// files returns the names of the log's files, oldest first.
func files(folder string) (names []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("audit: read the folder: %w", err)
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".jsonl"), "audit-")
		if _, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && filepath.Ext(e.Name()) == ".jsonl" && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// head is what is known of the chain in a second place.
type head struct {
	// Number and Hash are of the newest entry; the zero head is an empty log.
	Number uint64 `json:"n"`
	Hash   hash   `json:"hash"`
	// First is the oldest entry that is kept, FirstPrev the hash before it; 0 if
	// nothing was dropped yet.
	First     uint64 `json:"first,omitempty"`
	FirstPrev hash   `json:"first_prev"`
	// Broken says what was found missing, once and for ever.
	Broken string `json:"broken,omitempty"`
}

func (h *head) first() uint64 { return max(h.First, 1) }

func readHead(path string) (h head, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("audit: read the head: %w", err)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return head{Broken: "the file " + path + " cannot be read: where the audit log ended is not known"}, nil
	}
	// It is written in one form only: what says the same in another was changed, and
	// so was one that begins behind entries of which none was dropped.
	if again, err := h.line(); err != nil || !bytes.Equal(again, data) || h.First <= 1 && h.FirstPrev != (hash{}) {
		return head{Broken: "the file " + path + " was changed: where the audit log ended is not known"}, nil
	}
	return h, nil
}

// line is the content of the head's file.
func (h *head) line() ([]byte, error) {
	data, err := json.Marshal(h)
	return append(data, '\n'), err
}

func writeHead(path string, h head) error {
	data, err := h.line()
	if err == nil {
		err = durable.Replace(path, data, fileMode)
	}
	if err != nil {
		return fmt.Errorf("audit: write the head: %w: make room on the disk", err)
	}
	return nil
}

// tail is how a file ends: its newest entry, how many bytes are whole lines and
// how many are half a one.
type tail struct {
	number      uint64
	hash, prev  hash
	whole, torn int64
}

func (t *tail) empty() bool { return t.whole == 0 && t.torn == 0 }

// lastOf reads the end of a file; a file that is not there is empty.
func lastOf(folder, name string) (t tail, err error) {
	err = eachLine(folder, name, func(line []byte, end int64, whole bool) error {
		if !whole {
			t.torn = end - t.whole
			return nil
		}
		t.whole = end
		r, h, err := decode(line)
		if err != nil {
			t.number, t.hash, t.prev = 0, hash{}, hash{}
			return nil
		}
		t.number, t.hash, t.prev = r.Number, h, r.Prev
		return nil
	})
	return t, err
}

type beginning struct {
	number uint64
	prev   hash
}

// firstOf reads the first entry of a file.
func firstOf(folder, name string) (b beginning, err error) {
	enough := errors.New("found")
	err = eachLine(folder, name, func(line []byte, _ int64, _ bool) error {
		r, _, err := decode(line)
		if err != nil {
			return fmt.Errorf("audit: %s: %w", name, err)
		}
		b = beginning{r.Number, r.Prev}
		return enough
	})
	if errors.Is(err, enough) {
		return b, nil
	}
	return b, err
}

// lineFunc gets a line without its line break, where it ends in the file, and
// whether it has a line break. line is valid during the call only; of one that is
// longer than any line of ours it is the beginning.
type lineFunc func(line []byte, end int64, whole bool) error

// eachLine calls each for every line of a file, none if it is not there.
func eachLine(folder, name string, each lineFunc) error {
	f, err := os.Open(filepath.Join(folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	err = lines(f, each)
	return errors.Join(err, f.Close())
}

func lines(from io.Reader, each lineFunc) error {
	r := bufio.NewReaderSize(from, 64<<10)
	var line []byte
	var end int64
	for {
		part, err := r.ReadSlice('\n')
		end += int64(len(part))
		line = append(line, part[:min(len(part), max(0, 2*maxLine-len(line)))]...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			if len(line) == 0 {
				return nil
			}
			return each(line, end, false)
		case err != nil:
			return fmt.Errorf("audit: read: %w", err)
		}
		if err := each(bytes.TrimSuffix(line, []byte("\n")), end, true); err != nil {
			return err
		}
		line = line[:0]
	}
}
