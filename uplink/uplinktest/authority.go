package uplinktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// Authority makes certificates for the tests of a sender that speaks TLS. Their
// files are in a folder of the test.
type Authority struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// NewAuthority makes an authority; its own certificate is CA.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{folder: t.TempDir(), key: newKey(t)}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.write(t, "ca", a.cert, a.key)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Issue makes a certificate of a server and client, for hosts, that is good for
// two hours until ends; Cert and Key name its files.
func (a *Authority) Issue(t testing.TB, name string, ends time.Time, hosts ...string) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: ends.Add(-2 * time.Hour), NotAfter: ends, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	a.write(t, name, c, newKey(t))
	pair, err := tls.LoadX509KeyPair(string(a.Cert(name)), string(a.Key(name)))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (a *Authority) write(t testing.TB, name string, c *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[config.Path]*pem.Block{
		a.Cert(name): {Type: "CERTIFICATE", Bytes: der},
		a.Key(name):  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(string(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// CA is the file of the authority's own certificate.
func (a *Authority) CA() config.Path { return a.Cert("ca") }

// Cert is the file of the certificate of that name, whether it was issued or not.
func (a *Authority) Cert(name string) config.Path {
	return config.Path(filepath.Join(a.folder, name+".pem"))
}

// Key is the file of the key of that name.
func (a *Authority) Key(name string) config.Path {
	return config.Path(filepath.Join(a.folder, name+".key"))
}

// Pool trusts the authority alone.
func (a *Authority) Pool(t testing.TB) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(string(a.CA()))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("the authority's own file holds no certificate")
	}
	return pool
}
