package status

import (
	"flag"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fixed is a Source with one answer.
type fixed Snapshot

func (f fixed) Snapshot() Snapshot { return Snapshot(f) }

var _ Source = fixed{}

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// plantAt is a plant in which one of everything is wrong.
func plantAt() Snapshot {
	running, stopped := true, false
	return Snapshot{
		At: noon, Gateway: "line-3", Version: "v0.1.0", Started: noon.Add(-3 * time.Hour), Ready: true,
		Devices: []drivers.Stats{
			{Device: "press-plc", Endpoint: "10.0.0.7:502", Since: noon.Add(-12 * time.Minute), Session: 1,
				LastError: "dial tcp 10.0.0.7:502: connect: connection refused", LastErrorAt: noon.Add(-2 * time.Second),
				Reads: 900, Errors: 40, Readings: 5400, BadReadings: 7, LastRead: noon.Add(-12 * time.Minute)},
			{Device: "filler-plc", Line: "hall", Unit: 3, LineShare: 0.31, LineUsed: time.Minute, Endpoint: "10.0.0.8:502", Connected: true, Since: noon.Add(-3 * time.Hour), Session: 1,
				Reads: 108000, Readings: 648000, BadReadings: 3, LastRead: noon.Add(-40 * time.Millisecond), ReadTime: 1200 * time.Microsecond,
				BadTags: map[plant.TagID]string{"bad": "exception 2 (illegal data address)"}},
			{Device: "line-plc", Endpoint: "opc.tcp://10.0.0.9:4840", Connected: true, Since: noon.Add(-3 * time.Hour), Session: 1, Subscribed: true,
				Reads: 12000, Readings: 36000, LastRead: noon.Add(-600 * time.Millisecond), LastValues: noon.Add(-4 * time.Minute)},
		},
		Machines: []derive.Stats{
			{Machine: "PRESS-01", Good: 41234, Scrap: 12, Running: &running, StateSince: noon.Add(-time.Hour), LastEvent: plant.KindCounter,
				LastEventTime: noon.Add(-12 * time.Minute), LastSequence: 812, Inputs: 900, Commits: 820,
				Events: map[plant.EventKind]uint64{plant.KindCounter: 800, plant.KindStartStop: 12}},
			{Machine: "FILLER-01", Good: 1234567, Scrap: 890, Running: &stopped, StateSince: noon.Add(-90 * time.Second), Reason: "31 jam",
				Order: "0012345", OrderContext: plant.Order{Number: "0012345", SKU: "BOX-7", Operation: "20"}, OrderOwner: "tags", Mode: plant.Maintenance, ModeSince: noon.Add(-time.Hour), ModeUntil: noon.Add(3 * time.Hour), ModeBy: "uid 1000 (ann)",
				Shift: "early", ShiftUntil: noon.Add(2 * time.Hour),
				LastEvent: plant.KindStartStop, LastEventTime: noon.Add(-90 * time.Second),
				LastSequence: 4711, Inputs: 108000, Commits: 5000, Problems: []derive.Problem{{Text: "the counter stands at its maximum", Remedy: "Compare with the machine's own display."}}},
		},
		Uplinks: []uplink.Stats{{Uplink: "broker", Endpoint: "tls://mes.example:8883", Breaker: "open", Since: noon.Add(-5 * time.Minute),
			Delivered: 5400, Retried: 12, LastDelivery: noon.Add(-5 * time.Minute),
			LastError: "read tcp: i/o timeout", LastErrorAt: noon.Add(-9 * time.Second)}},
		Buffer: buffer.Stats{Path: "/var/lib/sluice/buffer", Epoch: 0xabc, Commits: 5820, Groups: 5100, Events: 5523, LiveBytes: 2 << 20, DiskBytes: 9 << 20,
			FreeBytes: 40 << 30, Reserve: 64 << 20, Queues: []buffer.QueueStats{{Uplink: "broker", Backlog: 123, Oldest: noon.Add(-5 * time.Minute), DeadLetters: 2}}},
		Feeds: map[plant.MachineID][]plant.DeviceID{"PRESS-01": {"press-plc"}, "FILLER-01": {"filler-plc"}},
	}
}

func wellPlant() Snapshot {
	s := plantAt()
	s.Devices[0].Connected = true
	s.Devices[1].BadTags = nil
	s.Machines[1].Problems = nil
	s.Uplinks[0].Breaker = "closed"
	s.Buffer.Queues = nil
	return s
}

func ask(t *testing.T, snap Snapshot, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	s := New(Options{Listen: "127.0.0.1:0"}, fixed(snap), zaptest.NewLogger(t))
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:8080"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}
