//go:build linux

package main

// cases are all classes of faults, in the order in which they run.
func cases() []testCase {
	return []testCase{
		{name: "kill", what: "SIGKILL at random times under load", short: 60, long: 1000, run: killAtRandom},
		{name: "failpoints", what: "SIGKILL at each failpoint", short: 1, long: 24, run: killAtFailpoints},
		{name: "control-early", what: "control: acknowledged before the commit", short: 3, long: 3, control: true, run: controlEarly},
		{name: "control-dedupe", what: "control: a receiver that does not know duplicates", short: 3, long: 3, control: true, run: controlDuplicates},
	}
}
