package pki

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// minKeyBits is the shortest RSA key that the policies in use allow (OPC
// 10000-7).
const minKeyBits = 2048

// Peer is who shows a certificate.
type Peer struct {
	// Device is who it is to the config: what it showed before is remembered
	// under this name.
	Device string
	// Chain begins with its own certificate.
	Chain []*x509.Certificate
	// Host is where it was reached, URI which application it says it is.
	Host, URI string
	// Now is the time by which certificates are valid.
	Now time.Time
}

// Refused is the error of a certificate that is not trusted or does not hold.
type Refused struct {
	// Fingerprint is that of the certificate, Before the one that the device
	// showed when it was last taken; empty if it never was.
	Fingerprint, Before string
	// Why is the cause, Do what a person can do.
	Why, Do string
}

// Error implements error.
func (r *Refused) Error() string { return r.Why + ": " + r.Do }

// Verify checks the certificate of a peer. It is trusted if it lies in trusted
// itself, or if a chain of valid signatures leads to a certificate of an
// authority that does; one of the latter must name the host, too, since the
// authority vouches for many. The error is a *Refused, or that of the disk; what
// is not trusted is kept in rejected. doubts are for the page: what is accepted
// and could be better.
func (s *Store) Verify(p Peer) (doubts []string, err error) {
	if len(p.Chain) == 0 {
		return nil, &Refused{Why: "the server shows no certificate that can be read", Do: "look at the server's settings of security"}
	}
	leaf := p.Chain[0]
	k, err := s.known()
	if err != nil {
		return nil, err
	}
	direct := holds(k.trusted, leaf)
	path, pathErr := k.path(p.Chain, p.Now)
	r := &Refused{Fingerprint: Fingerprint(leaf), Before: s.before(p.Device)}
	switch {
	case k.revoked(path) != "":
		r.Why, r.Do = k.revoked(path), "give the server a new certificate"
	case !direct && pathErr != nil:
		r.unknown(leaf, pathErr)
		if err := s.Reject(leaf); err != nil {
			r.Do += " (it could not be kept: " + err.Error() + ")"
		}
	default:
		r.wrong(leaf, p, direct)
	}
	if r.Why != "" {
		return nil, r
	}
	if pathErr == nil && !direct {
		doubts = k.unsure(path, p.Now)
	}
	if err := s.remember(p.Device, r); err != nil {
		doubts = append(doubts, "the certificate could not be remembered, so a change of it will not be called one: "+err.Error())
	}
	return doubts, nil
}

// unknown says that nobody trusts the certificate.
func (r *Refused) unknown(leaf *x509.Certificate, cause error) {
	if r.Before != "" && r.Before != r.Fingerprint {
		r.Why = fmt.Sprintf("the server's certificate has changed and the new one is not trusted: it was %s, now it is %s (%s)", r.Before, r.Fingerprint, Describe(leaf))
		r.Do = "if it was renewed on purpose, compare the second with what the server's own tool shows, then: sluice trust add " + r.Fingerprint
		return
	}
	why := ""
	if unknown := (x509.UnknownAuthorityError{}); !errors.As(cause, &unknown) {
		why = "; " + cause.Error()
	}
	r.Why = fmt.Sprintf("the server's certificate is not trusted: its SHA-256 is %s (%s%s)", r.Fingerprint, Describe(leaf), why)
	r.Do = "compare it with what the server's own tool shows, then: sluice trust add " + r.Fingerprint
}

// wrong says what a trusted certificate has against it.
func (r *Refused) wrong(leaf *x509.Certificate, p Peer, direct bool) {
	public, ok := leaf.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok || public.N.BitLen() < minKeyBits:
		r.Why, r.Do = "the server's certificate has no RSA key of at least 2048 bits", "give the server a new one"
	case p.Now.Before(leaf.NotBefore):
		r.Why = "the server's certificate is valid only from " + leaf.NotBefore.UTC().Format(time.RFC3339)
		r.Do = "is the clock of this computer right?"
	case p.Now.After(leaf.NotAfter):
		r.Why = "the server's certificate ended on " + leaf.NotAfter.UTC().Format(time.RFC3339)
		r.Do = "give the server a new one"
	case !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == p.URI }):
		r.Why = fmt.Sprintf("the server's certificate is for the application %s, and the server says it is %s", uris(leaf), shown(p.URI))
		r.Do = "give the server a certificate with its own application URI"
	case !direct && leaf.VerifyHostname(p.Host) != nil:
		r.Why = fmt.Sprintf("the server's certificate is for %s, and the endpoint is %s", hosts(leaf), p.Host)
		r.Do = "write an endpoint that the certificate names, or trust this one certificate by its fingerprint: sluice trust add " + r.Fingerprint
	}
}

// Describe says whose a certificate is, for people. All of it is the word of who
// made the certificate.
func Describe(c *x509.Certificate) string {
	return shown(c.Subject.CommonName) + ", " + uris(c) + ", until " + c.NotAfter.UTC().Format(time.DateOnly)
}

