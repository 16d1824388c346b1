//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// entry is one line of the ledger: one case of one run of the long lane.
type entry struct {
	Case       string `json:"case"`
	Iterations int    `json:"iterations"`
	Violations int    `json:"violations"`
	Seed       uint64 `json:"seed"`
	Commit     string `json:"commit"`
	Date       string `json:"date"`
	Control    bool   `json:"control,omitempty"`
	Seconds    int    `json:"seconds"`
}

// readLedger reads the ledger, which may not be there yet.
func readLedger(path string) (all []entry, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// appendLedger adds what the cases did. A case that was left out or interrupted
// before its first iteration proves nothing and is not entered.
func appendLedger(path, commit string, outcomes []outcome) error {
	all, err := readLedger(path)
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		if o.missing != "" || o.done == 0 {
			continue
		}
		e := entry{Case: o.name, Iterations: o.done, Seed: o.seed, Commit: commit, Date: time.Now().UTC().Format(time.DateOnly), Control: o.control, Seconds: int(o.took.Seconds())}
		if o.err != nil && !errors.Is(o.err, errInterrupted) {
			e.Violations = 1
		}
		all = append(all, e)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
