package uplink

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Machines are patterns of the machines whose events an uplink gets, none means
// all: a machine's code, in which * stands for any text and ? for one character.
// Upper and lower case differ.
type Machines []string

// Validate returns the faults of m as config.FieldErrors, nil if there are none.
func (m Machines) Validate() error {
	var errs []error
	for i, pattern := range m {
		at := fmt.Sprintf("[%d]", i)
		switch {
		case strings.TrimSpace(pattern) == "":
			errs = append(errs, config.Field(at, "it is empty", "write a machine's code, or a pattern such as PRESS-*"))
		case slices.Contains(m[:i], pattern):
			errs = append(errs, config.Field(at, fmt.Sprintf("%q is named twice", pattern), "name it once"))
		}
	}
	return errors.Join(errs...)
}

// Take reports whether the events of that machine are for the uplink. What
// belongs to no machine (plant.GatewayStream) is for every uplink.
func (m Machines) Take(machine plant.MachineID) bool {
	return len(m) == 0 || machine == plant.GatewayStream ||
		slices.ContainsFunc(m, func(pattern string) bool { return matches([]rune(pattern), []rune(string(machine))) })
}

// Strangers returns the patterns that none of the machines fits.
func (m Machines) Strangers(machines []plant.MachineID) (strangers []int) {
	for i := range m {
		if !slices.ContainsFunc(machines, m[i:i+1].Take) {
			strangers = append(strangers, i)
		}
	}
	return strangers
}

// matches works a pattern off from the left. After a * that did not lead to the
// end one character more is taken by it, and only the last one needs to be tried
// again: what is before it fits already.
func matches(pattern, text []rune) bool {
	p, t, star, taken := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, taken = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			taken++
			p, t = star+1, taken
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
