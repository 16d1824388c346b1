package status

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

func TestSummary(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Snapshot)
		want   string
	}{
		"well":              {func(*Snapshot) {}, "1 of 2 machines running, 1 stopped; all devices connected; everything is delivered"},
		"a device away":     {func(s *Snapshot) { s.Devices[0].Connected = false }, "0 of 2 machines running, 1 stopped, 1 cannot be seen; 1 device away since 11:48; everything is delivered"},
		"two, since before": {func(s *Snapshot) { s.Devices[0].Connected, s.Devices[1].Connected = false, false }, "0 of 2 machines running, 2 cannot be seen; 2 devices away since 09:00; everything is delivered"},
		"since yesterday": {func(s *Snapshot) {
			s.Devices[0].Connected, s.Devices[0].Since = false, noon.Add(-24*time.Hour)
		}, "0 of 2 machines running, 1 stopped, 1 cannot be seen; 1 device away since 2026-03-13 12:00; everything is delivered"},
		"a flap of a device": {func(s *Snapshot) {
			s.Devices[2].Connected, s.Devices[2].Since = false, noon.Add(-time.Second)
		}, "1 of 2 machines running, 1 stopped; all devices connected; everything is delivered"},
		"an uplink away": {func(s *Snapshot) {
			s.Uplinks[0].Down, s.Uplinks[0].DownSince = true, noon.Add(-5*time.Minute)
			s.Buffer.Queues = plantAt().Buffer.Queues
		}, "1 of 2 machines running, 1 stopped; all devices connected; broker: 123 events not delivered since 11:55"},
		"a stream that stands": {func(s *Snapshot) {
			s.Uplinks[0].Problems = []uplink.Problem{{Machine: "PRESS-01", Since: noon.Add(-time.Minute)}}
			s.Buffer.Queues = plantAt().Buffer.Queues
		}, "1 of 2 machines running, 1 stopped; all devices connected; broker: 123 events not delivered since 11:59"},
		"refused events": {func(s *Snapshot) { s.Buffer.Queues = []buffer.QueueStats{{Uplink: "broker", DeadLetters: 2}} },
			"1 of 2 machines running, 1 stopped; all devices connected; broker: 2 events refused"},
		"a backlog that is sent": {func(s *Snapshot) {
			s.Buffer.Queues = []buffer.QueueStats{{Uplink: "broker", Backlog: 9000, Oldest: noon.Add(-time.Hour)}}
		}, "1 of 2 machines running, 1 stopped; all devices connected; broker: 9\u202f000 events wait, the oldest for 1 h 0 min"},
		"events on their way": {func(s *Snapshot) {
			s.Buffer.Queues = []buffer.QueueStats{{Uplink: "broker", Backlog: 9, Oldest: noon.Add(-time.Second)}}
		}, "1 of 2 machines running, 1 stopped; all devices connected; everything is delivered"},
		"full": {func(s *Snapshot) { s.Buffer.Full, s.Buffer.FullSince = true, noon.Add(-time.Minute) },
			"Nothing is recorded since 11:59, there is no space; 1 of 2 machines running, 1 stopped; all devices connected; everything is delivered"},
		"a failed disk": {func(s *Snapshot) { s.Buffer.Fault = "input/output error" },
			"Nothing is recorded, the disk failed a write; 1 of 2 machines running, 1 stopped; all devices connected; everything is delivered"},
		"not known yet": {func(s *Snapshot) { s.Machines[0].Running = nil }, "0 of 2 machines running, 1 stopped, 1 not known yet; all devices connected; everything is delivered"},
		"a scale": {func(s *Snapshot) {
			s.Machines[0].Running, s.Kinds = nil, map[plant.MachineID][]plant.EventKind{"PRESS-01": {plant.KindDosing}}
		}, "0 of 1 machine running, 1 stopped; all devices connected; everything is delivered"},
		"a scale alone": {func(s *Snapshot) {
			s.Machines = []derive.Stats{{Machine: "MIXER"}}
			s.Kinds = map[plant.MachineID][]plant.EventKind{"MIXER": {plant.KindDosing}}
		}, "1 machine connected; all devices connected; everything is delivered"},
		"nothing yet": {func(s *Snapshot) { *s = Snapshot{At: noon} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			snap := wellPlant()
			test.change(&snap)
			if got := summary(snap, clock{noon, time.UTC}); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if body := ask(t, snap, "GET", "/").Body.String(); test.want != "" && !strings.Contains(body, `">`+test.want+"</p>") {
				t.Errorf("the page does not begin with it:\n%.900s", body)
			}
		})
	}
}

// TestSummaryHasTheColourOfTheWorst problem, so that a doubt does not look like a
// loss, and neither like nothing.
func TestSummaryHasTheColourOfTheWorst(t *testing.T) {
	doubt := wellPlant()
	doubt.Devices[1].BadTags = map[plant.TagID]string{"a": "not a number"}
	for class, snap := range map[string]Snapshot{"good": wellPlant(), "unknown": doubt, "bad": plantAt()} {
		if got := newPage(snap, time.UTC).SumClass; got != class {
			t.Errorf("got %s, want %s", got, class)
		}
	}
}

