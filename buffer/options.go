package buffer

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Bounds and defaults of Options.
const (
	// MinReserve is what Badger needs to drain a backlog on a disk that is
	// otherwise full: tombstones, new tables and a new log, with a margin.
	MinReserve = 32 << 20
	// DefaultReserve is the free space under which no event is accepted.
	DefaultReserve = 64 << 20
	// MinQuota is the smallest quota that leaves room for states and cursors.
	MinQuota = 16 << 20
	// DefaultBallast is the size of the file that a start may give up.
	DefaultBallast = 32 << 20
	// MaxBallast bounds it: a larger one is wasted disk.
	MaxBallast = 1 << 30
	// DefaultQuota bounds the store where the config names no quota.
	DefaultQuota = 2 << 30
	// DefaultKeep is how long events are kept after every uplink has them.
	DefaultKeep = 7 * 24 * time.Hour
	// DefaultDeadLetters and DefaultDeadShare bound the refused events.
	DefaultDeadLetters = 10_000
	DefaultDeadShare   = 10
	// MinDeadLetters is the smallest number: more than one transaction adds.
	MinDeadLetters = 100
	// MaxDeadShare leaves most of the quota to the events.
	MaxDeadShare = 50
	// DefaultLinger is the longest that a commit waits for other machines.
	DefaultLinger = 2 * time.Millisecond
	// MaxLinger bounds Linger.
	MaxLinger = 20 * time.Millisecond
)

// Options says where and how the store is kept. Make one with DefaultOptions.
type Options struct {
	// Path is the folder of the store; it is made if it does not exist.
	Path string
	// Gateway is the gateway's name in event ids. It may change between two
	// starts: recorded events keep the name that they were recorded under.
	Gateway string
	// Source is the ISA-95 path of the machines, "/enterprise/site/area"; it may
	// change between two starts as Gateway may.
	Source string
	// Quota bounds the bytes of all that is kept, before Badger's overhead; 0
	// means no bound.
	Quota int64
	// Keep is how long an event is kept after every uplink has settled it. Over
	// the quota it is dropped earlier.
	Keep time.Duration
	// Reserve is the free space of the file system under which new events are
	// refused.
	Reserve int64
	// Modes are the modes of the machines, for the gap events that the store makes
	// itself; a machine that is not named is in production.
	Modes map[plant.MachineID]plant.Mode
	// Ballast is the size of a file that is written out beside the store and
	// given up where the disk is full, so that there is room to open the store
	// and to deliver; 0 is none.
	Ballast int64
	// WhenFull says what becomes of new events when what is not delivered takes
	// all the room, EvictParameters that parameters go before that, also with Stop.
	WhenFull        WhenFull
	EvictParameters bool
	// DeadLetters is how many refused events are kept at most, of all uplinks
	// together, and DeadShare the share of the quota, in per cent, that they may
	// take: the oldest are given up, and gap events tell it. DeadLetters 0 is no
	// bound.
	DeadLetters, DeadShare int
	// OnDeadDropped is called after some were given up, with no two calls at once
	// and from goroutines that settle, which wait for it; nil is allowed.
	OnDeadDropped func(DeadDropped)
	// Waiting, if set, is called by Open about once a second while it waits for
	// disk space, with what there is to show: Full, its reason, free and reserve.
	Waiting func(Stats)
	// Key encrypts the store; empty for a plain one. It must be the one that the
	// store was made with, always.
	Key Key
	// Linger is the longest that a commit waits for other machines that were
	// committing just before. A lone commit never waits.
	Linger time.Duration

	now        func() time.Time
	freeSpace  func(path string) (int64, error)
	commit     func(*badger.Txn) error
	writeMark  func(path string, generation uint64, data []byte) error
	writable   func(folder string) error
	housework  time.Duration
	scrubEvery time.Duration
	// unmerged keeps Badger from merging tables: over a damaged block that is up to
	// chance, and may end the process.
	unmerged bool
}

