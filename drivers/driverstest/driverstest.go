// Package driverstest is what every driver must pass: one suite of tests that
// runs a driver against a real server, through a network that misbehaves.
package driverstest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
)

// Device is the name under which Subject.Open opens its driver.
const Device plant.DeviceID = "dut"

// Server is a real device of the protocol, on loopback.
type Server interface {
	// Addr is its host:port, the same after Stop and Start.
	Addr() string
	// Set changes a tag at the device; the value is of the type that Values has
	// for it.
	Set(tag plant.TagID, v plant.Value)
	// Stop makes the device go away with all its connections.
	Stop() error
	Start() error
}

// Subject is what a driver brings to the suite.
type Subject struct {
	// Start starts a server in which every tag of Values has its value, and Bad
	// cannot be read. It is stopped by the suite.
	Start func(t *testing.T) Server
	// Open opens a driver named Device for the server reached at addr, with the
	// tags of Values and Bad, and Timeout for one request.
	Open func(t *testing.T, addr string) drivers.Driver
	// Subscribing is set if Read waits for a publish instead of asking.
	Subscribing bool
	// Timeout is what one request may take. The suite waits for some of them.
	Timeout time.Duration
	// Values are tags of every type with values that are all different, as a
	// Read gives them.
	Values map[plant.TagID]plant.Value
	// Bad is a tag that the device refuses.
	Bad plant.TagID
	// Changing is a tag of Values that Set is tried with, NewValue another value
	// of it.
	Changing plant.TagID
	NewValue plant.Value
	// Writable is a tag of Values that the config allows to write, NewWritten
	// another value of it; ReadOnly one that the config does not.
	Writable   plant.TagID
	NewWritten plant.Value
	ReadOnly   plant.TagID
	// Record is what Open gives the driver in its Env, a level handshake over
	// tags of Values other than Changing; Set must take its trigger, too.
	// Offered is the value of its trigger, and of its answer,
	// that is high. A zero Record is of a driver without records.
	Record  plant.Record
	Offered plant.Value
	// Order is a record that is read when its trigger changes, a text of Values;
	// Changed is another value of that, which Set must take. OpenOrder is Open
	// with Order alone in the driver's Env.
	Order     plant.Record
	Changed   plant.Value
	OpenOrder func(t *testing.T, addr string) drivers.Driver
}

// patience bounds what must happen; reaching it is a failure.
const patience = 10 * time.Second

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *rig)
	}{
		{"an absent device is an error in time", absent},
		{"every type is read right", everyType},
		{"a bad tag is a bad reading beside good ones", badTag},
		{"a change is seen", change},
		{"session and snapshot", sessions},
		{"a cut connection is an error in time", cut},
		{"a cut in the middle of an answer", cutWithin},
		{"a frozen device is an error in time", frozen},
		{"the end of the context ends a call", cancelled},
		{"connecting twice ends the session before", connectTwice},
		{"a late answer is nobody's value", lateAnswer},
		{"a doubled answer is nobody's value", doubledAnswer},
		{"an answer in single bytes", singleBytes},
		{"a device that goes away and comes back", awayAndBack},
		{"a write arrives", write},
		{"a write while a read waits", writeWhileReading},
		{"writes that must be refused", refusedWrites},
		{"a record is read behind its trigger", record},
		{"a text that changes is read again with what belongs to it", changedText},
		{"closing twice, and without a session", closing},
		{"twenty sessions leave nothing behind", noLeak},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newRig(t, s)) })
	}
}

// rig is one server, a proxy before it, and a driver.
type rig struct {
	Subject
	server  Server
	proxy   *faultnet.Proxy
	driver  drivers.Driver
	session uint64
}

func newRig(t *testing.T, s Subject) *rig {
	t.Helper()
	r := &rig{Subject: s, server: s.Start(t)}
	t.Cleanup(func() {
		if err := r.server.Stop(); err != nil {
			t.Error(err)
		}
	})
	var err error
	if r.proxy, err = faultnet.New(r.server.Addr()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.proxy.Close() })
	r.driver = s.Open(t, r.proxy.Addr())
	t.Cleanup(func() { r.driver.Close() })
	return r
}

func (r *rig) connect(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r.session++
	if err := r.driver.Connect(ctx, r.session); err != nil {
		t.Fatalf("connect: %v", err)
	}
}

func (r *rig) read(t *testing.T) ([]plant.Scan, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return r.driver.Read(ctx)
}

// mustRead reads until each tag of Values and Bad was there, and returns the
// newest reading of each.
func (r *rig) mustRead(t *testing.T) map[plant.TagID]plant.Reading {
	t.Helper()
	got, err := r.readAll(t)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// readAll is mustRead that returns an error of the driver.
func (r *rig) readAll(t *testing.T) (map[plant.TagID]plant.Reading, error) {
	t.Helper()
	got := map[plant.TagID]plant.Reading{}
	for len(got) <= len(r.Values) {
		scans, err := r.read(t)
		if err != nil {
			return nil, fmt.Errorf("read: %w (so far %d of %d tags)", err, len(got), len(r.Values)+1)
		}
		for _, s := range scans {
			if s.Device != Device || s.Session != r.session || s.Received.IsZero() {
				t.Fatalf("a scan of device %q, session %d, received %v; want %q, %d", s.Device, s.Session, s.Received, Device, r.session)
			}
			good := slices.ContainsFunc(s.Readings, func(v plant.Reading) bool { return v.Quality == plant.Good })
			if s.Asked.After(s.Received) || good && s.Record == "" && s.Asked.IsZero() {
				t.Fatalf("a scan was asked for at %v and received at %v", s.Asked, s.Received)
			}
			for _, reading := range s.Readings {
				got[reading.Tag] = reading
			}
		}
	}
	return got, nil
}

// compare checks good readings; want overrides Values.
func (r *rig) compare(t *testing.T, got map[plant.TagID]plant.Reading, want map[plant.TagID]plant.Value) {
	t.Helper()
	for tag, value := range r.Values {
		if v, ok := want[tag]; ok {
			value = v
		}
		reading := got[tag]
		if reading.Quality != plant.Good || reading.Cause != "" || reading.Value != value {
			t.Errorf("%s = %v (%v %s), want %v (good)", tag, reading.Value, reading.Quality, reading.Cause, value)
		}
	}
}

// within fails if do takes longer than some requests may.
func (r *rig) within(t *testing.T, do func() error) error {
	t.Helper()
	limit := 2*r.Timeout + 5*time.Second // some seconds for a busy machine
	start := time.Now()
	err := do()
	if d := time.Since(start); d > limit {
		t.Errorf("it took %v, want at most %v", d, limit)
	}
	return err
}

// lose reads until the loss of the device is noticed.
func (r *rig) lose(t *testing.T) error {
	t.Helper()
	return r.within(t, func() error {
		for {
			if _, err := r.read(t); err != nil {
				return err
			}
			if !r.Subscribing {
				return nil
			}
		}
	})
}
