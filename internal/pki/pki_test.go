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
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// keys are made once: each takes a tenth of a second.
var keys = sync.OnceValues(func() ([]*rsa.PrivateKey, error) {
	var all []*rsa.PrivateKey
	for range 3 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
})

func key(t *testing.T, i int) *rsa.PrivateKey {
	t.Helper()
	all, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	return all[i]
}

// issue makes a certificate; by nil signs itself.
func issue(t *testing.T, name string, k *rsa.PrivateKey, by *authority, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageDataEncipherment, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "urn", Opaque: "plc"}}, DNSNames: []string{"plc.example"},
	}
	if change != nil {
		change(about)
	}
	parent, signer := about, k
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, about, parent, &k.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newAuthority(t *testing.T, name string, i int, by *authority) *authority {
	t.Helper()
	return &authority{issue(t, name, key(t, i), by, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.URIs, c.DNSNames = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil, nil
	}), key(t, i)}
}

// revoke writes a list of an authority.
func (a *authority) revoke(t *testing.T, s *Store, place Place, until time.Time, serials ...*big.Int) {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-48 * time.Hour), NextUpdate: until}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now.Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, place, a.cert.Subject.CommonName+".crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func put(t *testing.T, s *Store, place Place, name string, data []byte) {
	t.Helper()
	if err := s.write(place, name, data); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, s *Store, place Place, c *x509.Certificate) {
	t.Helper()
	if err := s.Add(place, c); err != nil {
		t.Fatal(err)
	}
}

func peer(chain ...*x509.Certificate) Peer {
	return Peer{Device: "filler", Chain: chain, Host: "plc.example", URI: "urn:plc", Now: now}
}

func places(t *testing.T, s *Store, place Place) (prints []string) {
	t.Helper()
	all, err := s.List(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		prints = append(prints, Fingerprint(c.Certificate))
	}
	return prints
}

// Nobody is trusted but whom a person has named, and the words tell how.
func TestUnknownThenTrustedThenChanged(t *testing.T) {
	s := New(t.TempDir())
	first, second := issue(t, "plc", key(t, 0), nil, nil), issue(t, "plc", key(t, 1), nil, nil)
	_, err := s.Verify(peer(first))
	var refused *Refused
	if !errors.As(err, &refused) || refused.Fingerprint != Fingerprint(first) || refused.Before != "" ||
		!strings.Contains(err.Error(), "is not trusted: its SHA-256 is "+Fingerprint(first)) || !strings.HasSuffix(err.Error(), "sluice trust add "+Fingerprint(first)) {
		t.Fatal(err)
	}
	found, err := s.Find(Rejected, strings.ToUpper(Fingerprint(first))[:ShortestPrefix])
	if err != nil || !found.Equal(first) {
		t.Fatalf("%v, %v", found, err)
	}
	add(t, s, Trusted, found.Certificate)
	if len(places(t, s, Rejected)) != 0 {
		t.Error("what is trusted still lies among the rejected")
	}
	if doubts, err := s.Verify(peer(first)); err != nil || len(doubts) != 0 {
		t.Fatal(doubts, err)
	}
	_, err = s.Verify(peer(second))
	if !errors.As(err, &refused) || refused.Before != Fingerprint(first) || refused.Fingerprint != Fingerprint(second) ||
		!strings.Contains(err.Error(), "it was "+Fingerprint(first)+", now it is "+Fingerprint(second)) || !strings.HasSuffix(err.Error(), "sluice trust add "+Fingerprint(second)) {
		t.Fatal(err)
	}
	if err := s.Remove(Trusted, Fingerprint(first)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(Trusted, Fingerprint(first)); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := s.Verify(peer(first)); err == nil {
		t.Error("trust that was taken back holds")
	}
	if err := s.Forget("filler"); err != nil || s.before("filler") != "" {
		t.Error(err)
	}
}

// What a trusted certificate may have against it.
func TestTrustedIsNotEnough(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		key    *rsa.PrivateKey
		change func(*x509.Certificate)
		want   string
	}{
		{"ended", key(t, 0), func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, "ended on 2026-11-22"},
		{"not yet", key(t, 0), func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }, "valid only from"},
		{"of another application", key(t, 0), func(c *x509.Certificate) { c.URIs[0].Opaque = "robot" }, "for the application urn:robot, and the server says it is urn:plc"},
		{"of none", key(t, 0), func(c *x509.Certificate) { c.URIs = nil }, "for the application no name"},
		{"a short key", weak, func(*x509.Certificate) {}, "2048 bits"},
		// By its fingerprint a certificate is one machine's, wherever that is.
		{"of another host", key(t, 0), func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} }, ""},
	} {
		s := New(t.TempDir())
		cert := issue(t, "plc", c.key, nil, c.change)
		add(t, s, Trusted, cert)
		_, err := s.Verify(peer(cert))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := New(t.TempDir()).Verify(peer()); err == nil {
		t.Error("no certificate is taken")
	}
}

