package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/internal/recording"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/status"
	"github.com/sluice-edge/sluice/uplink"
)

// The rooms do not know each other; that they fit is asserted here.
var (
	_ derive.Log        = (*buffer.Buffer)(nil)
	_ uplink.Reconciler = (*buffer.Queue)(nil)
	_ uplink.Queue      = (*buffer.Queue)(nil)
	_ uplink.Shelf      = (*buffer.Queue)(nil)
	_ uplink.Turns      = (*buffer.Queue)(nil)
	_ ledger.Store      = (*buffer.Queue)(nil)
	_ drivers.Sink      = (*derive.Worker)(nil)
	_ derive.Writer     = (*gateway)(nil)
	_ status.Source     = (*gateway)(nil)
)

// Deadlines of the stages on the way out; together they stay under the 10 s
// that SIGTERM allows.
const (
	stopDrivers  = 1500 * time.Millisecond
	stopMachines = 2 * time.Second
	stopUplinks  = 4 * time.Second // an uplink may take 3 s (its stop_timeout)
	stopLedger   = 300 * time.Millisecond
	stopLog      = 300 * time.Millisecond
	stopHTTP     = 300 * time.Millisecond
	stopBuffer   = 2 * time.Second
)

// gateway is a whole gateway built from a checked plan. run starts it; the
// other methods may be called from any goroutine once run has built its parts.
type gateway struct {
	plan    *plan
	log     *zap.Logger
	started time.Time
	// scratch says that the store goes when the process ends, so that nobody need
	// hear what its disk does in a power cut.
	scratch bool
	// grace is added to each deadline on the way out where no supervisor waits with
	// a SIGKILL: in the demo and in tests, however slow the disk is.
	grace time.Duration
	// clock is asked by every machine, and for the page.
	clock derive.Clock

	buffer     *buffer.Buffer
	status     *status.Server
	url        atomic.Pointer[string]
	workers    []*derive.Worker
	pollers    []*drivers.Poller
	byDevice   map[plant.DeviceID]*drivers.Poller
	forwarders []*uplink.Forwarder
	senders    []uplink.Sender
	// codes and expiries are those of the uplinks, for the page.
	codes    []*uplink.Codes
	expiries []*uplink.Expiries
	// journal is the integration log; journals has the view of each uplink on it.
	journal  *journal.Log
	journals []*uplink.Journal
	// shifts keeps with which counts shifts began.
	shifts *shiftBook
	tests  sync.Mutex
	admin  *administration
	audit  *audit.Log
	// writes tells the audit log what is written to PLCs.
	writes     *writeAudit
	recordings *recording.Set
	trust      *trustStores
	// ledger is nil where no machine moves material.
	ledger *ledger.Keeper
	// built is set once the parts above are there, ready once all have started.
	built, ready atomic.Bool
	// waiting is what the buffer said last while it waited for disk space.
	waiting atomic.Pointer[buffer.Stats]
}

func newGateway(p *plan, log *zap.Logger) *gateway {
	g := &gateway{plan: p, log: log, audit: audit.New(string(p.Config.Buffer.Path), audit.Options{}), started: time.Now(), clock: derive.NewSystemClock(), byDevice: map[plant.DeviceID]*drivers.Poller{}}
	g.trust = newTrustStores(p)
	g.journal = logOf(p, g.roomForLog, log)
	g.writes = newWriteAudit(p, g.audit.Append, log.Named("audit"))
	g.shifts = newShiftBook(string(p.Config.Buffer.Path), p.Machines, shiftAround(p.Config.Site.Location()), log.Named("shifts"))
	return g
}

// logOf is the integration log of a plan; who has the store open may write it.
func logOf(p *plan, room func() bool, log *zap.Logger) *journal.Log {
	return journal.New(string(p.Config.Buffer.Path), journal.Options{
		Bytes: int64(p.Config.Log.Size), Keep: p.Config.Log.Keep.Std(), Room: room,
	}, log.Named("log"))
}

// roomForLog reports whether the disk has room for more than events: the log
// stops where the store does.
func (g *gateway) roomForLog() bool {
	s := g.buffer.Stats()
	return s.FreeBytes > s.Reserve
}

