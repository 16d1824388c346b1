package opcua

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

const handshake = `
driver: opcua
endpoint: opc.tcp://ENDPOINT
timeout: 1s
publishing: 50ms
tags:
  ready: ns=2;s=Dose.Ready
  number: ns=2;s=Dose.Number
  kilos: {node: "ns=2;s=Dose.Kilos", scale: 0.001}
  lot: ns=2;s=Dose.Lot
  ack: ns=2;s=Dose.Ack
  made: ns=2;s=Line.Made
`

func newScale(t *testing.T, o plantsim.OPCUAOptions) *plantsim.OPCUA {
	s := newPLC(t, o)
	s.Update(func(n *plantsim.Nodes) {
		n.Set("Dose.Ready", false)
		n.Set("Dose.Number", uint32(0))
		n.Set("Dose.Kilos", int32(0))
		n.Set("Dose.Lot", "")
		n.Set("Dose.Ack", false)
	})
	return s
}

func offer(n *plantsim.Nodes, number uint32, grams int32, lot string) {
	n.Set("Dose.Number", number)
	n.Set("Dose.Kilos", grams)
	n.Set("Dose.Lot", lot)
	n.Set("Dose.Ready", true)
}

var dose = plant.Record{
	ID: "dose", Device: driverstest.Device, Trigger: "ready", On: plant.WhileHigh,
	Fields: []plant.TagID{"number", "kilos", "lot"}, Writes: []plant.TagID{"ack"},
}

func ofRecord(id plant.RecordID) func(plant.Scan) bool {
	return func(s plant.Scan) bool { return s.Record == id }
}

// A whole handshake of four phases: offered, read, acknowledged, taken back.
func TestRecordWhileHigh(t *testing.T) {
	for _, mode := range []string{"publishing", "poll"} {
		t.Run(mode, func(t *testing.T) {
			s := newScale(t, plantsim.OPCUAOptions{})
			s.OnWrite(func(n *plantsim.Nodes, w plantsim.OPCUAWrite) {
				if w.Node == "Dose.Ack" && w.Value == true {
					n.Set("Dose.Ready", false)
				}
			})
			d := openText(t, strings.Replace(handshake, "publishing: 50ms", mode+": 50ms", 1), s.Addr(), dose)
			connect(t, d, 7)
			sawTrigger := false
			until(t, d, "first values", func(s plant.Scan) bool {
				r, ok := find(s, "made")
				return ok && r.Quality == plant.Good
			})
			s.Update(func(n *plantsim.Nodes) { offer(n, 41, 2500, "L-9") })
			for range 2 { // unanswered, it comes again
				scan := until(t, d, "record", func(s plant.Scan) bool {
					if r, ok := find(s, "ready"); ok && r.Value == plant.BoolValue(true) {
						sawTrigger = true
					}
					return s.Record == "dose"
				})
				want := []plant.Reading{
					{Tag: "number", Value: plant.UintValue(41), Quality: plant.Good},
					{Tag: "kilos", Value: plant.ExactValue(plant.Decimal{Unscaled: 2500, Scale: 3}), Quality: plant.Good},
					{Tag: "lot", Value: plant.TextValue("L-9"), Quality: plant.Good},
				}
				if scan.Snapshot || scan.Session != 7 || scan.Device != driverstest.Device || scan.Received.IsZero() || !sawTrigger || len(scan.Readings) != len(want) {
					t.Fatalf("%+v, trigger seen before: %v", scan, sawTrigger)
				}
				for i, r := range scan.Readings {
					if r.Source.IsZero() {
						t.Errorf("%s has no time of the device", r.Tag)
					}
					if r.Source = (time.Time{}); r != want[i] {
						t.Errorf("%+v, want %+v", r, want[i])
					}
				}
			}
			if err := d.Write(t.Context(), plant.Write{Device: driverstest.Device, Session: 7, Tag: "ack", Value: plant.BoolValue(true)}); err != nil {
				t.Fatal(err)
			}
			until(t, d, "trigger down", func(s plant.Scan) bool {
				r, ok := find(s, "ready")
				return ok && r.Value == plant.BoolValue(false)
			})
			// Nothing comes of it any more, while other things go on.
			for i := range uint32(5) {
				s.Set("Line.Made", 5000+i)
				until(t, d, "made", func(s plant.Scan) bool {
					if s.Record != "" {
						t.Errorf("a record after its trigger fell: %+v", s)
					}
					r, ok := find(s, "made")
					return ok && r.Value == plant.UintValue(uint64(5000+i))
				})
			}
		})
	}
}

