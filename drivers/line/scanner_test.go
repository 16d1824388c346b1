package line

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
)

// patience bounds what must happen; reaching it is a failure.
const patience = 20 * time.Second

const gate = `
driver: line
listen: 127.0.0.1:PORT
pattern: '(?P<code>[A-Z0-9]{4,20})'
max_line: 40
HOW
tags: {code: code, n: sequence, kept: taken, refused: refused, callers: callers, all: line}
`

// units is a rule that takes each line and answers nothing; answered one that
// answers each.
var (
	units    = plant.Record{ID: "M/serial", Device: driverstest.Device, Trigger: "n", On: plant.OnChange, Fields: []plant.TagID{"n", "code"}}
	answered = plant.Record{ID: "M/serial", Device: driverstest.Device, Trigger: "n", On: plant.OnChange, Fields: []plant.TagID{"n", "code"}, Writes: []plant.TagID{"kept"}}
)

// freePort returns a port that nobody else gets while the test runs.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := faultnet.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	return port.Number()
}

// listening returns a driver in its first session, and where it listens.
func listening(t *testing.T, how string, records ...plant.Record) (d drivers.Driver, addr string) {
	t.Helper()
	port := freePort(t)
	d = opened(t, strings.NewReplacer("PORT", port, "HOW", how).Replace(gate), records...)
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	return d, "127.0.0.1:" + port
}

func call(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// records reads until so many records with a number were there.
func records(t *testing.T, d drivers.Driver, n int) (got []plant.Scan) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(got) < n {
		scans, err := d.Read(ctx)
		if err != nil {
			t.Fatalf("%d of %d records, then: %v", len(got), n, err)
		}
		for _, s := range scans {
			if number, _ := field(s, "n").Value.Int(); s.Record != "" && number > 0 {
				got = append(got, s)
			}
		}
	}
	return got
}

func field(s plant.Scan, tag plant.TagID) plant.Reading {
	for _, r := range s.Readings {
		if r.Tag == tag {
			return r
		}
	}
	return plant.Reading{}
}

func texts(scans []plant.Scan) (all []string) {
	for _, s := range scans {
		n, code := field(s, "n"), field(s, "code")
		if code.Quality != plant.Good {
			all = append(all, n.Value.Text()+" bad")
			continue
		}
		all = append(all, n.Value.Text()+" "+code.Value.Text())
	}
	return all
}

func equal(t *testing.T, got []plant.Scan, want ...string) {
	t.Helper()
	if g := strings.Join(texts(got), ", "); g != strings.Join(want, ", ") {
		t.Errorf("got %s, want %s", g, strings.Join(want, ", "))
	}
}

// A code that is scanned twice is two records, and so is what two scanners send.
func TestAScannerThatCalls(t *testing.T) {
	d, addr := listening(t, "", units)
	one, two := call(t, addr), call(t, addr)
	send(t, one, "UNIT0001\rUNIT0001\r\n")
	equal(t, records(t, d, 2), "1 UNIT0001", "2 UNIT0001")
	send(t, two, "UNIT0002\n")
	equal(t, records(t, d, 1), "3 UNIT0002")
	one.Close()
	again := call(t, addr)
	send(t, again, "UNIT0001\r")
	equal(t, records(t, d, 1), "4 UNIT0001")
}

