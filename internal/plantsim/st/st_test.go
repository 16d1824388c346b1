package st

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/firmware-notes/blocks"
)

func parseFile(t *testing.T, name string, d blocks.Dialect) *Block {
	t.Helper()
	text, err := blocks.Source(name, d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(text)
	if err != nil {
		t.Fatalf("%s.%s: %v", name, d, err)
	}
	if b.Name != strings.ToLower(name) {
		t.Errorf("%s.%s holds %s", name, d, b.Name)
	}
	return b
}

// TestBothDialectsSayTheSame runs the SCL and the ST of each block with the same
// random inputs and power cuts: after each cycle all of their memory is equal.
func TestBothDialectsSayTheSame(t *testing.T) {
	for _, name := range blocks.Names() {
		t.Run(name, func(t *testing.T) {
			s7, codesys := parseFile(t, name, blocks.S7), parseFile(t, name, blocks.CODESYS)
			if a, b := strings.Join(s7.Variables(), " "), strings.Join(codesys.Variables(), " "); a != b {
				t.Fatalf("variables %s and %s", a, b)
			}
			random := rand.New(rand.NewPCG(7, 7))
			a, b := s7.New(), codesys.New()
			now, changes := int64(0), 0
			for range 3000 {
				now += random.Int64N(2000)
				for _, v := range s7.Variables() {
					d, _ := s7.Variable(v)
					if c, _ := codesys.Variable(v); c != d {
						t.Fatalf("%s is %+v and %+v", v, d, c)
					}
					if d.Class != In || v == "timeout" || v == "hold" || v == "beat" && random.IntN(60) > 0 {
						continue
					}
					for at := range max(d.Size, 1) {
						// Often an answer that fits: what the block itself shows.
						value := int64(random.Uint64())
						if random.IntN(2) == 0 {
							for _, shown := range []string{"number", "head", "offer"} {
								if o, ok := s7.Variable(shown); ok && o.Size == 0 {
									value = a.Get(shown, 0)
								}
							}
						}
						a.Set(v, at, value)
						b.Set(v, at, value)
					}
				}
				before := append([]int64(nil), a.memory...)
				if err := a.Cycle(now); err != nil {
					t.Fatal(err)
				}
				if err := b.Cycle(now); err != nil {
					t.Fatal(err)
				}
				for _, v := range s7.Variables() {
					d, _ := s7.Variable(v)
					if s7.byName[v].base == timer {
						continue
					}
					for at := range max(d.Size, 1) {
						if a.Get(v, at) != b.Get(v, at) {
							t.Fatalf("%s[%d] is %d and %d", v, at, a.Get(v, at), b.Get(v, at))
						}
						if d.Class == Out && a.Get(v, at) != before[s7.byName[v].at+at] {
							changes++
						}
					}
				}
				if random.IntN(100) == 0 {
					a.Restart()
					b.Restart()
				}
			}
			if changes < 20 {
				t.Errorf("only %d outputs changed: nothing was compared", changes)
			}
		})
	}
}

// TestARestartKeepsWhatIsRetain: the record, its trigger and the queue are there
// again, before the block has run.
func TestARestartKeepsWhatIsRetain(t *testing.T) {
	for _, name := range []string{"SluiceLevel", "SluiceSequence", "SluiceCounter", "SluiceToggle", "SluiceRing"} {
		b := parseFile(t, name, blocks.S7)
		plc := b.New()
		for n := range int64(5) {
			plc.Set("record", 3, 100+n)
			for _, put := range []int64{1, 0} {
				plc.Set("put", 0, put)
				if err := plc.Cycle(0); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := map[string]int64{}
		outputs := []string{"offer", "number", "head", "waiting", "lost"}
		for _, v := range outputs {
			if d, ok := b.Variable(v); ok && d.Retain {
				before[v] = plc.Get(v, 0)
			}
		}
		if len(before) < 2 {
			t.Errorf("%s keeps only %v", name, before)
		}
		array := "offered"
		if name == "SluiceRing" {
			array = "ring"
		}
		plc.Restart()
		for v, want := range before {
			if got := plc.Get(v, 0); got != want {
				t.Errorf("%s: %s is %d after the power cut, was %d", name, v, got, want)
			}
		}
		if got := plc.Get(array, 3); got != 100 {
			t.Errorf("%s: the record says %d", name, got)
		}
	}
}

// What a compiler of a PLC refuses is refused here: each case spoils one thing.
func TestParseRefuses(t *testing.T) {
	good, err := blocks.Source("SluiceLevel", blocks.S7)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, old, now, want string }{
		{"a semicolon", "#putBefore := #put;", "#putBefore := #put", "`;` is missing"},
		{"END_IF", "   END_IF;\nEND_IF;", "   END_IF;", "`END_IF` is missing"},
		{"END_FOR", "END_FOR;", "", "`END_FOR` is missing"},
		{"END_CASE", "END_CASE;", "", "`END_CASE` is missing"},
		{"END_VAR", "END_VAR", "", ""},
		{"THEN", "IF #put AND NOT #putBefore THEN", "IF #put AND NOT #putBefore", "`then` is missing"},
		{"a name", "#putBefore := #put;", "#putBefor := #put;", "`putbefor` is not declared"},
		{"a declaration", "   putBefore : Bool;\n", "", "`putbefore` is not declared"},
		{"a double declaration", "   putBefore : Bool;\n", "   putBefore : Bool;\n   putBefore : Bool;\n", "declared twice"},
		{"a type", "#putBefore := #put;", "#putBefore := 1;", "a number is no BOOL"},
		{"another type", "#step := 1;", "#step := #put;", "a BOOL is no UINT"},
		{"mixed types", "#waiting < 32", "#waiting < #lost", "between a UINT and a UDINT"},
		{"an operator", "#put AND NOT", "#put + NOT", "is not for a BOOL"},
		{"a condition", "IF #put AND NOT #putBefore THEN", "IF #waiting THEN", "a condition is a BOOL"},
		{"a written input", "#putBefore := #put;", "#put := #putBefore;", "does not write it"},
		{"an index", "#queue[#slot + #i] :=", "#queue :=", "`[` is missing"},
		{"an index of what is none", "#putBefore := #put;", "#putBefore[1] := #put;", "is no array"},
		{"an output", "#alarm := #watch.Q;", "", "the output `alarm` is never set"},
		{"a comment", "(* Nobody collects", "(* Nobody collects (*", ""},
		{"an unknown type", "putBefore : Bool", "putBefore : Boolean", "is no type"},
		{"the end", "END_FUNCTION_BLOCK", "", "`END_FUNCTION_BLOCK` is missing"},
		{"a timer", "#watch(IN := #step = 1, PT := #timeout);", "#watch(PT := #timeout);", "`in` is missing"},
		{"a time", "T#60s", "T#60x", "is no TIME"},
		{"a time for a number", "PT := #timeout", "PT := #waiting", "a UINT is no TIME"},
		{"an open comment", "(* Nobody collects: the record stays, and the machine goes on. *)", "(* Nobody", "nothing closes"},
		{"a case twice", "   1: (*", "   0: (*", "stands twice"},
		{"a conversion", "UINT_TO_DINT(#first)", "UINT_TO_DINT(#lost)", "a UDINT is no UINT"},
		{"a sign", "#putBefore := #put;", "#putBefore = #put;", "`:=` is missing"},
		{"something behind", "END_FUNCTION_BLOCK", "END_FUNCTION_BLOCK\nEND_VAR", "stands behind the block"},
	} {
		text := strings.Replace(good, c.old, c.now, 1)
		if text == good {
			t.Errorf("%s: nothing was spoilt", c.what)
			continue
		}
		_, err := Parse(text)
		if c.want == "" && c.what == "a comment" {
			continue // comments do not nest: the first end closes both
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

func one(t *testing.T, declarations, body string) *Instance {
	t.Helper()
	b, err := Parse("FUNCTION_BLOCK X\n" + declarations + "\n" + body + "\nEND_FUNCTION_BLOCK\n")
	if err != nil {
		t.Fatal(err)
	}
	return b.New()
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		body string
		want int64
	}{
		{"u := 65535; u := u + 1; r := UINT_TO_DINT(u);", 0},
		{"u := 0; u := u - 1; r := UINT_TO_DINT(u);", 65535},
		{"r := 2 + 3 * 4;", 14},
		{"r := (2 + 3) * 4;", 20},
		{"r := 17 MOD 5;", 2},
		{"IF 1 < 2 AND NOT (3 = 4) THEN r := 1; ELSE r := 2; END_IF;", 1},
		{"IF 1 > 2 THEN r := 1; ELSIF 1 < 2 XOR FALSE THEN r := 3; ELSE r := 2; END_IF;", 3},
		{"IF 1 > 2 THEN r := 1; ELSIF 2 < 1 THEN r := 3; ELSE r := 4; END_IF;", 4},
		{"CASE 3 OF 1: r := 1; 3: r := 9; END_CASE;", 9},
		{"CASE 7 OF 1: r := 1; ELSE r := 8; END_CASE;", 8},
		{"r := 0; FOR i := 1 TO 4 DO r := r + i; END_FOR;", 10},
		{"FOR i := 2 TO 4 DO a[i] := i * i; END_FOR; r := a[3];", 9},
		{"IF FALSE OR TRUE AND FALSE THEN r := 1; ELSE r := 5; END_IF;", 5},
	} {
		x := one(t, "VAR_OUTPUT r : DINT; END_VAR VAR u : UINT; i : DINT; a : ARRAY[2..4] OF DINT; END_VAR", "r := 0; "+c.body)
		if err := x.Cycle(0); err != nil {
			t.Errorf("%s: %v", c.body, err)
		}
		if got := x.Get("r", 0); got != c.want {
			t.Errorf("%s: %d, want %d", c.body, got, c.want)
		}
	}
}

func TestWhatStopsAPLC(t *testing.T) {
	for _, body := range []string{"a[n] := 1;", "r := a[n];", "r := 5 MOD (n - 7);"} {
		x := one(t, "VAR_INPUT n : DINT; END_VAR VAR_OUTPUT r : DINT; END_VAR VAR a : ARRAY[0..3] OF DINT; END_VAR", "r := 0; "+body)
		x.Set("n", 0, 7)
		if err := x.Cycle(0); err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestATimerIsOnAfterItsTime(t *testing.T) {
	x := one(t, "VAR_INPUT on : BOOL; END_VAR VAR_OUTPUT q : BOOL; END_VAR VAR w : TON; END_VAR", "w(IN := on, PT := T#1s500ms); q := w.Q;")
	for _, c := range []struct{ at, on, want int64 }{
		{0, 0, 0}, {100, 1, 0}, {1599, 1, 0}, {1600, 1, 1}, {9000, 1, 1}, {9001, 0, 0}, {9002, 1, 0}, {10501, 1, 0}, {10502, 1, 1},
	} {
		x.Set("on", 0, c.on)
		if err := x.Cycle(c.at); err != nil {
			t.Fatal(err)
		}
		if got := x.Get("q", 0); got != c.want {
			t.Errorf("at %d: %d, want %d", c.at, got, c.want)
		}
	}
}

// FuzzParse: no text makes the parser or a PLC panic.
func FuzzParse(f *testing.F) {
	for _, name := range blocks.Names() {
		text, err := blocks.Source(name, blocks.S7)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add("FUNCTION_BLOCK x VAR a : ARRAY[0..9] OF WORD; END_VAR a[1] := 2; END_FUNCTION_BLOCK")
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := Parse(text); err == nil && b.Name == "" {
			t.Error("a block without a name")
		}
	})
}