// A record that waits while the gateway was away is read at the first Read, and
// a new session makes it come again.
func TestRecordAtSessionStart(t *testing.T) {
	s := newScale(t, plantsim.OPCUAOptions{})
	s.Update(func(n *plantsim.Nodes) { offer(n, 9, 100, "A") })
	d := openText(t, handshake, s.Addr(), dose)
	for session := range uint64(3) {
		connect(t, d, session+1)
		if scan := until(t, d, "record", ofRecord("dose")); scan.Session != session+1 || scan.Snapshot {
			t.Errorf("%+v", scan)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRecordOnChange(t *testing.T) {
	s := newScale(t, plantsim.OPCUAOptions{})
	r := dose
	r.Trigger, r.On = "number", plant.OnChange
	d := openText(t, handshake, s.Addr(), r)
	connect(t, d, 1)
	until(t, d, "the first value is a change", ofRecord("dose"))
	for n := uint32(1); n < 4; n++ {
		s.Update(func(nodes *plantsim.Nodes) { offer(nodes, n, int32(n)*10, fmt.Sprint("lot ", n)) })
		scan := until(t, d, "record", ofRecord("dose"))
		if lot, _ := find(scan, "lot"); lot.Value != plant.TextValue(fmt.Sprint("lot ", n)) {
			t.Errorf("change %d: %+v", n, scan)
		}
	}
	s.Set("Line.Made", uint32(1))
	until(t, d, "made", func(s plant.Scan) bool {
		if s.Record != "" {
			t.Errorf("a record without a change: %+v", s)
		}
		r, ok := find(s, "made")
		return ok && r.Value == plant.UintValue(1)
	})
}

// All fields come from one Read request, and one that the server refuses is bad
// alone; a record that is too large for one request is never torn.
func TestRecordIsOneRequest(t *testing.T) {
	s := newScale(t, plantsim.OPCUAOptions{MaxNodesPerRead: 4})
	s.Update(func(n *plantsim.Nodes) { n.Remove("Dose.Lot"); n.Set("Dose.Ready", true) })
	d := openText(t, handshake, s.Addr(), dose)
	connect(t, d, 1)
	scan := until(t, d, "record", ofRecord("dose"))
	if got := strings.Join(s.LastRead(), " "); got != "Dose.Number Dose.Kilos Dose.Lot Dose.Ready" {
		t.Errorf("the last request asked for %s", got)
	}
	if lot, _ := find(scan, "lot"); lot.Quality != plant.Bad || !strings.Contains(lot.Cause, "BadNodeIdUnknown") {
		t.Errorf("%+v", lot)
	}
	if number, _ := find(scan, "number"); number.Quality != plant.Good {
		t.Errorf("%+v", number)
	}

	small := newScale(t, plantsim.OPCUAOptions{MaxNodesPerRead: 3})
	small.Update(func(n *plantsim.Nodes) { n.Set("Dose.Ready", true) })
	large := dose
	large.Fields = []plant.TagID{"number", "kilos", "lot", "made"}
	d = openText(t, handshake, small.Addr(), large)
	connect(t, d, 1)
	for _, r := range until(t, d, "record", ofRecord("dose")).Readings {
		if r.Quality != plant.Bad || !strings.Contains(r.Cause, "4 fields, the server reads 3") {
			t.Errorf("%+v", r)
		}
	}
	if n := small.Counts().TooMany; n != 0 {
		t.Errorf("%d requests over the limit", n)
	}
}

func TestRecordsTooLargeForManyServersAreWarnedOf(t *testing.T) {
	p := checkPlan(t, section, "127.0.0.1:4840")
	if err := p.CheckRecords([]plant.Record{dose}); err != nil {
		t.Error(err)
	}
	large := plant.Record{ID: "large", Fields: make([]plant.TagID, 101)}
	if err := p.CheckRecords([]plant.Record{large}); err == nil || !strings.Contains(err.Error(), "large has 101 fields") {
		t.Error(err)
	}
}

// Every call stays within the limits of the server.
func TestLimitsAreRespected(t *testing.T) {
	for _, mode := range []string{"publishing", "poll"} {
		s := newPLC(t, plantsim.OPCUAOptions{MaxNodesPerRead: 5, MaxItemsPerCall: 3})
		text := "driver: opcua\nendpoint: opc.tcp://ENDPOINT\n" + mode + ": 50ms\ntags:\n"
		s.Update(func(n *plantsim.Nodes) {
			for i := range 25 {
				n.Set(fmt.Sprint("Many.", i), int32(i))
				text += fmt.Sprintf("  t%d: ns=2;s=Many.%d\n", i, i)
			}
		})
		d := openText(t, text, s.Addr())
		connect(t, d, 1)
		seen := map[plant.TagID]bool{}
		until(t, d, mode, func(s plant.Scan) bool {
			for _, r := range s.Readings {
				seen[r.Tag] = seen[r.Tag] || r.Quality == plant.Good
			}
			return len(seen) == 25
		})
		if c := s.Counts(); c.TooMany != 0 {
			t.Errorf("%s: %d requests over the limit", mode, c.TooMany)
		}
	}
}

// A queue keeps what happens between two publishes, in order; what it cannot
// keep is told once.
func TestQueueAndOverflow(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	core, logs := observer.New(zap.WarnLevel)
	p := checkPlan(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 100ms\nqueue: 4\ntags: {state: ns=2;s=Line.Signed, made: ns=2;s=Line.Made}\n", s.Addr())
	d := p.Open(drivers.Env{Name: driverstest.Device, Log: zap.New(core)})
	t.Cleanup(func() { d.Close() })
	connect(t, d, 1)
	until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })

	read := func() (got []string) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		scans, err := d.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scans {
			tags := map[plant.TagID]int{}
			for _, r := range s.Readings {
				got = append(got, fmt.Sprintf("%s=%v", r.Tag, r.Value))
				if tags[r.Tag]++; tags[r.Tag] > 1 || s.Snapshot || r.Quality != plant.Good {
					t.Errorf("%+v", s)
				}
			}
		}
		return got
	}
	s.Update(func(n *plantsim.Nodes) { // one Update, so one publish
		start := time.Now()
		for i := range 3 {
			at := start.Add(time.Duration(i) * time.Millisecond)
			n.SetAt("Line.Signed", int16(10+i), at)
			n.SetAt("Line.Made", uint32(100+i), at.Add(time.Microsecond))
		}
	})
	if got := strings.Join(read(), " "); got != "state=10 made=100 state=11 made=101 state=12 made=102" {
		t.Errorf("%s", got)
	}
	for i := range 9 {
		s.Set("Line.Signed", int16(i))
	}
	lossy := false
	until(t, d, "the newest value", func(s plant.Scan) bool {
		r, ok := find(s, "state")
		lossy = lossy || s.Overflow && ok
		return ok && r.Value == plant.IntValue(8)
	})
	for i := range 9 {
		s.Set("Line.Signed", int16(100+i))
	}
	until(t, d, "the newest value", func(s plant.Scan) bool {
		r, ok := find(s, "state")
		return ok && r.Value == plant.IntValue(108)
	})
	if !lossy {
		t.Error("no scan says that values before it are lost")
	}
	if n := logs.FilterMessageSnippet("lost values").Len(); n != 1 {
		t.Errorf("%d warnings of lost values, want 1: %v", n, logs.All())
	}
}

func TestDeadband(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 50ms\ntags:\n  level: {node: ns=2;s=Line.Level, scale: 0.1, deadband: 0.5}\n  order: {node: ns=2;s=Line.Order, deadband: 1}\n", s.Addr())
	connect(t, d, 1)
	first := until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "level"); return ok })
	if r, _ := find(first, "order"); r.Quality != plant.Bad || !strings.Contains(r.Cause, "remove deadband") {
		t.Errorf("%+v", r)
	}
	s.Set("Line.Level", int16(620)) // 0.3 more
	s.Set("Line.Level", int16(624)) // 0.7 more
	scan := until(t, d, "level", func(s plant.Scan) bool { _, ok := find(s, "level"); return ok })
	if r, _ := find(scan, "level"); r.Value.Text() != "62.4" {
		t.Errorf("%v came through a deadband of 0.5", r.Value)
	}
}

