package opcua

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// TestForeignServerTrust takes node-opcua through what happens to certificates in
// a plant: every policy and mode with every kind of login, a server that nobody
// trusts, one that shows a new certificate after a restart, one that has ended,
// and one of another application.
func TestForeignServerTrust(t *testing.T) {
	const uri, year = "urn:plc:line", 365 * 24 * time.Hour
	f := idleForeign(t, "trust.js")
	t.Setenv("OPCUA_PASSWORD", "s3cret")
	t.Setenv("OPCUA_WRONG", "wrong-s3cret")
	store := pki.New(t.TempDir())
	person := newCertificate(t, "urn:person", -time.Hour, year)
	certs, keys := writeFiles(t, person)
	restart := func(c *plantsim.Certificate) {
		t.Helper()
		f.kill()
		serverCerts, serverKeys := writeFiles(t, c)
		f.start(t, serverCerts["PEM"], serverKeys["PKCS#8 PEM"], uri)
	}
	trust := func(c *plantsim.Certificate) {
		t.Helper()
		found, err := store.Find(pki.Rejected, c.SHA256())
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Add(pki.Trusted, found.Certificate); err != nil {
			t.Fatal(err)
		}
	}
	text := func(channel, login string) string {
		return "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntimeout: 20s\npublishing: 50ms\nchannel: " + channel + "\n" + login + "\ntags: {made: 'nsu=urn:line;s=Line.Made'}\n"
	}
	refused := func(text, want string) {
		t.Helper()
		d, _ := openTrusting(t, text, f.addr(), store)
		if err := d.Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want %q", err, want)
		}
	}

	first := newCertificate(t, uri, -time.Hour, year)
	restart(first)
	refused(text("Basic256Sha256", ""), "is not trusted: its SHA-256 is "+first.SHA256())
	trust(first)
	logins := []string{"", "login: {user: gateway, password: env:OPCUA_PASSWORD}", fmt.Sprintf("login: {cert: %s, key: %s}", certs["PEM"], keys["PKCS#8 PEM"])}
	for _, policy := range []string{"Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"} {
		for _, mode := range []string{"Sign", "SignAndEncrypt"} {
			for _, login := range logins {
				d, _ := openTrusting(t, text("{policy: "+policy+", mode: "+mode+"}", login), f.addr(), store)
				begin := time.Now()
				connect(t, d, 1)
				took := time.Since(begin)
				until(t, d, "value", func(s plant.Scan) bool {
					r, ok := find(s, "made")
					return ok && r.Value == plant.UintValue(4711)
				})
				d.Close()
				kind, _, _ := strings.Cut(strings.TrimPrefix(login, "login: {"), ":")
				t.Logf("%s/%s %s → connected in %v", policy, mode, kind, took.Round(time.Millisecond))
			}
		}
	}
	d, _ := openTrusting(t, text("None\nallow_insecure: true", logins[1]), f.addr(), nil)
	worksWith(t, d, 1)
	refused(text("Basic256Sha256", "login: {user: gateway, password: env:OPCUA_WRONG}"), "does not take this login")

	second := newCertificate(t, uri, -time.Hour, year)
	restart(second)
	refused(text("Basic256Sha256", ""), "it was "+first.SHA256()+", now it is "+second.SHA256())
	trust(second)
	d, _ = openTrusting(t, text("Basic256Sha256", ""), f.addr(), store)
	worksWith(t, d, 1)

	ended := newCertificate(t, uri, -48*time.Hour, -24*time.Hour)
	restart(ended)
	refused(text("Basic256Sha256", ""), "is not trusted")
	trust(ended)
	refused(text("Basic256Sha256", ""), "the server's certificate ended on")

	other := newCertificate(t, "urn:plc:another", -time.Hour, year)
	restart(other)
	refused(text("Basic256Sha256", ""), "is not trusted")
	trust(other)
	refused(text("Basic256Sha256", ""), "is for the application urn:plc:another, and the server says it is "+uri)

	// An authority vouches for the server, and takes its word back.
	vouching := newAuthority(t)
	f.kill()
	chain, key := vouching.signs(t, uri)
	f.start(t, chain, key, uri)
	refused(text("Basic256Sha256", ""), "is not trusted")
	if err := store.Add(pki.Trusted, vouching.cert); err != nil {
		t.Fatal(err)
	}
	authorised, _ := openTrusting(t, text("Basic256Sha256", ""), f.addr(), store)
	worksWith(t, authorised, 1)
	if all := authorised.(drivers.Noticer).Notices(); len(all) != 1 || !strings.Contains(all[0].Text, "no list of what the authority") {
		t.Errorf("%+v", all)
	}
	vouching.list(t, store)
	worksWith(t, authorised, 2)
	if all := authorised.(drivers.Noticer).Notices(); len(all) != 0 {
		t.Errorf("with a list: %+v", all)
	}
	vouching.list(t, store, vouching.signed)
	refused(text("Basic256Sha256", ""), "was revoked by its issuer")
}

// authority signs certificates of servers.
type authority struct {
	cert   *x509.Certificate
	key    *rsa.PrivateKey
	signed *big.Int // the serial number of the last one
	lists  int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "plant authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.cert, a.key = a.make(t, about)
	return a
}

// make returns a certificate signed by the authority, or by itself if it is the
// authority's own.
func (a *authority) make(t *testing.T, about *x509.Certificate) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	parent, by := about, key
	if a.cert != nil {
		parent, by = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, about, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// signs makes the certificate of a server on this computer and returns the files
// of it, with the authority's behind it, and of its key.
func (a *authority) signs(t *testing.T, uri string) (chain, keyFile string) {
	t.Helper()
	named, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	a.signed = big.NewInt(4711)
	cert, key := a.make(t, &x509.Certificate{
		SerialNumber: a.signed, Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{named}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	chain, keyFile = filepath.Join(folder, "chain.pem"), filepath.Join(folder, "key.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	for file, b := range map[string][]byte{chain: both, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return chain, keyFile
}

// list puts a list of what the authority has revoked beside its certificate.
func (a *authority) list(t *testing.T, store *pki.Store, revoked ...*big.Int) {
	t.Helper()
	a.lists++
	about := &x509.RevocationList{Number: big.NewInt(a.lists), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range revoked {
		about.RevokedCertificateEntries = append(about.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, about, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(store.Folder(), string(pki.Trusted), "plant.crl"), der, 0o600); err != nil {
		t.Fatal(err)
	}
}
