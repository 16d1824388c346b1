package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/uplink"
)

// testUplink tests an uplink of the running gateway through the sender that is
// at work, since a second one with its name could disturb it.
func (g *gateway) testUplink(ctx context.Context, name string) (t uplink.Tested, ok bool) {
	i := slices.IndexFunc(g.plan.Uplinks, func(u uplinkPlan) bool { return u.Name == name })
	if i < 0 || !g.built.Load() {
		return t, false
	}
	g.tests.Lock() // one at a time is enough for people
	defer g.tests.Unlock()
	return uplink.Try(ctx, name, g.senders[i], g.journals[i]), true
}

// uplinkTestCmd tries an uplink.
type uplinkTestCmd struct {
	storeFlag
	Name string `arg:"" help:"The name that the uplink has in the config."`
	JSON bool   `help:"Print one JSON document."`
}

// Run tries it in the running gateway, or by itself where none runs. It exits with
// 0 if the receiver has taken the gateway for what it is, 1 if not.
func (u *uplinkTestCmd) Run(ctx context.Context, c *console) error {
	p, err := u.load(c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(p.Uplinks, func(one uplinkPlan) bool { return one.Name == u.Name })
	if i < 0 {
		return &exitError{code: exitUsage, cause: p.noUplink(u.Name)}
	}
	t, err := tryUplink(ctx, c, p, &p.Uplinks[i])
	if err != nil {
		return err
	}
	if u.JSON {
		err = encodeJSON(c.Out, t)
	} else {
		err = printTest(c.Out, p.Uplinks[i].Plan.Endpoint, &t)
	}
	if err == nil && !t.OK {
		err = &exitError{code: exitFailed}
	}
	return err
}

// tryUplink tries an uplink in the running gateway, or by itself where none runs.
func tryUplink(ctx context.Context, c *console, p *plan, u *uplinkPlan) (t uplink.Tested, err error) {
	client, err := admin.Dial(ctx, string(p.Config.Buffer.Path))
	switch {
	case err == nil:
		fmt.Fprintln(c.Err, "sluice: asking the running gateway to try "+u.Name)
		err = errors.Join(client.Post(ctx, "/uplink/test", map[string]string{"uplink": u.Name}, &t), client.Close())
	case errors.Is(err, admin.ErrNotRunning):
		fmt.Fprintln(c.Err, "sluice: no gateway is running; "+u.Name+" is opened for the test alone")
		t, err = tryAlone(ctx, c, p, u), nil
	}
	return t, err
}

// tryAlone opens an uplink for a test, without a store and without a log.
func tryAlone(ctx context.Context, c *console, p *plan, u *uplinkPlan) uplink.Tested {
	site := p.Config.Site
	notes := uplink.NewJournal(u.Name, func(uplink.Exchange) {})
	s := u.Plan.Open(uplink.Env{
		Name: u.Name, Gateway: site.Gateway, Path: site.Path(), Log: c.Log, Journal: notes, Shared: p.shared(u),
		Memory: func(string) ([]byte, error) { return nil, nil },
	})
	t := uplink.Try(ctx, u.Name, s, notes)
	if err := s.Close(); err != nil {
		fmt.Fprintln(c.Err, "sluice:", plain(err.Error()))
	}
	return t
}

// printTest says in plain words what came of a test.
func printTest(out io.Writer, endpoint string, t *uplink.Tested) error {
	fmt.Fprintf(out, "uplink %s: %s\n", plain(t.Uplink), plain(endpoint))
	for i := range t.Exchanges {
		x := &t.Exchanges[i]
		line := x.Method + " " + x.Where
		if x.Status != 0 {
			line += fmt.Sprintf(": status %d", x.Status)
		}
		line += fmt.Sprintf(", after %s", x.Duration.Round(time.Millisecond/10))
		if x.Words != "" && x.Words != t.Error {
			line += ": " + x.Words
		}
		fmt.Fprintf(out, "  %s\n", plain(line))
	}
	if !t.OK {
		_, err := fmt.Fprintf(out, "the test has failed: %s\n", plain(t.Error))
		return err
	}
	_, err := fmt.Fprintf(out, "the test was taken, in %s\n", t.Took.Round(time.Millisecond/10))
	return err
}
