package uplink

import (
	"cmp"
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

// Expiry is when something that an uplink needs ends: a certificate, a token.
type Expiry struct {
	// What it is, for people, for example "the certificate of mes.example". It is
	// the same when it is renewed.
	What string
	At   time.Time
}

// Expiries are those that a sender has met, the newest of each What. A nil
// *Expiries forgets everything. Its methods may be called from any goroutine; List
// and Notices block on what is followed, the others do not.
type Expiries struct {
	mu  sync.Mutex
	all map[string]time.Time
	// look are asked before anybody is told.
	look []func() error
	// troubles are what those said, by their words.
	troubles map[string]time.Time
}

// maxExpiries bounds what is kept: a proxy may show a new name each time.
const maxExpiries = 64

// NewExpiries returns those that the plan knows.
func NewExpiries(known ...Expiry) *Expiries {
	e := &Expiries{all: make(map[string]time.Time)}
	for _, k := range known {
		e.Note(k.What, k.At)
	}
	return e
}

// Note keeps that what ends then, in place of what was known of it. The zero time
// says that it does not end.
func (e *Expiries) Note(what string, at time.Time) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if at.IsZero() {
		delete(e.all, what)
		return
	}
	if _, known := e.all[what]; known || len(e.all) < maxExpiries {
		e.all[what] = at
	}
}

// Follow makes look be called whenever somebody asks: it notes what has changed
// meanwhile, for example in files. Its error is told by Notices. It is called from
// any goroutine and may block on small reads.
func (e *Expiries) Follow(look func() error) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.look = append(e.look, look)
}

// Notices returns what is wrong with what is followed.
func (e *Expiries) Notices() (all []Notice) {
	if e == nil {
		return nil
	}
	e.follow()
	e.mu.Lock()
	defer e.mu.Unlock()
	for text, since := range e.troubles {
		all = append(all, Notice{Since: since, Text: text, Do: "Put files there that belong together; they are read again by themselves."})
	}
	slices.SortFunc(all, func(a, b Notice) int { return cmp.Compare(a.Text, b.Text) })
	return all
}

// follow asks all that are followed.
func (e *Expiries) follow() {
	e.mu.Lock()
	look := e.look
	e.mu.Unlock()
	now := make(map[string]bool)
	for _, look := range look {
		if err := look(); err != nil {
			now[err.Error()] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	troubles := make(map[string]time.Time, len(now))
	for text := range now {
		if since, known := e.troubles[text]; known {
			troubles[text] = since
		} else {
			troubles[text] = time.Now()
		}
	}
	e.troubles = troubles
}

// List returns all, the one that ends first before the others.
func (e *Expiries) List() []Expiry {
	if e == nil {
		return nil
	}
	e.follow()
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]Expiry, 0, len(e.all))
	for what, at := range e.all {
		list = append(list, Expiry{What: what, At: at})
	}
	slices.SortFunc(list, func(a, b Expiry) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.What, b.What)) })
	return list
}

// Watch makes c note when the certificate ends that the other side shows at each
// handshake; what names it. It is called before c is used.
func (e *Expiries) Watch(c *tls.Config, what string) {
	verify := c.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if verify != nil {
			if err := verify(state); err != nil {
				return err
			}
		}
		if len(state.PeerCertificates) > 0 {
			e.Note(what, state.PeerCertificates[0].NotAfter)
		}
		return nil
	}
}