// What is no line as the config says is a number with the cause, never silence:
// no match, too long, without an end, cut off, not text.
func TestLinesThatAreNone(t *testing.T) {
	whole := units
	whole.Fields = []plant.TagID{"n", "code", "all"} // a code may be the whole line
	d, addr := listening(t, "half_after: 300ms", whole)
	c := call(t, addr)
	for i, x := range []struct{ sent, cause string }{
		{"no such\r", "does not match the pattern"},
		{strings.Repeat("A", 60) + "\r", "longer than 40 bytes"},
		{"UNIT00", "no end of the line came within 300ms: let the device send CR or LF"},
		{"01\r", "may be the rest of the one before"},
		{"UNIT\xff\xfe01\r", "no UTF-8"},
	} {
		send(t, c, x.sent)
		s := records(t, d, 1)[0]
		if n, _ := field(s, "n").Value.Int(); n != int64(i+1) {
			t.Errorf("%q has the number %d, want %d", x.sent, n, i+1)
		}
		if r := field(s, "code"); r.Quality != plant.Bad || !strings.Contains(r.Cause, x.cause) || !r.Value.IsZero() {
			t.Errorf("%q: %v %q, want bad, %q", x.sent, r.Value, r.Cause, x.cause)
		}
		if r := field(s, "all"); r.Quality != plant.Bad || r.Cause != field(s, "code").Cause || !r.Value.IsZero() {
			t.Errorf("%q: the whole line is %v %v %q, want bad like the code", x.sent, r.Value, r.Quality, r.Cause)
		}
	}
	send(t, c, "UNIT0")
	c.Close()
	if r := field(records(t, d, 1)[0], "code"); !strings.Contains(r.Cause, "the connection ended within it") {
		t.Errorf("cut off: %q", r.Cause)
	}
}

// Who is there is seen: the tags of a line are bad while nobody is connected,
// the driver's own numbers are not.
func TestCallersAreSeen(t *testing.T) {
	for _, x := range []struct {
		how  string
		seen bool
	}{{"", true}, {"hangs_up: true", false}} {
		d, addr := listening(t, x.how)
		scans, err := d.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r := field(scans[0], "code")
		if bad := strings.Contains(r.Cause, "no device has called"); bad != x.seen || !scans[0].Snapshot {
			t.Errorf("%q: %+v", x.how, scans)
		}
		if n := field(scans[0], "n"); n.Quality != plant.Good || n.Value != plant.UintValue(0) {
			t.Errorf("%q: the number is %+v", x.how, n)
		}
		c := call(t, addr)
		awaitCallers(t, d, 1)
		c.Close()
		if r := awaitCallers(t, d, 0); strings.Contains(r.Cause, "the last one left at") != x.seen {
			t.Errorf("%q: %+v", x.how, r)
		}
	}
}

// awaitCallers reads until so many devices are connected and returns what is said
// of the code then.
func awaitCallers(t *testing.T, d drivers.Driver, n uint64) plant.Reading {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		scans, err := d.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scans {
			if field(s, "callers").Value == plant.UintValue(n) {
				return field(s, "code")
			}
		}
	}
}

// Where a rule answers each line, the next is given when it has: nothing can be
// lost on the way. The scanner gets its word behind that.
func TestEachLineWaitsForItsAnswer(t *testing.T) {
	d, addr := listening(t, `reply: '\x06'`, answered)
	c := call(t, addr)
	send(t, c, "UNIT0001\rUNIT0002\r")
	equal(t, records(t, d, 1), "1 UNIT0001")
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for {
		scans, err := d.Read(short)
		if err != nil {
			break
		}
		for _, s := range scans {
			if s.Record != "" {
				t.Errorf("another record before the answer: %+v", s)
			}
		}
	}
	write := func(n uint64) {
		t.Helper()
		if err := d.Write(t.Context(), plant.Write{Device: driverstest.Device, Session: 1, Tag: "kept", Value: plant.UintValue(n)}); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	equal(t, records(t, d, 1), "2 UNIT0002")
	write(2)
	write(2) // said once more by a rule: the scanner is not told twice
	send(t, c, "no unit\rUNIT0003\r")
	equal(t, records(t, d, 1), "3 bad")
	write(3) // the rule has told of it: the next may come, but the scanner gets no word
	equal(t, records(t, d, 1), "4 UNIT0003")
	write(4)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("the scanner got %q, then: %v", got, err)
	}
	if string(got) != "\x06\x06\x06" {
		t.Errorf("the scanner got %q", got)
	}
}

