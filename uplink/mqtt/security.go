package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/mqttsession"
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

// brokers returns the brokers in their order; it reads the certificates. Its
// errors are config.FieldErrors. changed is told what is wrong with certificates
// that were renewed, nil once nothing is.
func (o Options) brokers(endpoints []endpoint, changed func(error)) ([]mqttsession.Broker, error) {
	var all []mqttsession.Broker
	for _, e := range endpoints {
		b := mqttsession.Broker{Address: e.address}
		if e.secure {
			live, err := o.files().Live(e.host)
			if err != nil {
				return nil, err
			}
			b.TLS = func() (*tls.Config, error) {
				config, err := live.Config()
				changed(err)
				return config, err
			}
		}
		all = append(all, b)
	}
	return all, nil
}

// watched returns the brokers, of which e is told at each connect when their
// certificates end, and when the gateway's own does by the file as it is now.
func watched(brokers []mqttsession.Broker, e *uplink.Expiries) []mqttsession.Broker {
	all := slices.Clone(brokers)
	for i, b := range brokers {
		if b.TLS == nil {
			continue
		}
		all[i].TLS = func() (*tls.Config, error) {
			config, err := b.TLS()
			if config == nil {
				return nil, err
			}
			config = config.Clone()
			e.Watch(config, "the certificate of "+b.Address)
			return config, err
		}
		e.Follow(func() error {
			if config, _ := b.TLS(); config != nil { // what is wrong with the files is told by Inform
				e.Note("the certificate of the gateway (cert)", tlsfiles.Ends(config))
			}
			return nil
		})
	}
	return all
}

// endpoints returns the brokers of good options in their order.
func (o Options) endpoints() ([]endpoint, error) {
	first, err := parseURL("url", o.URL)
	if err != nil {
		return nil, err
	}
	all := []endpoint{first}
	for i, text := range o.Fallback {
		e, err := parseURL(fmt.Sprintf("fallback[%d]", i), text)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}
