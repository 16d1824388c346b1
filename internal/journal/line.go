package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The end of a line: a CRC32C of all that stands before it, as the last member
// of the object.
const (
	sumBegin = `,"crc":"`
	sumEnd   = `"}`
	sumSize  = len(sumBegin) + 8 + len(sumEnd)
)

// appendLine adds e as a line.
func appendLine(dst []byte, e *Entry) []byte {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // texts, numbers and times always have a JSON form
	}
	body := text[:len(text)-1]
	dst = append(dst, body...)
	dst = append(dst, sumBegin...)
	sum := crc32.Checksum(body, castagnoli)
	dst = hex.AppendEncode(dst, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	dst = append(dst, sumEnd...)
	return append(dst, '\n')
}

// errDamaged says that a line is not as it was written.
var errDamaged = errors.New("the line is damaged")

// whole reports whether a line is as it was written.
func whole(line []byte) bool {
	at := len(line) - sumSize
	if at < 1 || string(line[at:at+len(sumBegin)]) != sumBegin || string(line[len(line)-len(sumEnd):]) != sumEnd {
		return false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], line[at+len(sumBegin):len(line)-len(sumEnd)]); err != nil {
		return false
	}
	return crc32.Checksum(line[:at], castagnoli) == uint32(sum[0])<<24|uint32(sum[1])<<16|uint32(sum[2])<<8|uint32(sum[3])
}

// parse reads a line.
func parse(line []byte) (e Entry, err error) {
	if !whole(line) {
		return e, errDamaged
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, errDamaged
	}
	return e, nil
}

// numberBegin is how a line begins, since it is the first field of an Entry.
const numberBegin = `{"n":`

// numberOf reads the number of a line that is whole; ok is false if it is not.
func numberOf(line []byte) (n uint64, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(numberBegin))
	digits, _, cut := bytes.Cut(rest, []byte(","))
	if !ok || !cut || !whole(line) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	return n, err == nil
}

const filePrefix, fileSuffix = "log-", ".jsonl"

// fileName names a file by the number of its first entry, so that names sort.
func fileName(first uint64) string { return fmt.Sprintf("%s%016d%s", filePrefix, first, fileSuffix) }

// firstNumber returns what the name says, 0 if it is none of ours.
func firstNumber(name string) uint64 {
	digits, ok := strings.CutPrefix(name, filePrefix)
	digits, is := strings.CutSuffix(digits, fileSuffix)
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || !is || err != nil || len(digits) != 16 {
		return 0
	}
	return n
}

// names returns the files, oldest first; none if there is no folder.
func (r *Reader) names() (names []string, err error) {
	entries, err := os.ReadDir(r.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journal: read the folder: %w", err)
	}
	for _, e := range entries {
		if firstNumber(e.Name()) > 0 && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// tail is how a file ends.
type tail struct {
	// number is the newest entry's, first the time of the oldest that can be read.
	number uint64
	first  time.Time
	// whole and torn are how many bytes are whole lines and half a one.
	whole, torn int64
}

// lastOf reads the end of a file.
func lastOf(folder, name string) (t tail, err error) {
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return t, fmt.Errorf("journal: %w", err)
	}
	t.whole = int64(bytes.LastIndexByte(data, '\n') + 1)
	t.torn = int64(len(data)) - t.whole
	for line := range bytes.Lines(data[:t.whole]) {
		e, err := parse(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			continue
		}
		if t.first.IsZero() {
			t.first = e.Time
		}
		t.number = max(t.number, e.Number)
	}
	return t, nil
}
