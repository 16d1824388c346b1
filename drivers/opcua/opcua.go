// Package opcua is the driver for OPC UA servers. It subscribes, or polls by
// choice; it makes a new client for each session, never lets the library
// reconnect, trusts only the certificates that a person has named, and watches the
// server itself, since the library notices neither a silent server nor a dead
// subscription.
package opcua

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/plant"
)

// Kind is "driver: opcua".
var Kind = kind.NewKind("opcua", defaults, plan)

const (
	// chunk is how many nodes one call holds where the server names no limit.
	chunk = 1000
	// safeRecord is how many fields of a record every server that we know reads
	// in one call; the smallest limit seen is 100.
	safeRecord = 100
	// retryRefused is how long a refused node rests: it may appear later, when
	// the PLC has its program.
	retryRefused = 30 * time.Second
	// keyLifetime is how long the key of a secure channel is asked to live; the
	// library renews it after three quarters.
	keyLifetime = time.Hour
)

func plan(_ string, o Options) (drivers.Plan, error) {
	id, err := o.identity()
	user, userErr := o.Login.user()
	err = errors.Join(err, userErr)
	var certificates *drivers.Certificates
	if !o.Channel.none() {
		certificates = &drivers.Certificates{Folder: string(o.PKI)}
	}
	tags := make([]plant.Tag, len(o.Tags.Rows))
	for i, row := range o.Tags.Rows {
		t := row.Value
		tags[i] = plant.Tag{
			Writable: row.Value.Writable,
			ID:       plant.TagID(row.Name), Type: plant.TagType(t.Type), Scaled: t.Scale != nil,
			Unit: t.Unit, Address: t.address(), Every: newPoint(row.Name, t, o).every(o),
		}
	}
	// Each request has its own time-out in the driver; this one bounds a whole
	// Connect or Read of a server that uses up nearly all of each.
	requests := 8 + 2*(len(tags)/safeRecord+1)
	return drivers.Plan{
		Tags:         tags,
		Interval:     o.Poll.Std(),
		Timeout:      o.Timeout.Std() * time.Duration(requests),
		Endpoint:     string(o.Endpoint),
		Bind:         string(o.Bind),
		Certificates: certificates,
		CheckRecords: checkRecords,
		Open:         func(env drivers.Env) drivers.Driver { return open(env, o, id, user) },
		Reads:        o.reads,
		Browse: func(ctx context.Context, env drivers.Env, b drivers.BrowseOptions) (drivers.Listing, error) {
			return browse(ctx, env, o, id, user, b)
		},
	}, err
}

// checkRecords warns of records that some servers cannot give in one Read. The
// limit is the server's and known only once it is connected.
func checkRecords(records []plant.Record) error {
	var errs []error
	for _, r := range records {
		if n := len(r.Fields); n > safeRecord {
			errs = append(errs, config.Warn("", fmt.Sprintf("the record %s has %d fields, and many servers give %d in one read at most", r.ID, n, safeRecord),
				"ask for fewer fields, or make sure that the server's MaxNodesPerRead is higher"))
		}
	}
	return errors.Join(errs...)
}

// driver speaks to one server.
type driver struct {
	device  plant.DeviceID
	gateway string
	o       Options
	// identity is the certificate that the config names, user that of its login.
	identity, user identity
	// certificates are those that are trusted; nil with a channel without security.
	certificates *pki.Store
	standing     standing

	log     *zap.Logger
	points  []*point
	records []plant.Record
	byTag   map[plant.TagID]int // index in points
	// retry is retryRefused, auditEvery and namespacesEvery the constants of that
	// name, and lifetime how long the key of a secure channel lives; they are
	// shorter in tests.
	retry, auditEvery, lifetime, namespacesEvery time.Duration

	// heard is when the server last answered, in nanoseconds since 1970.
	heard atomic.Int64
	// publishes is how many publish requests the server takes at a time; it is
	// less for all sessions once the server has refused some.
	publishes atomic.Int32
	// reads and calls are what the server takes in one Read and in one call about
	// monitored items, subscribes whether it can be subscribed to.
	reads, calls capacity
	subscribes   inability
	// describes is whether the server says what its structures are.
	describes inability
	advice    advice

	// notes is the file that keeps pins; empty without one.
	notes string

	// Of the goroutine of Connect and Read.
	pins pins
	// recalled: the notes were read. unread is why they could not be, unkept that
	// they could not be written.
	recalled, unkept bool
	unread           string
	// orphans are the sessions that the server may still have, since their
	// connection was lost.
	orphans []made
	// browseless: the server refuses to tell its references.
	browseless bool

	mu   sync.Mutex
	live *session // nil without a session
}

