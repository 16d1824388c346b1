package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/plant"
)

// looked is what was read of one tag.
type looked struct {
	plant.Reading
	Received time.Time
	// Server is the server's own time of the value, zero without one.
	Server time.Time
}

// looker opens devices for a person who looks, one after the other.
type looker struct {
	gateway string
	trust   *trustStores
	// lines are shared by the devices on them, also while somebody looks.
	lines map[string]drivers.Line
	// running says that the gateway of this config runs.
	running bool
	// store is that of a server which is in no config, and trustAdd the command that
	// trusts a certificate there, but for its fingerprint: empty for a store that
	// goes with this call.
	store    *pki.Store
	trustAdd string
}

// newLooker returns a looker for the devices of a plan, nil for none.
func newLooker(ctx context.Context, p *plan) *looker {
	if p == nil || p.Config == nil {
		return &looker{gateway: "sluice"}
	}
	l := &looker{gateway: p.Config.Site.Gateway, trust: newTrustStores(p), lines: p.openLines(zap.NewNop())}
	if client, err := admin.Dial(ctx, string(p.Config.Buffer.Path)); err == nil {
		l.running = true
		_ = client.Close() // closing connections that are idle
	}
	return l
}

// env is what a driver is lent. Nothing is logged: what matters is in the answer.
func (l *looker) env(d *devicePlan) drivers.Env {
	env := drivers.Env{Name: d.Name, Gateway: l.gateway, Log: zap.NewNop(), Line: l.lines[d.Plan.Line]}
	env.Certificates = l.store
	if l.trust != nil {
		env.Certificates = l.trust.of(d.Plan)
	}
	return env
}

// errTaken says that looking would take from the gateway what comes once.
var errTaken = errors.New("the gateway is running and has this device, which says what it has to say once or takes one client only: look at the gateway's page, or stop the gateway for as long as you look")

// open opens the driver of a device without any I/O.
func (l *looker) open(d *devicePlan) (drivers.Driver, error) {
	if d.Plan.Once && l.running {
		return nil, errTaken
	}
	return d.Plan.Open(l.env(d)), nil
}

// look connects to a device, reads until each tag was there or wait is over, and
// closes. What a driver can inspect is asked for written. An error means that the
// device did not answer, or not for long; what was read until then is returned.
func (l *looker) look(ctx context.Context, d *devicePlan, wait time.Duration, written []plant.TagID) (got map[plant.TagID]looked, in drivers.Inspection, err error) {
	driver, err := l.open(d)
	if err != nil {
		return nil, in, err
	}
	defer func() { _ = driver.Close() }() // nothing is owed to the device
	connecting, cancel := context.WithTimeout(ctx, d.Plan.Timeout)
	defer cancel()
	if err := driver.Connect(connecting, 1); err != nil {
		return nil, in, err
	}
	if inspector, ok := driver.(drivers.Inspector); ok {
		// A server that does not say is no reason to read nothing.
		in, _ = inspector.Inspect(connecting, written)
	}
	got = make(map[plant.TagID]looked)
	clock, _ := driver.(drivers.ServerClock)
	reading, stop := context.WithTimeout(ctx, max(wait, d.Plan.Timeout))
	defer stop()
	if d.Plan.Interval == 0 {
		reading, stop = context.WithTimeout(ctx, wait)
		defer stop()
	}
	for !whole(got, d.Plan.Tags) {
		scans, err := driver.Read(reading)
		if err != nil {
			if reading.Err() != nil && ctx.Err() == nil && d.Plan.Interval == 0 {
				return got, in, nil // it has nothing more to say
			}
			return got, in, err
		}
		for i := range scans {
			for _, r := range scans[i].Readings {
				now := looked{Reading: r, Received: scans[i].Received}
				if clock != nil {
					now.Server = clock.ServerTime(r.Tag)
				}
				got[r.Tag] = now
			}
		}
		if d.Plan.Interval > 0 {
			break
		}
	}
	return got, in, nil
}

// whole reports whether each tag was read.
func whole(got map[plant.TagID]looked, tags []plant.Tag) bool {
	return !slices.ContainsFunc(tags, func(t plant.Tag) bool { _, ok := got[t.ID]; return !ok })
}

// helped adds to what a driver says of a connection what a person may look at.
func helped(err error) string {
	text := plain(err.Error())
	if help := help(err); help != "" && !strings.Contains(text, help) {
		text += " — " + help
	}
	return text
}

// help says what a person may look at when a device does not answer.
func help(err error) string {
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		return "the name is not known here: write the IP address, or ask who keeps the network's names"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "a computer is there, but nothing listens at this port: check the port, and whether the server is switched on at the device"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to this address: check the address, the cable and the network card"
	case errors.Is(err, drivers.ErrBusy):
		return "other clients have all its connections; the running gateway may be one of them"
	case errors.Is(err, context.DeadlineExceeded), timedOut(err):
		return "nobody answers: check that the device is on, the address, and firewalls on the way"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "the device hung up: it may take few clients at once, and the running gateway may be one of them"
	default:
		return ""
	}
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// jsonValue is a value as JSON has it: a number as it is written, else text.
func jsonValue(v plant.Value) any {
	switch v.Type() {
	case plant.None:
		return nil
	case plant.Bool:
		b, _ := v.Bool()
		return b
	case plant.Text:
		return v.Text()
	default:
		return json.Number(v.Text())
	}
}
