package memory

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

// disk is the keyed state of a machine.
type disk map[string][]byte

func (d disk) Put(kv plant.KV)   { d[kv.Key] = kv.Value }
func (d disk) Delete(key string) { delete(d, key) }
func (d disk) all() (keyed []plant.KV) {
	for _, k := range slices.Sorted(maps.Keys(d)) {
		keyed = append(keyed, plant.KV{Key: k, Value: d[k]})
	}
	return keyed
}

// model is the same, simple and slow: the names by age.
type model struct {
	bound int
	ages  []string // "" where one was removed
	value map[string]int
}

func (m *model) set(name string, v int) {
	if _, ok := m.value[name]; !ok {
		m.ages = append(m.ages, name)
		if len(m.ages) > m.bound {
			delete(m.value, m.ages[0])
			m.ages = m.ages[1:]
		}
	}
	m.value[name] = v
}

func (m *model) remove(name string) {
	if i := slices.Index(m.ages, name); i >= 0 {
		m.ages[i] = ""
		delete(m.value, name)
	}
}

// TestAMemoryIsAMapThatForgetsTheOldest, also of an older copy of it, and of
// what is read back from disk.
func TestAMemoryIsAMapThatForgetsTheOldest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.IntRange(1, 12).Draw(t, "bound")
		var m, old Memory[int]
		var oldWant map[string]int
		d := disk{}
		want := model{bound: bound, value: map[string]int{}}
		check := func(m *Memory[int], value map[string]int, what string) {
			for i := range 20 {
				name := fmt.Sprint(i)
				v, ok := m.Get(name, bound)
				if w, has := value[name]; ok != has || v != w && ok {
					t.Fatalf("%s: %s is %d %v, want %d %v", what, name, v, ok, w, has)
				}
			}
			if n := m.Len(bound); n != len(value) {
				t.Fatalf("%s: %d entries, want %d", what, n, len(value))
			}
		}
		for i := range rapid.IntRange(1, 150).Draw(t, "steps") {
			name := fmt.Sprint(rapid.IntRange(0, 19).Draw(t, "name"))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				m.Remove(name, bound, "x/", d)
				want.remove(name)
			case 1:
				old = m
				oldWant = maps.Clone(want.value)
			default:
				m.Set(name, i, bound, "x/", d)
				want.set(name, i)
			}
			check(&m, want.value, "now")
			if oldWant != nil {
				check(&old, oldWant, "a copy")
			}
			if len(m.layers) > 8 {
				t.Fatalf("%d layers for %d entries", len(m.layers), bound)
			}
			if len(d) > bound {
				t.Fatalf("%d keys for %d entries", len(d), bound)
			}
		}
		var back Memory[int]
		if stray := back.Load(d.all(), "x/", bound); len(stray) > 0 {
			t.Fatalf("stray %v", stray)
		}
		check(&back, want.value, "read back")
	})
}

func TestLoadTellsWhatIsOfNoUse(t *testing.T) {
	var m Memory[int]
	d := disk{"y/1": nil}
	for i := range 6 {
		m.Set(fmt.Sprint(i), i, 6, "x/", d)
	}
	d["x/9"] = []byte("{")
	var back Memory[int]
	stray := back.Load(d.all(), "x/", 4)
	// Entries 4 and 5 would be at 0 and 1 with a bound of 4.
	if fmt.Sprint(stray) != "[x/4 x/5 x/9]" {
		t.Errorf("stray %v", stray)
	}
	if n := back.Len(4); n != 4 {
		t.Errorf("%d entries", n)
	}
}

func BenchmarkSet(b *testing.B) {
	var m Memory[int]
	var work Memory[int]
	b.ReportAllocs()
	i := 0
	d := disk{}
	for b.Loop() {
		i++
		work = m
		work.Set(fmt.Sprint(i), i, 10_000, "x/", d)
		m, work = work, m
	}
}
