//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// Limits of the buffer in the cases. Delivered events go quickly, so that
// deleting is under fire too.
const (
	roomy = "quota: 512 MiB, keep: 1s, reserve: 32 MiB"
	// keeping never deletes: what is damaged must have been worth something.
	keeping = "quota: 512 MiB, keep: 1h, reserve: 32 MiB"
)

// bed makes the bed of a case.
func (t *trial) bed(limits string, o oracle.Options) (*bed, error) {
	dir := filepath.Join(t.dir, "bed")
	if err := os.RemoveAll(dir); err != nil { // of the try before
		return nil, err
	}
	b, err := newBed(dir, t.binary, limits, o)
	if err != nil {
		return nil, err
	}
	t.later(b.close)
	return b, nil
}

// upTo draws a time below d.
func (t *trial) upTo(d time.Duration) time.Duration { return time.Duration(t.rand.Int64N(int64(d))) }

// summarise prints what a bed has seen.
func (t *trial) summarise(b *bed) {
	s := b.judge.Summary()
	t.say("%d starts, %d events accepted, %d arrived, %d duplicates recognised, %d refused by the receiver, %d gap events for %d lost",
		b.starts, s.Accepted, s.Arrived, s.Duplicates, s.Refused, s.GapEvents, s.Lost)
}

// killAtRandom kills the gateway by SIGKILL at random times under load, one time
// in four with the receivers away.
func killAtRandom(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true})
	if err != nil {
		return err
	}
	for t.next() {
		if err := b.killOnce(t, t.done%4 == 3, t.rand.IntN(10) < 7); err != nil {
			return fmt.Errorf("kill %d: %w", t.done, err)
		}
	}
	t.summarise(b)
	if s := b.judge.Summary(); t.done >= 20 && (s.Accepted < 20*t.done || s.Duplicates == 0) {
		return fmt.Errorf("%d events accepted and %d duplicates in %d kills: too few to prove anything", s.Accepted, s.Duplicates, t.done)
	}
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

// killOnce starts the gateway, kills it after a random time, and lets what was
// accepted before arrive if drain is set.
func (b *bed) killOnce(t *trial, away, drain bool) error {
	if err := b.start(); err != nil {
		return err
	}
	b.load(100 * time.Millisecond)
	if drain {
		if err := b.accepting(1); err != nil {
			return err
		}
		if err := b.drained(); err != nil {
			return err
		}
	}
	if away {
		if err := b.sinks.shut(true); err != nil {
			return err
		}
	}
	pause(t.upTo(300 * time.Millisecond))
	if b.gateway.over() {
		return fmt.Errorf("the gateway ended by itself, %v:\n%s", b.gateway.cmd.ProcessState, b.gateway.tail())
	}
	b.gateway.kill()
	b.rest()
	if away {
		return b.sinks.shut(false)
	}
	return nil
}

// phase is when a failpoint is passed.
type phase uint8

const (
	working    phase = iota // under load, at any number of passes
	opening                 // once at each start
	ending                  // on the way out, after SIGTERM
	resting                 // once nothing is waiting any more
	asked                   // while somebody changes something by a command
	forgetting              // while an uplink is forgotten
)

// failpoint is a place to be killed at.
type failpoint struct {
	name string
	when phase
	// most bounds the pass that is drawn; 0: no bound.
	most int
}

// failpoints are all that there are in the source, which a test compares.
var failpoints = []failpoint{
	{"open.beforeStore", opening, 1},
	{"open.afterStore", opening, 1},
	{"open.afterEpoch", opening, 1},
	{"start.ready", opening, 1},
	{"poll.beforeOffer", working, 0},
	{"poll.afterOffer", working, 0},
	{"handshake.triggerSeen", working, 0},
	{"handshake.recordRead", working, 0},
	{"handshake.beforeCommit", working, 0},
	{"handshake.afterCommit", working, 0},
	{"ack.beforeWrite", working, 0},
	{"ack.afterWrite", working, 0},
	{"ack.afterRelease", working, 0},
	{"batch.beforeCommit", working, 0},
	{"batch.afterCommit", working, 0},
	{"batch.afterTap", working, 0},
	{"commit.before", working, 0},
	{"commit.after", working, 0},
	{"cursors.before", working, 0},
	{"settle.before", working, 0},
	{"settle.after", working, 0},
	{"settle.durable", working, 1},
	{"send.afterRead", working, 0},
	{"send.afterAnswer", working, 0},
	{"send.afterSettle", working, 0},
	{"mqtt.afterPublish", working, 0},
	{"mqtt.afterPuback", working, 0},
	{"rest.beforeRequest", working, 0},
	{"rest.afterResponse", working, 0},
	{"delete.before", working, 3},
	{"delete.after", working, 3},
	{"mark.before", working, 3},
	{"mark.after", working, 3},
	{"compact.before", resting, 2},
	{"compact.between", resting, 2},
	{"compact.after", resting, 2},
	{"audit.afterLine", asked, 4},
	{"audit.afterHead", asked, 4},
	{"forget.before", forgetting, 1},
	{"forget.after", forgetting, 1},
	{"stop.beforeStage", ending, 4},
	{"stop.beforeBuffer", ending, 1},
	{"close.beforeCursors", ending, 1},
	{"close.beforeStore", ending, 1},
	{"close.afterStore", ending, 1},
}

