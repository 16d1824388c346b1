package line

import "testing"

func TestReadsWordsWhatMakesAValue(t *testing.T) {
	reads := func(more string) map[string]string {
		all := map[string]string{}
		for tag, words := range planOf(t, "driver: line\nendpoint: 10.0.0.7:4001\n"+more).Reads() {
			all[string(tag)] = words
		}
		return all
	}
	const tags = "tags: {a: n, b: {field: n, type: string}, c: {field: n, type: number}, d: {field: n, type: number, scale: 0.1}, e: {field: n, is: [x]}, f: {field: n, type: number, unit: kg}}\n"
	one, seen := reads("pattern: '(?P<n>.+)'\n"+tags), map[string]bool{}
	for _, words := range one {
		seen[words] = true
	}
	if len(one) != 6 || len(seen) != 5 || one["a"] != one["b"] {
		t.Errorf("%q", one)
	}
	for _, other := range []string{"pattern: 'N(?P<n>.+)'\n", "pattern: '(?P<n>.+)'\nencoding: latin-1\n", "pattern: '(?P<n>.+)'\ndecimal: ','\n"} {
		if two := reads(other + tags); two["c"] == one["c"] {
			t.Errorf("%s: %q", other, two["c"])
		}
	}
}
