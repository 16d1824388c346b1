package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/audit"
)

// storeFlag names the config of a command that works on the store.
type storeFlag struct {
	Config string `help:"The config file or folder (default: /etc/sluice/sluice.yaml, else ./sluice.yaml)." short:"c" placeholder:"FILE"`
}

// load reads the config, which says where the store is and whose it is.
func (f *storeFlag) load(c *console) (*plan, error) {
	_, p, faults := (&configFlag{Config: f.Config}).load()
	if errs := faults.Errors(); len(errs) > 0 {
		for _, fault := range errs {
			fmt.Fprintln(c.Err, fault)
		}
		return nil, &exitError{code: exitUsage, cause: errors.New("the config has " + count(len(errs), "fault"))}
	}
	return p, nil
}

// storeOptions says how the store of a plan is opened.
func storeOptions(p *plan) (buffer.Options, error) {
	site, o := p.Config.Site, p.Config.Buffer
	settings := buffer.DefaultOptions(string(o.Path))
	settings.Gateway, settings.Source = site.Gateway, site.Path()
	settings.Modes = modes(p.Machines)
	settings.Quota, settings.Reserve, settings.Ballast = int64(o.Quota), int64(o.Reserve), int64(o.Ballast)
	settings.Keep, settings.Linger = o.Keep.Std(), o.Linger.Std()
	settings.WhenFull, settings.EvictParameters = buffer.WhenFull(o.WhenFull), o.EvictParameters
	settings.DeadLetters, settings.DeadShare = o.DeadLetters, o.DeadLettersShare
	key, err := o.EncryptionKey()
	settings.Key = key
	return settings, err
}

// uplinkInfo says what the plan has of an uplink.
func (p *plan) uplinkInfo(name string) (admin.UplinkInfo, bool) {
	i := slices.IndexFunc(p.Uplinks, func(u uplinkPlan) bool { return u.Name == name })
	if i < 0 {
		return admin.UplinkInfo{}, false
	}
	return admin.UplinkInfo{Deduplicates: p.Uplinks[i].Plan.Options.Deduplicates, Machines: p.Uplinks[i].Plan.Options.Machines.Take}, true
}

// access is the way to the store: the running gateway, or the store itself.
type access struct {
	*admin.Client
	plan *plan
	end  func() error
}

// openFor bounds how long a command waits for a disk with room to open a store.
const openFor = 15 * time.Second

// open connects to the running gateway, else it opens the store, and says on
// stderr which way it went. Never both: the store's lock keeps a second process
// out. Close must be called.
func (f *storeFlag) open(ctx context.Context, c *console) (*access, error) {
	p, err := f.load(c)
	if err != nil {
		return nil, err
	}
	folder := string(p.Config.Buffer.Path)
	client, err := admin.Dial(ctx, folder)
	if err == nil {
		fmt.Fprintln(c.Err, "sluice: asking the running gateway")
		return &access{Client: client, plan: p, end: func() error { return nil }}, nil
	}
	if !errors.Is(err, admin.ErrNotRunning) {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(folder, "store")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no store in %s: nothing was recorded there yet, or the config names another folder", folder)
	}
	settings, err := storeOptions(p)
	if err != nil {
		return nil, err
	}
	// A command throws nothing away that it was not told to.
	settings.WhenFull, settings.EvictParameters, settings.DeadLetters = buffer.Stop, false, 0
	waiting, cancel := context.WithTimeout(ctx, openFor)
	defer cancel()
	store, err := buffer.Open(waiting, settings, c.Log.Named("buffer"))
	if err != nil {
		return nil, fmt.Errorf("no gateway answers in %s, and the store cannot be opened: %w", folder, err)
	}
	fmt.Fprintln(c.Err, "sluice: the gateway is stopped; the store itself is open, and a gateway cannot start until this command ends")
	books := sync.OnceValues(func() (*ledger.Keeper, error) { return openLedger(p, store, c.Log) })
	log := audit.New(folder, audit.Options{})
	notes := logOf(p, func() bool { return true }, c.Log)
	server := admin.NewServer(admin.Options{
		Store: store, Note: notes.Add, Audit: log, Ledger: books, Uplink: p.uplinkInfo, Uplinks: p.uplinkNames(), Trust: newTrustStores(p).all, Gateway: p.Config.Site.Gateway, Version: version, Log: c.Log,
	})
	local := admin.Local(server.Handler(), admin.Me())
	return &access{Client: local, plan: p, end: func() error { return errors.Join(notes.Close(), log.Close(), store.Close()) }}, nil
}

// Close ends the access.
func (a *access) Close() error { return errors.Join(a.Client.Close(), a.end()) }

// use runs a command's work with access to the store.
func (f *storeFlag) use(ctx context.Context, c *console, do func(*access) error) (err error) {
	a, err := f.open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return usage(do(a))
}

// usage gives the refusal of a wrong request the exit code of wrong usage.
func usage(err error) error {
	var refused *admin.Error
	if errors.As(err, &refused) && refused.Status == 400 {
		return &exitError{code: exitUsage, cause: err}
	}
	return err
}

// when is a moment as people write it.
type when struct{ text string }

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *when) UnmarshalText(b []byte) error {
	w.text = string(b)
	_, err := w.at(time.Unix(0, 0), time.UTC)
	return err
}

// at returns the moment in the plant's time zone, zero for none.
func (w *when) at(now time.Time, zone *time.Location) (time.Time, error) {
	if w.text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, w.text, zone); err == nil {
			return t, nil
		}
	}
	if t, err := afterwards(now, w.text, -1); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%q is no moment: write 2026-07-27, 2026-07-27T14:00 (the plant's time), 2026-07-27T12:00:00Z, or how long ago: 90m, 2h, 3d", w.text)
}

// plain makes text fit for a terminal: what a PLC or a receiver says must not
// command it.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// progress shows how far something is, on a terminal only.
type progress struct {
	to    io.Writer
	what  string
	shown time.Time
	live  bool
}

func newProgress(to io.Writer, what string) *progress {
	p := &progress{to: to, what: what}
	if f, ok := to.(*os.File); ok {
		info, err := f.Stat()
		p.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// step shows n, a few times a second.
func (p *progress) step(n uint64) {
	if now := time.Now(); p.live && now.Sub(p.shown) > 200*time.Millisecond {
		p.shown = now
		fmt.Fprintf(p.to, "\r%d %s\x1b[K", n, p.what)
	}
}

// end takes the line away.
func (p *progress) end() {
	if p.live && !p.shown.IsZero() {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
