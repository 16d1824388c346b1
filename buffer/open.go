package buffer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// storeFolder is where Badger lives below Path. Beside it there is room for
// what must not live in Badger.
const storeFolder = "store"

// The format of the store as a whole, in the format record.
const (
	formatMajor = 1
	formatMinor = 1
)

// origin is the names that an epoch's events were recorded under.
type origin struct{ gateway, source string }

// Open opens the store, makes a new epoch durable, and starts the two
// goroutines that write and keep house. It repairs nothing but the empty log
// file that a kill may leave; what it finds damaged it counts. It blocks on the
// disk, and while the disk is too full to open the store safely it waits for
// space: a full disk is a state, not a fault. ctx ends that wait and the reading
// of the index.
func Open(ctx context.Context, o Options, log *zap.Logger) (_ *Buffer, err error) {
	o = o.withSeams()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("buffer: open: %w", err)
	}
	if fault.Enabled("quota.tiny") {
		o.Quota = 2 << 20 // so that the rig need not wait until a real one is full
	}
	// Before the first file is read: whoever is refused must have changed nothing.
	locks := &locks{}
	defer func() {
		if err != nil {
			err = errors.Join(err, locks.release())
		}
	}()
	g, err := o.prepare(ctx, locks, log)
	if err != nil {
		return nil, err
	}
	fault.Pass("open.beforeStore")
	// Badger takes this one itself. The folder around it stays locked.
	if err := locks.releaseStore(); err != nil {
		return nil, fmt.Errorf("buffer: open %s: %w", g.folder, err)
	}
	b, err := newBuffer(o, g.folder, locks, log)
	if err != nil {
		return nil, err
	}
	if err := b.recover(ctx, &g); err != nil {
		damaged := errors.Is(err, errDamaged)
		err = errors.Join(err, b.db.Close())
		if damaged {
			err = errors.Join(err, g.left.putBack(g.folder))
			err = o.withFiles(ctx, err)
		}
		return nil, err
	}
	g.left.release(b.whole, log)
	b.copyRegistry()
	fault.Pass("open.afterEpoch")
	b.warnings = mountWarnings(g.folder)
	for _, w := range b.warnings {
		log.Warn("the disk of the store may cost events", zap.String("why", w))
	}
	b.space.ballast = o.ballastSize()
	b.measure()
	go b.commitLoop()
	go b.markLoop()
	go b.keepLoop()
	return b, nil
}

// groundwork is what the files of the store say before it is opened.
type groundwork struct {
	folder string
	found  foundMark
	torn   []tornLog
	left   leftovers
}

// prepare reads the files themselves, and mends what must be right before Badger
// takes them.
func (o *Options) prepare(ctx context.Context, locks *locks, log *zap.Logger) (g groundwork, err error) {
	if g.folder, err = o.awaitFolder(ctx, locks, log); err != nil {
		return g, err
	}
	if g.found, err = readMark(o.Path); err != nil {
		return g, err
	}
	if err := o.fitKey(g.folder, log); err != nil {
		return g, err
	}
	if err := takeBack(o.Path, g.folder, log); err != nil {
		return g, err
	}
	tables, err := checkTables(g.folder, len(o.Key) > 0)
	if err != nil {
		return g, err
	}
	if err := o.afterCrash(ctx, log); err != nil {
		return g, err
	}
	if g.torn, err = o.readLogs(g.folder, log); err != nil {
		return g, err
	}
	if err := writeThrough(g.folder); err != nil {
		return g, err
	}
	g.left = keepLeftovers(o.Path, g.folder, tables, log)
	return g, nil
}

// newBuffer opens Badger in folder and makes a Buffer of it that knows nothing yet.
func newBuffer(o Options, folder string, locks *locks, log *zap.Logger) (*Buffer, error) {
	background := &background{}
	db, err := badger.Open(o.badger(folder, log).WithLogger(badgerLog{log.Sugar(), background}))
	if err != nil {
		if wrong := o.Key.explain(folder, err); wrong != nil {
			return nil, wrong
		}
		return nil, explainOpen(folder, err)
	}
	fault.Pass("open.afterStore")
	home, err := newHome(folder)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b := &Buffer{
		opts: o, log: log, db: db, home: home, locks: locks,
		origins: map[plant.Epoch]origin{}, streams: map[plant.MachineID]*stream{}, faulted: make(chan struct{}),
	}
	b.recent.limit = recentBytes
	b.aside.path = filepath.Join(o.Path, quarantineFolder)
	b.committer.init(db)
	b.keeper.init()
	b.marker.init()
	background.watch(b.backgroundFailed)
	b.measure()
	return b, nil
}

// memTableSize is Badger's log and table in memory; a transaction takes 15 % of
// it at most.
const memTableSize = 4 << 20