// DefaultOptions returns the options for a store at path.
func DefaultOptions(path string) Options {
	return Options{
		Path: path, Quota: DefaultQuota, Keep: DefaultKeep, Reserve: DefaultReserve, Ballast: DefaultBallast, Linger: DefaultLinger,
		WhenFull: Stop, EvictParameters: true, DeadLetters: DefaultDeadLetters, DeadShare: DefaultDeadShare,
		now: time.Now, freeSpace: freeSpace, commit: (*badger.Txn).Commit, writeMark: writeMark, writable: openForWriting, housework: time.Second, scrubEvery: scrubEvery,
	}
}

// Validate returns every fault of o as a config.FieldError, joined.
func (o Options) Validate() error {
	var faults []error
	bad := func(path, problem, remedy string) { faults = append(faults, config.Field(path, problem, remedy)) }
	if o.Path == "" {
		bad("path", "no folder is given", "write the folder of the store, for example /var/lib/sluice")
	}
	if o.Gateway == "" || len(o.Gateway) > maxName || strings.ContainsAny(o.Gateway, "/\x00") {
		bad("gateway", strconv.Quote(o.Gateway)+" is no gateway name", "write 1 to "+strconv.Itoa(maxName)+" characters without a slash")
	}
	if !strings.HasPrefix(o.Source, "/") || strings.HasSuffix(o.Source, "/") || len(o.Source) > maxSource {
		bad("source", strconv.Quote(o.Source)+" is no path of a plant", "write it as /enterprise/site/area")
	}
	if o.Quota != 0 && o.Quota < MinQuota {
		bad("quota", config.Size(o.Quota).String()+" is too small", "give at least "+config.Size(MinQuota).String()+", or 0 for no bound")
	}
	if o.Keep < 0 {
		bad("keep", o.Keep.String()+" is negative", "write how long delivered events are kept, for example 7d")
	}
	if o.Reserve < MinReserve {
		bad("reserve", config.Size(o.Reserve).String()+" is too small", "give at least "+config.Size(MinReserve).String()+": draining a backlog needs disk space too")
	}
	if o.WhenFull != Stop && o.WhenFull != EvictOldest {
		bad("when_full", strconv.Quote(string(o.WhenFull))+" is no policy", "write "+string(Stop)+" or "+string(EvictOldest))
	}
	if o.DeadLetters != 0 && o.DeadLetters < MinDeadLetters {
		bad("dead_letters", strconv.Itoa(o.DeadLetters)+" is too small", "give at least "+strconv.Itoa(MinDeadLetters)+", or 0 for no bound")
	}
	if o.DeadLetters != 0 && (o.DeadShare < 1 || o.DeadShare > MaxDeadShare) {
		bad("dead_letters_share", strconv.Itoa(o.DeadShare)+" is out of range", "give 1 to "+strconv.Itoa(MaxDeadShare)+" per cent of the quota")
	}
	if o.Ballast < 0 || o.Ballast > MaxBallast {
		bad("ballast", config.Size(o.Ballast).String()+" is out of range", "give at most "+config.Size(MaxBallast).String()+", or 0 for none")
	}
	if !o.Key.valid() {
		bad("key", "a key of "+strconv.Itoa(len(o.Key))+" bytes", "give 16, 24 or 32 bytes")
	}
	if o.Linger < 0 || o.Linger > MaxLinger {
		bad("linger", o.Linger.String()+" is out of range", "give 0s to "+MaxLinger.String())
	}
	return errors.Join(faults...)
}

// withSeams fills what only tests replace.
func (o Options) withSeams() Options {
	d := DefaultOptions(o.Path)
	if o.now == nil {
		o.now = d.now
	}
	if o.freeSpace == nil {
		o.freeSpace = d.freeSpace
	}
	if o.commit == nil {
		o.commit = d.commit
	}
	if o.writeMark == nil {
		o.writeMark = d.writeMark
	}
	if o.writable == nil {
		o.writable = d.writable
	}
	if o.scrubEvery == 0 {
		o.scrubEvery = d.scrubEvery
	}
	if o.housework == 0 {
		o.housework = d.housework
	}
	return o
}
