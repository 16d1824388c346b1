package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/internal/pki"
)

// pkiFolder is the folder beside the store that holds certificates where the
// config names no other.
const pkiFolder = "pki"

// notesFolder is the folder beside the store where drivers keep what they must
// know after a restart, a file for each device.
const notesFolder = "notes"

// trustStores are the stores of certificates of a plan, one for each folder.
type trustStores struct {
	beside string
	all    []*pki.Store
}

// newTrustStores returns the stores that the devices of a plan use. It does no
// I/O.
func newTrustStores(p *plan) *trustStores {
	t := &trustStores{beside: filepath.Join(string(p.Config.Buffer.Path), pkiFolder)}
	for _, d := range p.Devices {
		if d.Plan.Certificates != nil && t.of(d.Plan) == nil {
			t.all = append(t.all, pki.New(t.folder(d.Plan)))
		}
	}
	return t
}

// gateways returns the gateway's own store, else one that a device names; nil
// where no device has certificates.
func (t *trustStores) gateways() *pki.Store {
	if len(t.all) == 0 {
		return nil
	}
	if i := slices.IndexFunc(t.all, func(s *pki.Store) bool { return s.Folder() == filepath.Clean(t.beside) }); i >= 0 {
		return t.all[i]
	}
	return t.all[0]
}

func (t *trustStores) folder(p drivers.Plan) string {
	return filepath.Clean(cmp.Or(p.Certificates.Folder, t.beside))
}

// of returns the store of a device, nil for one without certificates.
func (t *trustStores) of(p drivers.Plan) *pki.Store {
	if p.Certificates == nil {
		return nil
	}
	for _, s := range t.all {
		if s.Folder() == t.folder(p) {
			return s
		}
	}
	return nil
}

// trustCmd is about certificates.
type trustCmd struct {
	List   trustListCmd   `cmd:"" help:"What is trusted, what was turned away, and the gateway's own certificate."`
	Add    trustAddCmd    `cmd:"" help:"Trust a certificate: one that was turned away, by its fingerprint, or one of a file."`
	Remove trustRemoveCmd `cmd:"" help:"Take trust back, or forget one that was turned away. A session that lives goes on: restart the server or the gateway to end it."`
	Renew  trustRenewCmd  `cmd:"" help:"Make a new certificate of the gateway. Each server must be told to trust it."`
}

// trustFlag opens the way to the stores.
type trustFlag struct {
	storeFlag
	JSON bool `help:"Print JSON."`
}

// use runs a command's work. Before the gateway's first start there is no store
// of events, and certificates may be brought all the same.
func (f *trustFlag) use(ctx context.Context, c *console, do func(*admin.Client, *plan) error) error {
	p, err := f.load(c)
	if err != nil {
		return err
	}
	folder := string(p.Config.Buffer.Path)
	if _, err := os.Stat(filepath.Join(folder, "store")); !errors.Is(err, fs.ErrNotExist) {
		return f.storeFlag.use(ctx, c, func(a *access) error { return do(a.Client, a.plan) })
	}
	log := audit.New(folder, audit.Options{})
	server := admin.NewServer(admin.Options{Audit: log, Trust: newTrustStores(p).all, Gateway: p.Config.Site.Gateway, Version: version, Log: c.Log})
	client := admin.Local(server.Handler(), admin.Me())
	return errors.Join(usage(do(client, p)), client.Close(), log.Close())
}

// askTrust asks what the certificates are about, and prints the answer: as JSON if
// that is wanted, else in the words of say.
func askTrust[T any](ctx context.Context, c *console, f *trustFlag, ask func(*admin.Client, *T) error, say func(*T) error) error {
	return f.use(ctx, c, func(a *admin.Client, _ *plan) error {
		var got T
		if err := ask(a, &got); err != nil {
			return err
		}
		if f.JSON {
			return encodeJSON(c.Out, got)
		}
		return say(&got)
	})
}

// trustListCmd lists certificates.
type trustListCmd struct{ trustFlag }

// Run prints one certificate a paragraph: a fingerprint is too long for a table.
func (t *trustListCmd) Run(ctx context.Context, c *console) error {
	return askTrust(ctx, c, &t.trustFlag, func(a *admin.Client, all *[]admin.TrustEntry) error {
		return a.Get(ctx, "/trust", nil, all)
	}, func(all *[]admin.TrustEntry) error {
		if len(*all) == 0 {
			_, err := fmt.Fprintln(c.Out, "there is no certificate yet: the gateway makes its own when it first connects, and keeps that of a server that it turns away")
			return err
		}
		printTrusts(c.Out, *all)
		return nil
	})
}

