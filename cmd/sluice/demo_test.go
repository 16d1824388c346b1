package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// TestDemo runs the demo as its user would, at its shortest: what was made has
// arrived, and the happenings that it is there to show have happened.
func TestDemo(t *testing.T) {
	t.Parallel()
	var out, talk bytes.Buffer
	if code := run(context.Background(), []string{"demo", "--for", demoShortest.String(), "--json"}, &out, &talk); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), talk.String())
	}
	var r demoReport
	decoder := json.NewDecoder(&out)
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("stdout is no JSON document: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Errorf("stdout holds more than one document: %v", err)
	}
	for _, kind := range []string{"counter", "startstop", "dosing", "serial", "item_attach"} {
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

func TestDemoRefusesALengthWithoutRoom(t *testing.T) {
	var out, talk bytes.Buffer
	if code := run(context.Background(), []string{"demo", "--for", "1s"}, &out, &talk); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	if !strings.Contains(talk.String(), "too short") || out.Len() > 0 {
		t.Errorf("stdout %q, stderr %q", out.String(), talk.String())
	}
}
