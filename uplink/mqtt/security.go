package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/sluice-edge/sluice/config"
)

// security is what was read from the certificate files.
type security struct {
	roots      *x509.CertPool // nil: the system's
	client     *tls.Certificate
	serverName string
}

// validateSecurity checks what needs no file.
func (o Options) validateSecurity(e endpoint) error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if (o.Cert == "") != (o.Key == "") {
		bad("cert", "cert and key belong together, and one is missing", "set both, or neither")
	}
	if !e.secure {
		for _, f := range []struct{ path, value string }{{"ca", string(o.CA)}, {"cert", string(o.Cert)}, {"server_name", o.ServerName}} {
			if f.value != "" {
				bad(f.path, "it is of no use without TLS", "use a url with tls://, or leave it out")
			}
		}
	}
	if o.User == "" && !o.Password.IsZero() {
		bad("password", "there is a password but no user", "set user, too")
	}
	if !e.secure && !e.loopback() && !o.Password.IsZero() {
		errs = append(errs, config.Warn("url", "the password goes over the network in clear text", "use tls://"))
	}
	return errors.Join(errs...)
}

// security reads the certificate files; its errors are config.FieldErrors.
func (o Options) security(endpoint) (security, error) {
	s := security{serverName: o.ServerName}
	var errs []error
	if o.CA != "" {
		pem, err := os.ReadFile(string(o.CA))
		if err != nil {
			errs = append(errs, config.Field("ca", fmt.Sprintf("it cannot be read: %v", err), "name a readable PEM file"))
		} else {
			s.roots = x509.NewCertPool()
			if !s.roots.AppendCertsFromPEM(pem) {
				errs = append(errs, config.Field("ca", "it holds no certificate", "name a PEM file with BEGIN CERTIFICATE"))
			}
		}
	}
	if o.Cert != "" {
		pair, err := readPair(string(o.Cert), string(o.Key))
		errs = append(errs, err)
		s.client = pair
	}
	return s, errors.Join(errs...)
}

// readPair reads the client's certificate and key.
func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, config.Field("cert", fmt.Sprintf("it cannot be read: %v", err), "name a readable PEM file")
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, config.Field("key", fmt.Sprintf("it cannot be read: %v", err), "name a PEM file that the gateway's user may read")
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// The standard library's words name no content of the files.
		return nil, config.Field("key", fmt.Sprintf("key and cert do not go together: %v", err), "name the key that the certificate was made for, in PEM, not encrypted")
	}
	return &pair, nil
}

// config returns the TLS settings, nil for plain TCP.
func (s security) config(e endpoint) *tls.Config {
	if !e.secure {
		return nil
	}
	c := &tls.Config{RootCAs: s.roots, ServerName: s.serverName, MinVersion: tls.VersionTLS12}
	if c.ServerName == "" {
		c.ServerName = e.host
	}
	if s.client != nil {
		c.Certificates = []tls.Certificate{*s.client}
	}
	return c
}