// An authority vouches for what it signs, as far as it has not taken that back.
func TestAuthorities(t *testing.T) {
	root := newAuthority(t, "root", 0, nil)
	plant := newAuthority(t, "plant", 1, root)
	leaf := issue(t, "plc", key(t, 2), plant, nil)
	elsewhere := issue(t, "plc", key(t, 2), plant, func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} })
	soon := now.Add(24 * time.Hour)
	for _, c := range []struct {
		name   string
		set    func(*Store)
		chain  []*x509.Certificate
		want   string // of the error
		doubts int
	}{
		{"no authority", func(*Store) {}, []*x509.Certificate{leaf}, "not trusted", 0},
		{"one for chains only", func(s *Store) { add(t, s, Issuers, plant.cert); add(t, s, Issuers, root.cert) }, []*x509.Certificate{leaf}, "not trusted", 0},
		{"the issuer", func(s *Store) { add(t, s, Trusted, plant.cert) }, []*x509.Certificate{leaf}, "", 1},
		{"the root, the chain in issuers", func(s *Store) { add(t, s, Trusted, root.cert); add(t, s, Issuers, plant.cert) }, []*x509.Certificate{leaf}, "", 2},
		{"the root, the chain sent", func(s *Store) { add(t, s, Trusted, root.cert) }, []*x509.Certificate{leaf, plant.cert}, "", 2},
		{"the root, the chain unknown", func(s *Store) { add(t, s, Trusted, root.cert) }, []*x509.Certificate{leaf}, "not trusted", 0},
		{"with lists", func(s *Store) {
			add(t, s, Trusted, root.cert)
			root.revoke(t, s, Trusted, soon)
			plant.revoke(t, s, Issuers, soon, big.NewInt(7))
		}, []*x509.Certificate{leaf, plant.cert}, "", 0},
		{"with an old list", func(s *Store) {
			add(t, s, Trusted, plant.cert)
			plant.revoke(t, s, Trusted, now.Add(-time.Hour))
		}, []*x509.Certificate{leaf}, "", 1},
		{"revoked", func(s *Store) {
			add(t, s, Trusted, plant.cert)
			plant.revoke(t, s, Trusted, soon, leaf.SerialNumber)
		}, []*x509.Certificate{leaf}, "was revoked by its issuer", 0},
		{"revoked, though trusted itself", func(s *Store) {
			add(t, s, Trusted, leaf)
			add(t, s, Issuers, plant.cert)
			plant.revoke(t, s, Issuers, soon, leaf.SerialNumber)
		}, []*x509.Certificate{leaf}, "was revoked by its issuer", 0},
		{"the issuer is revoked", func(s *Store) {
			add(t, s, Trusted, root.cert)
			root.revoke(t, s, Trusted, soon, plant.cert.SerialNumber)
		}, []*x509.Certificate{leaf, plant.cert}, "was revoked by its issuer", 0},
		{"for another host", func(s *Store) { add(t, s, Trusted, plant.cert) }, []*x509.Certificate{elsewhere}, "is for other.example, and the endpoint is plc.example", 0},
		{"a list that is none", func(s *Store) { put(t, s, Issuers, "x.crl", []byte("hello")) }, []*x509.Certificate{leaf}, "no list of revoked certificates", 0},
	} {
		s := New(t.TempDir())
		c.set(s)
		doubts, err := s.Verify(peer(c.chain...))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || len(doubts) != c.doubts {
			t.Errorf("%s: %v, doubts %q; want %q and %d", c.name, err, doubts, c.want, c.doubts)
		}
	}
}

