//go:build linux

package main

// cases are all classes of faults, in the order in which they run.
func cases() []testCase {
	disks := []means{isRoot, hasFUSE, hasLoop}
	return []testCase{
		{name: "kill", what: "SIGKILL at random times under load", short: 60, long: 1000, run: killAtRandom},
		{name: "failpoints", what: "SIGKILL at each failpoint", short: 1, long: 24, run: killAtFailpoints},
		{name: "cut", what: "power cuts with lost, torn and reordered sectors", short: 20, long: 300, needs: disks, run: powerCuts},
		{name: "eio", what: "one failed commit, a restart, later a power cut", short: 5, long: 40, needs: disks, run: oneEIO},
		{name: "eio-for-good", what: "a disk that fails for good, exit code 70", short: 2, long: 20, needs: disks, run: goodEIO},
		{name: "rot", what: "flipped bits, cut ends and zeros in every kind of file", short: 40, long: 400, run: bitRot},
		{name: "control-sync", what: "control: SyncWrites off, a power cut", short: 3, long: 3, needs: disks, control: true, run: controlSync},
		{name: "control-failstop", what: "control: it goes on after a failed commit", short: 4, long: 4, needs: disks, control: true, run: controlFailstop},
		{name: "control-mark", what: "control: high-water mark off, a cut log", short: 3, long: 3, control: true, run: controlMark},
		{name: "control-early", what: "control: acknowledged before the commit", short: 3, long: 3, control: true, run: controlEarly},
		{name: "control-dedupe", what: "control: a receiver that does not know duplicates", short: 3, long: 3, control: true, run: controlDuplicates},
	}
}