// In a new session the newest line is offered once more under its number, so that
// a rule that has not kept it does; one that has knows it.
func TestTheNewestLineIsOfferedAgain(t *testing.T) {
	d, addr := listening(t, "", units)
	send(t, call(t, addr), "UNIT0001\rUNIT0002\r")
	equal(t, records(t, d, 2), "1 UNIT0001", "2 UNIT0002")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Connect(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	equal(t, records(t, d, 1), "2 UNIT0002")
}

// Before the first line the number is 0, so that a rule that remembers a number
// of before the gateway was started begins anew.
func TestTheFirstRecordIsNone(t *testing.T) {
	d, _ := listening(t, "", units)
	scans, err := d.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(scans) != 2 || scans[1].Record != units.ID || scans[1].Snapshot || field(scans[1], "n").Value != plant.UintValue(0) {
		t.Fatalf("%+v", scans)
	}
}

// A babbling device is made to wait; all that it has sent comes, in order.
func TestAFlood(t *testing.T) {
	d, addr := listening(t, "queue: 10\nmax_rate: 2000/s", units)
	const many = 3000
	c := call(t, addr)
	go func() {
		for i := range many {
			if _, err := fmt.Fprintf(c, "U%07d\r", i); err != nil {
				return // the reader says what is missing
			}
		}
	}()
	for i, s := range records(t, d, many) {
		if want := fmt.Sprintf("%d U%07d", i+1, i); texts([]plant.Scan{s})[0] != want {
			t.Fatalf("%s, want %s", texts([]plant.Scan{s})[0], want)
		}
	}
}

// More callers than there is room for are turned away, and the session goes on.
func TestCallersAreBounded(t *testing.T) {
	d, addr := listening(t, "", units)
	core, logged := observer.New(zap.WarnLevel)
	d.(*driver).link.log = zap.New(core)
	for i := range mostCallers {
		call(t, addr)
		awaitCallers(t, d, uint64(i+1))
	}
	extra := call(t, addr)
	if err := extra.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := extra.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("one caller too many: %v, want the end of the connection", err)
	}
	if all := d.(drivers.Noticer).Notices(); len(all) != 1 || !strings.Contains(all[0].Text, "once a device was turned away") || all[0].Do == "" || all[0].Since.IsZero() {
		t.Errorf("one caller too many: the page says %+v", all)
	}
	if all := logged.All(); len(all) != 1 || all[0].ContextMap()["caller"] != extra.LocalAddr().String() {
		t.Errorf("one caller too many: logged %v, want its address", all)
	}
}

// Lines that wait, and lines that are lost, are on the page; an hour after the
// last one is lost no more is said of it.
func TestLinesThatWaitOrAreLostAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &Options{Port: "/dev/ttyS0", Queue: 600, MaxRate: config.Rate{Count: 100, Per: time.Second}}
		d := open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()}, o)
		d.link = newLink(o, &d.counts, d.log)
		told := func(want ...string) {
			t.Helper()
			all := d.Notices()
			if len(all) != len(want) {
				t.Fatalf("%+v, want %q", all, want)
			}
			for i, n := range all {
				if !strings.Contains(n.Text, want[i]) || n.Do == "" {
					t.Errorf("%+v, want %q", n, want[i])
				}
			}
		}
		for range 500 {
			d.link.put(entry{at: time.Now()})
		}
		told()
		for range 100 {
			d.link.put(entry{at: time.Now()})
		}
		told("600 lines wait")
		for range 26 {
			d.link.put(entry{at: time.Now()})
		}
		told("26 lines are lost", "600 lines wait")
		for range 600 {
			<-d.link.lines
		}
		told("26 lines are lost")
		time.Sleep(noticeFor + time.Second)
		told()
		d.counts.drop(2)
		told("2 lines are lost")
	})
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// What the rules cannot have is said at the desk.
func TestRecordsThatCannotBe(t *testing.T) {
	p := planOf(t, strings.NewReplacer("PORT", "4001", "HOW", "").Replace(gate))
	level := units
	level.On = plant.WhileHigh
	elsewhere := answered
	elsewhere.Writes = []plant.TagID{"code"}
	for _, x := range []struct {
		r    plant.Record
		want string
	}{{units, ""}, {answered, ""}, {level, "protocol: counter"}, {elsewhere, "nothing can be written to the field code"}} {
		err := p.CheckRecords([]plant.Record{x.r})
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(fmt.Sprint(err), x.want)) {
			t.Errorf("%+v: %v, want %q", x.r, err, x.want)
		}
	}
}
