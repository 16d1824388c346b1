package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// filled returns a folder with n entries, written by several openings.
func filled(t *testing.T, n int, o Options) string {
	t.Helper()
	folder := t.TempDir()
	for i := 0; i < n; {
		l := New(folder, o)
		for j := 0; j < 3 && i < n; j++ {
			number, err := l.Append(Entry{By: "uid 1000", Action: "dead.drop", Object: fmt.Sprint("event ", i), Outcome: Done})
			if err != nil || number < uint64(i+1) {
				t.Fatalf("entry %d: %d, %v", i, number, err)
			}
			i++
		}
		if text, _ := l.Problem(); text != "" {
			t.Fatal(text)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func verify(t *testing.T, folder string) Report {
	t.Helper()
	r, err := Verify(folder)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func only(t *testing.T, folder string) string {
	t.Helper()
	names, err := files(filepath.Join(folder, folderName))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return filepath.Join(folder, folderName, names[len(names)-1])
}

func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestChainOverOpenings(t *testing.T) {
	folder := filled(t, 10, Options{})
	if r := verify(t, folder); r.Broken != "" || r.Entries != 10 || r.First != 1 || r.Last != 10 || len(r.Head) != 64 {
		t.Errorf("%+v", r)
	}
	n := 0
	if err := Read(folder, func(r Record, err error) error {
		n++
		if err != nil || r.Number != uint64(n) || r.By != "uid 1000" || r.Action != "dead.drop" || r.Outcome != Done {
			t.Errorf("%+v, %v", r, err)
		}
		return nil
	}); err != nil || n != 10 {
		t.Errorf("%d, %v", n, err)
	}
}

// Every change of a file is found, and named with its first line.
func TestVerifyNamesTheFirstBrokenLine(t *testing.T) {
	lines := func(change func([][]byte) [][]byte) func([]byte) []byte {
		return func(b []byte) []byte {
			return bytes.Join(change(bytes.SplitAfter(b, []byte("\n"))), nil)
		}
	}
	for _, c := range []struct {
		name, want string
		change     func([]byte) []byte
	}{
		{"a word", ":4: its hash", func(b []byte) []byte { return bytes.Replace(b, []byte("event 3"), []byte("event 8"), 1) }},
		{"a line removed", ":4: entry 5 stands where 4", lines(func(l [][]byte) [][]byte { return append(l[:3:3], l[4:]...) })},
		{"two lines swapped", ":4: entry 5 stands", lines(func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l })},
		{"the end removed", "ends at entry 7, the head in audit.head names 10", lines(func(l [][]byte) [][]byte { return l[:7] })},
		{"all removed", "ends at entry 0", func([]byte) []byte { return nil }},
		{"half of the last line", ":10: ", func(b []byte) []byte { return b[:len(b)-20] }},
		{"the line break of the last line", "", func(b []byte) []byte { return b[:len(b)-1] }},
		{"a line put in", ":4: it is no line", lines(func(l [][]byte) [][]byte {
			return append(l[:3:3], append([][]byte{[]byte("{}\n")}, l[3:]...)...)
		})},
		{"a flipped bit", ":2: ", lines(func(l [][]byte) [][]byte { l[1][40] ^= 1; return l })},
		{"the beginning removed", ":1: entry 3 stands where 1", lines(func(l [][]byte) [][]byte { return l[2:] })},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := filled(t, 10, Options{})
			rewrite(t, only(t, folder), c.change)
			if r := verify(t, folder); !strings.Contains(r.Broken, c.want) || c.want != "" && r.Broken == "" {
				t.Errorf("got %q, want %q", r.Broken, c.want)
			}
		})
	}
}

// What was removed stays visible, however much is written afterwards.
// TestAHeadThatWasChangedIsSeen at each of its bytes, with nothing dropped and with
// files that were; and it stays seen after the next entry.
func TestAHeadThatWasChangedIsSeen(t *testing.T) {
	for name, folder := range map[string]string{
		"nothing dropped": filled(t, 6, Options{}),
		"dropped":         filled(t, 40, Options{FileBytes: 1000, Files: 3}),
	} {
		if r := verify(t, folder); r.Broken != "" || (r.First > 1) != (name == "dropped") {
			t.Fatalf("%s: %+v", name, r)
		}
		path := filepath.Join(folder, headName)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range good {
			for _, bit := range []int{0, 5, i % 8} { // 5 is the case of a letter
				bad := bytes.Clone(good)
				bad[i] ^= 1 << bit
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				if r := verify(t, folder); r.Broken == "" {
					t.Errorf("%s: bit %d of byte %d of the head flipped: %s is taken for the log's", name, bit, i, bad)
				}
			}
		}
		for n := range good {
			if err := os.WriteFile(path, good[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			if r := verify(t, folder); r.Broken == "" {
				t.Errorf("%s: the head cut to %d bytes is taken for the log's", name, n)
			}
		}
		rewrite(t, path, func([]byte) []byte { return bytes.ToUpper(good) })
		l := New(folder, Options{})
		if _, err := l.Append(Entry{By: "uid 1000", Action: "dead.drop", Outcome: Done}); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, folder); r.Broken == "" {
			t.Errorf("%s: an entry later the head is as good as new", name)
		}
	}
}

func TestARemovedEndStaysVisible(t *testing.T) {
	folder := filled(t, 10, Options{})
	rewrite(t, only(t, folder), func(b []byte) []byte { return bytes.Join(bytes.SplitAfter(b, []byte("\n"))[:7], nil) })
	l := New(folder, Options{})
	number, err := l.Append(Entry{By: "x", Action: "y", Outcome: Done})
	if err != nil || number != 11 {
		t.Errorf("got %d, %v", number, err)
	}
	if text, since := l.Problem(); !strings.Contains(text, "changed or removed") || since.IsZero() {
		t.Errorf("problem %q", text)
	}
	if r := verify(t, folder); !strings.Contains(r.Broken, ":8: entry 11 stands where 8") {
		t.Errorf("%+v", r)
	}
	if err := os.RemoveAll(filepath.Join(folder, folderName)); err != nil {
		t.Fatal(err)
	}
	l = New(folder, Options{})
	if number, err := l.Append(Entry{By: "x", Action: "y", Outcome: Done}); err != nil || number != 12 {
		t.Errorf("after the folder went: %d, %v", number, err)
	}
	if r := verify(t, folder); r.Broken == "" {
		t.Errorf("%+v", r)
	}
}

// A kill leaves half a line, or a line that the head does not know yet: neither
// is a broken chain.
func TestKilledInBetween(t *testing.T) {
	folder := filled(t, 5, Options{})
	before, err := os.ReadFile(filepath.Join(folder, headName))
	if err != nil {
		t.Fatal(err)
	}
	l := New(folder, Options{})
	if _, err := l.Append(Entry{By: "x", Action: "y", Outcome: Done}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(folder, headName), func([]byte) []byte { return before })
	rewrite(t, only(t, folder), func(b []byte) []byte { return append(b, `{"n":7,"time":"20`...) })
	if r := verify(t, folder); r.Broken != "" || r.Last != 6 {
		t.Errorf("%+v", r)
	}
	l = New(folder, Options{})
	if number, err := l.Append(Entry{By: "x", Action: "z", Outcome: Done}); err != nil || number != 7 {
		t.Errorf("%d, %v", number, err)
	}
	if text, _ := l.Problem(); text != "" {
		t.Error(text)
	}
	if r := verify(t, folder); r.Broken != "" || r.Last != 7 {
		t.Errorf("%+v", r)
	}
}

func TestBoundedWithTheChainOverFiles(t *testing.T) {
	o := Options{FileBytes: 2000, Files: 3}
	folder := filled(t, 100, o)
	names, err := files(filepath.Join(folder, folderName))
	if err != nil || len(names) != 3 {
		t.Errorf("%d files, %v", len(names), err)
	}
	r := verify(t, folder)
	if r.Broken != "" || r.First == 1 || r.Last < 100 || r.Entries != r.Last-r.First+1 {
		t.Errorf("%+v", r)
	}
	drops := 0
	if err := Read(folder, func(r Record, err error) error {
		if r.Action == "audit.drop" {
			drops++
		}
		return err
	}); err != nil || drops == 0 {
		t.Errorf("%d drops, %v", drops, err)
	}
	if err := os.Remove(filepath.Join(folder, folderName, names[1])); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, folder); !strings.Contains(r.Broken, "stands where") {
		t.Errorf("a file is gone: %+v", r)
	}
}

// Nothing that a caller writes can look like another line, or command a
// terminal.
func TestLinesCannotBeForged(t *testing.T) {
	folder := t.TempDir()
	l := New(folder, Options{})
	evil := "x\r\n{\"n\":2}\x1b[2J\x07\u0085\u2028\u202e\u009b31m\xff\U000e0041\"\\" + strings.Repeat("é", maxText)
	for range 2 {
		if _, err := l.Append(Entry{By: evil, Action: evil, Object: evil, Detail: evil, Outcome: evil}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(only(t, folder))
	if err != nil || bytes.Count(data, []byte("\n")) != 2 || bytes.ContainsAny(data, "\r\x1b\x07\u0085\u2028\u202e\u009b\U000e0041") {
		t.Errorf("%v: %.300q", err, data)
	}
	if r := verify(t, folder); r.Broken != "" || r.Entries != 2 {
		t.Errorf("%+v", r)
	}
	if err := Read(folder, func(r Record, err error) error {
		if !strings.HasPrefix(r.By, "x\r\n{\"n\":2}\x1b[2J") || !strings.Contains(r.By, "\U000e0041") || !strings.HasSuffix(r.By, "bytes)") || len(r.By) > maxText+40 {
			t.Errorf("%q", r.By)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no file modes; the folder's rights hold")
	}
	folder := filled(t, 3, Options{})
	for path, want := range map[string]os.FileMode{
		filepath.Join(folder, headName): 0o600, only(t, folder): 0o600, filepath.Join(folder, folderName): 0o700,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestUnwritableIsAProblemUntilItWorks(t *testing.T) {
	folder := t.TempDir()
	blocked := filepath.Join(folder, folderName)
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 7, 27, 10, 0, 0, 0, time.UTC)
	l := New(folder, Options{Now: func() time.Time { return now }})
	if err := l.Check(); err == nil {
		t.Error("a file stands where the folder belongs, and Check says nothing")
	}
	if _, err := l.Append(Entry{Action: "a"}); err == nil {
		t.Error("Append says nothing")
	}
	if text, since := l.Problem(); text == "" || !since.Equal(now) {
		t.Errorf("%q since %v", text, since)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(Entry{Action: "a"}); err != nil {
		t.Error(err)
	}
	if text, _ := l.Problem(); text != "" {
		t.Error(text)
	}
}

// A line in the middle that was changed is a problem, while the log is open too.
func TestAChangedLineInTheMiddleIsAProblem(t *testing.T) {
	folder := filled(t, 10, Options{})
	l := New(folder, Options{})
	if err := errors.Join(l.Check(), l.CheckChain()); err != nil {
		t.Fatal(err)
	}
	if text, _ := l.Problem(); text != "" {
		t.Errorf("of a sound log: %s", text)
	}
	rewrite(t, only(t, folder), func(b []byte) []byte { return bytes.Replace(b, []byte("event 3"), []byte("event 8"), 1) })
	if err := errors.Join(l.Check(), l.CheckChain()); err != nil {
		t.Fatal(err)
	}
	if text, since := l.Problem(); !strings.Contains(text, ":4: its hash") || since.IsZero() {
		t.Errorf("%q since %v", text, since)
	}
	if _, err := l.Append(Entry{Action: "goes on"}); err != nil {
		t.Error(err)
	}
	if text, _ := l.Problem(); text == "" {
		t.Error("a line that could be written makes it forget")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A full disk: what was written of a line is taken back, and the chain goes on
// when there is room.
func TestFullDisk(t *testing.T) {
	folder := filled(t, 3, Options{})
	l := New(folder, Options{})
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	l.file = full
	if _, err := l.Append(Entry{Action: "a"}); err == nil {
		t.Fatal("a full disk was not noticed")
	}
	if number, err := l.Append(Entry{Action: "b"}); err != nil || number != 4 {
		t.Errorf("%d, %v", number, err)
	}
	if r := verify(t, folder); r.Broken != "" || r.Last != 4 {
		t.Errorf("%+v", r)
	}
}

// FuzzLines feeds the reader with what is no log: it never panics, and takes
// nothing for a line that encode would not write again byte by byte.
func FuzzLines(f *testing.F) {
	line, _ := encode(1, time.Unix(0, 0), Entry{By: "a", Action: "b", Detail: "\x1b\n", Outcome: Done}, hash{})
	f.Add(line, uint64(1))
	f.Add(append(line, line...), uint64(0))
	f.Add(line[:100], uint64(9))
	body, sum, _ := bytes.Cut(line, []byte(`"hash":"`))
	f.Add(append(append(bytes.Clone(body), `"hash":"`...), bytes.ToUpper(sum)...), uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, number uint64) {
		v := verifier{head: head{Number: number}, next: 1}
		if err := lines(bytes.NewReader(data), v.take); err != nil && v.report.Broken == "" {
			t.Error(err)
		}
		v.end()
		if err := lines(bytes.NewReader(data), func(line []byte, end int64, _ bool) error {
			if end > int64(len(data)) {
				t.Errorf("a line ends at %d of %d", end, len(data))
			}
			if _, h, err := decode(line); err == nil && !bytes.HasSuffix(line, appendHash(nil, h)) {
				t.Errorf("taken for a line: %q", line)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}
