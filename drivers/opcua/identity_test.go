package opcua

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/plantsim"
)

// sluice check says what a server would only say at night.
func TestCheckOfTheCertificate(t *testing.T) {
	const all = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	urn := func(s string) *url.URL { return &url.URL{Scheme: "urn", Opaque: s} }
	for _, c := range []struct {
		name    string
		key     *rsa.PrivateKey
		change  func(*x509.Certificate)
		want    string // empty: nothing is wrong
		warning bool
	}{
		{"as it should be", key, func(*x509.Certificate) {}, "", false},
		{"any use", key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "", false},
		{"no signature", key, func(c *x509.Certificate) { c.KeyUsage &^= x509.KeyUsageDigitalSignature }, "lacks the key usage digitalSignature, so", true},
		{"no encryption", key, func(c *x509.Certificate) {
			c.KeyUsage &^= x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
		}, "lacks the key usage keyEncipherment, dataEncipherment, so", true},
		{"no key usage", key, func(c *x509.Certificate) { c.KeyUsage = 0 }, "digitalSignature, keyEncipherment, dataEncipherment, nonRepudiation", true},
		{"for a server only", key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "clientAuth", true},
		{"no extended usage", key, func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "clientAuth", true},
		{"no URI", key, func(c *x509.Certificate) { c.URIs = nil }, "names no application URI", false},
		{"two URIs", key, func(c *x509.Certificate) { c.URIs = append(c.URIs, urn("b")) }, "the first is used, urn:a", true},
		{"expired", key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, "has expired: it ended on", true},
		{"soon", key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) }, "expires soon: it ends on", true},
		{"not yet", key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, "is valid only from", true},
		{"a short key", weak, func(*x509.Certificate) {}, "has 1024 bits", false},
	} {
		about := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
			KeyUsage: all, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, URIs: []*url.URL{urn("a")},
		}
		c.change(about)
		der, err := x509.CreateCertificate(rand.Reader, about, about, &c.key.PublicKey, c.key)
		if err != nil {
			t.Fatal(err)
		}
		certs, keys := writeFiles(t, &plantsim.Certificate{DER: der, Key: c.key})
		s, faults := config.ParseSection("dut", "test.yaml", "driver: opcua\nendpoint: localhost\nchannel: {policy: Basic256Sha256}\nserver_sha256: "+
			strings.Repeat("ab", 32)+"\ncert: "+certs["PEM"]+"\nkey: "+keys["PKCS#8 PEM"]+"\ntags: {a: i=1}\n")
		if len(faults) == 0 {
			_, faults = Kind.Check(s)
		}
		if c.want == "" {
			if len(faults) > 0 {
				t.Errorf("%s: %v", c.name, faults)
			}
			continue
		}
		if len(faults) != 1 || faults[0].Warning != c.warning || !strings.Contains(faults[0].Problem, c.want) ||
			!strings.Contains(faults[0].Problem, certs["PEM"]) || faults[0].Remedy == "" {
			t.Errorf("%s: %v, want %q (warning: %v)", c.name, faults, c.want, c.warning)
		}
	}
}

// Each answer of a server to cert has its cause and remedy, with the name that
// the specification gives it.
func TestRefusalsAreExplained(t *testing.T) {
	for code, status := range ua.StatusCodes {
		if !strings.HasPrefix(status.Name, "StatusBadCertificate") {
			continue
		}
		for _, err := range []error{code, fmt.Errorf("open: %w", &uacp.Error{ErrorCode: uint32(code)})} {
			got := explain(err).Error()
			if !strings.Contains(got, "cert") || !strings.HasSuffix(got, "("+specName(status.Name)+")") {
				t.Errorf("%s: %q", status.Name, got)
			}
		}
	}
	for _, r := range remedies {
		if err := explain(r.status); !strings.HasPrefix(err.Error(), r.advice) {
			t.Errorf("%v: %v", r.status, err)
		}
	}
	if err := errors.New("other"); !errors.Is(explain(err), err) {
		t.Error("an error that nobody knows is changed")
	}
}
