package opcua

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
)

// Channel says how a secure channel is secured.
type Channel struct {
	Policy Policy `yaml:"policy"`
	// Mode is SignAndEncrypt if a policy other than None has none.
	Mode Mode `yaml:"mode"`
}

// UnmarshalText reads the short form, the policy alone.
func (c *Channel) UnmarshalText(b []byte) error { return c.Policy.UnmarshalText(b) }

// none reports whether the channel has no security.
func (c Channel) none() bool { return c.Policy == policyUnset || c.Policy == PolicyNone }

// uri returns the security policy as the protocol names it.
func (c Channel) uri() string {
	switch c.Policy {
	case Basic256Sha256:
		return ua.SecurityPolicyURIBasic256Sha256
	case Aes128Sha256RsaOaep:
		return ua.SecurityPolicyURIAes128Sha256RsaOaep
	case Aes256Sha256RsaPss:
		return ua.SecurityPolicyURIAes256Sha256RsaPss
	default:
		return ua.SecurityPolicyURINone
	}
}

// mode returns the message security mode.
func (c Channel) mode() ua.MessageSecurityMode {
	switch {
	case c.none():
		return ua.MessageSecurityModeNone
	case c.Mode == Sign:
		return ua.MessageSecurityModeSign
	default:
		return ua.MessageSecurityModeSignAndEncrypt
	}
}

// Policy is a security policy.
type Policy uint8

// The policies (OPC 10000-7, 6.6). Basic128Rsa15 and Basic256 are broken and left
// out.
const (
	policyUnset Policy = iota
	PolicyNone
	Basic256Sha256
	Aes128Sha256RsaOaep
	Aes256Sha256RsaPss

	// policyUnread is one that the config names and nobody knows: nothing follows
	// from it.
	policyUnread
)

// UnmarshalText reads a policy by the name that its URI ends with, "None" for no
// security.
func (p *Policy) UnmarshalText(b []byte) error {
	switch string(b) {
	case "None":
		*p = PolicyNone
	case "Basic256Sha256":
		*p = Basic256Sha256
	case "Aes128_Sha256_RsaOaep":
		*p = Aes128Sha256RsaOaep
	case "Aes256_Sha256_RsaPss":
		*p = Aes256Sha256RsaPss
	default:
		*p = policyUnread
		return config.Field("", fmt.Sprintf("`%s` is no security policy of this driver", b), "write Basic256Sha256, Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss, or None for no security")
	}
	return nil
}

// Mode is a message security mode.
type Mode uint8

// The modes; 0 stands for what the policy asks for.
const (
	ModeNone Mode = iota + 1
	Sign
	SignAndEncrypt
)

// UnmarshalText reads "None", "Sign" or "SignAndEncrypt".
func (m *Mode) UnmarshalText(b []byte) error {
	switch string(b) {
	case "None":
		*m = ModeNone
	case "Sign":
		*m = Sign
	case "SignAndEncrypt":
		*m = SignAndEncrypt
	default:
		return config.Field("", fmt.Sprintf("`%s` is no message security mode", b), "write SignAndEncrypt, Sign or None")
	}
	return nil
}

// Login is who the gateway is to the server; the zero Login is anonymous.
type Login struct {
	User     string        `yaml:"user"`
	Password config.Secret `yaml:"password"`
	// Cert and Key are the certificate of a user, in place of a password.
	Cert config.Path `yaml:"cert"`
	Key  config.Path `yaml:"key"`
}

// token returns the kind of user identity token.
func (l Login) token() ua.UserTokenType {
	switch {
	case l.User != "":
		return ua.UserTokenTypeUserName
	case l.Cert != "":
		return ua.UserTokenTypeCertificate
	default:
		return ua.UserTokenTypeAnonymous
	}
}

// anonymous reports whether nobody logs in.
func (l Login) anonymous() bool { return l.token() == ua.UserTokenTypeAnonymous }

// validate checks what needs no file.
func (l Login) validate() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if l.User == "" && !l.Password.IsZero() {
		fault("login.password", "there is a password but no user", "set user, too")
	}
	if (l.Cert == "") != (l.Key == "") {
		fault("login.cert", "cert and key of a user belong together, and one is missing", "set both, or neither")
	}
	if l.User != "" && l.Cert != "" {
		fault("login.cert", "there is a user with a password, and a user's certificate", "set one of them")
	}
	return errors.Join(errs...)
}

// Trust says whose certificates are taken.
type Trust uint8

// The ways to trust; 0 is the store.
const (
	TrustStore Trust = iota
	// TrustAny takes every certificate: whoever answers is the server.
	TrustAny
)

// UnmarshalText reads "store" or "any".
func (t *Trust) UnmarshalText(b []byte) error {
	switch string(b) {
	case "store":
		*t = TrustStore
	case "any":
		*t = TrustAny
	default:
		return config.Field("", fmt.Sprintf("`%s` is no way to trust", b), "write store, or any to take every certificate")
	}
	return nil
}

// Fingerprint is the SHA-256 of a certificate in DER.
type Fingerprint string

// UnmarshalText reads 64 hexadecimal digits, with or without colons or blanks.
func (f *Fingerprint) UnmarshalText(b []byte) error {
	digits := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(string(b)))
	if raw, err := hex.DecodeString(digits); err != nil || len(raw) != sha256.Size {
		return config.Field("", fmt.Sprintf("`%s` is no SHA-256", b), "write the 64 hexadecimal digits of the fingerprint, with or without colons")
	}
	*f = Fingerprint(digits)
	return nil
}

