package derive

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// damaged is a scenario whose state is damaged halfway through.
type damaged struct {
	s     *scenario
	m     *Model
	state []byte
	keyed []plant.KV
	// rest are the inputs behind it.
	rest []action
}

// halfway plays the first half of a scenario.
func halfway(t *testing.T, path string) *damaged {
	t.Helper()
	s := readScenario(t, path)
	actions := parseInputs(t, s.files["inputs"], catalog(t, s.files["tags"]))
	p := newPlayer(t, s)
	half := len(actions) / 2
	p.play(actions[:half])
	d := &damaged{s: s, m: p.m, state: encode(t, p.m, &p.state), rest: actions[half:]}
	for _, key := range slices.Sorted(maps.Keys(p.keyed)) {
		d.keyed = append(d.keyed, plant.KV{Key: key, Value: p.keyed[key]})
	}
	return d
}

// goOn decodes a state and, if that is not refused, steps on from it: whatever it
// says, nothing panics, events are valid, and the state can be written again.
func (d *damaged) goOn(t *testing.T, state []byte, keyed []plant.KV) {
	t.Helper()
	s, err := d.m.Decode(state, keyed)
	if err != nil {
		return
	}
	s.GoOn()
	for i, a := range d.rest[:min(len(d.rest), 12)] {
		in := a.in
		if in == nil {
			in = plant.Tick{At: a.at}
		}
		var out Output
		s, out = d.m.Step(s, in)
		for _, e := range out.Events {
			if !json.Valid(e.Data) {
				t.Fatalf("%s, input %d: event %s", d.s.path, i, e.Data)
			}
		}
		b, err := d.m.Encode(&s)
		if err != nil {
			t.Fatalf("%s, input %d: %v", d.s.path, i, err)
		}
		if _, err := d.m.Decode(b, nil); err != nil {
			t.Fatalf("%s, input %d: what was written cannot be read: %v\n%s", d.s.path, i, err, b)
		}
	}
}

// damage changes a few places of a JSON document, so that it is one still.
func damage(t *testing.T, document []byte, r *rand.Rand) []byte {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	for range 1 + r.IntN(4) {
		v = spoil(v, r)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// spoil changes one place of a value, the deeper the likelier.
func spoil(v any, r *rand.Rand) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 || r.IntN(20) == 0 {
			return nil
		}
		keys := slices.Sorted(maps.Keys(v))
		key := keys[r.IntN(len(keys))]
		if key == "v" && r.IntN(10) > 0 {
			return v // else it is of another version, and refused
		}
		if r.IntN(10) == 0 {
			delete(v, key)
			return v
		}
		v[key] = spoil(v[key], r)
		return v
	case []any:
		switch {
		case len(v) == 0:
			return []any{nil}
		case r.IntN(8) == 0:
			return v[:r.IntN(len(v))]
		case r.IntN(8) == 0:
			return append(v, v[r.IntN(len(v))])
		}
		i := r.IntN(len(v))
		v[i] = spoil(v[i], r)
		return v
	case json.Number:
		odd := []int64{0, 1, -1, 2, 63, 64, 1 << 20, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, 1 << 62, -1 << 62, 255, 256, 1e18}
		return odd[r.IntN(len(odd))]
	case string:
		odd := []string{"", " ", "0", "-1", "9223372036854775808", "x\x00y", v + v, "é"}
		return odd[r.IntN(len(odd))]
	case bool:
		return !v
	default:
		return r.IntN(3)
	}
}

// TestADamagedStateIsNoPanic damages the state of each scenario, and so of every
// rule, in a few ways.
func TestADamagedStateIsNoPanic(t *testing.T) {
	for _, path := range scenarios(t) {
		d := halfway(t, path)
		for seed := range uint64(6) {
			d.damaged(t, seed)
		}
	}
}

func (d *damaged) damaged(t *testing.T, seed uint64) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s, seed %d", d.s.path, seed)
			panic(p)
		}
	}()
	r := rand.New(rand.NewPCG(seed, uint64(len(d.state))))
	keyed := slices.Clone(d.keyed)
	if len(keyed) > 0 && r.IntN(2) == 0 {
		i := r.IntN(len(keyed))
		if json.Valid(keyed[i].Value) {
			keyed[i].Value = damage(t, keyed[i].Value, r)
		}
	}
	d.goOn(t, damage(t, d.state, r), keyed)
}

// FuzzDecodeStateOfEveryRule does the same with the fuzzer's choice of scenario
// and damage, and with whatever bytes it finds.
func FuzzDecodeStateOfEveryRule(f *testing.F) {
	var paths []string
	made := map[int]*damaged{}
	f.Add(uint16(0), uint64(1), []byte(nil))
	f.Add(uint16(7), uint64(2), []byte(`{"v":1,"weighed":[{"b":"","win":{"n":-1}}],"dosing":[{}],"order":{"n":9}}`))
	f.Fuzz(func(t *testing.T, which uint16, seed uint64, raw []byte) {
		if paths == nil {
			paths = scenarios(t)
		}
		i := int(which) % len(paths)
		if made[i] == nil {
			made[i] = halfway(t, paths[i])
		}
		if len(raw) > 0 {
			made[i].goOn(t, raw, []plant.KV{{Key: string(raw[:len(raw)/4]), Value: raw[len(raw)/4:]}})
		}
		made[i].damaged(t, seed)
	})
}
