// Package central holds what the strict stand-ins of central systems in its
// folders share: the book of what a sender did that the system's document
// forbids, faults between a request and its answer, and JSON read without
// mercy. The stand-ins are written from the vendors' documents alone, and know
// nothing of the senders that they judge. Only tests, the torture rig, the simulated plant and the bench import them.
package central

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Violation is something that a document forbids and a client did.
type Violation struct {
	// Rule is its short name, a constant of the stand-in.
	Rule string
	// Request is the method and path, without the query: it may hold a token.
	Request string
	// What says it in words.
	What string
}

// String returns all of it in one line.
func (v Violation) String() string { return v.Rule + ": " + v.Request + ": " + v.What }

// Book is where violations are noted. The zero Book is empty; its methods may be
// called from any goroutine.
type Book struct {
	mu    sync.Mutex
	found []Violation
}

// Note adds a violation of rule by r.
func (b *Book) Note(rule string, r *http.Request, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.found = append(b.found, Violation{rule, r.Method + " " + r.URL.Path, fmt.Sprintf(format, args...)})
}

// Violations returns what was noted, in order, without the rules that the caller
// allows because its test provokes them.
func (b *Book) Violations(allowed ...string) []Violation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.found), func(v Violation) bool { return slices.Contains(allowed, v.Rule) })
}

// Words joins violations into lines, for a test's failure; empty for none.
func Words(found []Violation) string {
	var lines []string
	for _, v := range found {
		lines = append(lines, v.String())
	}
	return strings.Join(lines, "\n")
}
