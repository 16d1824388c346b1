package main

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/status"
	"github.com/sluice-edge/sluice/uplink"
)

var _ admin.Uplink = (*uplink.Forwarder)(nil)

// stopAdmin is what the command line gets to take its last answer.
const stopAdmin = 700 * time.Millisecond

// auditEvery is how often the audit log is looked at while it is a problem.
const auditEvery = time.Minute

// chainEvery is how often its whole chain is followed: at the start, and every so
// many times.
const chainEvery = 60

// administration is what the command line talks to: the socket, the audit log
// and the jobs. None of it stops the gateway when it does not work.
type administration struct {
	log    *zap.Logger
	folder string
	audit  *audit.Log
	jobs   *admin.Jobs
	books  *ledger.Keeper
	server *admin.Server

	mu     sync.Mutex
	socket string
	since  time.Time
}

func newAdministration(g *gateway) *administration {
	folder := string(g.plan.Config.Buffer.Path)
	a := &administration{log: g.log.Named("admin"), folder: folder, audit: g.audit, books: g.ledger}
	var targets []admin.Target
	for i, f := range g.forwarders {
		u := g.plan.Uplinks[i]
		targets = append(targets, admin.Target{Name: u.Name, Carries: u.Plan.Carries, Machines: u.Plan.Options.Machines.Take, Uplink: f})
	}
	a.jobs = admin.NewJobs(g.buffer, a.audit, targets, a.log)
	a.server = admin.NewServer(admin.Options{
		Store: g.buffer, Audit: a.audit, Jobs: a.jobs, Recordings: g.recordings, Ledger: func() (*ledger.Keeper, error) { return g.ledger, nil }, Uplink: g.plan.uplinkInfo, Uplinks: g.plan.uplinkNames(), Rules: (*inbox)(g), Test: g.testUplink, Trust: g.trust.all, Note: g.journal.Add,
		Gateway: g.plan.Config.Site.Gateway, Version: version, Log: a.log,
	})
	return a
}

// start runs the parts as one stage.
func (a *administration) start(s *stages) {
	s.start("admin", stopAdmin, a.serve, a.jobs.Run, a.watch)
}

// serve answers the command line. A socket that cannot be opened is shown, and
// the gateway works without it.
func (a *administration) serve(ctx context.Context) error {
	l, err := admin.Listen(a.folder)
	if err == nil {
		err = admin.Serve(ctx, l, a.server.Handler())
	}
	if err != nil && ctx.Err() == nil {
		a.log.Error("the command line cannot reach this gateway", zap.Error(err))
		a.mu.Lock()
		a.socket, a.since = err.Error(), time.Now()
		a.mu.Unlock()
	}
	return nil
}

// watch opens the audit log, and looks again from time to time while it cannot
// be written.
func (a *administration) watch(ctx context.Context) error {
	ticker := time.NewTicker(auditEvery)
	defer ticker.Stop()
	failing := false
	for n := 0; ; n++ {
		err := a.audit.Check()
		if err == nil && n%chainEvery == 0 {
			if err := a.audit.CheckChain(); err != nil {
				a.log.Warn("the audit log cannot be read to its end", zap.Error(err))
			}
		}
		if err != nil && !failing {
			a.log.Error("the audit log cannot be written: changes by the command line are refused", zap.Error(err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return a.audit.Close()
		case <-ticker.C:
		}
	}
}

// notices returns what is wrong here.
func (a *administration) notices() (all []status.Problem) {
	if text, since := a.audit.Problem(); text != "" {
		all = append(all, status.Problem{
			Severity: status.Doubtful, What: "The audit log is not in order", Cause: text, Since: since,
			Do: "Changes by the command line are refused while it cannot be written. sluice audit verify names the first line that does not fit: keep a copy of the folder audit before anything else. Recording and delivery go on.",
		})
	}
	if a.books != nil {
		if text, since := a.books.Problem(); text != "" {
			all = append(all, status.Problem{
				Severity: status.Doubtful, What: "The books of material cannot be read and wait", Cause: text, Since: since,
				Do: "Events are recorded and delivered all the same. sluice ledger check --mend --reason \"...\" makes the rows again from the events that are kept, and names what it cannot. If that fails, a table of the store is damaged: sluice buffer check.",
			})
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.socket != "" {
		all = append(all, status.Problem{
			Severity: status.Doubtful, What: "The command line cannot reach this gateway", Cause: a.socket, Since: a.since,
			Do: "Recording and delivery go on. Mend the cause and restart the gateway when it suits.",
		})
	}
	return all
}
