package pki

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// ownPair holds the key and its certificate, so that they can never be of two
	// minds; ownCertificate is the certificate alone, to be given to servers.
	ownPair        = "gateway.pem"
	ownCertificate = "gateway.der"

	// ownYears is how long a certificate that we make is valid, ownBits the length
	// of its key: the shortest that is good for every policy, since PLCs are slow.
	ownYears = 3
	ownBits  = 2048
	// clockLeeway is how far the clock of a server may be behind ours when the
	// certificate is new.
	clockLeeway = 24 * time.Hour
)

// Identity is the gateway's own certificate with its key.
type Identity struct {
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey
}

// Own returns the gateway's own certificate. Where there is none yet it is made
// for the gateway's name and this computer's, which takes up to seconds on a
// small machine; made says so. Nothing makes a new one by itself: servers would
// not know it.
func (s *Store) Own(gateway string) (id Identity, made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err = s.readOwn()
	if !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	id, err = s.makeOwn(gateway)
	return id, true, err
}

// ReadOwn returns the gateway's own certificate; fs.ErrNotExist where there is
// none yet.
func (s *Store) ReadOwn() (Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readOwn()
}

// Renew makes a new certificate and key for the gateway. The old pair is kept
// beside it.
func (s *Store) Renew(gateway string) (Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := os.ReadFile(filepath.Join(s.folder, string(Own), ownPair))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return Identity{}, fmt.Errorf("pki: %w", err)
	default:
		if err := s.write(Own, "previous.pem", old); err != nil {
			return Identity{}, err
		}
	}
	return s.makeOwn(gateway)
}

func (s *Store) readOwn() (id Identity, err error) {
	path := filepath.Join(s.folder, string(Own), ownPair)
	b, err := os.ReadFile(path)
	if err != nil {
		return id, fmt.Errorf("pki: the gateway's own certificate: %w", err)
	}
	bad := fmt.Errorf("pki: %s does not hold a certificate and its RSA key: bring it back from a backup, or make a new one with sluice trust renew", path)
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			if id.Certificate, err = x509.ParseCertificate(block.Bytes); err != nil {
				return Identity{}, bad
			}
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return Identity{}, bad
			}
			id.Key, _ = key.(*rsa.PrivateKey)
		}
	}
	if id.Certificate == nil || id.Key == nil || !id.Key.PublicKey.Equal(id.Certificate.PublicKey) {
		return Identity{}, bad
	}
	return id, nil
}

// makeOwn makes a pair and writes it.
func (s *Store) makeOwn(gateway string) (id Identity, err error) {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	if id, err = newIdentity(gateway, host, time.Now()); err != nil {
		return id, fmt.Errorf("pki: make the gateway's own certificate: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		return id, fmt.Errorf("pki: %w", err)
	}
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.Certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := s.write(Own, ownPair, pair); err != nil {
		return id, err
	}
	return id, s.write(Own, ownCertificate, id.Certificate.Raw)
}

// newIdentity makes an application instance certificate (OPC 10000-6, 6.2.2): it
// signs itself, names one application URI and the host, and may do what servers
// look for.
func newIdentity(gateway, host string, now time.Time) (id Identity, err error) {
	if id.Key, err = rsa.GenerateKey(rand.Reader, ownBits); err != nil {
		return id, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return id, err
	}
	about := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sluice " + gateway + "@" + host, Organization: []string{"sluice"}},
		NotBefore: now.Add(-clockLeeway), NotAfter: now.AddDate(ownYears, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		// Stacks that build a chain want to see that it may have signed itself.
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		URIs: []*url.URL{{Scheme: "urn", Opaque: url.PathEscape(host) + ":sluice:" + url.PathEscape(gateway)}},
	}
	if ip := net.ParseIP(host); ip != nil {
		about.IPAddresses = []net.IP{ip}
	} else if !strings.ContainsFunc(host, func(r rune) bool { return r > 0x7e || r <= ' ' }) {
		about.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &id.Key.PublicKey, id.Key)
	if err != nil {
		return id, err
	}
	id.Certificate, err = x509.ParseCertificate(der)
	return id, err
}
