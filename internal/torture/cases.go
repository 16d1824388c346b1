//go:build linux

package main

// cases are all classes of faults, in the order in which they run.
func cases() []testCase {
	disks := []means{isRoot, hasFUSE, hasLoop}
	loops := []means{isRoot, hasLoop}
	return []testCase{
		{name: "kill", what: "SIGKILL at random times under load", inShort: true, short: 60, long: 1000, run: killAtRandom},
		{name: "failpoints", what: "SIGKILL at each failpoint", inShort: true, short: 1, long: 24, run: killAtFailpoints},
		{name: "dialects", what: "SIGKILL around requests to Prodsmart and a Next Plus receiver", inShort: true, short: 2, long: 12, run: dialects},
		{name: "cut", what: "power cuts with lost, torn and reordered sectors", inShort: true, short: 20, long: 300, needs: disks, run: powerCuts},
		{name: "eio", what: "one failed commit, a restart, later a power cut", inShort: true, short: 5, long: 40, needs: disks, run: oneEIO},
		{name: "eio-for-good", what: "a disk that fails for good, exit code 70", inShort: true, short: 2, long: 20, needs: disks, run: goodEIO},
		{name: "full-self", what: "the disk is filled by the gateway, ext4 and tmpfs", inShort: true, short: 2, long: 20, needs: loops, run: fullByItself},
		{name: "full-foreign", what: "the disk is filled by others under load, ext4 and tmpfs", inShort: true, short: 2, long: 20, needs: loops, run: fullByOthers},
		{name: "full-start", what: "the disk is full at the start, ext4 and tmpfs", inShort: true, short: 2, long: 20, needs: loops, run: fullAtStart},
		{name: "evict", what: "SIGKILL while room is made, the evicted named", inShort: true, short: 6, long: 60, run: evictions},
		{name: "dead", what: "SIGKILL while dead letters are given up, dropped or sent again", inShort: true, short: 4, long: 40, run: deadLetters},
		{name: "repair", what: "SIGKILL between the steps of a repair", inShort: true, short: 3, long: 30, run: repairs},
		{name: "read-only", what: "the file system becomes read-only", inShort: true, short: 2, long: 20, needs: loops, run: readOnly},
		{name: "old-copy", what: "an old copy of the store is put back", inShort: true, short: 4, long: 40, run: oldCopy},
		{name: "clock", what: "the wall clock jumps by seconds to years", short: 8, long: 80, run: clockJumps},
		{name: "memory", what: "out of memory in a cgroup of 48 MiB and less", short: 6, long: 40, needs: []means{isRoot, hasCgroup}, run: outOfMemory},
		{name: "rot", what: "flipped bits, cut ends and zeros in every kind of file", inShort: true, short: 40, long: 400, run: bitRot},
		{name: "control-sync", what: "control: SyncWrites off, a power cut", inShort: true, short: 3, long: 3, needs: disks, control: true, run: controlSync},
		{name: "control-failstop", what: "control: it goes on after a failed commit", inShort: true, short: 8, long: 8, needs: disks, control: true, run: controlFailstop},
		{name: "control-mark", what: "control: high-water mark off, a cut log", inShort: true, short: 3, long: 3, control: true, run: controlMark},
		{name: "control-early", what: "control: acknowledged before the commit", inShort: true, short: 3, long: 3, control: true, run: controlEarly},
		{name: "control-dedupe", what: "control: a receiver that does not know duplicates", inShort: true, short: 3, long: 3, control: true, run: controlDuplicates},
	}
}

// faultCases are the faults of the network and of the receivers, T18 to T27 of the
// design, in the order in which they run. Those with inShort are quick enough for
// each change; together says that nothing in them depends on the time.
func faultCases() []testCase {
	own := []means{isRoot, hasNamespace, hasFilter}
	shaped := append([]means{hasShaper}, own...)
	return []testCase{
		{name: "partition", what: "T18: the network is away, 1 s to 40 s", inShort: true, together: true, short: 3, long: 50, needs: own, run: partitions},
		{name: "jitter", what: "T24: answers late, byte by byte, cut", inShort: true, together: true, short: 1, long: 10, run: jitter},
		{name: "answers", what: "T26: 24 answers of a receiver", inShort: true, together: true, short: 1, long: 10, run: answers},
		{name: "disorder", what: "T27: acknowledgements twice, reversed, wrong, unknown; lost sessions", inShort: true, together: true, short: 1, long: 10, run: disorder},
		{name: "half-open", what: "T19: the peer is gone without a word", short: 2, long: 10, needs: own, run: halfOpen},
		{name: "one-way", what: "T20: events arrive, acknowledgements do not", short: 2, long: 10, needs: own, run: oneWay},
		{name: "resets", what: "T21: resets, an end after each CONNACK, a name nobody knows", short: 2, long: 10, needs: own, run: resets},
		{name: "loss", what: "T22: 1, 5, 20, 50 % of the packets are lost", short: 4, long: 4, needs: own, run: losses},
		{name: "narrow", what: "T23: a backlog over 64 kbit/s", short: 1, long: 2, needs: shaped, run: narrowed},
		{name: "slow", what: "T25: a receiver that reads slowly, or not at all", short: 3, long: 6, run: slowConsumer},
	}
}
