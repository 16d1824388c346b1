// Package memlog is what the commits of one machine leave on a disk, kept in
// memory, for tests: a log of a test embeds it and says when a commit fails.
package memlog

import (
	"maps"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// Store is that disk; its zero value is an empty one. It is no log by itself and
// has no lock: who embeds it guards it, and decides before and after Apply whether
// the commit is said to have failed.
type Store struct {
	// State is that of the newest commit, Keyed what was put and not deleted.
	State []byte
	Keyed map[string][]byte
	// Events are those of all commits; the first has the number 1.
	Events []plant.Event
}

// Load does for a log's Load what a disk does.
func (s *Store) Load(each func(plant.KV) error) ([]byte, error) {
	for _, key := range slices.Sorted(maps.Keys(s.Keyed)) {
		if err := each(plant.KV{Key: key, Value: s.Keyed[key]}); err != nil {
			return nil, err
		}
	}
	return slices.Clone(s.State), nil
}

// Newest returns the data of the newest events of a kind, the newest first.
func (s *Store) Newest(kind plant.EventKind, most int) (data [][]byte) {
	for i := len(s.Events) - 1; i >= 0 && len(data) < most; i-- {
		if s.Events[i].Kind == kind {
			data = append(data, s.Events[i].Data)
		}
	}
	return data
}

// Apply makes a commit durable and returns the number of its first event.
func (s *Store) Apply(b plant.Batch) (first plant.Sequence) {
	first = plant.Sequence(len(s.Events) + 1)
	if b.State != nil {
		s.State = slices.Clone(b.State)
	}
	for _, e := range b.Events {
		e.Data = slices.Clone(e.Data)
		s.Events = append(s.Events, e)
	}
	if s.Keyed == nil {
		s.Keyed = map[string][]byte{}
	}
	for _, kv := range b.Put {
		s.Keyed[kv.Key] = slices.Clone(kv.Value)
	}
	for _, key := range b.Delete {
		delete(s.Keyed, key)
	}
	return first
}