// otherNames are failpoints and switches that another case is about.
var otherNames = map[string]string{
	"commit.failed": "eio",
	"failstop.off":  "control-failstop",
	"sync.off":      "control-sync",
	"commit.early":  "control-early",
	"mark.off":      "control-mark",
	"clock.fd4":     "clock",
	"evict.before":  "evict",
	"evict.after":   "evict",
	"quota.tiny":    "evict",
	"tap.fd3":       "kill",
	"compact.eager": "failpoints",

	"prodsmart.beforeRequest": "dialects",
	"prodsmart.afterResponse": "dialects",
	"nextplus.beforeRequest":  "dialects",
	"nextplus.afterResponse":  "dialects",

	"dead.beforeBound":  "dead",
	"dead.afterBound":   "dead",
	"dead.beforeChange": "dead",
	"dead.afterChange":  "dead",

	"repair.salvaged": "repair",
	"repair.between":  "repair",
	"repair.after":    "repair",
}

// killAtFailpoints kills the gateway at each failpoint, at its first, its second
// or a later pass.
func killAtFailpoints(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true})
	if err != nil {
		return err
	}
	t.n *= len(failpoints)
	for t.next() {
		round, p := (t.done-1)/len(failpoints), failpoints[(t.done-1)%len(failpoints)]
		pass := 1 + (round+t.rand.IntN(2))%2
		if round%3 == 2 {
			pass = 3 + t.rand.IntN(20)
		}
		if p.most > 0 {
			pass = min(pass, p.most)
		}
		if err := b.killAt(p, pass); err != nil {
			return fmt.Errorf("%s=%d: %w", p.name, pass, err)
		}
	}
	t.summarise(b)
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

func (b *bed) killAt(p failpoint, pass int) error {
	plan := []string{fmt.Sprintf("%s=%d:kill", p.name, pass)}
	switch p.when {
	case forgetting:
		if err := b.abandonUplink(); err != nil {
			return err
		}
	case resting:
		plan = append(plan, "compact.eager=on")
	}
	if err := b.start(plan...); err != nil {
		return err
	}
	b.load(100 * time.Millisecond)
	defer b.rest()
	if p.when >= ending {
		// An acknowledgement to the mixer is audited, too, and may be passed first.
		if err := b.accepting(20); err != nil && !(p.when == asked && b.gateway.over() && b.gateway.killed()) {
			return err
		}
	}
	switch p.when {
	case ending:
		b.gateway.signal(syscall.SIGTERM)
	case resting:
		b.rest()
	case asked:
		b.askUntilOver("mode", "--config", b.config, oven, "maintenance")
	case forgetting:
		b.askUntilOver("uplink", "forget", "--config", b.config, "--reason", "torture", abandoned)
	}
	if !b.gateway.wait(waitReady) {
		return fmt.Errorf("the failpoint was not passed so often within %v\n%s", waitReady, b.gateway.tail())
	}
	if !b.gateway.killed() {
		return fmt.Errorf("the gateway ended by itself, %v:\n%s", b.gateway.cmd.ProcessState, b.gateway.tail())
	}
	return nil
}

// controlDuplicates lets the oracle count duplicates as a receiver would that
// does not know them.
func controlDuplicates(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{CountDuplicates: true})
	if err != nil {
		return err
	}
	for t.next() {
		if err := b.killAt(failpoint{name: "send.afterAnswer"}, 5); err != nil {
			return err
		}
		if err := b.start(); err != nil {
			return err
		}
		if err := b.settle(); err != nil {
			return err
		}
	}
	return nil
}

// controlEarly acknowledges and forwards before the commit.
func controlEarly(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true})
	if err != nil {
		return err
	}
	for t.next() {
		if err := b.start("commit.early=on"); err != nil {
			return err
		}
		b.load(0)
		if err := b.accepting(100); err != nil {
			return err
		}
		b.gateway.kill()
		if err := b.start(); err != nil {
			return err
		}
		if err := b.accepting(20); err != nil {
			return err
		}
		if wrong := b.judge.Judge(); len(wrong) > 0 {
			return &violationError{wrong: wrong}
		}
		b.gateway.kill()
	}
	return nil
}