// words of the places, for people.
var trustWords = map[pki.Place]string{
	pki.Own: "the gateway's own", pki.Trusted: "trusted", pki.Issuers: "authority, for chains only", pki.Rejected: "turned away",
}

func printTrusts(out io.Writer, all []admin.TrustEntry) {
	for i := range all {
		printTrust(out, &all[i], time.Now())
	}
}

func printTrust(out io.Writer, e *admin.TrustEntry, now time.Time) {
	what := trustWords[e.Place]
	if e.Place == pki.Trusted && e.Authority {
		what = "trusted authority: so is what it signs"
	}
	until := "until " + e.Until.UTC().Format(time.DateOnly)
	switch {
	case now.After(e.Until):
		until = "ENDED on " + e.Until.UTC().Format(time.DateOnly)
	case now.Before(e.From):
		until = "NOT VALID before " + e.From.UTC().Format(time.DateOnly)
	}
	fmt.Fprintf(out, "%s: %s, %s\n  sha256  %s\n", what, plain(cmp.Or(e.Subject, "no name")), until, e.Fingerprint)
	for _, line := range []struct{ name, text string }{
		{"uri", strings.Join(e.URIs, " ")}, {"hosts", strings.Join(e.Hosts, " ")}, {"folder", filepath.Join(e.Folder, string(e.Place))},
	} {
		if line.text != "" {
			fmt.Fprintf(out, "  %-7s %s\n", line.name, plain(line.text))
		}
	}
}

// trustAddCmd trusts a certificate.
type trustAddCmd struct {
	trustFlag
	What   string `arg:"" help:"The SHA-256 fingerprint of a certificate that was turned away, or the first 16 of its digits at least; or a file in PEM or DER."`
	Issuer bool   `help:"The file is an authority's certificate that completes chains: what it signs is trusted only where an authority above it is."`
}

// Run trusts it. The gateway takes it at its next attempt, within half a minute.
func (t *trustAddCmd) Run(ctx context.Context, c *console) error {
	q := map[string]any{"issuer": t.Issuer}
	if _, err := pki.ParseFingerprint(t.What); err == nil {
		q["sha256"] = t.What
	} else if b, err := os.ReadFile(t.What); err == nil {
		q["certificate"] = b
	} else {
		return &exitError{code: exitUsage, cause: fmt.Errorf("%q is neither a fingerprint (64 hexadecimal digits, or the first %d at least) nor a file that can be read: %w", t.What, pki.ShortestPrefix, err)}
	}
	return askTrust(ctx, c, &t.trustFlag, func(a *admin.Client, e *admin.TrustEntry) error {
		return a.Post(ctx, "/trust/add", q, e)
	}, func(e *admin.TrustEntry) error {
		printTrust(c.Out, e, time.Now())
		fmt.Fprintln(c.Err, "sluice: the gateway takes it at its next attempt to connect, within half a minute")
		return nil
	})
}

// trustRemoveCmd takes trust back.
type trustRemoveCmd struct {
	trustFlag
	Fingerprint string `arg:"" help:"The SHA-256 fingerprint, or the first 16 of its digits at least."`
}

// Run removes it.
func (t *trustRemoveCmd) Run(ctx context.Context, c *console) error {
	return askTrust(ctx, c, &t.trustFlag, func(a *admin.Client, e *admin.TrustEntry) error {
		return a.Post(ctx, "/trust/remove", map[string]string{"sha256": t.Fingerprint}, e)
	}, func(e *admin.TrustEntry) error {
		_, err := fmt.Fprintf(c.Out, "removed: %s, it was %s\n", e.Fingerprint, trustWords[e.Place])
		return err
	})
}

// trustRenewCmd renews the gateway's own certificate.
type trustRenewCmd struct{ trustFlag }

// Run makes a new one.
func (t *trustRenewCmd) Run(ctx context.Context, c *console) error {
	return askTrust(ctx, c, &t.trustFlag, func(a *admin.Client, all *[]admin.TrustEntry) error {
		return a.Post(ctx, "/trust/renew", map[string]string{}, all)
	}, func(all *[]admin.TrustEntry) error {
		printTrusts(c.Out, *all)
		fmt.Fprintln(c.Err, "sluice: give gateway.der of that folder to each server and let it trust it; a session that lives goes on with the old one, the next connection shows the new one")
		return nil
	})
}
