package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/plant"
)

// backedUp returns a store with events, a state, a settled cursor, dead letters
// and a job, and its backup.
func backedUp(t *testing.T) (*Buffer, []byte, BackupInfo) {
	t.Helper()
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	refuse(t, b, q, "M1", 3)
	if _, err := b.Commit(t.Context(), "M2", plant.Batch{State: []byte("state"), Events: []plant.Event{count(1), count(2)}, Put: []plant.KV{{Key: "k", Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	if err := b.SaveJob(t.Context(), Job{ID: 1, Record: []byte("job")}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	info, err := b.Backup(t.Context(), &out)
	if err != nil {
		t.Fatal(err)
	}
	return b, out.Bytes(), info
}

func restore(t *testing.T, o Options, data []byte, force bool) (BackupInfo, error) {
	t.Helper()
	return Restore(t.Context(), o, bytes.NewReader(data), force, nil, zaptest.NewLogger(t))
}

// dump is every record but those of an opening.
func dump(t *testing.T, data []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	if _, err := ReadBackup(bytes.NewReader(data), func(key, value []byte) error {
		if string(key) != string(formatKey) && class(key[1]) != classEpoch {
			all[string(key)] = string(value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBackupAndRestore(t *testing.T) {
	b, data, info := backedUp(t)
	if info.Events != 5 || info.Damaged != 0 || info.Gateway != b.opts.Gateway || len(info.Sum) != 64 {
		t.Errorf("%+v", info)
	}
	o := testOptions(filepath.Join(t.TempDir(), "new"))
	if again, err := restore(t, o, data, false); err != nil || again != info {
		t.Fatalf("%+v, %v", again, err)
	}
	r := open(t, o)
	if r.Epoch() == b.Epoch() {
		t.Error("the restored store has the epoch of the other")
	}
	if letters := dead(t, r, "mes"); len(letters) != 3 || letters[0].Event.Epoch != b.Epoch() {
		t.Errorf("dead letters %+v", letters)
	}
	if state, err := r.Load(t.Context(), "M2", func(kv plant.KV) error {
		if kv.Key == "k" && string(kv.Value) != "v" {
			t.Errorf("%+v", kv)
		}
		return nil
	}); err != nil || string(state) != "state" {
		t.Errorf("%q, %v", state, err)
	}
	var got []uint64
	for e, err := range r.Events(t.Context(), "M2", 0, 2) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, uint64(e.Sequence))
	}
	if fmt.Sprint(got) != "[1 2]" {
		t.Errorf("events %v", got)
	}
	// A number that was given is not given again.
	if first := commit(t, r, "M2", count(3)); first < 3 {
		t.Errorf("number %d is given again", first)
	}
}

// The copy is of one moment, although the store goes on.
func TestBackupIsConsistentWhileTheStoreIsInUse(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for n := 1; ctx.Err() == nil; n++ {
			// Two machines change together or not at all: their numbers stay close.
			for _, m := range []plant.MachineID{"A", "B"} {
				if _, err := b.Commit(context.Background(), m, plant.Batch{State: fmt.Appendf(nil, "%d", n), Events: []plant.Event{count(n)}}); err != nil {
					ended <- err
					return
				}
			}
		}
		ended <- nil
	}()
	for range 20 {
		var out bytes.Buffer
		if _, err := b.Backup(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		all := dump(t, out.Bytes())
		var events, state [2]int
		for i, m := range []plant.MachineID{"A", "B"} {
			for n := plant.Sequence(1); all[string(eventKey(m, n))] != ""; n++ {
				events[i]++
			}
			if v := all[string(machineKey(classState, m))]; v != "" {
				fixed, err := unseal(machineKey(classState, m), []byte(v))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := fmt.Sscan(v[fixed:], &state[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if state != events || events[0]-events[1] < 0 || events[0]-events[1] > 1 {
			t.Fatalf("states %v, events %v", state, events)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestRestoreRefusals(t *testing.T) {
	b, data, _ := backedUp(t)
	empty := func() Options { return testOptions(filepath.Join(t.TempDir(), "new")) }
	for _, c := range []struct {
		name string
		data []byte
		o    Options
		want error
	}{
		{"a store that is open", data, b.opts, ErrStoreNotEmpty},
		{"nothing", nil, empty(), ErrBadBackup},
		{"no backup", []byte("PK\x03\x04../../etc/passwd"), empty(), ErrBadBackup},
		{"another gateway", data, func() Options { o := empty(); o.Gateway = "other"; return o }(), ErrForeignBackup},
		{"a newer version", append(append([]byte(backupMagic), 0, 9), data[16:]...), empty(), ErrBadBackup},
		{"something behind the end", append(data[:len(data):len(data)], 0), empty(), ErrBadBackup},
	} {
		if _, err := restore(t, c.o, c.data, false); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.o.Path == b.opts.Path {
			continue
		}
		if entries, err := os.ReadDir(c.o.Path); len(entries) != 0 {
			t.Errorf("%s: left behind %v, %v", c.name, entries, err)
		}
	}
	o := empty()
	o.Gateway = "other"
	if _, err := restore(t, o, data, true); err != nil {
		t.Errorf("forced: %v", err)
	}
	if _, err := restore(t, o, data, true); !errors.Is(err, ErrStoreNotEmpty) {
		t.Errorf("twice: %v", err)
	}
	o = empty()
	o.freeSpace = func(string) (int64, error) { return 1 << 20, nil }
	if _, err := restore(t, o, data, false); err == nil || errors.Is(err, ErrBadBackup) {
		t.Errorf("a full disk: %v", err)
	}
}

// Every cut and every flipped bit is noticed, and nothing is written then.
func TestDamagedBackupsAreRefused(t *testing.T) {
	_, data, _ := backedUp(t)
	for n := range data {
		if _, err := ReadBackup(bytes.NewReader(data[:n]), nil); !errors.Is(err, ErrBadBackup) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for n := range data {
		flipped := bytes.Clone(data)
		flipped[n] ^= 1 << (n % 8)
		if _, err := ReadBackup(bytes.NewReader(flipped), nil); !errors.Is(err, ErrBadBackup) {
			t.Fatalf("flipped at %d: %v", n, err)
		}
	}
}

func FuzzReadBackup(f *testing.F) {
	var out bytes.Buffer
	w := newBackupWriter(&out)
	info := BackupInfo{Gateway: "gw", Epoch: "1"}
	w.raw([]byte(backupMagic + "\x00\x01"))
	w.json(backupHeader, info)
	w.record(&info, formatKey, appendOpaque(nil, formatKey, []byte{1, 0}))
	w.record(&info, []byte{keyLayout, 'e', 1, 'A', 0, 0, 0, 0, 0, 0, 0, 1}, []byte("x"))
	w.flush()
	w.json(backupEnd, info)
	w.close()
	f.Add(out.Bytes())
	f.Add([]byte(backupMagic + "\x00\x01h\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var size int64
		info, err := ReadBackup(bytes.NewReader(data), func(key, value []byte) error {
			size += int64(len(key) + len(value))
			return nil
		})
		if err == nil && info.Bytes != size {
			t.Errorf("%d bytes of records, %d told", size, info.Bytes)
		}
		if err != nil && !errors.Is(err, ErrBadBackup) {
			t.Error(err)
		}
		if size > int64(len(data)) {
			t.Errorf("%d bytes of records out of %d", size, len(data))
		}
	})
}
