// Package tlsfiles turns the certificate files that an uplink's config names
// into TLS settings: whom the gateway trusts, and how it shows who it is.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// Files is what a config says of TLS; every field may be empty.
type Files struct {
	// CA is a PEM file of the authorities to trust instead of the system's.
	CA config.Path
	// Cert and Key are the client's certificate, in PEM.
	Cert, Key config.Path
	// ServerName is the name that the peer's certificate must carry; empty means
	// the host that is called.
	ServerName string
}

// Validate checks what needs no file; scheme is what a URL with TLS begins
// with, and secure whether this one does. Its faults are config.FieldErrors.
func (f Files) Validate(secure bool, scheme string) error {
	var errs []error
	if (f.Cert == "") != (f.Key == "") {
		errs = append(errs, config.Field("cert", "cert and key belong together, and one is missing", "set both, or neither"))
	}
	if secure {
		return errors.Join(errs...)
	}
	for _, option := range []struct{ path, value string }{{"ca", string(f.CA)}, {"cert", string(f.Cert)}, {"server_name", f.ServerName}} {
		if option.value != "" {
			errs = append(errs, config.Field(option.path, "it is of no use without TLS", "use a url with "+scheme+", or leave it out"))
		}
	}
	return errors.Join(errs...)
}

// Load reads the files and returns the settings for a client of host: TLS 1.2
// or later, the peer's certificate always checked. Its faults are
// config.FieldErrors and show nothing of what the files hold.
func (f Files) Load(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12}
	if c.ServerName == "" {
		c.ServerName = host
	}
	var errs []error
	if f.CA != "" {
		roots, err := readRoots(string(f.CA))
		errs = append(errs, err)
		c.RootCAs = roots
	}
	if f.Cert != "" {
		pair, err := readPair(string(f.Cert), string(f.Key))
		if err != nil {
			errs = append(errs, err)
		} else {
			c.Certificates = []tls.Certificate{pair}
		}
	}
	return c, errors.Join(errs...)
}

// Ends returns when the client's certificate in c ends, zero if there is none.
func Ends(c *tls.Config) time.Time {
	if len(c.Certificates) == 0 || c.Certificates[0].Leaf == nil {
		return time.Time{}
	}
	return c.Certificates[0].Leaf.NotAfter
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, config.Field("ca", fmt.Sprintf("it cannot be read: %v", err), "name a readable PEM file")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, config.Field("ca", "it holds no certificate", "name a PEM file with BEGIN CERTIFICATE")
	}
	return roots, nil
}

func readPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, config.Field("cert", fmt.Sprintf("it cannot be read: %v", err), "name a readable PEM file")
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, config.Field("key", fmt.Sprintf("it cannot be read: %v", err), "name a PEM file that the gateway's user may read")
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// The standard library's words name no content of the files.
		return tls.Certificate{}, config.Field("key", fmt.Sprintf("key and cert do not go together: %v", err), "name the key that the certificate was made for, in PEM, not encrypted")
	}
	return pair, nil
}