// TestCardOfAScale has what a scale does, and no running state and no pieces.
func TestCardOfAScale(t *testing.T) {
	snap := Snapshot{
		At: noon, Devices: []drivers.Stats{{Device: "scale", Connected: true}},
		Feeds: map[plant.MachineID][]plant.DeviceID{"MIXER": {"scale"}},
		Kinds: map[plant.MachineID][]plant.EventKind{"MIXER": {plant.KindDosing, plant.KindGap}},
	}
	m := derive.Stats{Machine: "MIXER", Events: map[plant.EventKind]uint64{plant.KindDosing: 1234}}
	k := machineCard(snap, &m, clock{noon, time.UTC})
	if k.Class != "good" || k.Word != "connected" || !slices.Equal(k.Lines, []line{{"Doses", "1\u202f234 since the start"}}) {
		t.Errorf("got %+v", k)
	}
	snap.Devices[0].Connected = false
	if k := machineCard(snap, &m, clock{noon, time.UTC}); k.Class != "unknown" || k.Word != "cannot be seen: scale is away" {
		t.Errorf("got %+v", k)
	}
}

// TestCardOfADeviceWithBadTags: by cause, the cause of most first; none while
// the device is away, since that is the cause then.
func TestCardOfADeviceWithBadTags(t *testing.T) {
	d := drivers.Stats{Device: "plc", Connected: true, BadTags: map[plant.TagID]string{
		"a": "exception 2 (illegal data address)", "b": "not a number", "c": "not a number", "d": "not a number",
		"e": "not a number", "f": "not a number", "g": "not a number", "h": "not a number",
	}}
	bad := func() (texts []string) {
		for _, l := range deviceCard(Snapshot{}, &d, clock{noon, time.UTC}).Lines {
			if l.Label == "Bad tags" {
				texts = append(texts, l.Text)
			}
		}
		return texts
	}
	if want := []string{"7 tags, b, c, d, e, f and 2 more: not a number", "a: exception 2 (illegal data address)"}; !slices.Equal(bad(), want) {
		t.Errorf("got %q, want %q", bad(), want)
	}
	d.Connected = false
	if got := bad(); got != nil {
		t.Errorf("shown beside the device that is away: %q", got)
	}
}

func TestPlainWords(t *testing.T) {
	for cause, want := range map[string]string{
		"mqtt: the broker ended the session at the status \"st/gw\"; may this client publish there? EOF": "the broker ended the session at the status \"st/gw\"; may this client publish there?",
		"mqtt: the broker ended the session: EOF":                                                        "the broker ended the session",
		"mqtt: connect: network Error : dial tcp 127.0.0.1:36069: connect: connection refused":           "127.0.0.1:36069 refuses the connection",
		"rest: POST http://mes:80/events: dial tcp: lookup mes on 10.0.0.1:53: no such host":             "the name mes is not known",
		"dial tcp 10.0.0.7:502: connect: no route to host":                                               "there is no way to 10.0.0.7:502 (no route to host)",
		"dial tcp 10.0.0.7:502: i/o timeout":                                                             "no answer from 10.0.0.7:502",
		"rest: POST http://x/: read tcp 10.0.0.1:555->10.0.0.7:80: i/o timeout":                          "no answer from 10.0.0.7:80",
		"read tcp [::1]:555->[::1]:80: read: connection reset by peer":                                   "[::1]:80 closed the connection",
		"read tcp: i/o timeout":                     "no answer in time",
		"rest: POST http://127.0.0.1:9/events: EOF": "the connection was closed",
		"rest: POST https://mes/events: the receiver answers 401 Unauthorized; check the secret of auth": "rest: POST https://mes/events: the receiver answers 401 Unauthorized; check the secret of auth",
		"exception 2 (illegal data address)": "exception 2 (illegal data address)",
		"dial tcp 10.0.0.7:502: connectex: No connection could be made because the target machine actively refused it.": "10.0.0.7:502 refuses the connection",
		"": "",
	} {
		if got := inWords(cause); got != want {
			t.Errorf("inWords(%q) = %q, want %q", cause, got, want)
		}
	}
}

// What works though not as it was asked for is on the device's card, with the
// measured offset of its clock, and only while it is connected.
func TestACardSaysWhatCouldBeBetter(t *testing.T) {
	for _, c := range []struct {
		offset time.Duration
		want   string
	}{{1500 * time.Millisecond, "1.5s ahead of this PC's"}, {-3 * time.Second, "3s behind this PC's"}, {time.Microsecond, "as this PC's"}} {
		d := drivers.Stats{Device: "plc", Connected: true, Since: noon, ClockKnown: true, ClockOffset: c.offset, Advice: []string{"the server takes no deadband"}}
		for _, connected := range []bool{true, false} {
			d.Connected = connected
			found := 0
			for _, l := range deviceCard(Snapshot{}, &d, clock{noon, time.UTC}).Lines {
				if l.Text == "the server takes no deadband" || l.Text == c.want {
					found++
				}
			}
			if want := map[bool]int{true: 2, false: 0}[connected]; found != want {
				t.Errorf("%v, connected %v: %d lines, want %d", c.offset, connected, found, want)
			}
		}
	}
}