// deadDropped writes into the audit log that refused events were given up.
func (g *gateway) deadDropped(d buffer.DeadDropped) {
	_, err := g.audit.Append(audit.Entry{
		By: "gateway", Action: "dead.bound", Object: d.Uplink + " " + string(d.Machine), Outcome: audit.Done,
		Detail: fmt.Sprintf("%s given up, %d to %d: more are kept than allowed", count(int(d.Count), "dead letter"), uint64(d.First), uint64(d.Last)),
	})
	if err != nil {
		g.log.Error("the audit log has no word of dead letters that were given up", zap.String("uplink", d.Uplink), zap.String("machine", string(d.Machine)),
			zap.Uint64("first", uint64(d.First)), zap.Uint64("last", uint64(d.Last)), zap.Uint64("count", d.Count), zap.Error(err))
	}
}

// modes returns what each machine is used for.
func modes(machines []*derive.Model) map[plant.MachineID]plant.Mode {
	all := make(map[plant.MachineID]plant.Mode, len(machines))
	for _, m := range machines {
		all[m.Machine()] = m.Mode()
	}
	return all
}

// run starts every stage, waits for ctx, a signal of the buffer or a stage that
// failed, and stops in reverse. A latched buffer ends it at once, with nothing
// closed: the outcome of the failed commit is unknown, and the restart finds it
// out from disk.
func (g *gateway) run(ctx context.Context) error {
	settings, err := storeOptions(g.plan)
	if err != nil {
		return err
	}
	settings.OnDeadDropped = g.deadDropped
	settings.Waiting = g.showWaiting
	s := newStages(g.log)
	s.grace = g.grace
	// The page comes first: a buffer that waits for disk space must be seen.
	if err := g.serve(s); err != nil {
		return err
	}
	if err := buffer.NoteCrashes(settings.Path); err != nil {
		g.log.Warn("a crash would leave no words beside the store", zap.Error(err))
	}
	store, err := buffer.Open(ctx, settings, g.log.Named("buffer"))
	if err != nil {
		s.stop()
		if ctx.Err() != nil {
			return nil // asked to stop while it waited for disk space
		}
		return err
	}
	g.buffer = store
	if err = g.build(); err != nil {
		s.stop()
		return errors.Join(err, store.Close())
	}
	g.start(s)
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	case <-store.Fault():
	}
	if fault := store.Err(); fault != nil {
		return &exitError{code: exitStorage, cause: fmt.Errorf("the buffer has failed and nothing more is acknowledged; restart to find out from disk what was kept: %w", fault)}
	}
	return errors.Join(err, g.stop(s))
}

// extendStart is how long systemd is asked to wait on while the buffer waits
// for disk space, each second anew: a restart would change nothing.
const extendStart = 30 * time.Second

// showWaiting takes what the buffer says while it waits for disk space.
func (g *gateway) showWaiting(s buffer.Stats) {
	g.waiting.Store(&s)
	g.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=%s", extendStart.Microseconds(), s.FullReason))
}

// serve opens the page.
func (g *gateway) serve(s *stages) error {
	g.status = status.New(status.Options{Listen: g.plan.Config.HTTP.Listen, Location: g.plan.Config.Site.Location(), Desk: (*desk)(g), Stops: (*desk)(g)}, g, g.log.Named("http"))
	addr, err := g.status.Listen()
	if err != nil {
		return err
	}
	url := "http://" + addr + "/"
	g.url.Store(&url)
	s.start("http", stopHTTP, g.status.Run)
	return nil
}