// badger is what the store is opened with.
func (o *Options) badger(folder string, log *zap.Logger) badger.Options {
	with := o.Key.encrypted(badgerOptions(folder, log))
	if o.unmerged {
		// The number of tables that nobody merges stops no write.
		with = with.WithNumCompactors(0).WithNumLevelZeroTablesStall(1000)
	}
	return with
}

// badgerOptions are measured: values stay in the LSM tree, since Badger's
// value-log GC brings deleted keys back; small tables keep memory small; every
// commit is synced.
func badgerOptions(folder string, log *zap.Logger) badger.Options {
	o := badger.DefaultOptions(folder).WithLogger(badgerLog{log: log.Sugar()}).
		WithSyncWrites(!fault.Enabled("sync.off")).WithDetectConflicts(false).WithMetricsEnabled(false).
		WithMemTableSize(memTableSize).WithNumMemtables(1).WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(4).
		WithBaseTableSize(2 << 20).WithBaseLevelSize(8 << 20).
		WithValueLogFileSize(4 << 20).WithValueThreshold(512 << 10).
		WithNumCompactors(2).WithNumGoroutines(1).
		WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0)
	// A compaction builds up to seven tables at once, each in memory of twice its
	// size. Tables that grow with the level would let a long backlog cost memory.
	o.TableSizeMultiplier = 1
	return o
}

// recover reads the index: one record a machine and one a cursor, never the
// events.
func (b *Buffer) recover(ctx context.Context, g *groundwork) error {
	var last uint64
	err := b.view(func(txn *badger.Txn) error {
		err := b.readFormat(txn)
		if err != nil {
			return err
		}
		if last, err = b.readEpochs(ctx, txn); err != nil {
			return err
		}
		if err := b.readStreams(ctx, txn); err != nil {
			return err
		}
		return b.readQueues(ctx, txn)
	})
	if errors.Is(err, errForeign) && g.found.known {
		return fmt.Errorf("buffer: read the index in %s: %w: its first records are gone, while the high-water mark beside it is there: its %s or a table was damaged: %s",
			b.opts.Path, errDamaged, badger.ManifestFilename, remedyRepair)
	}
	if errors.Is(err, errDamaged) {
		return fmt.Errorf("buffer: read the index in %s: %w: %s", damagedTable(b.home.folder, err), oneLine{err}, remedyRepair)
	}
	if err != nil {
		return fmt.Errorf("buffer: read the index in %s: %w", b.opts.Path, err)
	}
	opening := b.opening
	j, err := b.compareMark(&g.found)
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w", b.opts.Path, err)
	}
	recounted, err := b.verifyAll(ctx, g.torn, &j)
	if err != nil {
		return err
	}
	b.whole = len(recounted) == 0 && len(g.torn) == 0
	sums, known, err := b.readSide(ctx, opening)
	if err != nil {
		return fmt.Errorf("buffer: read the index: %w", err)
	}
	if b.whole && len(g.left.kept) > 0 {
		if b.whole, err = b.eachIsThere(ctx); err == nil && b.whole && known {
			b.whole, err = b.sideIsThere(ctx, &sums)
		}
		if err != nil {
			return err
		}
	}
	if !b.whole && g.left.all {
		return g.left.forgotten(b.home.folder)
	}
	if known && sums.lostDead > 0 {
		b.damagedValue("", fmt.Sprintf("%d events that uplinks have refused", sums.lostDead), fmt.Errorf("%w: whose they were is not known any more", errUnread))
	}
	summed := known && b.whole
	if summed {
		b.setSide(sums)
	} else {
		if err := b.walkSide(ctx, &sums); err != nil {
			return err
		}
	}
	if err := b.beginEpoch(ctx, last, recounted, summed); err != nil {
		return err
	}
	return b.writeMark(false)
}

// verifyAll verifies each stream that the store, its torn logs or the mark know.
// It returns those that have to be made durable anew.
func (b *Buffer) verifyAll(ctx context.Context, torn []tornLog, j *judgement) (recounted []*stream, err error) {
	ever := b.noteTorn(torn)
	for m, sequence := range j.ever {
		ever[m] = max(ever[m], sequence)
	}
	b.mu.Lock()
	for _, m := range j.machines() {
		b.streamLocked(m)
	}
	b.mu.Unlock()
	for _, s := range b.order {
		again, err := b.verify(ctx, s, ever[s.machine], j)
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		if j.unknown && s.head.sequence > 0 {
			s.addUntold(gap{cause: plant.GapMarkLost, reason: "the high-water mark beside the store is gone: nobody knows whether the newest records are missing"})
			again = true
		}
		if again {
			recounted = append(recounted, s)
		}
		b.eventBytes += s.live()
		b.mu.Unlock()
	}
	return recounted, nil
}
