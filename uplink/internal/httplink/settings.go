// Package httplink is what every uplink over HTTP shares: how one receiver is
// reached (TLS, proxies, time-outs), who the gateway says it is, one request
// with its bounded answer, and plain words for what went wrong. It follows no
// redirect to another place, looks at no environment, and shows no secret.
package httplink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink/internal/tlsfiles"
)

// Settings are the keys that every uplink over HTTP has. A kind inlines them in
// its own options and calls Validate itself, since the decoder does not visit an
// inlined struct.
type Settings struct {
	// CA is a PEM file of the authorities to trust instead of the system's; Cert
	// and Key are the client's certificate.
	CA   config.Path `yaml:"ca"`
	Cert config.Path `yaml:"cert"`
	Key  config.Path `yaml:"key"`
	// ServerName is the name that the receiver's certificate must carry; empty
	// means the URL's host.
	ServerName string `yaml:"server_name"`
	// Proxy is the proxy to go through; the environment's are not looked at.
	Proxy string `yaml:"proxy"`
	// AllowInsecure lets secrets go over plain HTTP beyond this computer.
	AllowInsecure bool `yaml:"allow_insecure"`
	// Timeout bounds one request, from connecting to the end of the answer.
	Timeout config.Duration `yaml:"timeout"`
}

const (
	minTimeout = 100 * time.Millisecond
	maxTimeout = 5 * time.Minute
)

// DefaultSettings returns what an uplink runs with if its config says nothing.
func DefaultSettings() Settings {
	return Settings{Timeout: config.Duration(10 * time.Second)}
}

// Validate returns the faults of s for a receiver at target as
// config.FieldErrors, nil if there are none. secret says whether requests carry
// one, and sendTimeout what one Send may take in all.
func (s Settings) Validate(target *url.URL, secret bool, sendTimeout config.Duration) error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	secure := target.Scheme == "https"
	errs = append(errs, s.files().Validate(secure, "https://"))
	if !secure && (!Loopback(target.Hostname()) || s.Proxy != "") {
		switch {
		case !secret:
			errs = append(errs, config.Warn("url", "events go over the network in clear text, and anybody may answer in the receiver's place", "use https://"))
		case s.AllowInsecure:
			errs = append(errs, config.Warn("allow_insecure", "the secret of auth goes over the network in clear text", "use https://"))
		default:
			bad("url", "the secret of auth would go over the network in clear text", "use https://, or set allow_insecure: true if you accept that")
		}
	}
	errs = append(errs, s.validateProxy(), s.validateTimeout(sendTimeout))
	return errors.Join(errs...)
}

func (s Settings) validateTimeout(sendTimeout config.Duration) error {
	switch {
	case s.Timeout < config.Duration(minTimeout) || s.Timeout > config.Duration(maxTimeout):
		return config.Field("timeout", "it must be from 100ms to 5m", "leave it out for 10s")
	case sendTimeout < 2*s.Timeout:
		return config.Field("timeout", fmt.Sprintf("send_timeout (%v) does not leave time for two requests (2 × timeout = %v)", sendTimeout, 2*s.Timeout), "lower it, or raise send_timeout")
	}
	return nil
}

func (s Settings) validateProxy() error {
	if s.Proxy == "" {
		return nil
	}
	proxy, err := s.proxy()
	if err == nil && (strings.Trim(proxy.Path, "/") != "" || proxy.RawQuery != "") {
		err = config.Field("proxy", "there is something behind host and port", "write it like http://proxy.example:3128")
	}
	return err
}

func (s Settings) proxy() (*url.URL, error) {
	const remedy = "write it like http://proxy.example:3128"
	u, err := parseURL("proxy", s.Proxy, remedy, "let the proxy pass this computer without a login")
	if err == nil && u.Scheme == "https" {
		return nil, config.Field("proxy", "a proxy that is itself called by TLS is not supported", "use its plain port; what goes through it to an https:// url is encrypted end to end")
	}
	return u, err
}

func (s Settings) files() tlsfiles.Files {
	return tlsfiles.Files{CA: s.CA, Cert: s.Cert, Key: s.Key, ServerName: s.ServerName}
}

// Link is a receiver that can be called, with what the files said.
type Link struct {
	target   *url.URL
	timeout  time.Duration
	security *tls.Config
	proxy    *url.URL
}

// Load reads the certificate files of good Settings and returns the way to
// target. Its faults are config.FieldErrors. It does no network I/O.
func (s Settings) Load(target *url.URL) (*Link, error) {
	security, err := s.files().Load(target.Hostname())
	if err != nil {
		return nil, err
	}
	l := &Link{target: target, timeout: s.Timeout.Std(), security: security}
	if s.Proxy != "" {
		if l.proxy, err = s.proxy(); err != nil {
			return nil, err // Validate has seen it, so this does not happen
		}
	}
	return l, nil
}

// Open returns a Client of its own transport and connections, at most so many at
// once. name stands before what it says ("rest"), and redactor takes the secrets
// out of it. It does no I/O.
func (l *Link) Open(name string, connections int, redactor *Redactor) *Client {
	dial := newDialer()
	return &Client{
		name: name, target: l.target, timeout: l.timeout, redactor: redactor, dialer: dial,
		transport: newTransport(l.security.Clone(), l.proxy, connections, l.timeout, dial),
	}
}
