package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A store with an empty table of contents: refused at the start, named by the
// check, repaired by command, audited; the events are there again.
func TestBufferCheckAndRepair(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", "")
	if out := works(t, "buffer", "check", "-c", config); !strings.Contains(out, "0 files with damage") {
		t.Error(out)
	}
	if err := os.WriteFile(filepath.Join(folder, "store", "MANIFEST"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, talk, code := sluice(t, "events", "stats", "-c", config); code != 1 || !strings.Contains(talk, "MANIFEST") {
		t.Errorf("exit %d, %s", code, talk)
	}
	out, talk, code := sluice(t, "buffer", "check", "-c", config)
	if code != 1 || !strings.Contains(out, "BROKEN") || !strings.Contains(talk, "--repair") {
		t.Errorf("exit %d: %s%s", code, out, talk)
	}
	var r bufferReport
	if err := json.Unmarshal([]byte(works(t, "buffer", "check", "--repair", "--json", "-c", config)), &r); err != nil {
		t.Fatal(err)
	}
	if r.Repaired == nil || r.Repaired.Epoch == "" || len(r.Repaired.Gaps) != 0 || r.Events != 5 {
		t.Errorf("%+v", r)
	}
	if data, err := os.ReadFile(filepath.Join(r.Repaired.Broken, "MANIFEST")); err != nil || len(data) != 0 {
		t.Errorf("the broken store is not as it was: %v", err)
	}
	if out := works(t, "events", "export", "-c", config); strings.Count(out, `"type":"dev.sluice.counter.v1"`) != 5 {
		t.Error(out)
	}
	if out := works(t, "audit", "show", "-c", config); !strings.Contains(out, "buffer.repair") || !strings.Contains(out, "done") {
		t.Error(out)
	}
	if out := works(t, "buffer", "check", "--repair", "-c", config); strings.Contains(out, "repaired") {
		t.Errorf("a good store is repaired: %s", out)
	}
}