var (
	_ drivers.Driver      = (*driver)(nil)
	_ drivers.Listener    = (*driver)(nil)
	_ drivers.Adviser     = (*driver)(nil)
	_ drivers.Noticer     = (*driver)(nil)
	_ drivers.ServerClock = (*driver)(nil)
)

func open(env drivers.Env, o Options, id, user identity) *driver {
	d := &driver{
		device: env.Name, gateway: cmp.Or(env.Gateway, "gateway"), o: o, identity: id, user: user, certificates: env.Certificates, log: env.Log, records: env.Records,
		points: make([]*point, len(o.Tags.Rows)), byTag: make(map[plant.TagID]int, len(o.Tags.Rows)), retry: retryRefused, auditEvery: auditEvery, lifetime: keyLifetime, namespacesEvery: namespacesEvery, pins: make(pins),
		notes: env.Notes,
	}
	for i, row := range o.Tags.Rows {
		d.points[i] = newPoint(row.Name, row.Value, o)
		d.byTag[d.points[i].tag] = i
	}
	d.publishes.Store(publishRequests)
	for _, r := range env.Records {
		for _, tag := range r.Writes {
			if i, ok := d.byTag[tag]; ok {
				d.points[i].writable = true
			}
		}
	}
	return d
}

// Connect implements drivers.Driver.
func (d *driver) Connect(ctx context.Context, number uint64) error {
	_ = d.Close() // a session left open, which the Poller never does
	s, err := d.start(ctx, number)
	if err != nil {
		return fmt.Errorf("opcua: connect %s: %w", d.o.Endpoint, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = s
	return nil
}

// Close implements drivers.Driver. It takes a second at most, since a server
// that does not answer needs no farewell.
func (d *driver) Close() error {
	d.mu.Lock()
	s := d.live
	d.live = nil
	d.mu.Unlock()
	if s != nil {
		s.close()
	}
	return nil
}

func (d *driver) current() *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live
}

// Read implements drivers.Driver. Subscribing, it waits for a publish, for the
// time at which a record whose trigger stays must be read again, or for the end
// of ctx or of the session; polling, it asks for every node once.
func (d *driver) Read(ctx context.Context) ([]plant.Scan, error) {
	s := d.current()
	if s == nil {
		return nil, fmt.Errorf("opcua: read from %s: %w", d.o.Endpoint, drivers.ErrNotConnected)
	}
	var scans []plant.Scan
	err := s.ended()
	switch {
	case err != nil:
	case d.o.Poll > 0:
		scans, err = s.poll(ctx)
	case s.polling:
		scans, err = s.awaitPoll(ctx)
	default:
		scans, err = s.await(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("opcua: read from %s: %w", d.o.Endpoint, soon(err))
	}
	return scans, nil
}

// Heard implements drivers.Listener.
func (d *driver) Heard() time.Time {
	if at := d.heard.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// ServerTime implements drivers.ServerClock.
func (d *driver) ServerTime(tag plant.TagID) time.Time {
	i, ok := d.byTag[tag]
	if !ok || d.points[i].server.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(0, d.points[i].server.Load()).UTC()
}

// Write implements drivers.Driver.
func (d *driver) Write(ctx context.Context, w plant.Write) error {
	i, ok := d.byTag[w.Tag]
	if !ok || !d.points[i].writable {
		return fmt.Errorf("opcua: write %s: %w", w.Tag, drivers.ErrNotWritable)
	}
	s, err := d.hold(w.Session)
	if err != nil {
		return fmt.Errorf("opcua: write %s: %w", w.Tag, err)
	}
	defer s.running.Done()
	var lost *drivers.LostWrite
	switch err := s.write(ctx, s.items[i], w.Value); {
	case errors.As(err, &lost):
		return fmt.Errorf("opcua: %w", lost)
	case err != nil:
		return fmt.Errorf("opcua: write %s: %w", w.Tag, err)
	}
	return nil
}

// hold returns the session of that number and keeps it from being closed until
// running.Done.
func (d *driver) hold(number uint64) (*session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.live == nil:
		return nil, drivers.ErrNotConnected
	case d.live.number != number:
		return nil, drivers.ErrSessionOver
	}
	d.live.running.Add(1)
	return d.live, nil
}
