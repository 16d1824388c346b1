package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
)

// TestDemo runs the demo as its user would, at its shortest: what was made has
// arrived, and the happenings that it is there to show have happened.
func TestDemo(t *testing.T) {
	t.Parallel()
	var out, talk bytes.Buffer
	schemas, err := schematest.Load()
	if err != nil {
		t.Fatal(err)
	}
	var checked atomic.Int64
	demo := demoCmd{For: config.Duration(demoShortest), JSON: true, Listen: "127.0.0.1:0", check: func(kind plant.EventKind, version uint8, data []byte) error {
		checked.Add(1)
		return schemas.Check(kind, version, data)
	}}
	if err := demo.Run(context.Background(), &console{Out: &out, Err: &talk, Log: newLogger("info", "text", &talk)}); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), talk.String())
	}
	if checked.Load() == 0 {
		t.Error("no event was held against its schema")
	}
	// What a script relies on, word by word.
	document := regexp.MustCompile(`\d+`).ReplaceAllString(out.String(), "n")
	const kind = `:{"made":n,"arrived":{"mqtt":n,"rest":n}}`
	if want := `{"ok":true,"kinds":{"counter"` + kind + `,"dosing"` + kind + `,"item_attach"` + kind + `,"refill"` + kind + `,"serial"` + kind + `,"startstop"` + kind +
		`},"uplinks":{"mqtt":{"delivered":n,"duplicates":n},"rest":{"delivered":n,"duplicates":n}},"rollovers":n,"resets":n,"outages":n,"status_url":"http://n.n.n.n:n/"}` + "\n"; document != want {
		t.Errorf("the document is\n%swant\n%s", document, want)
	}
	var r demoReport
	decoder := json.NewDecoder(&out)
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("stdout is no JSON document: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Errorf("stdout holds more than one document: %v", err)
	}
	for _, kind := range []string{"counter", "startstop", "dosing", "refill", "serial", "item_attach"} {
		for _, uplink := range demoUplinks {
			if k := r.Kinds[kind]; k.Made == 0 || k.Arrived[uplink] != k.Made {
				t.Errorf("%s by %s: made %d, arrived %d", kind, uplink, k.Made, k.Arrived[uplink])
			}
		}
	}
	if !r.OK || r.Rollovers == 0 || r.Resets == 0 || r.Outages == 0 || r.Uplinks["mqtt"].Delivered == 0 || r.Uplinks["rest"].Delivered == 0 {
		t.Errorf("the report misses something: %+v", r)
	}
	for _, want := range []string{"uplink is away", "uplink is back", "device is away", "device is back", r.StatusURL} {
		if strings.Count(talk.String(), want) == 0 {
			t.Errorf("stderr never says %q", want)
		}
	}
}

// TestDemoLeavesNothingBehind: whoever ends it while it starts finds no folder
// that the gateway made on its way.
func TestDemoLeavesNothingBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for d := time.Millisecond; d < 400*time.Millisecond; d *= 4 {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		var out, talk bytes.Buffer
		if code := run(ctx, []string{"demo"}, &out, &talk); code != exitFailed || !strings.Contains(talk.String(), "nothing to compare") {
			t.Errorf("ended after %v: exit code %d\n%s", d, code, talk.String())
		}
		cancel()
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind %v, %v", left, err)
	}
}

// TestDemoSaysWhyItDidNotRun: the exit code, one line that says what to do, and
// nothing on stdout.
func TestDemoSaysWhyItDidNotRun(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	over, end := context.WithCancel(t.Context())
	end()
	for name, test := range map[string]struct {
		args []string
		temp string
		ctx  context.Context
		code int
		want string
	}{
		"too short":          {args: []string{"--for", "1s"}, code: exitUsage, want: "too short"},
		"no duration":        {args: []string{"--for", "long"}, code: exitUsage, want: "--for"},
		"an open page":       {args: []string{"--listen", "0.0.0.0:8080"}, code: exitUsage, want: "--listen: `0.0.0.0:8080` can be reached from other computers"},
		"a port in use":      {args: []string{"--json", "--listen", busy.Addr().String()}, code: exitFailed, want: "address already in use — choose another port with --listen"},
		"no temporary space": {temp: filepath.Join(t.TempDir(), "none"), code: exitFailed, want: "set TMPDIR"},
		"ended at once":      {ctx: over, code: exitFailed, want: "nothing to compare"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if test.ctx != nil {
				ctx = test.ctx
			}
			temp := t.TempDir()
			if test.temp != "" {
				temp = test.temp
			}
			t.Setenv("TMPDIR", temp)
			var out, talk bytes.Buffer
			if code := run(ctx, append([]string{"demo"}, test.args...), &out, &talk); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			lines := strings.Split(strings.TrimSpace(talk.String()), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, test.want) || strings.Count(last, "demo: ") > 1 || out.Len() > 0 {
				t.Errorf("stdout %q, last line of stderr %q, want %q", out.String(), last, test.want)
			}
			if left, err := os.ReadDir(temp); test.temp == "" && (err != nil || len(left) > 0) {
				t.Errorf("left behind %v, %v", left, err)
			}
		})
	}
}