func uris(c *x509.Certificate) string {
	var all []string
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	return shown(strings.Join(all, " "))
}

func hosts(c *x509.Certificate) string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	return shown(strings.Join(all, " "))
}

// maxShown bounds a text of a peer's that is shown.
const maxShown = 120

func shown(text string) string {
	if text == "" {
		return "no name"
	}
	if len(text) > maxShown {
		text = text[:maxShown] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}

func holds(all []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(all, c.Equal)
}

// known is what a store knows at one time.
type known struct {
	trusted, issuers []*x509.Certificate
	lists            []*x509.RevocationList
}

func (s *Store) known() (*known, error) {
	k := &known{}
	for place, into := range map[Place]*[]*x509.Certificate{Trusted: &k.trusted, Issuers: &k.issuers} {
		all, err := s.List(place)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			*into = append(*into, c.Certificate)
		}
		files, err := s.files(place)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if !f.isList() {
				continue
			}
			// A list that cannot be read must not make a revoked certificate good.
			list, err := readList(f)
			if err != nil {
				return nil, fmt.Errorf("pki: %s is no list of revoked certificates (%w): take it away or put a good one there", f.path, err)
			}
			k.lists = append(k.lists, list)
		}
	}
	return k, nil
}

func readList(f file) (*x509.RevocationList, error) {
	b, err := f.read()
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	return x509.ParseRevocationList(b)
}

// path returns a chain from the certificate to one of a trusted authority; with
// an error the certificate and its issuer, as far as that is known.
func (k *known) path(chain []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range k.trusted {
		// Who trusts one machine's certificate does not trust what it signs.
		// An application's certificate names the application, an authority's does not.
		if c.IsCA && len(c.URIs) == 0 {
			o.Roots.AddCert(c)
		}
	}
	for _, c := range append(slices.Clone(k.issuers), chain[1:]...) {
		o.Intermediates.AddCert(c)
	}
	paths, err := chain[0].Verify(o)
	if err == nil {
		return paths[0], nil
	}
	best := chain[:1:1]
	for _, c := range slices.Concat(k.issuers, k.trusted) {
		if chain[0].CheckSignatureFrom(c) == nil {
			return append(best, c), err
		}
	}
	return best, err
}

// revoked says which certificate of a path its issuer has revoked.
func (k *known) revoked(path []*x509.Certificate) string {
	for i := range len(path) - 1 {
		for _, list := range k.lists {
			if list.CheckSignatureFrom(path[i+1]) != nil {
				continue
			}
			for _, entry := range list.RevokedCertificateEntries {
				if entry.SerialNumber.Cmp(path[i].SerialNumber) == 0 {
					return fmt.Sprintf("the certificate %s was revoked by its issuer on %s", Fingerprint(path[i]), entry.RevocationTime.UTC().Format(time.DateOnly))
				}
			}
		}
	}
	return ""
}

// unsure names the issuers of a path whose word about revoked certificates is
// missing or old.
func (k *known) unsure(path []*x509.Certificate, now time.Time) (doubts []string) {
	for _, issuer := range path[1:] {
		var newest *x509.RevocationList
		for _, list := range k.lists {
			if list.CheckSignatureFrom(issuer) == nil && (newest == nil || list.ThisUpdate.After(newest.ThisUpdate)) {
				newest = list
			}
		}
		switch {
		case newest == nil:
			doubts = append(doubts, fmt.Sprintf("there is no list of what the authority %s has revoked", shown(issuer.Subject.CommonName)))
		case !newest.NextUpdate.IsZero() && now.After(newest.NextUpdate):
			doubts = append(doubts, fmt.Sprintf("the list of what the authority %s has revoked is old: a new one was due on %s", shown(issuer.Subject.CommonName), newest.NextUpdate.UTC().Format(time.DateOnly)))
		}
	}
	return doubts
}

// seenFile is where the fingerprint of a device is remembered.
func seenFile(device string) string { return url.PathEscape(device) }

// before returns the fingerprint that a device showed when it was last taken.
func (s *Store) before(device string) string {
	b, err := os.ReadFile(filepath.Join(s.folder, string(lastSeen), seenFile(device)))
	if err != nil {
		return ""
	}
	digits, err := ParseFingerprint(strings.TrimSpace(string(b)))
	if err != nil || len(digits) != 64 {
		return ""
	}
	return digits
}

// remember keeps the fingerprint of a device that is taken.
func (s *Store) remember(device string, r *Refused) error {
	if r.Before == r.Fingerprint {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(lastSeen, seenFile(device), []byte(r.Fingerprint+"\n"))
}

// Forget forgets what a device showed, for one that is not in the config any
// more.
func (s *Store) Forget(device string) error {
	err := os.Remove(filepath.Join(s.folder, string(lastSeen), seenFile(device)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
