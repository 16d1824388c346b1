// Package memory is what a rule remembers of many things at once: which serial
// numbers it has seen, which components it has attached. It is bounded, keeps
// each entry under a key of its own in the machine's keyed state, so that a
// commit writes only what is new, and never changes what an older copy of it
// sees, so that a step that was not committed leaves no trace.
package memory

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/plant"
)

// Changes are what the machine's keyed state is told.
type Changes interface {
	Put(kv plant.KV)
	Delete(key string)
}

// entry is one thing that is remembered. N numbers all entries ever made.
type entry[V any] struct {
	Name  string `json:"k"`
	N     uint64 `json:"n"`
	Value V      `json:"v"`
	gone  bool
}

// Memory remembers the newest entries under their names, up to a bound; the
// oldest is forgotten first. It is copied by assignment: copies share layers,
// which nobody changes. The zero Memory is empty.
type Memory[V any] struct {
	// layers are never changed once they are here: the oldest and largest first,
	// each at least twice as large as the next. An entry hides those of its name
	// in older layers.
	layers []map[string]entry[V]
	// top are the newest entries, above all layers.
	top  *link[V]
	next uint64
}

// link is one of the newest entries, which never changes: a copy may go on from it in
// another way.
type link[V any] struct {
	entry[V]
	below *link[V]
	// height is how many there are from here down.
	height int
}

// topMost is how many of the newest entries make a layer. Up to as many are looked
// through one by one, which costs less than a map for each.
const topMost = 32

// Get returns what is remembered under name within bound.
func (m *Memory[V]) Get(name string, bound int) (v V, ok bool) {
	e, ok := m.find(name, bound)
	return e.Value, ok
}

func (m *Memory[V]) find(name string, bound int) (e entry[V], ok bool) {
	for l := m.top; l != nil; l = l.below {
		if l.Name == name {
			return l.entry, !l.gone && m.keeps(l.N, bound)
		}
	}
	for i := len(m.layers) - 1; i >= 0; i-- {
		if e, ok = m.layers[i][name]; ok {
			return e, !e.gone && m.keeps(e.N, bound)
		}
	}
	return e, false
}

// keeps reports whether the entry with number n is among the newest.
func (m *Memory[V]) keeps(n uint64, bound int) bool { return n+uint64(bound) >= m.next }

// Set remembers v under name. A name that is known keeps its age; a new one
// takes the place of the oldest where the bound is reached. prefix is the
// owner's part of the keys.
func (m *Memory[V]) Set(name string, v V, bound int, prefix string, out Changes) {
	e, ok := m.find(name, bound)
	if !ok {
		e = entry[V]{Name: name, N: m.next}
		m.next++
	}
	e.Value, e.gone = v, false
	m.add(e, bound)
	out.Put(plant.KV{Key: key(prefix, e.N, bound), Value: e.encode()})
}

// Appender is a value that writes itself as JSON, which costs a tenth of what
// encoding/json takes.
type Appender interface{ AppendJSON(dst []byte) []byte }

func (e *entry[V]) encode() []byte {
	b := make([]byte, 0, 64+2*len(e.Name))
	b = plant.AppendJSONString(append(b, `{"k":`...), e.Name)
	b = strconv.AppendUint(append(b, `,"n":`...), e.N, 10)
	b = append(b, `,"v":`...)
	if v, ok := any(&e.Value).(Appender); ok {
		return append(v.AppendJSON(b), '}')
	}
	v, err := json.Marshal(&e.Value)
	if err != nil {
		panic(fmt.Sprintf("memory: encode %s: %v", e.Name, err)) // plain structs encode
	}
	return append(append(b, v...), '}')
}

// Remove forgets name.
func (m *Memory[V]) Remove(name string, bound int, prefix string, out Changes) {
	e, ok := m.find(name, bound)
	if !ok {
		return
	}
	e.gone = true
	m.add(e, bound)
	out.Delete(key(prefix, e.N, bound))
}

// add puts e on top. It makes a layer of what is there once that is enough, and melts
// layers together, so that there are never more than the logarithm of their entries.
func (m *Memory[V]) add(e entry[V], bound int) {
	height := 1
	if m.top != nil {
		height += m.top.height
	}
	m.top = &link[V]{entry: e, below: m.top, height: height}
	if height < topMost {
		return
	}
	top := make(map[string]entry[V], height)
	for l := m.top; l != nil; l = l.below {
		if _, newer := top[l.Name]; !newer {
			top[l.Name] = l.entry
		}
	}
	m.top = nil
	layers := m.layers
	for len(layers) > 0 && len(layers[len(layers)-1]) < 2*len(top) {
		top = m.melt(layers[len(layers)-1], top, len(layers) == 1, bound)
		layers = layers[:len(layers)-1]
	}
	// The array may be shared with a copy.
	m.layers = append(slices.Clone(layers), top)
}

// melt returns the entries of both, without those that are forgotten; of what
// is gone only the lowest layer needs no mark.
func (m *Memory[V]) melt(lower, upper map[string]entry[V], lowest bool, bound int) map[string]entry[V] {
	all := make(map[string]entry[V], len(lower)+len(upper))
	for _, layer := range []map[string]entry[V]{lower, upper} {
		for name, e := range layer {
			if m.keeps(e.N, bound) && (!e.gone || !lowest) {
				all[name] = e
			} else {
				delete(all, name)
			}
		}
	}
	return all
}

// key is where the entry with number n is kept. The one that it displaces has
// the same key, so nothing has to be deleted for it.
func key(prefix string, n uint64, bound int) string {
	return prefix + strconv.FormatUint(n%uint64(bound), 10)
}

// Load takes what was put under prefix, in any order, and returns the keys that
// are of no use any more: under another bound an entry would have another key,
// and what cannot be read is forgotten.
func (m *Memory[V]) Load(keyed []plant.KV, prefix string, bound int) (stray []string) {
	all := map[string]entry[V]{}
	m.next = 0
	for i := range keyed {
		if !strings.HasPrefix(keyed[i].Key, prefix) {
			continue
		}
		var e entry[V]
		if json.Unmarshal(keyed[i].Value, &e) != nil || keyed[i].Key != key(prefix, e.N, bound) {
			stray = append(stray, keyed[i].Key)
			continue
		}
		if old, ok := all[e.Name]; ok && old.N > e.N {
			continue
		}
		all[e.Name] = e
		m.next = max(m.next, e.N+1)
	}
	m.layers, m.top = nil, nil
	if len(all) > 0 {
		m.layers = []map[string]entry[V]{all}
	}
	slices.Sort(stray)
	return stray
}

// Len returns how many entries are kept, at most bound; it counts, so it is for
// people.
func (m *Memory[V]) Len(bound int) int {
	n := 0
	seen := map[string]bool{}
	count := func(e *entry[V]) {
		if !seen[e.Name] && !e.gone && m.keeps(e.N, bound) {
			n++
		}
		seen[e.Name] = true
	}
	for l := m.top; l != nil; l = l.below {
		count(&l.entry)
	}
	for i := len(m.layers) - 1; i >= 0; i-- {
		for _, e := range m.layers[i] {
			count(&e)
		}
	}
	return n
}
