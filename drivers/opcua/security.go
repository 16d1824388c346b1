package opcua

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	client "github.com/gopcua/opcua"
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

// uri returns the security policy as the protocol names it.
func (c Channel) uri() string {
	if c.Policy == Basic256Sha256 {
		return ua.SecurityPolicyURIBasic256Sha256
	}
	return ua.SecurityPolicyURINone
}

// mode returns the message security mode.
func (c Channel) mode() ua.MessageSecurityMode {
	switch {
	case c.Policy == PolicyNone:
		return ua.MessageSecurityModeNone
	case c.Mode == Sign:
		return ua.MessageSecurityModeSign
	default:
		return ua.MessageSecurityModeSignAndEncrypt
	}
}

// Policy is a security policy.
type Policy uint8

// The policies. Basic128Rsa15 and Basic256 are broken and left out.
const (
	PolicyNone Policy = iota
	Basic256Sha256

	// policyUnread is one that the config names and nobody knows: nothing follows
	// from it.
	policyUnread
)

// UnmarshalText reads "None" or "Basic256Sha256".
func (p *Policy) UnmarshalText(b []byte) error {
	switch string(b) {
	case "None":
		*p = PolicyNone
	case "Basic256Sha256":
		*p = Basic256Sha256
	default:
		*p = policyUnread
		return config.Field("", fmt.Sprintf("`%s` is no security policy of this driver", b), "write Basic256Sha256, or None for no security")
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
}

// token returns the kind of user identity token.
func (l Login) token() ua.UserTokenType {
	if l.User != "" {
		return ua.UserTokenTypeUserName
	}
	return ua.UserTokenTypeAnonymous
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
		fault("cert", "cert and key belong together, and one is missing", "set both, or neither")
	}
	if o.Login.User == "" && !o.Login.Password.IsZero() {
		fault("login.password", "there is a password but no user", "set user, too")
	}
	switch o.Channel.Policy {
	case PolicyNone:
		return errors.Join(append(errs, o.validateNone())...)
	case policyUnread:
		return errors.Join(errs...)
	case Basic256Sha256:
	}
	if o.Channel.Mode == ModeNone {
		fault("channel.mode", "a policy without signing protects nothing", "write SignAndEncrypt or Sign, or policy: None")
	}
	if o.Cert == "" {
		fault("cert", "the policy needs a certificate of the gateway", "name its file, and the key's as key")
	}
	if o.ServerSHA256 == "" {
		fault("server_sha256", "nothing says which server is the right one", "write the SHA-256 fingerprint of the server's certificate, as the server's own tool shows it")
	}
	return errors.Join(errs...)
}

// validateNone checks a channel without security.
func (o *Options) validateNone() error {
	var errs []error
	if o.Channel.Mode > ModeNone {
		errs = append(errs, config.Field("channel.mode", "policy None neither signs nor encrypts", "write policy: Basic256Sha256, or remove the mode"))
	}
	for _, f := range []struct{ path, value string }{{"cert", string(o.Cert)}, {"server_sha256", string(o.ServerSHA256)}} {
		if f.value != "" {
			errs = append(errs, config.Field(f.path, "it is of no use with policy None, which proves nobody's identity", "write channel: {policy: Basic256Sha256}, or remove it"))
		}
	}
	switch {
	case o.Login.User != "" && !o.AllowInsecure:
		errs = append(errs, config.Field("login", "policy None may send the password in clear text, to whoever answers", "write channel: {policy: Basic256Sha256}, or allow_insecure: true"))
	case o.Endpoint != "" && !o.Endpoint.loopback():
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
			if e.SecurityMode != ua.MessageSecurityModeSign && clear == nil {
				clear = t
			}
		}
	}
	return clear
}

func tokenName(t ua.UserTokenType) string {
	if t == ua.UserTokenTypeAnonymous {
		return "anonymous"
	}
	return "user and password"
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

// verify checks the certificate of an endpoint against the pin, and its dates.
// What the library does with it afterwards proves that the server has its key.
func verify(der []byte, pin Fingerprint, now time.Time) (*x509.Certificate, error) {
	cert, err := firstCertificate(der)
	if err != nil {
		return nil, errors.New("the server shows no certificate that can be read")
	}
	want, err := hex.DecodeString(string(pin))
	if sum := sha256.Sum256(cert.Raw); err != nil || !bytes.Equal(sum[:], want) {
		return nil, fmt.Errorf("the server's certificate is not the trusted one: its SHA-256 is %s, server_sha256 in the config is %s; if it was renewed on purpose, compare the first with what the server's own tool shows and write it as server_sha256", hex.EncodeToString(sum[:]), cmp.Or(string(pin), "empty"))
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok || public.N.BitLen() < 2048:
		return nil, errors.New("the server's certificate has no RSA key of at least 2048 bits")
	case now.Before(cert.NotBefore):
		return nil, fmt.Errorf("the server's certificate is valid only from %s; is the clock of this computer right?", cert.NotBefore.Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("the server's certificate ended on %s; give the server a new one", cert.NotAfter.Format(time.RFC3339))
	}
	return cert, nil
}

// secured returns the client's options for a chosen and verified endpoint.
func (d *driver) secured(e *ua.EndpointDescription) ([]client.Option, error) {
	var options []client.Option
	if d.o.Channel.Policy != PolicyNone {
		cert, err := verify(e.ServerCertificate, d.o.ServerSHA256, time.Now())
		if err != nil {
			return nil, err
		}
		// The library wants the certificate alone where a server sends a chain.
		e.ServerCertificate = cert.Raw
		options = append(options, client.Certificate(d.identity.cert), client.PrivateKey(d.identity.key))
	}
	options = append(options, client.SecurityFromEndpoint(e, d.o.Login.token()))
	if d.o.Login.User != "" {
		options = append(options, client.AuthUsername(d.o.Login.User, d.o.Login.Password.Reveal()))
	}
	return options, nil
}
