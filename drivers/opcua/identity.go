package opcua

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
)

const (
	// expirySoon is how long before its end a certificate is warned of.
	expirySoon = 30 * 24 * time.Hour
	// minKeyBits and maxKeyBits are what Basic256Sha256 allows (OPC 10000-7).
	minKeyBits, maxKeyBits = 2048, 4096
)

// identity is the gateway's application instance certificate.
type identity struct {
	cert []byte // DER, nil for none
	key  *rsa.PrivateKey
}

// identity reads the certificate files; its errors are config.FieldErrors.
func (o *Options) identity() (identity, error) {
	if o.Cert == "" || o.Key == "" || o.Channel.none() {
		return identity{}, nil
	}
	cert, err := readCertificate("cert", string(o.Cert))
	if err != nil {
		return identity{}, err
	}
	key, err := readKey("key", string(o.Key))
	if err != nil {
		return identity{}, err
	}
	var errs []error
	public, isRSA := cert.PublicKey.(*rsa.PublicKey)
	const sizes = "make a certificate with an RSA key of 2048 to 4096 bits"
	switch {
	case !isRSA:
		errs = append(errs, config.Field("cert", fmt.Sprintf("the key of %s is not of RSA", o.Cert), sizes))
	case public.N.BitLen() < minKeyBits || public.N.BitLen() > maxKeyBits:
		errs = append(errs, config.Field("cert", fmt.Sprintf("the key of %s has %d bits", o.Cert, public.N.BitLen()), sizes))
	case !key.PublicKey.Equal(public):
		errs = append(errs, config.Field("key", fmt.Sprintf("%s and %s do not go together", o.Key, o.Cert), "name the key that the certificate was made for"))
	}
	if len(cert.URIs) == 0 {
		errs = append(errs, config.Field("cert", fmt.Sprintf("%s names no application URI, so servers refuse it", o.Cert), "make a certificate with a URI in its subject alternative name, for example urn:sluice:packing-1"))
	}
	for _, doubt := range doubts(cert, time.Now()) {
		errs = append(errs, config.Warn("cert", fmt.Sprintf("%s %s", o.Cert, doubt.problem), doubt.remedy))
	}
	return identity{cert: cert.Raw, key: key}, errors.Join(errs...)
}

// user reads the files of a user's certificate; its errors are
// config.FieldErrors.
func (l Login) user() (identity, error) {
	if l.Cert == "" || l.Key == "" {
		return identity{}, nil
	}
	cert, err := readCertificate("login.cert", string(l.Cert))
	if err != nil {
		return identity{}, err
	}
	key, err := readKey("login.key", string(l.Key))
	if err != nil {
		return identity{}, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return identity{}, config.Field("login.key", fmt.Sprintf("%s and %s do not go together", l.Key, l.Cert), "name the key that the certificate was made for")
	}
	now := time.Now()
	switch left := cert.NotAfter.Sub(now); {
	case now.Before(cert.NotBefore):
		err = config.Warn("login.cert", fmt.Sprintf("%s is valid only from %s", l.Cert, cert.NotBefore.Format(time.RFC3339)), "set the clock of this computer, or wait")
	case left < 0:
		err = config.Warn("login.cert", fmt.Sprintf("%s has expired: it ended on %s", l.Cert, cert.NotAfter.Format(time.DateOnly)), "have a new one made for this user")
	case left < expirySoon:
		err = config.Warn("login.cert", fmt.Sprintf("%s expires soon: it ends on %s", l.Cert, cert.NotAfter.Format(time.DateOnly)), "have a new one made for this user")
	}
	return identity{cert: cert.Raw, key: key}, err
}

// doubt is why some servers, or all of them from some day on, refuse a
// certificate. It is a warning: the other devices of the gateway must not wait
// for a new certificate.
type doubt struct{ problem, remedy string }

// usages are the key usages of an application instance certificate (OPC
// 10000-6, 6.2.2); without one of the first three most servers answer
// BadCertificateUseNotAllowed.
var usages = []struct {
	bit  x509.KeyUsage
	name string
}{
	{x509.KeyUsageDigitalSignature, "digitalSignature"},
	{x509.KeyUsageKeyEncipherment, "keyEncipherment"},
	{x509.KeyUsageDataEncipherment, "dataEncipherment"},
	{x509.KeyUsageContentCommitment, "nonRepudiation"},
}

// doubts says what a server may have against the gateway's certificate.
func doubts(cert *x509.Certificate, now time.Time) (found []doubt) {
	const again = "make a new one as firmware-notes/opcua.md shows, and let the server trust it"
	say := func(remedy, format string, args ...any) {
		found = append(found, doubt{fmt.Sprintf(format, args...), remedy})
	}
	var missing []string
	for _, u := range usages {
		if cert.KeyUsage&u.bit == 0 {
			missing = append(missing, u.name)
		}
	}
	if len(missing) > 0 {
		say(again, "lacks the key usage %s, so servers may refuse it (BadCertificateUseNotAllowed)", strings.Join(missing, ", "))
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		say(again, "lacks the extended key usage clientAuth, so servers may refuse it (BadCertificateUseNotAllowed)")
	}
	if len(cert.URIs) > 1 {
		say(again, "names %d application URIs, and servers expect one; the first is used, %s", len(cert.URIs), cert.URIs[0])
	}
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA:
		say(again, "is signed with %s, which Basic256Sha256 does not allow", cert.SignatureAlgorithm)
	}
	switch left := cert.NotAfter.Sub(now); {
	case now.Before(cert.NotBefore):
		say("set the clock of this computer, or wait", "is valid only from %s", cert.NotBefore.Format(time.RFC3339))
	case left < 0:
		say(again, "has expired: it ended on %s, so servers refuse it (BadCertificateTimeInvalid)", cert.NotAfter.Format(time.DateOnly))
	case left < expirySoon:
		say(again, "expires soon: it ends on %s", cert.NotAfter.Format(time.DateOnly))
	}
	return found
}

