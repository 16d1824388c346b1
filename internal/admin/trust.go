package admin

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/pki"
)

// TrustEntry is one certificate of a store.
type TrustEntry struct {
	Place       pki.Place `json:"place"`
	Folder      string    `json:"folder"`
	Fingerprint string    `json:"sha256"`
	Subject     string    `json:"subject"`
	URIs        []string  `json:"uris"`
	Hosts       []string  `json:"hosts"`
	From        time.Time `json:"not_before"`
	Until       time.Time `json:"not_after"`
	Authority   bool      `json:"authority"`
	// At is when it was put there.
	At time.Time `json:"at"`
}

func trustEntry(s *pki.Store, place pki.Place, c *x509.Certificate, at time.Time) TrustEntry {
	e := TrustEntry{
		Place: place, Folder: s.Folder(), Fingerprint: pki.Fingerprint(c), Subject: c.Subject.CommonName, URIs: []string{}, Hosts: append([]string{}, c.DNSNames...),
		From: c.NotBefore, Until: c.NotAfter, Authority: c.IsCA && len(c.URIs) == 0, At: at,
	}
	for _, u := range c.URIs {
		e.URIs = append(e.URIs, u.String())
	}
	for _, ip := range c.IPAddresses {
		e.Hosts = append(e.Hosts, ip.String())
	}
	return e
}

var errNoTrust = &requestError{http.StatusConflict, "no device of the config has certificates to trust: that is for opcua devices with a channel other than None"}

// trusted lists what lies in every store.
func (s *Server) trusted(w http.ResponseWriter, _ *http.Request) error {
	if len(s.Trust) == 0 {
		return errNoTrust
	}
	all := []TrustEntry{}
	for _, store := range s.Trust {
		for _, place := range []pki.Place{pki.Own, pki.Trusted, pki.Issuers, pki.Rejected} {
			found, err := store.List(place)
			if err != nil {
				return err
			}
			for _, c := range found {
				all = append(all, trustEntry(store, place, c.Certificate, c.At))
			}
		}
	}
	return answer(w, all)
}

// trustQuery says what is to be trusted: one of the rejected by its fingerprint,
// or a certificate that comes with the question.
type trustQuery struct {
	Fingerprint string `json:"sha256"`
	Certificate []byte `json:"certificate"`
	// Issuer puts it among the authorities that only complete chains.
	Issuer bool `json:"issuer"`
}

// addTrust puts a certificate among the trusted ones. One that comes with the
// question goes into every store: it was brought for this gateway.
func (s *Server) addTrust(w http.ResponseWriter, r *http.Request) error {
	var q trustQuery
	if err := read(r, &q); err != nil {
		return err
	}
	if len(s.Trust) == 0 {
		return errNoTrust
	}
	place := pki.Trusted
	if q.Issuer {
		place = pki.Issuers
	}
	stores, c := s.Trust, (*x509.Certificate)(nil)
	var err error
	if len(q.Certificate) > 0 {
		if c, err = pki.Parse(q.Certificate); err != nil {
			return badRequest("the file holds no certificate in PEM or DER: %v", err)
		}
	} else if stores, c, err = s.rejected(q.Fingerprint); err != nil {
		return err
	}
	err = s.change(peer(r), "trust.add", pki.Fingerprint(c), string(place)+": "+pki.Describe(c), func() error {
		for _, store := range stores {
			if err := store.Add(place, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return answer(w, trustEntry(stores[0], place, c, time.Now()))
}

// rejected finds a certificate that was turned away, and the stores that have it.
func (s *Server) rejected(fingerprint string) (stores []*pki.Store, c *x509.Certificate, err error) {
	for _, store := range s.Trust {
		found, err := store.Find(pki.Rejected, fingerprint)
		switch {
		case errors.Is(err, pki.ErrUnknown):
		case err != nil:
			return nil, nil, badRequest("%v", err)
		case c != nil && !c.Equal(found.Certificate):
			return nil, nil, badRequest("%v", pki.ErrAmbiguous)
		default:
			stores, c = append(stores, store), found.Certificate
		}
	}
	if c == nil {
		return nil, nil, notFound("no server with a certificate %s was turned away: sluice trust list shows those that were, or give the certificate as a file", strings.TrimSpace(fingerprint))
	}
	return stores, c, nil
}

// removeTrust takes a certificate out of trusted and issuers of every store.
func (s *Server) removeTrust(w http.ResponseWriter, r *http.Request) error {
	var q trustQuery
	if err := read(r, &q); err != nil {
		return err
	}
	type found struct {
		store *pki.Store
		c     pki.Certificate
	}
	var all []found
	for _, store := range s.Trust {
		for _, place := range []pki.Place{pki.Trusted, pki.Issuers, pki.Rejected} {
			c, err := store.Find(place, q.Fingerprint)
			if errors.Is(err, pki.ErrUnknown) {
				continue
			}
			if err != nil {
				return badRequest("%v", err)
			}
			all = append(all, found{store, c})
		}
	}
	if len(all) == 0 {
		return notFound("no certificate %s is trusted or rejected here: sluice trust list shows those that are", strings.TrimSpace(q.Fingerprint))
	}
	first := all[0].c
	if slices.ContainsFunc(all, func(f found) bool { return !f.c.Equal(first.Certificate) }) {
		return badRequest("%v", pki.ErrAmbiguous)
	}
	err := s.change(peer(r), "trust.remove", pki.Fingerprint(first.Certificate), string(first.Place)+": "+pki.Describe(first.Certificate), func() error {
		for _, f := range all {
			if err := f.store.Remove(f.c.Place, pki.Fingerprint(f.c.Certificate)); err != nil && !errors.Is(err, pki.ErrUnknown) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return answer(w, trustEntry(all[0].store, first.Place, first.Certificate, first.At))
}

// renewOwn makes a new certificate of the gateway in every store.
func (s *Server) renewOwn(w http.ResponseWriter, r *http.Request) error {
	if len(s.Trust) == 0 {
		return errNoTrust
	}
	all := []TrustEntry{}
	for _, store := range s.Trust {
		before := "none before"
		if old, err := store.ReadOwn(); err == nil {
			before = "before: " + pki.Fingerprint(old.Certificate)
		} else if !errors.Is(err, fs.ErrNotExist) {
			before = fmt.Sprintf("before: could not be read (%v)", err)
		}
		err := s.change(peer(r), "trust.renew", store.Folder(), before, func() error {
			own, err := store.Renew(s.Gateway)
			if err == nil {
				all = append(all, trustEntry(store, pki.Own, own.Certificate, time.Now()))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return answer(w, all)
}
