// Package backoff spaces attempts: exponential with full jitter, so that many
// gateways that lost one broker do not return in step. It keeps no timer and no
// goroutine; the caller waits.
package backoff

import (
	"hash/fnv"
	"io"
	"math/rand/v2"
	"time"
)

// Backoff gives the wait before each next attempt. It is used from one
// goroutine. Min and Max must be above 0.
type Backoff struct {
	Min, Max time.Duration
	// Rand gives the jitter; nil means the process's own source. A simulation sets
	// it, so that a run can be repeated.
	Rand *rand.Rand

	failures int
}

// Next counts a failure and returns how long to wait: between Min and a ceiling
// that doubles with each failure up to Max.
func (b *Backoff) Next() time.Duration {
	ceiling := b.Max
	if b.failures < 32 {
		if c := b.Min << b.failures; c > 0 && c < b.Max {
			ceiling = c
		}
	}
	b.failures++
	if ceiling <= b.Min {
		return b.Min
	}
	spread := int64(ceiling - b.Min)
	if b.Rand != nil {
		return b.Min + time.Duration(b.Rand.Int64N(spread))
	}
	return b.Min + time.Duration(rand.Int64N(spread))
}

// Reset forgets the failures, after a success.
func (b *Backoff) Reset() { b.failures = 0 }

// Failures returns how many failures there were since the last Reset.
func (b *Backoff) Failures() int { return b.failures }

// Seeded returns a source of jitter for the back-off of that name: for the same
// seed and name the same.
func Seeded(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name) // a hash takes everything
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
