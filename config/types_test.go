package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"250ms": 250 * time.Millisecond, "5s": 5 * time.Second, "5 s": 5 * time.Second, " 7 d ": 7 * 24 * time.Hour, "1h 30 m": 90 * time.Minute, "1h30m": 90 * time.Minute,
		"7d": 7 * 24 * time.Hour, "0.5d": 12 * time.Hour, "1w": 7 * 24 * time.Hour, "0": 0, "0s": 0,
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Std() != want {
			t.Errorf("%q: got %v, %v; want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"", "5", "-5s", "5 apples", "d", "NaNd", "-1d", "1e99d", "300000000h", "5s5"} {
		d := Duration(time.Second)
		err := d.UnmarshalText([]byte(text))
		if err == nil {
			t.Errorf("%q: got %v, want a refusal", text, d)
			continue
		}
		if want := "`" + text + "` is no duration — write a number and a unit, for example 250ms, 5s, 2h or 7d"; err.Error() != want {
			t.Errorf("%q: got %q, want %q", text, err, want)
		}
		if d.Std() != time.Second {
			t.Errorf("%q: a refused text changed the value to %v", text, d)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"512 MiB": 512 << 20, "2GiB": 2 << 30, "2 GB": 2e9, "1.5 KiB": 1536, "0 B": 0, "10kB": 10000, "1 TiB": 1 << 40,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: got %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "5", "MiB", "-1 MiB", "9e30 GiB", "5 Mib", "NaN MiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %d, want a refusal", text, s)
		}
	}
	for size, want := range map[Size]string{0: "0 B", 1023: "1023 B", 1 << 10: "1 KiB", 1536: "1.5 KiB", 2 << 30: "2 GiB"} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %q, want %q", size, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]float64{"20/s": 20, "60/min": 1, "1200 / h": 1200.0 / 3600, "0.5/s": 0.5, "86400/d": 1} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r.PerSecond() != want {
			t.Errorf("%q: got %v/s, %v; want %v/s", text, r.PerSecond(), err, want)
		}
	}
	for _, text := range []string{"", "20", "20/", "/s", "0/s", "-1/s", "Inf/s", "NaN/s", "20/year"} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err == nil || !r.IsZero() {
			t.Errorf("%q: got %v, want a refusal", text, r)
		}
	}
	if got := (Rate{Count: 40, Per: time.Minute}).Over(30 * time.Second); got != 20 {
		t.Errorf("40/min over 30s: got %v, want 20", got)
	}
	if got := (Rate{}).PerSecond(); got != 0 {
		t.Errorf("no rate: got %v/s, want 0", got)
	}
}

// A factor of a config is what it says, to the last digit.
func TestNumber(t *testing.T) {
	for text, want := range map[string]string{"0.1": "0.1", "-40": "-40", "0.10": "0.10", "+2": "2"} {
		var n Number
		if err := n.UnmarshalText([]byte(text)); err != nil || n.String() != want {
			t.Errorf("%q: got %v, %v; want %s", text, n, err, want)
		}
	}
	for _, text := range []string{"", "1e-1", "0,1", "NaN", "0x10", "1 000", "99999999999999999999"} {
		n := Number{plant.WholeDecimal(7)}
		err := n.UnmarshalText([]byte(text))
		if want := "`" + text + "` is no decimal number — write digits and a point, for example 0.1 or -40"; err == nil || err.Error() != want {
			t.Errorf("%q: got %v, %v; want %q", text, n, err, want)
		}
		if n.Unscaled != 7 {
			t.Errorf("%q: a refused text changed the value to %v", text, n)
		}
	}
}

// What a type writes it reads again, and nothing makes it panic.
func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, back := Duration(rapid.Int64Min(0).Draw(t, "duration")), Duration(0)
		if err := back.UnmarshalText([]byte(d.String())); err != nil || back != d {
			t.Fatalf("duration %v: got %v, %v", d, back, err)
		}
		r := Rate{Count: rapid.Float64Range(0.001, 1e9).Draw(t, "count"), Per: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour}).Draw(t, "per")}
		var again Rate
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Fatalf("rate %v: got %v, %v", r, again, err)
		}
		text := []byte(rapid.String().Draw(t, "text"))
		var s Size
		if err := s.UnmarshalText(text); err == nil && s < 0 {
			t.Fatalf("size %q: got %d", text, s)
		}
	})
}

func TestSecretNeverPrints(t *testing.T) {
	s := NewSecret("hunter2")
	type holder struct{ Key Secret }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, value := range []any{s, &s, holder{s}, []Secret{s}} {
			if got := fmt.Sprintf(verb, value); strings.Contains(got, "hunter2") {
				t.Errorf("%s of %T leaks: %s", verb, value, got)
			}
		}
	}
	if b, err := s.MarshalText(); err != nil || string(b) != "(secret)" {
		t.Errorf("got %q, %v", b, err)
	}
	if s.Reveal() != "hunter2" || s.IsZero() || !(Secret{}).IsZero() || (Secret{}).String() != "" {
		t.Error("a secret does not hold what it was given")
	}
}

func TestTableGet(t *testing.T) {
	table := Table[int]{Rows: []Row[int]{{Name: "a", Value: 1}, {Name: "b", Value: 2}}}
	if v, ok := table.Get("b"); !ok || v != 2 {
		t.Errorf("got %v, %v", v, ok)
	}
	if v, ok := table.Get("c"); ok || v != 0 {
		t.Errorf("got %v, %v", v, ok)
	}
}

func TestFaultString(t *testing.T) {
	f := Fault{Position: Position{"a.yaml", 3, 7}, Path: "site.area", Problem: "is empty", Remedy: "name it"}
	if got, want := f.String(), "a.yaml:3:7: site.area: is empty — name it"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.Warning, f.Path, f.Remedy = true, "", ""
	if got, want := f.String(), "a.yaml:3:7: warning: is empty"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFaultsSort(t *testing.T) {
	at := func(file string, line, column int, problem string) Fault {
		return Fault{Position: Position{file, line, column}, Problem: problem}
	}
	got := Faults{
		at("b", 1, 1, "x"), at("a", 10, 1, "x"), at("a", 9, 2, "y"), at("a", 9, 2, "x"), at("a", 9, 2, "y"), at("a", 9, 1, "x"),
	}.Sort()
	want := Faults{
		at("a", 9, 1, "x"), at("a", 9, 2, "y"), at("a", 9, 2, "x"), at("a", 10, 1, "x"), at("b", 1, 1, "x"),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"interval", "timeout", "endpoint", "unit", "tags"}
	for name, want := range map[string]string{
		"intervall": "interval", "Timeout": "timeout", "endpiont": "endpoint", "tag": "tags", "unti": "unit",
		"x": "", "reasons": "", "": "",
	} {
		if got, _ := Nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	err := Unknown("device", "device", "pres", []string{"press", "filler"})
	if want := "device: unknown device `pres` — did you mean `press`?"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if err := Unknown("", "tag", "zzz", []string{"made", "bad"}); err.Error() != "unknown tag `zzz` — choose from `made`, `bad`" {
		t.Errorf("got %q", err)
	}
	if err := Unknown("", "tag", "zzz", nil); err.Error() != "unknown tag `zzz` — there is none to choose from" {
		t.Errorf("got %q", err)
	}
}

// Edit distance is a metric.
func TestDistance(t *testing.T) {
	word := rapid.StringOfN(rapid.RuneFrom([]rune("abcé")), 0, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len([]rune(a)), len([]rune(b))) {
			t.Fatalf("distance(%q, %q) = %d", a, b, d)
		}
	})
}
