package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Duration is a time.Duration that a config writes with its unit: "250ms",
// "5s", "1h30m", "7d" (a day is 24 h, a week "1w" 7 days).
type Duration time.Duration

// Std returns d for the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns d as Go writes durations.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalText reads a duration with its unit.
func (d *Duration) UnmarshalText(b []byte) error {
	s := closed(strings.TrimSpace(string(b)))
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseFloat(number, 64)
			if err == nil && n >= 0 && n*float64(unit) < math.MaxInt64 {
				*d = Duration(n * float64(unit))
				return nil
			}
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return Field("", fmt.Sprintf("`%s` is no duration", b), "write a number and a unit, for example 250ms, 5s, 2h or 7d")
	}
	*d = Duration(v)
	return nil
}

// closed takes the spaces out that stand between a number and its unit, or a
// unit and the next number: "5 s", "1h 30m". Others stay, since "1 5s" is no
// duration. s is trimmed.
func closed(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if s[i] == ' ' && (digit(s[i-1]) && letter(s[i+1]) || letter(s[i-1]) && digit(s[i+1])) {
			continue // it is neither the first nor the last: s is trimmed
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func letter(c byte) bool { return c >= 'a' && c <= 'z' }

// Size is a number of bytes that a config writes with its unit: "512 MiB",
// "2GiB", "2 GB" (MiB = 1024² bytes, MB = 1000²).
type Size int64

var sizeUnits = []struct {
	name   string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// String returns the size in the largest binary unit that keeps it short.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if f := sizeUnits[i].factor; int64(s) >= f {
			return strconv.FormatFloat(math.Round(float64(s)/float64(f)*10)/10, 'f', -1, 64) + " " + sizeUnits[i].name
		}
	}
	return strconv.FormatInt(int64(s), 10) + " B"
}

// UnmarshalText reads a size with its unit.
func (s *Size) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(n >= 0 && n*float64(u.factor) < math.MaxInt64) { // NaN is neither
			break
		}
		*s = Size(n * float64(u.factor))
		return nil
	}
	return Field("", fmt.Sprintf("`%s` is no size", text), "write a number and a unit, for example 64 MiB or 2 GiB")
}

// Rate is so many per time, which a config writes "20/s", "40/min" or
// "1200/h". The zero Rate means that none is set.
type Rate struct {
	Count float64
	Per   time.Duration
}

// PerSecond returns the rate per second.
func (r Rate) PerSecond() float64 {
	if r.Per <= 0 {
		return 0
	}
	return r.Count / r.Per.Seconds()
}

// Over returns how many there are in d at most.
func (r Rate) Over(d time.Duration) float64 { return r.PerSecond() * d.Seconds() }

// IsZero reports whether no rate is set.
func (r Rate) IsZero() bool { return r == Rate{} }

// String returns the rate as a config writes it.
func (r Rate) String() string {
	unit := map[time.Duration]string{time.Second: "s", time.Minute: "min", time.Hour: "h", 24 * time.Hour: "d"}[r.Per]
	return strconv.FormatFloat(r.Count, 'f', -1, 64) + "/" + unit
}

// UnmarshalText reads a rate with its unit.
func (r *Rate) UnmarshalText(b []byte) error {
	count, unit, _ := strings.Cut(string(b), "/")
	per := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[strings.TrimSpace(unit)]
	n, err := strconv.ParseFloat(strings.TrimSpace(count), 64)
	if err != nil || per == 0 || n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return Field("", fmt.Sprintf("`%s` is no rate", b), "write a number above 0 per s, min, h or d, for example 20/s or 40/min")
	}
	*r = Rate{Count: n, Per: per}
	return nil
}

// Number is an exact decimal that a config writes in digits: 0.1, -40. It is
// never rounded to a binary fraction, so that 0.1 × 3 is 0.3.
type Number struct{ plant.Decimal }

// UnmarshalText reads a plain decimal number.
func (n *Number) UnmarshalText(b []byte) error {
	d, err := plant.ParseDecimal(string(b))
	if err != nil {
		return Field("", fmt.Sprintf("`%s` is no decimal number", b), "write digits and a point, for example 0.1 or -40")
	}
	n.Decimal = d
	return nil
}

// Secret is a password, key or token. A config writes it as "env:NAME" or
// "file:PATH", never in clear text; the decoder resolves it. It prints as
// "(secret)" everywhere.
type Secret struct {
	clear string
	// absent says that the config names a secret which is not there on this
	// computer, so that the rest is checked as if it were.
	absent bool
	// file is where it was read, empty for a variable.
	file string
}

// NewSecret returns a Secret for tests and for simulated systems.
func NewSecret(clear string) Secret { return Secret{clear: clear} }

// Reveal returns the clear text, for the one call that needs it.
func (s Secret) Reveal() string { return s.clear }

// Renewed returns the clear text as it is now: a file is read again, so that a
// secret can be renewed while the gateway runs. Where the file cannot be read, or
// is empty, it returns what it was at first, and why. It blocks on a small read.
func (s Secret) Renewed() (string, error) {
	if s.file == "" {
		return s.clear, nil
	}
	clear, err := readSecret(s.file)
	if err != nil {
		return s.clear, fmt.Errorf("the secret file %s cannot be read again, so the secret of the start is used: %w", s.file, err)
	}
	return clear, nil
}

// IsZero reports whether the secret is not set.
func (s Secret) IsZero() bool { return s.clear == "" && !s.absent }

// String returns "(secret)", or nothing if it is not set.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return "(secret)"
}

// GoString returns what String does, so that %#v leaks nothing.
func (s Secret) GoString() string { return s.String() }

// MarshalText returns what String does, so that no export leaks it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Path is the path of a file. A relative one is meant from the folder of the
// config file that names it; the decoder makes it so.
type Path string

// Row is one named entry of a Table.
type Row[T any] struct {
	Name  string
	Value T
	// At is where the entry stands, in the config or in the CSV file.
	At Position
}

// Table is an ordered set of named entries: tags, code tables. A config writes
// it as a mapping from name to entry, or as the path of a CSV file beside the
// config: the first row names the columns, the first column is the name, the
// others are T's fields by their YAML names. Names are unique.
type Table[T any] struct {
	Rows []Row[T]
	// File is the CSV file; empty for a mapping.
	File string
}

// Get returns the entry of that name.
func (t Table[T]) Get(name string) (T, bool) {
	for i := range t.Rows {
		if t.Rows[i].Name == name {
			return t.Rows[i].Value, true
		}
	}
	var none T
	return none, false
}