// build makes every part; nothing does I/O yet but the queues, which read where
// they stand.
func (g *gateway) build() error {
	if err := g.shifts.load(context.Background(), g.buffer.Newest); err != nil {
		return err
	}
	for _, m := range g.plan.Machines {
		g.workers = append(g.workers, derive.NewWorker(m, g.seamLog(&bookedLog{g.buffer, g.shifts}), g.seamWriter(g), derive.WorkerOptions{Clock: g.clock}, g.log.Named("machine")))
	}
	lines := g.plan.openLines(g.log)
	for i, d := range g.plan.Devices {
		env := drivers.Env{
			Name: d.Name, Gateway: g.plan.Config.Site.Gateway, Log: g.log.With(zap.String("device", string(d.Name))),
			Certificates: g.trust.of(d.Plan), Records: g.plan.records(d.Name), Line: lines[d.Plan.Line],
			Notes: filepath.Join(string(g.plan.Config.Buffer.Path), notesFolder, string(d.Name)+".json"),
		}
		o := d.Plan.PollerOptions(d.Name)
		// Devices of one interval are asked one behind the other.
		o.Phase = o.Interval * time.Duration(2*i+1) / time.Duration(2*len(g.plan.Devices))
		o.MaxSkew = g.plan.maxSkew(d.Name)
		p := drivers.NewPoller(o, d.Plan.Open(env), g.sinksOf(d.Name), g.log)
		g.byDevice[d.Name] = p
		g.pollers = append(g.pollers, p)
	}
	for _, u := range g.plan.Uplinks {
		queue, err := g.buffer.QueueOf(u.Name, u.Plan.Carries, u.Plan.Options.Machines.Take, buffer.Start(u.Plan.Options.From))
		if err != nil {
			return fmt.Errorf("uplink %s: %w", u.Name, err)
		}
		site := g.plan.Config.Site
		notes := uplink.NewJournal(u.Name, g.journal.Add)
		codes, expiries := uplink.NewCodes(u.Plan.Codes, g.plan.downtimes(u.Name)), uplink.NewExpiries(u.Plan.Expires...)
		g.codes, g.expiries = append(g.codes, codes), append(g.expiries, expiries)
		var forwarder *uplink.Forwarder // the sender asks it, once it runs
		sender := u.Plan.Open(uplink.Env{
			Name: u.Name, Gateway: site.Gateway, Path: site.Path(), Journal: notes,
			Log: g.log.With(zap.String("uplink", u.Name)), Memory: queue.Memory,
			States:  g.statesFor(u.Plan.Options.Machines),
			Stock:   g.stockOf,
			Shelved: func(m plant.MachineID, key string) bool { return forwarder.Shelved(m, key) },
			Codes:   codes, Expiries: expiries, Shared: g.plan.shared(&u),
		})
		forwarder = uplink.NewForwarder(u.Name, queue, sender, u.Plan.Options, g.log)
		g.senders = append(g.senders, sender)
		forwarder.Journal(notes)
		g.forwarders, g.journals = append(g.forwarders, forwarder), append(g.journals, notes)
	}
	g.recordings = newRecordings(g)
	var err error
	if g.ledger, err = openLedger(g.plan, g.buffer, g.log); err != nil {
		return err
	}
	g.admin = newAdministration(g)
	g.built.Store(true)
	return nil
}

// sinksOf returns the machines that use a tag of the device.
func (g *gateway) sinksOf(device plant.DeviceID) (sinks []drivers.Sink) {
	for i, m := range g.plan.Machines {
		if slices.ContainsFunc(m.Tags(), func(r plant.TagRef) bool { return r.Device == device }) {
			sinks = append(sinks, g.seamSink(g.workers[i], m.Records()))
		}
	}
	return sinks
}

// start starts the stages behind the page: uplinks, machines, drivers.
func (g *gateway) start(s *stages) {
	// Before the uplinks, and so behind them on the way out: their last words count.
	s.start("log", stopLog, g.journal.Run, g.shifts.Run, g.writes.Run)
	s.start("uplinks", stopUplinks, runs(g.forwarders)...)
	g.admin.start(s)
	g.startRecordings(s)
	if g.ledger != nil {
		s.start("ledger", stopLedger, g.ledger.Run)
	}
	s.start("machines", stopMachines, runs(g.workers)...)
	s.start("drivers", stopDrivers, runs(g.pollers)...)
	s.start("watchdog", stopHTTP, g.feedWatchdog, g.holdMemory)
	g.ready.Store(true)
	fault.Pass("start.ready")
	g.log.Info("sluice is ready", zap.String("page", g.statusURL()),
		zap.Int("devices", len(g.pollers)), zap.Int("machines", len(g.workers)), zap.Int("uplinks", len(g.forwarders)))
	g.notify(daemon.SdNotifyReady + "\nSTATUS=")
}

// stop stops the stages in reverse, then the senders and the buffer.
func (g *gateway) stop(s *stages) error {
	g.ready.Store(false)
	g.notify(daemon.SdNotifyStopping)
	late := s.stop()
	for _, sender := range g.senders {
		if err := sender.Close(); err != nil {
			g.log.Warn("an uplink did not close cleanly", zap.Error(err))
		}
	}
	if len(late) > 0 {
		// What is left behind may still use the store; the process ends now, and
		// what it had committed is on disk.
		return fmt.Errorf("stop: %s did not end in time", strings.Join(late, ", "))
	}
	fault.Pass("stop.beforeBuffer")
	closed := make(chan error, 1)
	go func() { closed <- g.buffer.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(stopBuffer + g.grace + s.spare):
		return errors.New("stop: the buffer did not close in time; the next start finds on disk what was committed")
	}
}

// runs collects the Run methods of the parts of one stage.
func runs[T interface{ Run(context.Context) error }](parts []T) []func(context.Context) error {
	out := make([]func(context.Context) error, len(parts))
	for i, p := range parts {
		out[i] = p.Run
	}
	return out
}