// readCertificate reads the first certificate of a file in PEM or DER.
func readCertificate(field, file string) (*x509.Certificate, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, config.Field(field, fmt.Sprintf("it cannot be read: %v", err), "name a readable file in PEM or DER")
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			b = block.Bytes
			break
		}
	}
	cert, err := firstCertificate(b)
	if err != nil {
		return nil, config.Field(field, "it holds no certificate", "name a file in PEM (BEGIN CERTIFICATE) or DER")
	}
	return cert, nil
}

// readKey reads an RSA key in PKCS#1 or PKCS#8, in PEM or DER.
func readKey(field, file string) (*rsa.PrivateKey, error) {
	bad := func(problem string) error {
		return config.Field(field, problem, "name a file with an RSA key, not encrypted, in PEM or DER, that the gateway's user may read")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, bad(fmt.Sprintf("it cannot be read: %v", err))
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			b = block.Bytes
			break
		}
	}
	if key, err := x509.ParsePKCS1PrivateKey(b); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, bad("it holds no key that can be read")
	}
	r, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, bad("it is not of RSA, the only kind that OPC UA takes here")
	}
	return r, nil
}

// remedies say what to do about the answers of a server that installers meet
// while connecting, in the order in which they are looked for.
var remedies = []struct {
	status ua.StatusCode
	advice string
}{
	{ua.StatusBadUserAccessDenied, wrongLogin},
	{ua.StatusBadIdentityTokenRejected, wrongLogin},
	{ua.StatusBadIdentityTokenInvalid, wrongLogin},
	{ua.StatusBadSecurityPolicyRejected, wrongChannel},
	{ua.StatusBadSecurityModeRejected, wrongChannel},
	{ua.StatusBadCertificateURIInvalid, "the server expects another application URI than the one in cert: make a certificate with the URI that the server has on its list"},
	{ua.StatusBadCertificateUseNotAllowed, "the server does not allow cert for this use: make one with digitalSignature, nonRepudiation, keyEncipherment, dataEncipherment and clientAuth, as firmware-notes/opcua.md shows"},
	{ua.StatusBadCertificateTimeInvalid, "for the server cert has expired or is not valid yet: compare its dates with the server's clock, then set that clock or make a new certificate"},
	{ua.StatusBadCertificateHostNameInvalid, "the host name in cert is not this computer's for the server: make a certificate with the right DNS name or IP address"},
	{ua.StatusBadCertificateRevoked, "cert is on the server's list of revoked certificates: make a new one and let the server trust it"},
	{ua.StatusBadCertificateRevocationUnknown, missingList},
	{ua.StatusBadCertificateIssuerRevocationUnknown, missingList},
	{ua.StatusBadCertificateIssuerRevoked, "the authority that signed cert is revoked at the server: have a certificate signed by another"},
	{ua.StatusBadCertificateIssuerTimeInvalid, "the certificate of the authority that signed cert has expired, or the server's clock is wrong: set the clock, or renew the authority's"},
	{ua.StatusBadCertificateIssuerUseNotAllowed, "the certificate that signed cert may sign none for the server: have cert signed by a real authority, or let it sign itself"},
	{ua.StatusBadCertificateChainIncomplete, "the server does not know the authority that signed cert: install the authority's certificate and its revocation list at the server"},
	{ua.StatusBadCertificatePolicyCheckFailed, "cert is too weak for the server's rules: make one with a longer RSA key, signed with SHA-256"},
	{ua.StatusBadCertificateUntrusted, untrusted},
	{ua.StatusBadCertificateInvalid, untrusted},
	{ua.StatusBadSecurityChecksFailed, untrusted},
	{ua.StatusBadTooManySessions, "the server has no session left: close other clients, or wait until the sessions that were left behind have timed out there"},
	{ua.StatusBadMaxConnectionsReached, "the server has no connection left: close other clients, or wait until those that were left behind have timed out there"},
}

const (
	wrongLogin   = "the server does not take this login: check login.user and login.password, or that the server trusts login.cert"
	wrongChannel = "the server does not take this channel: set channel to what it offers"
	untrusted    = "the server does not trust cert: accept it in the server's own tool"
	missingList  = "the server has no revocation list of the authority that signed cert: install it there"
)

// busy marks an error as drivers.ErrBusy.
type busy struct{ error }

// Is lets errors.Is find drivers.ErrBusy.
func (busy) Is(target error) bool { return target == drivers.ErrBusy }

// explain adds what to do to the answers that installers meet.
func explain(err error) error {
	for _, r := range remedies {
		if errors.Is(err, r.status) {
			explained := fmt.Errorf("%s (%s)", r.advice, statusName(err))
			if r.status == ua.StatusBadTooManySessions || r.status == ua.StatusBadMaxConnectionsReached {
				return busy{explained}
			}
			return explained
		}
	}
	return err
}