// A node that is not there costs the others nothing, and is watched once it is.
func TestNodeAppearsLater(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	d := openText(t, section, s.Addr())
	d.(*driver).retry = 100 * time.Millisecond
	connect(t, d, 1)
	until(t, d, "bad", func(s plant.Scan) bool {
		r, ok := find(s, "refused")
		return ok && r.Quality == plant.Bad && strings.Contains(r.Cause, "no such node")
	})
	until(t, d, "good beside it", func(s plant.Scan) bool { r, ok := find(s, "made"); return ok && r.Quality == plant.Good })
	s.Set("Line.Nothing", int16(5))
	scan := until(t, d, "node", func(s plant.Scan) bool { r, ok := find(s, "refused"); return ok && r.Quality == plant.Good })
	if !scan.Snapshot {
		t.Errorf("the first value of a node is no snapshot: %+v", scan)
	}
}

func TestQualities(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	d := openText(t, section, s.Addr())
	connect(t, d, 1)
	until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	for _, c := range []struct {
		status  uint32
		quality plant.Quality
		cause   string
	}{
		{0x40900000, plant.Uncertain, "the value is old: its source is gone (UncertainLastUsableValue 0x40900000)"},
		{0x80320000, plant.Bad, "the server has no value yet (BadWaitingForInitialData 0x80320000)"},
		{0x00960000, plant.Good, ""}, // GoodLocalOverride
		{0xC0000000, plant.Bad, "the server says"},
	} {
		s.Update(func(n *plantsim.Nodes) { n.SetStatus("Line.Made", c.status) })
		scan := until(t, d, "status", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
		r, _ := find(scan, "made")
		if r.Quality != c.quality || !strings.HasPrefix(r.Cause, c.cause) || (c.cause == "") != (r.Cause == "") || r.Value.IsZero() != (c.quality == plant.Bad) {
			t.Errorf("status %#x: %+v", c.status, r)
		}
	}
	for _, c := range []struct {
		value any
		cause string
	}{
		{int32(5), "the node is of the type Int32, the config says int16"},
		{[]int16{1, 2}, "array"},
	} {
		s.Set("Line.Signed", c.value)
		scan := until(t, d, "value", func(s plant.Scan) bool { _, ok := find(s, "signed"); return ok })
		if r, _ := find(scan, "signed"); r.Quality != plant.Bad || !strings.Contains(r.Cause, c.cause) || !r.Value.IsZero() {
			t.Errorf("%v: %+v", c.value, r)
		}
	}
}

func TestNamespaceByURI(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	for _, mode := range []string{"publishing", "poll"} {
		d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\n"+mode+": 50ms\ntags: {made: nsu=urn:sluice:plantsim:line;s=Line.Made, other: {node: nsu=urn:other;i=5, writable: true}}\n", s.Addr())
		connect(t, d, 1)
		got := map[plant.TagID]plant.Reading{}
		until(t, d, mode, func(s plant.Scan) bool {
			for _, r := range s.Readings {
				got[r.Tag] = r
			}
			return len(got) == 2
		})
		if r := got["made"]; r.Value != plant.UintValue(4711) {
			t.Errorf("%+v", r)
		}
		if r := got["other"]; r.Quality != plant.Bad || !strings.Contains(r.Cause, "no namespace urn:other; it has http://opcfoundation.org/UA/") {
			t.Errorf("%+v", r)
		}
		if err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "other", Value: plant.IntValue(1)}); err == nil || !strings.Contains(err.Error(), "urn:other") {
			t.Error(err)
		}
	}
}

