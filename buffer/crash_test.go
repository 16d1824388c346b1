package buffer

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// TestNoteCrashes: the words of a panic that nobody recovers are in the file
// when the process has ended.
func TestNoteCrashes(t *testing.T) {
	const env = "SLUICE_TEST_CRASH"
	if path := os.Getenv(env); path != "" {
		if err := NoteCrashes(path); err != nil {
			t.Fatal(err)
		}
		go func() { panic("a merge met a damaged block") }()
		select {}
	}
	path := filepath.Join(t.TempDir(), "new")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoteCrashes$")
	child.Env = append(os.Environ(), env+"="+path)
	if out, err := child.CombinedOutput(); err == nil {
		t.Fatalf("the child did not end by its panic: %s", out)
	}
	text, err := os.ReadFile(filepath.Join(path, crashFile))
	if err != nil || !strings.Contains(string(text), "a merge met a damaged block") {
		t.Errorf("noted is %q, %v", text, err)
	}
}

// TestAPanicOfBadgersIsNotMetAgain: after one the start reads every table, and
// names the damaged one instead of merging it once more; the advice it gives
// brings the store back.
func TestAPanicOfBadgersIsNotMetAgain(t *testing.T) {
	path := tabled(t, nil)
	crash := filepath.Join(path, crashFile)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(crash, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const panicked = "panic: runtime error: slice bounds out of range [:-8]\n\ngoroutine 60 [running]:\ngithub.com/dgraph-io/badger/v4/y.CompareKeys(...)\n"
	write(panicked)
	mustClose(t, open(t, testOptions(path)))
	if info, err := os.Stat(crash); err != nil || info.Size() != 0 {
		t.Errorf("of a sound store the words are kept: %v", err)
	}
	table := filesOf(t, path, "*.sst")[0]
	change(t, table, func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	write(panicked)
	for range 2 {
		b, err := Open(context.Background(), testOptions(path), zap.NewNop())
		if err == nil {
			mustClose(t, b)
			t.Fatal("the store opened with the table")
		}
		if !strings.Contains(err.Error(), filepath.Base(table)) || !strings.Contains(err.Error(), "sluice buffer check --repair") {
			t.Errorf("the refusal is %v", err)
		}
	}
	if _, err := Repair(t.Context(), testOptions(path), func() error { return nil }, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, open(t, testOptions(path)))
}
