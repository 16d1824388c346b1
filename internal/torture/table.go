//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// The table of the page stands between these lines.
const (
	tableBegin = "<!-- from reliability-ledger.json: make torture-table -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// table renders the ledger: a row for each case, added up over all runs.
func table(ledger []entry) string {
	type row struct {
		entry
		runs    int
		commits []string
	}
	rows := map[string]*row{}
	for _, e := range ledger {
		r := rows[e.Case]
		if r == nil {
			r = &row{}
			rows[e.Case] = r
		}
		r.runs++
		r.Iterations += e.Iterations
		r.Violations += e.Violations
		r.Date = max(r.Date, e.Date)
		if !slices.Contains(r.commits, e.Commit) {
			r.commits = append(r.commits, e.Commit)
		}
	}
	var s strings.Builder
	s.WriteString("| case | fault | iterations | runs | violations | 95 % bound | last |\n|---|---|---:|---:|---:|---:|---|\n")
	for _, c := range cases() {
		r := rows[c.name]
		switch {
		case r == nil:
			fmt.Fprintf(&s, "| `%s` | %s | 0 | 0 | | | not run yet |\n", c.name, c.what)
		case c.control:
			fmt.Fprintf(&s, "| `%s` | %s | %d | %d | %s | | %s |\n", c.name, c.what, r.Iterations, r.runs, caught(r.Violations), r.Date)
		default:
			fmt.Fprintf(&s, "| `%s` | %s | %d | %d | %d | %s | %s |\n", c.name, c.what, r.Iterations, r.runs, r.Violations, bound(r.Iterations, r.Violations), r.Date)
		}
	}
	return s.String()
}

// caught is what a control must be each time.
func caught(missed int) string {
	if missed > 0 {
		return fmt.Sprintf("NOT caught %d times", missed)
	}
	return "caught, as it must be"
}

// bound is the rule of three: with none in n, the true rate is at most 3/n, 95
// times in 100.
func bound(n, violations int) string {
	if violations > 0 || n == 0 {
		return ""
	}
	return fmt.Sprintf("%.2g %%", 300/float64(n))
}

// withTable puts the table of the ledger into the page.
func withTable(page string, ledger []entry) (string, error) {
	head, rest, ok := strings.Cut(page, tableBegin)
	_, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return "", fmt.Errorf("the page has no place for the table, between %q and %q", tableBegin, tableEnd)
	}
	return head + tableBegin + table(ledger) + tableEnd + tail, nil
}

// rewriteTable brings the page up to date with the ledger.
func rewriteTable(page, ledger string) error {
	all, err := readLedger(ledger)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	changed, err := withTable(string(text), all)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(changed), 0o644)
}