// Writes take the type of the node, known or not, and refuse what does not fit.
func TestWriteTypes(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	text := "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npoll: 1h\ntags:\n"
	for _, name := range []string{"Made", "Small", "Byte", "Signed", "Word", "Total", "Longer", "Long", "Weight", "Energy", "Level", "Order", "Running", "Nothing"} {
		scale := ""
		if name == "Level" {
			scale = ", scale: 0.1"
		}
		text += fmt.Sprintf("  %s: {node: ns=2;s=Line.%s, writable: true%s}\n", name, name, scale)
	}
	d := openText(t, text, s.Addr())
	connect(t, d, 1)
	for _, c := range []struct {
		tag   string
		value plant.Value
		want  any // nil: refused
	}{
		{"Made", plant.IntValue(5), uint32(5)}, {"Made", plant.IntValue(-1), nil}, {"Small", plant.IntValue(-128), int8(-128)}, {"Small", plant.IntValue(128), nil},
		{"Byte", plant.UintValue(255), uint8(255)}, {"Byte", plant.UintValue(256), nil}, {"Signed", plant.FloatValue(7), int16(7)}, {"Signed", plant.FloatValue(7.5), nil},
		{"Word", plant.BoolValue(true), uint16(1)}, {"Total", plant.IntValue(1 << 31), nil}, {"Total", plant.IntValue(-1 << 31), int32(-1 << 31)},
		{"Longer", plant.UintValue(1 << 63), nil}, {"Longer", plant.IntValue(-9), int64(-9)}, {"Long", plant.UintValue(1<<64 - 1), uint64(1<<64 - 1)}, {"Long", plant.IntValue(-1), nil},
		{"Weight", plant.FloatValue(0.5), float32(0.5)}, {"Weight", plant.FloatValue(1e300), nil}, {"Energy", plant.IntValue(3), 3.0}, {"Energy", plant.TextValue("x"), nil},
		{"Level", plant.ExactValue(plant.Decimal{Unscaled: 125, Scale: 1}), int16(125)}, {"Level", plant.ExactValue(plant.Decimal{Unscaled: 1255, Scale: 2}), nil},
		{"Order", plant.TextValue("B"), "B"}, {"Running", plant.IntValue(0), false}, {"Running", plant.TextValue("yes"), nil}, {"Nothing", plant.IntValue(1), nil},
	} {
		err := d.Write(t.Context(), plant.Write{Session: 1, Tag: plant.TagID(c.tag), Value: c.value})
		got := s.Get("Line." + c.tag)
		if (err == nil) != (c.want != nil) || c.want != nil && got != c.want {
			t.Errorf("write %s = %v: %v, the node has %v (%T), want %v", c.tag, c.value, err, got, got, c.want)
		}
	}
	// A refused write ends nothing.
	if _, err := d.Read(t.Context()); err != nil {
		t.Error(err)
	}
}

