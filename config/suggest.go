package config

import (
	"fmt"
	"strings"
)

// Nearest returns the candidate that name was most likely meant to be; ok is
// false if none is near enough to be worth a guess.
func Nearest(name string, candidates []string) (nearest string, ok bool) {
	best := max(1, len([]rune(name))/3) + 1
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < best {
			nearest, best, ok = c, d, true
		}
	}
	return nearest, ok
}

// Unknown returns the FieldError of a name that does not exist: what says what
// it should name ("tag", "driver"), known are the names there are. The remedy
// is the nearest of them, or the first few.
func Unknown(path, what, name string, known []string) error {
	return Field(path, fmt.Sprintf("unknown %s `%s`", what, shorten(name)), suggest(name, known))
}

func suggest(name string, known []string) string {
	if nearest, ok := Nearest(name, known); ok {
		return "did you mean `" + nearest + "`?"
	}
	const most = 12
	if len(known) == 0 {
		return "there is none to choose from"
	}
	shown, more := known, ""
	if len(known) > most {
		shown, more = known[:most], ", …"
	}
	return "choose from `" + strings.Join(shown, "`, `") + "`" + more
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that make a into b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			replaced := last[j-1]
			if x[i-1] != y[j-1] {
				replaced++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replaced)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