// validateSecurity checks what needs no file.
func (o *Options) validateSecurity() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if (o.Cert == "") != (o.Key == "") {
		fault("cert", "cert and key belong together, and one is missing", "set both, or neither: the gateway then makes its own")
	}
	errs = append(errs, o.Login.validate())
	switch {
	case o.Channel.Policy == policyUnread:
		return errors.Join(errs...)
	case o.Channel.none():
		return errors.Join(append(errs, o.validateNone())...)
	}
	if o.Channel.Mode == ModeNone {
		fault("channel.mode", "a policy without signing protects nothing", "write SignAndEncrypt or Sign, or policy: None")
	}
	if o.Trust == TrustAny {
		if o.ServerSHA256 != "" {
			fault("trust", "server_sha256 names the one certificate that is taken, and trust: any takes all", "remove one of them")
		}
		errs = append(errs, config.Warn("trust", "every certificate is taken, so whoever answers is the server", "remove it, and trust the server's certificate: sluice trust add"))
	}
	return errors.Join(errs...)
}

// validateNone checks a channel without security.
func (o *Options) validateNone() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if o.Channel.Mode > ModeNone {
		fault("channel.mode", "policy None neither signs nor encrypts", "write policy: Basic256Sha256, or remove the mode")
	}
	for _, f := range []struct {
		path string
		set  bool
	}{{"cert", o.Cert != ""}, {"server_sha256", o.ServerSHA256 != ""}, {"trust", o.Trust != TrustStore}, {"pki", o.PKI != ""}, {"login.cert", o.Login.Cert != ""}} {
		if f.set {
			fault(f.path, "it is of no use with policy None, which proves nobody's identity", "write channel: {policy: Basic256Sha256}, or remove it")
		}
	}
	remote := o.Endpoint != "" && !o.Endpoint.loopback()
	switch {
	case o.Login.User != "" && !o.AllowInsecure:
		fault("login", "policy None may send the password in clear text, to whoever answers", "write channel: {policy: Basic256Sha256}, or allow_insecure: true")
	case remote && o.Channel.Policy == policyUnset:
		fault("channel", "nothing says how the connection is secured", "write channel: Basic256Sha256, or channel: None to go without any security")
	case remote:
		errs = append(errs, config.Warn("channel", "anybody on the network can read and change what is sent", "write channel: {policy: Basic256Sha256, mode: SignAndEncrypt}, if the server offers it"))
	}
	return errors.Join(errs...)
}

// firstCertificate parses what a server sends: a certificate, or a chain that
// begins with it.
func firstCertificate(der []byte) (*x509.Certificate, error) {
	certs, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	return certs[0], nil
}

// choose returns the endpoint of exactly that policy and mode that takes that
// kind of login, with the one token to log in by. What the list says is not
// authenticated, so nothing weaker is ever chosen from it.
func choose(offered []*ua.EndpointDescription, c Channel, token ua.UserTokenType) (*ua.EndpointDescription, error) {
	login := false
	for _, e := range offered {
		if e == nil || e.SecurityPolicyURI != c.uri() || e.SecurityMode != c.mode() {
			continue
		}
		if t := chooseToken(e, token); t != nil {
			chosen := *e
			chosen.UserIdentityTokens = []*ua.UserTokenPolicy{t}
			return &chosen, nil
		}
		login = true
	}
	if login {
		return nil, fmt.Errorf("the server takes no login of the kind %s with %s; it offers %s", tokenName(token), channelName(c.uri(), c.mode()), offers(offered))
	}
	return nil, fmt.Errorf("the server does not offer %s; it offers %s", channelName(c.uri(), c.mode()), offers(offered))
}

// chooseToken finds the token policy for a login. A password is encrypted by the
// token's own policy; only on an encrypted channel, or where the config allows a
// password without security, may that be None.
func chooseToken(e *ua.EndpointDescription, kind ua.UserTokenType) *ua.UserTokenPolicy {
	var clear *ua.UserTokenPolicy
	for _, t := range e.UserIdentityTokens {
		if t == nil || t.TokenType != kind {
			continue
		}
		if kind == ua.UserTokenTypeAnonymous {
			return t
		}
		switch cmp.Or(t.SecurityPolicyURI, e.SecurityPolicyURI) {
		case ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss:
			return t
		case ua.SecurityPolicyURINone:
			// A certificate without a signature is no proof of anything.
			if kind == ua.UserTokenTypeUserName && e.SecurityMode != ua.MessageSecurityModeSign && clear == nil {
				clear = t
			}
		}
	}
	return clear
}

func tokenName(t ua.UserTokenType) string {
	switch t {
	case ua.UserTokenTypeAnonymous:
		return "anonymous"
	case ua.UserTokenTypeCertificate:
		return "certificate of a user"
	default:
		return "user and password"
	}
}

func channelName(policy string, mode ua.MessageSecurityMode) string {
	_, name, _ := strings.Cut(policy, "#")
	return name + "/" + strings.TrimPrefix(mode.String(), "MessageSecurityMode")
}

// offers lists endpoints for people.
func offers(offered []*ua.EndpointDescription) string {
	var names []string
	for _, e := range offered {
		if e == nil {
			continue
		}
		if name := channelName(e.SecurityPolicyURI, e.SecurityMode); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
