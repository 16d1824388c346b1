package journal

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"
)

// columns are those of the CSV, in their order; further ones are only added at
// the end.
var columns = []string{
	"number", "time", "uplink", "machine", "kind", "first", "last", "events", "merged",
	"outcome", "status", "duration_ms", "method", "where", "request_id", "words", "receiver_id",
}

// CSV writes entries as rows under a header. A cell that a spreadsheet would take
// for a formula begins with an apostrophe. Close must be called.
type CSV struct {
	w     *csv.Writer
	begun bool
}

// NewCSV returns a CSV that writes to w.
func NewCSV(w io.Writer) *CSV { return &CSV{w: csv.NewWriter(w)} }

// Put writes one row.
func (c *CSV) Put(e *Entry) error {
	if err := c.begin(); err != nil {
		return err
	}
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	var merged []string
	for _, m := range e.Merged {
		merged = append(merged, string(m.Kind)+" "+number(uint64(m.First))+"-"+number(uint64(m.Into))+" ("+strconv.Itoa(m.Count)+")")
	}
	row := []string{
		number(e.Number), e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), e.Uplink, string(e.Machine), string(e.Kind),
		number(uint64(e.First)), number(uint64(e.Last)), number(uint64(e.Events)), strings.Join(merged, "; "),
		string(e.Outcome), number(uint64(e.Status)), strconv.FormatFloat(float64(e.Duration)/float64(time.Millisecond), 'f', 1, 64),
		e.Method, e.Where, e.RequestID, e.Words, e.ReceiverID,
	}
	for i := range row {
		row[i] = harmless(row[i])
	}
	return c.w.Write(row)
}

func (c *CSV) begin() error {
	if c.begun {
		return nil
	}
	c.begun = true
	return c.w.Write(columns)
}

// Close writes what is left, the header at least.
func (c *CSV) Close() error {
	if err := c.begin(); err != nil {
		return err
	}
	return c.Flush()
}

// Flush hands over the rows so far.
func (c *CSV) Flush() error {
	c.w.Flush()
	return c.w.Error()
}

// harmless keeps a cell from being a formula of a spreadsheet (OWASP, CSV
// Injection: = + - @, tab and carriage return at its beginning).
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// AppendJSON adds e as a line of JSON without its checksum, which is the log's own.
func AppendJSON(dst []byte, e *Entry) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return dst, err
	}
	return append(append(dst, text...), '\n'), nil
}
