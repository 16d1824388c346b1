package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/recording"
	"github.com/sluice-edge/sluice/plant"
)

// recordedPress writes a recording of PRESS-01 that counts by threes each
// second, and returns its path.
func recordedPress(t *testing.T, scans int) string {
	t.Helper()
	var b bytes.Buffer
	at := time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)
	w, err := recording.NewWriter(&b, recording.Head{Machine: "PRESS-01", Gateway: "gw-1", Begun: at, Run: "00c0ffee", Part: 1}, []byte(`{"v":1}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range scans {
		st := derive.Step{In: &plant.Scan{Device: "plc", Session: 1, Received: at.Add(time.Duration(i) * time.Second), Readings: []plant.Reading{{Tag: "made", Value: plant.UintValue(uint64(3 * i)), Quality: plant.Good}}}}
		var events []plant.Event
		if i == 1 { // what an older gateway made of it
			events = []plant.Event{{Kind: plant.KindCounter, Version: 1, Time: at.Add(time.Second), TimeSource: plant.GatewayTime,
				Data: []byte(`{"machine":"PRESS-01","mode":"production","good":2,"good_delta":3,"from":"2026-03-02T06:00:00.000Z","to":"2026-03-02T06:00:01.000Z","raw":3}`)}}
		}
		if err := w.Add([]derive.Step{st}, events, 1); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End("its time was over", false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "press.rec")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pressConfig writes a config with that rule of PRESS-01.
func pressConfig(t *testing.T, rule string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "sluice.yaml")
	text := "site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1, timezone: Europe/Lisbon}\nbuffer: {path: " + filepath.Join(dir, "buffer") + "}\n" +
		"devices: {plc: {driver: modbus, endpoint: \"127.0.0.1:1\", tags: {made: \"holding:0\"}}}\n" +
		"machines: {PRESS-01: {device: plc, " + rule + "}}\nuplinks: {mes: {driver: rest, url: \"http://127.0.0.1:9/\"}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReplayPrintsTheEvents(t *testing.T) {
	file, config := recordedPress(t, 4), pressConfig(t, "counter: {total: made, max_rate: 10/s, pieces: 1}")
	out, talk, code := sluice(t, "replay", file, "-c", config)
	want := `2026-03-02 06:00:01.000  PRESS-01  counter  {"machine":"PRESS-01","mode":"production","good":3,"good_delta":3,"from":"2026-03-02T06:00:00.000Z","to":"2026-03-02T06:00:01.000Z","raw":3}` + "\n"
	if code != 0 || !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 3 {
		t.Fatalf("exit %d\n%s%s", code, out, talk)
	}
	if !strings.Contains(talk, "4 inputs, 4 readings, 3 events in ") {
		t.Error(talk)
	}
	if again := works(t, "replay", file, "-c", config); again != out {
		t.Errorf("a second time:\n%s", again)
	}
	var e replayedEvent
	lines := strings.SplitAfter(works(t, "replay", file, "-c", config, "--json"), "\n")
	if err := json.Unmarshal([]byte(lines[2]), &e); err != nil || e.Kind != plant.KindCounter || e.Time != "2026-03-02T06:00:03Z" || !strings.Contains(string(e.Data), `"good":9`) {
		t.Errorf("%v: %+v", err, e)
	}
}

func TestReplayShowsTheDifference(t *testing.T) {
	file := recordedPress(t, 4)
	x, y := pressConfig(t, "counter: {total: made, max_rate: 10/s, pieces: 1}"), pressConfig(t, "mode: setup, counter: {total: made, max_rate: 10/s, pieces: 6, every: 1h}")
	out, talk, code := sluice(t, "replay", file, "-c", x, "--against", y)
	for _, want := range []string{
		"~ 2026-03-02 06:00:01.000  PRESS-01  counter  mode: \"setup\" → \"production\"\n",
		"+ 2026-03-02 06:00:02.000  PRESS-01  counter  {",
		"PRESS-01 counter: 0 the same, 2 changed, 0 only before, 1 only now\n",
	} {
		if code != exitDiffers || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q in\n%s%s", code, want, out, talk)
		}
	}
	if out, _, code := sluice(t, "replay", file, "-c", x, "--against", x); code != 0 || out != "PRESS-01 counter: 3 the same, 0 changed, 0 only before, 0 only now\n" {
		t.Errorf("against itself: exit %d\n%s", code, out)
	}
	out, _, code = sluice(t, "replay", file, "-c", x, "--recorded")
	if want := "~ 2026-03-02 06:00:01.000  PRESS-01  counter  good: 2 → 3\n"; code != exitDiffers || !strings.HasPrefix(out, want) || !strings.Contains(out, "0 the same, 1 changed, 0 only before, 2 only now") {
		t.Errorf("against what was recorded: exit %d\n%s", code, out)
	}
	out, _, _ = sluice(t, "replay", file, "-c", x, "--recorded", "--json")
	var change struct{ Before, Now *replayedEvent }
	if err := json.Unmarshal([]byte(strings.SplitAfter(out, "\n")[0]), &change); err != nil || change.Before == nil || change.Now == nil || bytes.Equal(change.Before.Data, change.Now.Data) {
		t.Errorf("%v\n%s", err, out)
	}
}

// tagged is recordedPress as a gateway writes it that read made so.
func tagged(t *testing.T, reads string) string {
	t.Helper()
	var b bytes.Buffer
	head := recording.Head{Machine: "PRESS-01", Gateway: "gw-1", Run: "00c0ffee", Part: 1, Tags: map[string]string{"plc/made": reads}}
	w, err := recording.NewWriter(&b, head, []byte(`{"v":1}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.End("its time was over", false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "press.rec")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A recording holds values by the names of their tags: a config that reads a tag
// otherwise would be played with the old ones, and nothing would differ.
func TestReplayNamesTheTagsThatAreReadOtherwise(t *testing.T) {
	const rule = "counter: {total: made, max_rate: 10/s, pieces: 1}"
	file, x := recordedPress(t, 4), pressConfig(t, rule)
	tag := func(tag string) string {
		path := pressConfig(t, rule)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(text, []byte(`made: "holding:0"`), []byte("made: "+tag), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		tag, now string // now is empty where the values are the same
	}{
		"the same in other words": {`{address: "40001", type: word, word_order: ABCD, scale: 1.0, writable: true}`, ""},
		"address":                 {`"holding:1"`, "holding:1 (40002), type uint16"},
		"type":                    {`{address: "holding:0", type: uint32}`, "holding:0 (40001), type uint32"},
		"word order":              {`{address: "holding:0", type: uint32, word_order: CDAB}`, "type uint32, word_order CDAB"},
		"scale":                   {`{address: "holding:0", scale: 0.10}`, "holding:0 (40001), type uint16, scale 0.1"},
	} {
		out, talk, code := sluice(t, "replay", file, "-c", tag(c.tag), "--against", x)
		named := strings.Contains(talk, `PRESS-01: the tag plc/made is read as "holding:0 (40001), type uint16" by --against, and as "`) && strings.Contains(talk, c.now+`" now: this cannot be replayed`)
		if named != (c.now != "") || (code == exitDiffers) != named || strings.Contains(out, "holding") {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, talk)
		}
	}
	out, _, code := sluice(t, "replay", file, "-c", tag(`{address: "holding:0", scale: 0.1}`), "--against", x, "--json")
	if want := `{"machine":"PRESS-01","tag":"plc/made","before":"holding:0 (40001), type uint16","now":"holding:0 (40001), type uint16, scale 0.1","against":true}` + "\n"; code != exitDiffers || !strings.HasSuffix(out, want) {
		t.Errorf("as JSON: exit %d\n%s", code, out)
	}
	for reads, want := range map[string]string{
		"holding:0 (40001), type uint16": "",
		"holding:0 (40001), type int16":  `was read as "holding:0 (40001), type int16" when it was recorded, and is "holding:0 (40001), type uint16" now`,
	} {
		for _, more := range [][]string{nil, {"--recorded"}, {"--against", x}} {
			_, talk, code := sluice(t, append([]string{"replay", tagged(t, reads), "-c", x}, more...)...)
			if !strings.Contains(talk, want) || strings.Contains(talk, "cannot be replayed") != (want != "") || (code == exitDiffers) != (want != "") {
				t.Errorf("recorded as %s %v: exit %d\n%s", reads, more, code, talk)
			}
		}
	}
	old := tagged(t, "holding:0 (40001), type uint16")
	other := tag(`{address: "holding:0"}, other: "holding:5"`)
	text, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, bytes.Replace(text, []byte("total: made"), []byte("total: other"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, talk, code := sluice(t, "replay", old, "-c", other); code != exitDiffers || !strings.Contains(talk, "the tag plc/other was used by no rule when it was recorded: this cannot be replayed") {
		t.Errorf("a tag that is new: exit %d\n%s", code, talk)
	}
}

func TestReplayOfBadFiles(t *testing.T) {
	file, config := recordedPress(t, 4), pressConfig(t, "counter: {total: made, max_rate: 10/s, pieces: 1}")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := pressConfig(t, "counter: {total: made, max_rate: 10/s}")
	text, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, bytes.ReplaceAll(text, []byte("PRESS-01"), []byte("PRESS-02")), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-60] ^= 1
	for name, c := range map[string]struct {
		data []byte
		args []string
		code int
		want string
		out  int
	}{
		"damaged":      {damaged, nil, 1, "the recording is damaged at byte", 2},
		"read anyway":  {damaged, []string{"--damaged"}, 0, "what is before that was replayed", 2},
		"cut off":      {whole[:len(whole)-3], nil, 1, "--damaged replays what is before that", 3},
		"cut, anyway":  {whole[:len(whole)-3], []string{"--damaged"}, 0, "cut off at byte", 3},
		"foreign":      {[]byte("machine;good\n"), []string{"--damaged"}, 1, "is no recording of Sluice", 0},
		"no machine":   {whole, []string{"-c", other}, 1, "unknown machine `PRESS-01` — did you mean `PRESS-02`?", 0},
		"not asked":    {whole, []string{"-m", "PRESS-09"}, 1, "make one with sluice record", 0},
		"two answers":  {whole, []string{"--recorded", "--against", config}, 2, "not both", 0},
		"not there":    {whole, []string{"nowhere.rec"}, 1, "nowhere.rec is not there", 0},
		"bad config":   {whole, []string{"--against", "nowhere.yaml"}, 2, "nowhere.yaml:1:1: ", 0},
		"the end only": {whole[:20], []string{"--damaged"}, 1, "nothing of it can be replayed", 0},
	} {
		path := filepath.Join(t.TempDir(), "a.rec")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"replay", path}, c.args...)
		if len(c.args) == 0 || c.args[0] != "-c" {
			args = append(args, "-c", config)
		}
		out, talk, code := sluice(t, args...)
		if code != c.code || !strings.Contains(talk, c.want) || strings.Count(out, "\n") != c.out {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", name, code, c.code, c.want, out, talk)
		}
	}
}

// TestRecordOfARunningGateway records over the socket, and replays what the
// store then has.
func TestRecordOfARunningGateway(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", "")
	if _, talk, code := sluice(t, "record", "-c", config); code != 1 || !strings.Contains(talk, "start it with sluice run") {
		t.Errorf("of a stopped gateway: exit %d, %s", code, talk)
	}
	stop := runGateway(t, config)
	for args, want := range map[string]string{
		"PRESS-9": "unknown machine `PRESS-9`", "--for 1000h": "31 days at most", "--for 32d": "31 days at most", "--size 1KiB": "too little", "--size lots": "is no size", "--stop PRESS-01": "is not being recorded", "--stop --list": "not both",
	} {
		if _, talk, code := sluice(t, append([]string{"record", "-c", config}, strings.Fields(args)...)...); code == 0 || !strings.Contains(talk, want) {
			t.Errorf("record %s: exit %d, %s", args, code, talk)
		}
	}
	var now admin.Recordings
	if err := json.Unmarshal([]byte(works(t, "record", "PRESS-01", "--for", "1h", "--size", "8 MiB", "--json", "-c", config)), &now); err != nil {
		t.Fatal(err)
	}
	if len(now.Machines) != 1 || now.Machines[0].Over || now.Folder != filepath.Join(folder, "recordings") {
		t.Fatalf("%+v", now)
	}
	works(t, "mode", "PRESS-01", "setup", "-c", config) // the recording begins behind this input, or before
	for _, mode := range []string{"maintenance", "setup", "commissioning"} {
		works(t, "mode", "PRESS-01", mode, "-c", config)
	}
	stop() // in the midst of it
	stop = runGateway(t, config)
	works(t, "mode", "PRESS-01", "production", "-c", config)
	if out := works(t, "record", "--list", "-c", config); !strings.Contains(out, "PRESS-01  yes") {
		t.Errorf("does not go on after a restart:\n%s", out)
	}
	works(t, "record", "--stop", "-c", config)
	if out := works(t, "replay", "-c", config, "--recorded"); !strings.Contains(out, " mode: ") || !strings.Contains(out, "0 changed, 0 only before, 0 only now") {
		t.Errorf("replayed against what was recorded:\n%s", out)
	}
	stored := works(t, "events", "export", "-k", "mode", "-c", config)
	replayed := works(t, "replay", "-c", config)
	for _, want := range []string{`"previous":"setup"`, `"previous":"maintenance"`, `"mode":"production","previous":"commissioning"`} {
		if !strings.Contains(replayed, want) || !strings.Contains(stored, want) {
			t.Errorf("no event has %s in\n%s%s", want, replayed, stored)
		}
	}
	if out := works(t, "audit", "show", "-c", config); !strings.Contains(out, "record  PRESS-01  done") || !strings.Contains(out, "record.stop  all machines  done") {
		t.Error(out)
	}
	if out := works(t, "record", "--list", "-c", config); !strings.Contains(out, "PRESS-01  ended") {
		t.Error(out)
	}
	stop()
}
