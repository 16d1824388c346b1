package mqtt

import (
	"crypto/tls"
	"errors"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink/internal/tlsfiles"
)

// files returns what the options say of certificates.
func (o Options) files() tlsfiles.Files {
	return tlsfiles.Files{CA: o.CA, Cert: o.Cert, Key: o.Key, ServerName: o.ServerName}
}

// validateSecurity checks what needs no file.
func (o Options) validateSecurity(e endpoint) error {
	errs := []error{o.files().Validate(e.secure, "tls://")}
	if o.User == "" && !o.Password.IsZero() {
		errs = append(errs, config.Field("password", "there is a password but no user", "set user, too"))
	}
	if !e.secure && !e.loopback() && !o.Password.IsZero() {
		errs = append(errs, config.Warn("url", "the password goes over the network in clear text", "use tls://"))
	}
	return errors.Join(errs...)
}

// tls reads the certificate files and returns the TLS settings, nil for plain
// TCP; its errors are config.FieldErrors.
func (o Options) tls(e endpoint) (*tls.Config, error) {
	c, err := o.files().Load(e.host)
	if err != nil || !e.secure {
		return nil, err
	}
	return c, nil
}
