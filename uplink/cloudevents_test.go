package uplink

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func goldenEvents() map[string]plant.Event {
	at := time.Date(2026, 3, 29, 1, 59, 59, 7_900_000, time.FixedZone("CET", 3600))
	base := plant.Event{
		Gateway: "gw-1", Source: "/acme/lisbon/packing/FILLER-01", Machine: "FILLER-01",
		Epoch: 0x9f3a_0000_0000_00c1, Sequence: 1, Kind: plant.KindCounter, Version: 1,
		Time: at, TimeSource: plant.GatewayTime, Data: []byte(`{"machine":"FILLER-01","good":12}`),
	}
	device := base
	device.Sequence, device.Previous = 1_234_567, 1_234_560
	device.TimeSource, device.ClockOffset = plant.DeviceTime, -1_500*time.Microsecond
	stepped := base
	stepped.Sequence, stepped.Previous = 3, 2
	stepped.ClockStep, stepped.TimeUncertain = -90*24*time.Hour, true
	odd := base
	odd.Gateway, odd.Machine, odd.Source = "gw \"1\"", "FÜLLER\n1\xff", "/acme/lis bon/100%/FÜLLER"
	odd.Data = nil
	return map[string]plant.Event{"first": base, "device-clock": device, "clock-step": stepped, "odd-names": odd}
}

func TestAppendCloudEventGolden(t *testing.T) {
	for name, e := range goldenEvents() {
		t.Run(name, func(t *testing.T) {
			got := append(AppendCloudEvent(nil, &e), '\n')
			file := filepath.Join("testdata", "cloudevents", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got  %swant %s", got, want)
			}
		})
	}
}

func TestAppendCloudEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		e := plant.Event{
			Gateway: text.Draw(t, "gateway"), Source: text.Draw(t, "source"), Machine: plant.MachineID(text.Draw(t, "machine")),
			Epoch: plant.Epoch(rapid.Uint64().Draw(t, "epoch")), Sequence: plant.Sequence(rapid.Uint64Min(1).Draw(t, "sequence")),
			Previous: plant.Sequence(rapid.Uint64().Draw(t, "previous")),
			Kind:     plant.EventKind(text.Draw(t, "kind")), Version: rapid.Uint8().Draw(t, "version"),
			Time:        time.UnixMilli(rapid.Int64Range(-1<<40, 1<<42).Draw(t, "time")),
			TimeSource:  plant.TimeSource(text.Draw(t, "timesource")),
			ClockStep:   time.Duration(rapid.Int64().Draw(t, "step")),
			ClockOffset: time.Duration(rapid.Int64().Draw(t, "offset")),
			Data:        []byte(`{"a":[1,2]}`),
		}
		raw := AppendCloudEvent([]byte("before"), &e)[len("before"):]
		decoder := json.NewDecoder(bytes.NewReader(raw))
		var got struct {
			Specversion, ID, Source, Type, Time, Subject, Datacontenttype, Dataschema string
			Sequence, Epoch, Previous, Timesource                                     string
			Clockoffset, Clockstep                                                    int32
			Timeuncertain                                                             bool
			Data                                                                      json.RawMessage
		}
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&got); err != nil {
			t.Fatalf("%v in %s", err, raw)
		}
		if want := valid(e.ID().String()); got.ID != want {
			t.Errorf("id %q, want %q", got.ID, want)
		}
		if source, err := url.PathUnescape(got.Source); err != nil || source != e.Source {
			t.Errorf("source %q reads back as %q, %v; want %q", got.Source, source, err, e.Source)
		}
		if got.Subject != valid(string(e.Machine)) || got.Timesource != valid(string(e.TimeSource)) {
			t.Errorf("subject %q timesource %q", got.Subject, got.Timesource)
		}
		if s, err := strconv.ParseUint(got.Sequence, 10, 64); err != nil || s != uint64(e.Sequence) || got.Sequence != e.Sequence.String() {
			t.Errorf("sequence %q, want %d", got.Sequence, e.Sequence)
		}
		if got.Epoch != e.Epoch.String() {
			t.Errorf("epoch %q, want %s", got.Epoch, e.Epoch)
		}
		if (e.Previous == 0 && got.Previous != "") || (e.Previous != 0 && got.Previous != e.Previous.String()) {
			t.Errorf("previous %q, want %d", got.Previous, e.Previous)
		}
		if at, err := time.Parse(time.RFC3339, got.Time); err != nil || !at.Equal(e.Time) {
			t.Errorf("time %q (%v), want %v", got.Time, err, e.Time)
		}
		if (e.ClockStep == 0) != (got.Clockstep == 0) {
			t.Errorf("clockstep %d for %v", got.Clockstep, e.ClockStep)
		}
		if string(got.Data) != string(e.Data) {
			t.Errorf("data %s", got.Data)
		}
	})
}

// valid makes each invalid byte one U+FFFD, as encoding/json does;
// strings.ToValidUTF8 makes one of a run.
func valid(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		b.WriteRune(r)
		s = s[size:]
	}
	return b.String()
}

func TestAppendCloudEventAllocatesNothing(t *testing.T) {
	e := goldenEvents()["device-clock"]
	buffer := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() { buffer = AppendCloudEvent(buffer[:0], &e) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAppendCloudEvent(b *testing.B) {
	e := goldenEvents()["device-clock"]
	buffer := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		buffer = AppendCloudEvent(buffer[:0], &e)
	}
}
