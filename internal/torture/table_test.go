//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestThePageShowsTheLedger compares docs/reliability.md with the ledger.
func TestThePageShowsTheLedger(t *testing.T) {
	ledger, err := readLedger("../../docs/reliability-ledger.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := withTable(string(page), ledger)
	if err != nil {
		t.Fatal(err)
	}
	if want != string(page) {
		t.Error("the table in docs/reliability.md is not that of the ledger: run make torture-table")
	}
}

func TestTableAddsUp(t *testing.T) {
	got := table([]entry{
		{Case: "kill", Iterations: 1000, Commit: "a", Date: "2026-01-01"},
		{Case: "kill", Iterations: 500, Commit: "b", Date: "2026-02-01"},
		{Case: "cut", Iterations: 10, Violations: 1, Commit: "a", Date: "2026-01-01"},
		{Case: "control-sync", Iterations: 1, Control: true, Date: "2026-01-01"},
	})
	for _, want := range []string{"| 1500 | 2 | 0 | 0.2 % | 2026-02-01 |", "| 10 | 1 | 1 |  | 2026-01-01 |", "caught, as it must be", "not run yet"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestLedgerGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	outcomes := []outcome{
		{testCase: testCase{name: "kill"}, done: 5, took: time.Second, seed: 7},
		{testCase: testCase{name: "cut"}, done: 3, err: errors.New("O1")},
		{testCase: testCase{name: "eio"}, done: 3, err: errInterrupted},
		{testCase: testCase{name: "rot"}, missing: "not root"},
		{testCase: testCase{name: "clock"}},
	}
	for range 2 {
		if err := appendLedger(path, "abc", outcomes); err != nil {
			t.Fatal(err)
		}
	}
	all, err := readLedger(path)
	if err != nil || len(all) != 6 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	if all[0].Violations != 0 || all[1].Violations != 1 || all[2].Violations != 0 || all[0].Seed != 7 || all[0].Commit != "abc" {
		t.Errorf("%+v", all)
	}
}

// TestAControlMustBeCaught: only the word of the oracle counts.
func TestAControlMustBeCaught(t *testing.T) {
	tr := &trial{ctx: t.Context(), out: &strings.Builder{}, n: 1, done: 1}
	control, honest := testCase{control: true}, testCase{}
	found := &violationError{wrong: []string{"O1"}}
	for _, c := range []struct {
		name string
		of   testCase
		err  error
		ok   bool
	}{
		{"a control that is caught", control, found, true},
		{"a control that is not", control, nil, false},
		{"a control that could not run", control, errors.New("no disk"), false},
		{"a good run", honest, nil, true},
		{"a violation", honest, found, false},
	} {
		if err := c.of.verdict(tr, c.err); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
