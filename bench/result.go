package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is what one line found.
type result struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	What   string  `json:"what"`   // what the headline figure is, "ratio", "p99_ms", "MiB"
	Value  float64 `json:"value"`  // the headline figure
	Target float64 `json:"target"` // what it should reach
	AtMost bool    `json:"at_most"`
	OK     bool    `json:"ok"`
	// Figures stand beside it, in the order they were added.
	Figures []figure `json:"figures"`
	// Note says what was scaled down or replaced.
	Note    string  `json:"note,omitempty"`
	Seconds float64 `json:"seconds"`
	// Time is when the measurement began.
	Time time.Time `json:"time,omitzero"`
}

// figure is one raw number.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// newResult returns a result whose target is an upper (atMost) or lower bound.
func newResult(what string, value, target float64, atMost bool) result {
	ok := value >= target
	if atMost {
		ok = value <= target
	}
	return result{What: what, Value: value, Target: target, AtMost: atMost, OK: ok}
}

// also demands a second target of the same line.
func (r *result) also(name string, value, target float64, atMost bool) {
	other := newResult(name, value, target, atMost)
	r.OK = r.OK && other.OK
	verdict := "missed"
	if other.OK {
		verdict = "ok"
	}
	r.add(name, value)
	r.Note = strings.TrimSpace(r.Note + fmt.Sprintf(" (%s target%s%s %s)", name, bound(atMost), number(target), verdict))
}

func (r *result) add(name string, value float64) { r.Figures = append(r.Figures, figure{name, value}) }

// spread adds the number of samples and their minimum, median and maximum.
func (r *result) spread(samples []float64) {
	s := slices.Sorted(slices.Values(samples))
	if len(s) == 0 {
		return
	}
	r.add("n", float64(len(s)))
	r.add("min", s[0])
	r.add("median", s[len(s)/2])
	r.add("max", s[len(s)-1])
}

func median(samples []float64) float64 { return quantile(samples, 0.5) }

// quantile returns the q-th quantile of the samples; 0 without samples.
func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// line is the one line of output.
func (r *result) line() string {
	var b strings.Builder
	verdict := "MISSED"
	if r.OK {
		verdict = "ok"
	}
	fmt.Fprintf(&b, "%s %s %s=%s target%s%s %s", r.ID, r.Name, r.What, number(r.Value), bound(r.AtMost), number(r.Target), verdict)
	for _, f := range r.Figures {
		fmt.Fprintf(&b, " %s=%s", f.Name, number(f.Value))
	}
	fmt.Fprintf(&b, " took=%.0fs", r.Seconds)
	if r.Note != "" {
		b.WriteString(" " + r.Note)
	}
	return b.String()
}

func bound(atMost bool) string {
	if atMost {
		return "<="
	}
	return ">="
}

func number(v float64) string {
	switch {
	case v >= 1000 || v == float64(int64(v)):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}