// Who trusts one machine does not trust whom that machine signs for.
func TestAMachineIsNoAuthority(t *testing.T) {
	machine := issue(t, "plc", key(t, 0), nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign })
	forged := issue(t, "plc", key(t, 1), &authority{machine, key(t, 0)}, nil)
	s := New(t.TempDir())
	add(t, s, Trusted, machine)
	if _, err := s.Verify(peer(machine)); err != nil {
		t.Error(err)
	}
	if _, err := s.Verify(peer(forged, machine)); err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Error(err)
	}
}

// A server that shows a new certificate each time fills no disk.
func TestRejectedIsBounded(t *testing.T) {
	s := New(t.TempDir())
	var newest string
	for i := range MaxRejected + 5 {
		c := issue(t, fmt.Sprint("plc", i), key(t, 0), nil, nil)
		newest = Fingerprint(c)
		for range 2 {
			if _, err := s.Verify(peer(c)); err == nil {
				t.Fatal("taken")
			}
		}
	}
	all := places(t, s, Rejected)
	if len(all) != MaxRejected || !slices.Contains(all, newest) {
		t.Errorf("%d are kept, the newest: %v", len(all), slices.Contains(all, newest))
	}
}

// What people put there by hand counts as well, in either form, under any name.
func TestFilesOfPeople(t *testing.T) {
	s := New(t.TempDir())
	a, b := issue(t, "a", key(t, 0), nil, nil), issue(t, "b", key(t, 1), nil, nil)
	put(t, s, Trusted, "line 3.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw}))
	put(t, s, Trusted, "plc.crt", b.Raw)
	put(t, s, Trusted, "copy.der", b.Raw)
	put(t, s, Trusted, "readme.txt", []byte("these are ours"))
	for _, c := range []*x509.Certificate{a, b} {
		if _, err := s.Verify(peer(c)); err != nil {
			t.Error(err)
		}
	}
	if err := s.Remove(Trusted, Fingerprint(b)); err != nil || len(places(t, s, Trusted)) != 1 {
		t.Errorf("%v; left %v", err, places(t, s, Trusted))
	}
	for _, text := range []string{"", "abcd", strings.Repeat("g", 64), strings.Repeat("a", 65)} {
		if _, err := s.Find(Trusted, text); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := s.Find(Trusted, strings.Repeat("ab:", 31)+"ab"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// The gateway's own certificate is made once, also by many devices at a time, as
// servers want it, for the eyes of its user only.
func TestOwn(t *testing.T) {
	folder := t.TempDir()
	s := New(folder)
	if _, err := s.ReadOwn(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, prints := 0, map[string]bool{}
	for range 4 {
		wg.Go(func() {
			id, new, err := s.Own("gw-1")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if new {
				made++
			}
			prints[Fingerprint(id.Certificate)] = true
		})
	}
	wg.Wait()
	if made != 1 || len(prints) != 1 {
		t.Fatalf("made %d times: %v", made, prints)
	}
	id, _, err := New(folder).Own("gw-1")
	if err != nil || !prints[Fingerprint(id.Certificate)] {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	c := id.Certificate
	usages := x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	if len(c.URIs) != 1 || c.URIs[0].String() != "urn:"+host+":sluice:gw-1" || c.KeyUsage&usages != usages || len(c.ExtKeyUsage) != 2 ||
		c.VerifyHostname(host) != nil || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil || id.Key.N.BitLen() != 2048 {
		t.Errorf("%v %v %v %v", c.URIs, c.KeyUsage, c.ExtKeyUsage, c.VerifyHostname(host))
	}
	pair := filepath.Join(folder, "own", "gateway.pem")
	if info, err := os.Stat(pair); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if all := places(t, s, Own); len(all) != 1 || all[0] != Fingerprint(c) {
		t.Error(all)
	}

	renewed, err := s.Renew("gw-1")
	if err != nil || renewed.Certificate.Equal(c) || renewed.Key.Equal(id.Key) {
		t.Fatal(err)
	}
	if again, err := s.ReadOwn(); err != nil || !again.Certificate.Equal(renewed.Certificate) {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(folder, "own", "previous.pem")); err != nil || !strings.Contains(string(b), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))) {
		t.Error(err)
	}
	for _, broken := range []string{"", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(pair, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, made, err := s.Own("gw-1"); err == nil || made || !strings.Contains(err.Error(), "sluice trust renew") {
			t.Errorf("%q: %v", broken, err)
		}
	}
}
