package admin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/plant"
)

// bed is a store with a Server, and a client of it in memory.
type bed struct {
	*Client
	t      *testing.T
	folder string
	store  *buffer.Buffer
	audit  *audit.Log
	server *Server
	// repeats and machines are what the config says of the uplink "mes".
	repeats  bool
	machines func(plant.MachineID) bool
	uplink   *fakeUplink
	stop     func()
}

func openBed(t *testing.T, folder string, running bool) *bed {
	t.Helper()
	o := buffer.DefaultOptions(folder)
	o.Gateway, o.Source = "gw", "/e/s/a"
	store, err := buffer.Open(t.Context(), o, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, folder: folder, store: store, audit: audit.New(folder, audit.Options{}), repeats: true, uplink: &fakeUplink{t: t}}
	options := Options{
		Store: store, Audit: b.audit, Gateway: "gw", Version: "test", Log: zaptest.NewLogger(t),
		Uplink: func(name string) (UplinkInfo, bool) {
			return UplinkInfo{Deduplicates: b.repeats, Machines: b.machines}, name == "mes"
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	if running {
		all := func(plant.EventKind) bool { return true }
		options.Jobs = NewJobs(store, b.audit, []Target{{Name: "mes", Carries: all, Uplink: b.uplink}}, zaptest.NewLogger(t))
		go func() { ended <- options.Jobs.Run(ctx) }()
	} else {
		ended <- nil
	}
	b.server = NewServer(options)
	b.Client = Local(b.server.Handler(), "uid 7 (ann)")
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			if err := errors.Join(b.Close(), <-ended, store.Close(), b.audit.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(b.stop)
	return b
}

func (b *bed) commit(m plant.MachineID, at time.Time, n int) {
	b.t.Helper()
	for i := range n {
		e := plant.Event{Kind: plant.KindCounter, Version: 1, Time: at.Add(time.Duration(i) * time.Second), TimeSource: plant.GatewayTime, Data: fmt.Appendf(nil, `{"machine":%q,"good":%d}`, m, i+1)}
		if _, err := b.store.Commit(b.t.Context(), m, plant.Batch{Events: []plant.Event{e}}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// refuse has n events of m refused by the uplink.
func (b *bed) refuse(m plant.MachineID, n int) {
	b.t.Helper()
	q, err := b.store.Queue("mes", func(plant.EventKind) bool { return true })
	if err != nil {
		b.t.Fatal(err)
	}
	b.commit(m, time.Unix(1000, 0), n)
	if got, err := q.Next(b.t.Context()); err != nil || got != m {
		b.t.Fatal(got, err)
	}
	events, err := q.Peek(b.t.Context(), m, 0, n, 1<<20)
	if err != nil || len(events) != n {
		b.t.Fatal(len(events), err)
	}
	var results []plant.Result
	for _, e := range events {
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New("unknown code")})
	}
	if err := q.Settle(b.t.Context(), m, events[n-1].Sequence, results); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) lines(path string, q url.Values) []string {
	b.t.Helper()
	var all []string
	if _, err := b.Lines(b.t.Context(), path, q, func(line []byte) error { all = append(all, string(line)); return nil }); err != nil {
		b.t.Fatalf("%s %v: %v", path, q, err)
	}
	return all
}

func (b *bed) job(id uint64, ok func(*Job) bool) Job {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var jobs []Job
		if err := b.Get(b.t.Context(), "/jobs", nil, &jobs); err != nil {
			b.t.Fatal(err)
		}
		for i := range jobs {
			if jobs[i].ID == id && ok(&jobs[i]) {
				return jobs[i]
			}
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("job %d: %+v", id, jobs)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stats waits until what is counted is so.
func (b *bed) stats(ok func(*Stats) bool) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var st Stats
		if err := b.Get(b.t.Context(), "/stats", nil, &st); err != nil {
			b.t.Fatal(err)
		}
		if ok(&st) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%+v", st)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (b *bed) audited() (all []string) {
	b.t.Helper()
	if err := audit.Read(b.folder, func(r audit.Record, err error) error {
		all = append(all, r.By+" "+r.Action+" "+r.Outcome)
		return err
	}); err != nil {
		b.t.Error(err)
	}
	if r, err := audit.Verify(b.folder); err != nil || r.Broken != "" {
		b.t.Errorf("%+v, %v", r, err)
	}
	return all
}

// fakeUplink is a receiver by script.
type fakeUplink struct {
	t  *testing.T
	mu sync.Mutex
	// answer, nil for Delivered, is asked once for each event.
	answer func(plant.Event) plant.Result
	got    []plant.EventID
	block  chan struct{}
	// merges is set where a newer count contains an older one, up to the event of
	// that number, with which another order begins.
	merges bool
	order  plant.Sequence
	// aside is what the uplink itself sends right now.
	aside plant.Sequence
}

func (f *fakeUplink) MostEvents() int { return 10 }

func (f *fakeUplink) Merge(earlier, later plant.Event) (plant.Event, bool) {
	return later, f.merges && later.Kind == earlier.Kind && later.Sequence < f.order
}

func (f *fakeUplink) Sending(_ plant.MachineID, s plant.Sequence) bool { return s == f.aside }

func (f *fakeUplink) Resend(ctx context.Context, m plant.MachineID, events []plant.Event) (results []plant.Result, err error) {
	f.mu.Lock()
	block := f.block
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		if e.Machine != m || e.Previous != 0 {
			f.t.Errorf("%+v in a call for %s", e, m)
		}
		r := plant.Result{Status: plant.Delivered}
		if f.answer != nil {
			r = f.answer(e)
		}
		r.First, r.Last = e.Sequence, e.Sequence
		results = append(results, r)
		if r.Status != plant.Delivered && r.Status != plant.Rejected {
			return results, nil
		}
		f.got = append(f.got, e.ID())
	}
	return results, nil
}

func (f *fakeUplink) ids() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := ""
	for _, id := range f.got {
		s += fmt.Sprintf("%s/%d ", id.Machine, uint64(id.Sequence))
	}
	return strings.TrimSpace(s)
}