// Write routes an acknowledgement to the device's driver.
func (g *gateway) Write(ctx context.Context, w plant.Write) error {
	p, ok := g.byDevice[w.Device]
	if !ok {
		return fmt.Errorf("gateway: write %s/%s: the config has no such device", w.Device, w.Tag)
	}
	err := p.Write(ctx, w)
	g.writes.note(w, err)
	return err
}

// Snapshot implements status.Source.
func (g *gateway) Snapshot() status.Snapshot {
	snap := status.Snapshot{
		At: time.Now(), Gateway: g.plan.Config.Site.Gateway, Version: version,
		Started: g.started, Ready: g.ready.Load(), ClockUncertain: !g.clock.Synchronised(), Feeds: map[plant.MachineID][]plant.DeviceID{},
		Kinds: map[plant.MachineID][]plant.EventKind{},
	}
	if !g.built.Load() {
		snap.Waiting = []string{"the gateway is starting"}
		if waiting := g.waiting.Load(); waiting != nil {
			snap.Waiting, snap.Buffer = []string{waiting.FullReason}, *waiting
		}
		return snap
	}
	if !snap.Ready {
		snap.Waiting = []string{"not every stage has started"}
	}
	snap.Buffer = g.buffer.Stats()
	if g.scratch {
		snap.Buffer.Warnings = nil
	}
	snap.Notices = slices.Concat(g.admin.notices(), g.recordingNotices(), g.journalNotices())
	for _, p := range g.pollers {
		snap.Devices = append(snap.Devices, p.Stats())
	}
	for i, w := range g.workers {
		snap.Machines = append(snap.Machines, w.Stats())
		m := g.plan.Machines[i]
		snap.Kinds[m.Machine()] = m.Kinds()
		for _, ref := range m.Tags() {
			if !slices.Contains(snap.Feeds[m.Machine()], ref.Device) {
				snap.Feeds[m.Machine()] = append(snap.Feeds[m.Machine()], ref.Device)
			}
		}
	}
	for i, f := range g.forwarders {
		s := f.Stats()
		s.Endpoint = g.plan.Uplinks[i].Plan.Endpoint
		s.Expires = g.expiries[i].List()
		s.Notices = append(s.Notices, g.expiries[i].Notices()...)
		s.Unmapped, s.UnmappedMore = g.codes[i].Unmapped()
		snap.Uplinks = append(snap.Uplinks, s)
	}
	return snap
}

// statusURL returns the page's address once run has opened it.
func (g *gateway) statusURL() string {
	if url := g.url.Load(); url != nil {
		return *url
	}
	return ""
}

// backlog returns how many events some uplink has not settled yet.
func (g *gateway) backlog() (n uint64) {
	for _, q := range g.buffer.Stats().Queues {
		n += q.Backlog
	}
	return n
}

// notify tells systemd, where there is one.
func (g *gateway) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		g.log.Warn("systemd was not told", zap.String("state", state), zap.Error(err))
	}
}

// feedWatchdog tells systemd that the gateway works, for as long as its buffer
// does and the poller of every polled device moves, be it from one failed
// attempt to the next: a device or a broker that is away is no reason to
// restart.
func (g *gateway) feedWatchdog(ctx context.Context) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return err
	}
	ticker := time.NewTicker(interval / 3)
	defer ticker.Stop()
	moves := pulse{patience: pollerPatience}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			if moves.beats(now, g.polls()) && g.buffer.Err() == nil {
				g.notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}

// polls returns, for each polled device, how often it was asked.
func (g *gateway) polls() (counts []uint64) {
	for i, p := range g.pollers {
		if g.plan.Devices[i].Plan.Interval > 0 {
			s := p.Stats()
			counts = append(counts, s.Reads+s.Errors)
		}
	}
	return counts
}

// pollerPatience is how long a poller may rest: it waits 30 s at most between
// two attempts, and an attempt has its own time-out.
const pollerPatience = 3 * time.Minute

// pulse notices counters that have ceased to move.
type pulse struct {
	patience time.Duration

	last  []uint64
	moved []time.Time
}

// beats takes the counters as they are now and reports whether each has moved
// within patience.
func (p *pulse) beats(now time.Time, counts []uint64) bool {
	if p.last == nil {
		p.last, p.moved = make([]uint64, len(counts)), slices.Repeat([]time.Time{now}, len(counts))
	}
	alive := true
	for i, n := range counts {
		if n != p.last[i] {
			p.last[i], p.moved[i] = n, now
		}
		alive = alive && now.Sub(p.moved[i]) < p.patience
	}
	return alive
}
