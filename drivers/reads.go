package drivers

import "strings"

// Terms words what decides about the value of a tag for Plan.Reads: its address,
// then each name with what it is. A name without a value is left out.
func Terms(address string, pairs ...string) string {
	var b strings.Builder
	b.WriteString(address)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			b.WriteString(", " + pairs[i] + " " + pairs[i+1])
		}
	}
	return b.String()
}
