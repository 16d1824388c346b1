package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/buffer"
)

// A backup of a running gateway, restored where the store was lost: the events
// are there, ids go on without a repeat, what came after the backup is a gap,
// and all of it is in the audit log.
func TestBackupAndRestoreByHand(t *testing.T) {
	mes := newMES(t)
	config, folder := storedPlant(t, mes.URL, "")
	file := filepath.Join(t.TempDir(), "plant.bak")
	stop := runGateway(t, config)
	awaitCLI(t, "the events", func() bool { return len(mes.got()) >= 5 })
	out, talk, code := sluice(t, "backup", "-c", config, file)
	if code != 0 || !strings.Contains(out, "5 events") || !strings.Contains(talk, "asking the running gateway") {
		t.Fatalf("exit %d: %s%s", code, out, talk)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, talk, code := sluice(t, "backup", "-c", config, file); code != 1 || !strings.Contains(talk, "is there already") {
		t.Errorf("over an older backup: exit %d, %s", code, talk)
	}
	if _, talk, code := sluice(t, "restore", "-c", config, file); code != 1 || !strings.Contains(talk, "is running") {
		t.Errorf("under a running gateway: exit %d, %s", code, talk)
	}
	stop()
	if _, talk, code := sluice(t, "restore", "-c", config, file); code != 1 || !strings.Contains(talk, "there is a store already") {
		t.Errorf("over a store: exit %d, %s", code, talk)
	}
	var info buffer.BackupInfo
	if err := json.Unmarshal([]byte(works(t, "restore", "--check", "--json", file)), &info); err != nil || info.Events != 5 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := os.Rename(filepath.Join(folder, "store"), filepath.Join(folder, "store.lost")); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.bak")
	data, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(damaged, data[:len(data)-7], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, talk, code := sluice(t, "restore", "-c", config, damaged); code != 1 || !strings.Contains(talk, "cut short") {
		t.Errorf("exit %d, %s", code, talk)
	}
	if out := works(t, "restore", "-c", config, file); !strings.Contains(out, "is restored") {
		t.Error(out)
	}
	before := works(t, "events", "export", "-c", config)
	if strings.Count(before, `"type":"dev.sluice.counter.v1"`) != 5 {
		t.Errorf("%s", before)
	}
	log := works(t, "audit", "show", "-c", config)
	for _, want := range []string{"backup", "restore", "begun", "done", info.Sum} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in %s", want, log)
		}
	}
	works(t, "audit", "verify", "-c", config)
}

// Nobody gets the clear text of an encrypted store without asking for it.
func TestBackupOfAnEncryptedStore(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", keyFile(t, "c"))
	file := filepath.Join(t.TempDir(), "plant.bak")
	if _, talk, code := sluice(t, "backup", "-c", config, file); code != 1 || !strings.Contains(talk, "--clear") {
		t.Errorf("exit %d, %s", code, talk)
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) > 0 {
		t.Errorf("a refused backup leaves %v, %v", left, err)
	}
	if out := works(t, "backup", "--clear", "-c", config, file); !strings.Contains(out, "5 events") {
		t.Error(out)
	}
	data, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(data, []byte("PRESS-01")) {
		t.Errorf("the backup is not in clear text, so the refusal says what is not so: %v", err)
	}
	if err := os.Rename(filepath.Join(folder, "store"), filepath.Join(folder, "store.lost")); err != nil {
		t.Fatal(err)
	}
	works(t, "restore", "-c", config, file)
	if out := works(t, "events", "export", "-c", config); strings.Count(out, `"type":"dev.sluice.counter.v1"`) != 5 {
		t.Error(out)
	}
}

func TestRestoreOfAnotherGateway(t *testing.T) {
	config, _ := storedPlant(t, "http://127.0.0.1:9/", "")
	file := filepath.Join(t.TempDir(), "plant.bak")
	works(t, "backup", "-c", config, file)
	other, folder := storedPlant(t, "http://127.0.0.1:9/", "")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(other)
	if err == nil {
		err = os.WriteFile(other, bytes.Replace(text, []byte("gateway: gw-1"), []byte("gateway: gw-2"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, talk, code := sluice(t, "restore", "-c", other, file); code != 1 || !strings.Contains(talk, `it is of "gw-1", the config says "gw-2"`) {
		t.Errorf("exit %d, %s", code, talk)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("a refused restore has made the folder")
	}
	works(t, "restore", "--force", "-c", other, file)
	if out := works(t, "events", "show", "--json", "-c", other, "PRESS-01/1"); !strings.Contains(out, `"id":"gw-1/PRESS-01/`) {
		t.Errorf("another id than it had: %s", out)
	}
}
