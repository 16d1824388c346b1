package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
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

// keyFile writes the key of a store, and returns what the config says of it.
func keyFile(t *testing.T, digit string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "store.key")
	if err := os.WriteFile(name, []byte(strings.Repeat(digit, 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	return ", key: \"file:" + name + "\""
}

// The same of a store that is encrypted: with its key, and with no other.
func TestBufferCheckOfAnEncryptedStore(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", keyFile(t, "a"))
	if out := works(t, "buffer", "check", "-c", config); !strings.Contains(out, "5 of them events") || !strings.Contains(out, "0 files with damage") {
		t.Error(out)
	}
	if err := os.WriteFile(filepath.Join(folder, "store", "MANIFEST"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "sluice.yaml")
	wrong := regexp.MustCompile(`, key: "[^"]*"`).ReplaceAllLiteralString(string(text), keyFile(t, "b"))
	if err := os.WriteFile(other, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, talk, code := sluice(t, "buffer", "check", "--repair", "-c", other); code != 1 || !strings.Contains(talk, "another key") {
		t.Errorf("exit %d, %s", code, talk)
	}
	if out := works(t, "buffer", "check", "--repair", "-c", config); !strings.Contains(out, "repaired") || !strings.Contains(out, "no event is missing") {
		t.Error(out)
	}
	if out := works(t, "events", "export", "-c", config); strings.Count(out, `"type":"dev.sluice.counter.v1"`) != 5 {
		t.Error(out)
	}
	if _, talk, code := sluice(t, "events", "stats", "-c", other); code != 1 || !strings.Contains(talk, "another key") {
		t.Errorf("the repaired store opens with another key: exit %d, %s", code, talk)
	}
}
