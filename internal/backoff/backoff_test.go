package backoff

import (
	"testing"
	"time"
)

func TestNextStaysWithinItsBounds(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second}
	for i := range 100 {
		ceiling := b.Max
		if i < 5 {
			ceiling = min(b.Max, b.Min<<i)
		}
		if got := b.Next(); got < b.Min || got > ceiling {
			t.Fatalf("attempt %d: waits %v, want %v…%v", i, got, b.Min, ceiling)
		}
	}
	if b.Failures() != 100 {
		t.Errorf("Failures() = %d, want 100", b.Failures())
	}
	b.Reset()
	if got := b.Next(); got != b.Min {
		t.Errorf("first wait after Reset = %v, want %v", got, b.Min)
	}
}

func TestNextSpreads(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		b := Backoff{Min: time.Millisecond, Max: time.Hour, failures: 20}
		seen[b.Next()] = true
	}
	if len(seen) < 15 {
		t.Errorf("20 gateways chose only %d different waits", len(seen))
	}
}

func TestSeededRepeats(t *testing.T) {
	waits := func(seed uint64, name string) (all [20]time.Duration) {
		b := Backoff{Min: time.Millisecond, Max: time.Hour, Rand: Seeded(seed, name)}
		for i := range all {
			all[i] = b.Next()
		}
		return all
	}
	if first, again := waits(1, "mes"), waits(1, "mes"); first != again {
		t.Error("the same seed and name give other waits")
	}
	if waits(1, "mes") == waits(2, "mes") || waits(1, "mes") == waits(1, "erp") {
		t.Error("another seed or name gives the same waits")
	}
}
