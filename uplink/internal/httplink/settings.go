// Package httplink is what every uplink over HTTP shares: how one receiver is
// reached (TLS, proxies, time-outs), who the gateway says it is, one request
// with its bounded answer, and plain words for what went wrong. It follows no
// redirect to another place, looks at no environment, and shows no secret.
package httplink

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/card"
	"github.com/sluice-edge/sluice/uplink"
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
	// Proxy is the proxy to go through, http:// or https://; the environment's are
	// not looked at. ProxyAuth is the login that it wants, NoProxy the hosts that
	// are called without it.
	Proxy     string   `yaml:"proxy"`
	ProxyAuth *Basic   `yaml:"proxy_auth"`
	NoProxy   []string `yaml:"no_proxy"`
	// Bind is the network card that the receiver, its token endpoint and the proxy are
	// reached over.
	Bind card.Bind `yaml:"bind"`
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
	files := s.files()
	if !secure && strings.HasPrefix(s.Proxy, "https://") && !s.direct(target) {
		// They are of use to the proxy, which is called by its own name.
		files.CA = ""
		if files.Cert != "" && files.Key != "" {
			files.Cert, files.Key = "", ""
		}
	}
	errs = append(errs, files.Validate(secure, "https://"))
	if !secure && (!Loopback(target.Hostname()) || s.Proxy != "" && !s.direct(target)) {
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

// LeastTime is what one Send needs: to ask twice.
func (s Settings) LeastTime() config.Duration { return 2 * s.Timeout }

func (s Settings) validateTimeout(sendTimeout config.Duration) error {
	switch {
	case s.Timeout < config.Duration(minTimeout) || s.Timeout > config.Duration(maxTimeout):
		return config.Field("timeout", "it must be from 100ms to 5m", "leave it out for 10s")
	case sendTimeout < s.LeastTime():
		return config.Field("timeout", fmt.Sprintf("send_timeout (%v) does not leave time for two requests (2 × timeout = %v)", sendTimeout, s.LeastTime()), "lower it, or leave send_timeout out")
	}
	return nil
}

func (s Settings) validateProxy() error {
	if s.Proxy == "" {
		if s.ProxyAuth != nil {
			return config.Field("proxy_auth", "there is no proxy", "set proxy, or leave it out")
		}
		return nil
	}
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	proxy, err := s.proxy()
	errs = append(errs, err)
	if err == nil && (strings.Trim(proxy.Path, "/") != "" || proxy.RawQuery != "") {
		bad("proxy", "there is something behind host and port", proxyRemedy)
	}
	if s.ProxyAuth != nil {
		if strings.Contains(s.ProxyAuth.User, ":") || strings.ContainsFunc(s.ProxyAuth.User, control) {
			bad("proxy_auth.user", "it holds a colon or a control character, which no user of HTTP Basic may hold", "look up the user's name again")
		}
		if strings.ContainsFunc(s.ProxyAuth.Password.Reveal(), control) {
			bad("proxy_auth.password", "the password holds a line break or another control character", "look at how the secret was stored")
		}
		if err == nil && proxy.Scheme == "http" && !Loopback(proxy.Hostname()) {
			errs = append(errs, config.Warn("proxy_auth", "the login goes to the proxy in clear text", "use https:// in proxy, if it has such a port"))
		}
	}
	for i, pattern := range s.NoProxy {
		if _, _, err := net.ParseCIDR(pattern); err != nil && config.HostProblem(strings.TrimPrefix(pattern, ".")) != "" {
			bad(fmt.Sprintf("no_proxy[%d]", i), "it is no host, no .domain and no network", "write for example mes.plant.example, .plant.example or 10.0.0.0/8")
		}
	}
	return errors.Join(errs...)
}

const proxyRemedy = "write it like http://proxy.example:3128"

func (s Settings) proxy() (*url.URL, error) {
	u, err := parseURL("proxy", s.Proxy, proxyRemedy, "use proxy_auth: {user: …, password: env:NAME}")
	if err == nil && s.ProxyAuth != nil {
		u.User = url.UserPassword(s.ProxyAuth.User, s.ProxyAuth.Password.Reveal())
	}
	return u, err
}

// direct reports whether target is called without the proxy.
func (s Settings) direct(target *url.URL) bool {
	host := strings.ToLower(target.Hostname())
	ip := net.ParseIP(host)
	for _, pattern := range s.NoProxy {
		pattern = strings.ToLower(pattern)
		_, network, err := net.ParseCIDR(pattern)
		switch {
		case err == nil && ip != nil && network.Contains(ip):
			return true
		case strings.HasPrefix(pattern, ".") && (strings.HasSuffix(host, pattern) || host == pattern[1:]):
			return true
		case host == pattern, ip != nil && ip.Equal(net.ParseIP(pattern)):
			return true
		}
	}
	return false
}

func (s Settings) files() tlsfiles.Files {
	return tlsfiles.Files{CA: s.CA, Cert: s.Cert, Key: s.Key, ServerName: s.ServerName}
}

// Link is a receiver that can be called, with what the files said.
type Link struct {
	target  *url.URL
	timeout time.Duration
	bind    card.Bind
	files   *tlsfiles.Live
	proxy   *url.URL
	// expiries is told when certificates end; nil for nobody.
	expiries *uplink.Expiries
	secrets  []string
	// tokens is the way to the token endpoint, nil if there is none.
	tokens *Link
}

// Load reads the certificate files of good Settings and returns the way to
// target. Its faults are config.FieldErrors. It does no network I/O.
func (s Settings) Load(target *url.URL) (*Link, error) {
	files, err := s.files().Live(target.Hostname())
	if err != nil {
		return nil, err
	}
	l := &Link{target: target, timeout: s.Timeout.Std(), bind: s.Bind, files: files}
	if s.Proxy == "" || s.direct(target) {
		return l, nil
	}
	if s.ProxyAuth != nil {
		l.secrets = s.ProxyAuth.Secrets()
	}
	l.proxy, err = s.proxy()
	return l, err
}

// LoadAuth is Load, with the way to the token endpoint that a may need. The name
// in server_name is that of target alone.
func (s Settings) LoadAuth(target *url.URL, a Auth) (*Link, error) {
	l, err := s.Load(target)
	if err != nil || a.OAuth2 == nil {
		return l, err
	}
	endpoint, err := ParseURL("auth.oauth2.token_url", a.OAuth2.TokenURL)
	if err != nil {
		return nil, err // Validate has seen it, so this does not happen
	}
	if !strings.EqualFold(endpoint.Host, target.Host) {
		s.ServerName = ""
	}
	l.tokens, err = s.Load(endpoint)
	return l, err
}

// ValidateAuth is Validate for requests that a goes with.
func (s Settings) ValidateAuth(target *url.URL, a Auth, sendTimeout config.Duration) error {
	if a.OAuth2 == nil {
		return s.Validate(target, !a.None(), sendTimeout)
	}
	const path = "auth.oauth2.token_url"
	endpoint, err := ParseURL(path, a.OAuth2.TokenURL)
	receiver := s
	if err == nil && endpoint.Scheme == "https" {
		// They are of use there, whatever target is.
		receiver.CA = ""
		if s.Cert != "" && s.Key != "" {
			receiver.Cert, receiver.Key = "", ""
		}
	}
	errs := []error{receiver.Validate(target, !a.None(), sendTimeout)}
	if err == nil && endpoint.Scheme == "http" && !Loopback(endpoint.Hostname()) {
		if s.AllowInsecure {
			errs = append(errs, config.Warn(path, "the client's secret goes over the network in clear text", "use https://"))
		} else {
			errs = append(errs, config.Field(path, "the client's secret would go over the network in clear text", "use https://, or set allow_insecure: true if you accept that"))
		}
	}
	return errors.Join(errs...)
}

// Expires returns when what the config names ends: the client's certificate, and
// the secret of a as far as the config says so.
func (l *Link) Expires(a Auth) (all []uplink.Expiry) {
	security, _ := l.files.Config() // they have just been read
	if at := tlsfiles.Ends(security); !at.IsZero() {
		all = append(all, uplink.Expiry{What: ownCertificate, At: at})
	}
	if what, at := a.Expiry(); !at.IsZero() {
		all = append(all, uplink.Expiry{What: what, At: at})
	}
	return all
}

// ownCertificate is what the client's certificate is called.
const ownCertificate = "the certificate of the gateway (cert)"

// Watched returns the same way, on which e is told when the certificates of the
// receiver, of a proxy with TLS and of the token endpoint end, and the gateway's own.
func (l *Link) Watched(e *uplink.Expiries) *Link {
	watched := *l
	watched.expiries = e
	if l.tokens != nil {
		watched.tokens = l.tokens.Watched(e)
	}
	e.Follow(func() error {
		security, err := l.files.Config()
		e.Note(ownCertificate, tlsfiles.Ends(security))
		return err
	})
	return &watched
}

// Open returns a Client of its own transport and connections, at most so many at
// once. name stands before what it says ("rest"), and redactor takes the secrets
// out of it. It does no I/O.
func (l *Link) Open(name string, connections int, redactor *Redactor) *Client {
	c := &Client{name: name, link: l, target: l.target, timeout: l.timeout, redactor: redactor, dialer: newDialer(l.bind), connections: connections, asked: new(atomic.Bool)}
	c.dialer.Timeout = min(l.timeout, connectTimeout)
	return c
}