// The server's restart and a lost session are told in plain words.
func TestEndOfSessionIsExplained(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	d := openText(t, section, s.Addr())
	connect(t, d, 1)
	until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	_, err := readErr(t, d)
	if err == nil || !strings.Contains(err.Error(), "closed the connection") && !strings.Contains(err.Error(), "connection is lost") {
		t.Error(err)
	}
	if err := d.Connect(t.Context(), 2); err == nil || !strings.HasPrefix(err.Error(), "opcua: connect opc.tcp://"+s.Addr()) {
		t.Error(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	connect(t, d, 3)
	until(t, d, "again", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
}

func readErr(t *testing.T, d drivers.Driver) ([]plant.Scan, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if scans, err := d.Read(ctx); err != nil {
			return scans, err
		}
	}
}

// A closed session leaves nothing at the server.
func TestCloseLeavesNothingAtTheServer(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	d := openText(t, section, s.Addr())
	for i := range uint64(5) {
		connect(t, d, i+1)
		until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
		if c := s.Counts(); c.OpenSessions != 1 || c.Subscriptions != 1 {
			t.Errorf("%+v", c)
		}
		d.Close()
		if c := s.Counts(); c.OpenSessions != 0 || c.Subscriptions != 0 {
			t.Errorf("%+v", c)
		}
	}
}
