package opcua

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

const (
	none   = ua.SecurityPolicyURINone
	strong = ua.SecurityPolicyURIBasic256Sha256
	weak   = ua.SecurityPolicyURIBasic128Rsa15
)

func endpoint(policy string, mode ua.MessageSecurityMode, tokens ...*ua.UserTokenPolicy) *ua.EndpointDescription {
	return &ua.EndpointDescription{SecurityPolicyURI: policy, SecurityMode: mode, UserIdentityTokens: tokens}
}

func anonymous() *ua.UserTokenPolicy {
	return &ua.UserTokenPolicy{PolicyID: "anonymous", TokenType: ua.UserTokenTypeAnonymous}
}

func user(id, policy string) *ua.UserTokenPolicy {
	return &ua.UserTokenPolicy{PolicyID: id, TokenType: ua.UserTokenTypeUserName, SecurityPolicyURI: policy}
}

// Nothing but the endpoint of exactly that policy, mode and login is chosen.
func TestChooseEndpoint(t *testing.T) {
	const (
		off     = ua.MessageSecurityModeNone
		sign    = ua.MessageSecurityModeSign
		encrypt = ua.MessageSecurityModeSignAndEncrypt
	)
	encrypted := Channel{Policy: Basic256Sha256}
	signed := Channel{Policy: Basic256Sha256, Mode: Sign}
	for _, c := range []struct {
		name    string
		offered []*ua.EndpointDescription
		channel Channel
		login   ua.UserTokenType
		token   string // the PolicyID chosen; empty: refused
		err     string
	}{
		{"as wanted", []*ua.EndpointDescription{endpoint(none, off, anonymous()), endpoint(strong, encrypt, anonymous())}, encrypted, ua.UserTokenTypeAnonymous, "anonymous", ""},
		{"encrypted is not signed", []*ua.EndpointDescription{endpoint(strong, sign, anonymous())}, encrypted, ua.UserTokenTypeAnonymous, "", "does not offer Basic256Sha256/SignAndEncrypt; it offers Basic256Sha256/Sign"},
		{"signed is not encrypted", []*ua.EndpointDescription{endpoint(strong, encrypt, anonymous())}, signed, ua.UserTokenTypeAnonymous, "", "does not offer Basic256Sha256/Sign;"},
		{"never weaker", []*ua.EndpointDescription{endpoint(weak, encrypt, anonymous()), endpoint(none, off, anonymous())}, encrypted, ua.UserTokenTypeAnonymous, "", "it offers Basic128Rsa15/SignAndEncrypt, None/None"},
		{"None is not chosen for a policy", []*ua.EndpointDescription{endpoint(none, encrypt, anonymous())}, encrypted, ua.UserTokenTypeAnonymous, "", "does not offer"},
		{"no such login", []*ua.EndpointDescription{endpoint(strong, encrypt, anonymous())}, encrypted, ua.UserTokenTypeUserName, "", "takes no login of the kind user and password"},
		{"no fall back to anonymous", []*ua.EndpointDescription{endpoint(strong, encrypt, user("u", ""))}, encrypted, ua.UserTokenTypeAnonymous, "", "takes no login of the kind anonymous"},
		{"the token's policy is the channel's", []*ua.EndpointDescription{endpoint(strong, encrypt, anonymous(), user("u", ""))}, encrypted, ua.UserTokenTypeUserName, "u", ""},
		{"an encrypted token first", []*ua.EndpointDescription{endpoint(strong, encrypt, user("clear", none), user("u", strong))}, encrypted, ua.UserTokenTypeUserName, "u", ""},
		{"in clear on an encrypted channel", []*ua.EndpointDescription{endpoint(strong, encrypt, user("clear", none))}, encrypted, ua.UserTokenTypeUserName, "clear", ""},
		{"never in clear on a channel that is only signed", []*ua.EndpointDescription{endpoint(strong, sign, user("clear", none))}, signed, ua.UserTokenTypeUserName, "", "takes no login"},
		{"a broken token policy is none", []*ua.EndpointDescription{endpoint(strong, encrypt, user("u", weak))}, encrypted, ua.UserTokenTypeUserName, "", "takes no login"},
		{"None prefers a password that is encrypted", []*ua.EndpointDescription{endpoint(none, off, user("clear", ""), user("u", strong))}, Channel{}, ua.UserTokenTypeUserName, "u", ""},
		{"an empty list", nil, encrypted, ua.UserTokenTypeAnonymous, "", "it offers nothing"},
		{"holes in the list", []*ua.EndpointDescription{nil, endpoint(strong, encrypt, nil, anonymous())}, encrypted, ua.UserTokenTypeAnonymous, "anonymous", ""},
	} {
		got, err := choose(c.offered, c.channel, c.login)
		switch {
		case c.token == "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		case c.token != "" && (err != nil || len(got.UserIdentityTokens) != 1 || got.UserIdentityTokens[0].PolicyID != c.token || got.SecurityPolicyURI != c.channel.uri() || got.SecurityMode != c.channel.mode()):
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func newCertificate(t *testing.T, uri string, from, until time.Duration) *plantsim.Certificate {
	t.Helper()
	c, err := plantsim.NewCertificate(uri, time.Now().Add(from), time.Now().Add(until))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVerifyServerCertificate(t *testing.T) {
	const year = 365 * 24 * time.Hour
	now := newCertificate(t, "urn:server", -time.Hour, year)
	old := newCertificate(t, "urn:server", -2*time.Hour, -time.Hour)
	future := newCertificate(t, "urn:server", time.Hour, year)
	for _, c := range []struct {
		name string
		der  []byte
		pin  string
		err  string
	}{
		{"trusted", now.DER, now.SHA256(), ""},
		{"a chain that begins with it", append(now.DER[:len(now.DER):len(now.DER)], old.DER...), now.SHA256(), ""},
		{"another", old.DER, now.SHA256(), "its SHA-256 is " + old.SHA256() + ", server_sha256 in the config is " + now.SHA256()},
		{"a chain that begins with another", append(old.DER[:len(old.DER):len(old.DER)], now.DER...), now.SHA256(), "not the trusted one"},
		{"no pin", now.DER, "", "not the trusted one"},
		{"ended", old.DER, old.SHA256(), "ended on"},
		{"not yet", future.DER, future.SHA256(), "valid only from"},
		{"none", nil, now.SHA256(), "no certificate"},
		{"no certificate at all", []byte("hello"), now.SHA256(), "no certificate"},
	} {
		_, err := verify(c.der, Fingerprint(c.pin), time.Now())
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

// write puts a certificate and its key into files of each form.
func writeFiles(t *testing.T, c *plantsim.Certificate) (cert, key map[string]string) {
	t.Helper()
	folder := t.TempDir()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(c.Key)
	put := func(name string, b []byte) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return map[string]string{
			"PEM": put("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER})),
			"DER": put("cert.der", c.DER),
		}, map[string]string{
			"PKCS#1 PEM": put("key1.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: pkcs1})),
			"PKCS#8 PEM": put("key8.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
			"PKCS#1 DER": put("key1.der", pkcs1),
			"PKCS#8 DER": put("key8.der", pkcs8),
		}
}

func TestCertificateFiles(t *testing.T) {
	mine := newCertificate(t, "urn:sluice:test", -time.Hour, 365*24*time.Hour)
	soon := newCertificate(t, "urn:sluice:test", -time.Hour, 24*time.Hour)
	certs, keys := writeFiles(t, mine)
	soonCerts, soonKeys := writeFiles(t, soon)
	for form, cert := range certs {
		for keyForm, key := range keys {
			o := Options{Channel: Channel{Policy: Basic256Sha256}, Cert: config.Path(cert), Key: config.Path(key)}
			id, err := o.identity()
			if err != nil || string(id.cert) != string(mine.DER) || !id.key.Equal(mine.Key) {
				t.Errorf("%s with %s: %v", form, keyForm, err)
			}
		}
	}
	for _, c := range []struct{ name, cert, key, err string }{
		{"key of another", certs["PEM"], soonKeys["PKCS#8 PEM"], "do not go together"},
		{"no certificate in it", keys["PKCS#8 PEM"], keys["PKCS#8 PEM"], "holds no certificate"},
		{"no key in it", certs["PEM"], certs["PEM"], "holds no key"},
		{"no file", certs["PEM"] + "x", keys["PKCS#8 PEM"], "cannot be read"},
		{"no key file", certs["PEM"], "nowhere", "cannot be read"},
		{"ends soon", soonCerts["DER"], soonKeys["PKCS#1 DER"], "it ends on"},
	} {
		o := Options{Channel: Channel{Policy: Basic256Sha256}, Cert: config.Path(c.cert), Key: config.Path(c.key)}
		if _, err := o.identity(); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

// A real secured channel: signed and encrypted, only signed, with and without a
// password, and everything that must be refused.
func TestSecuredChannel(t *testing.T) {
	server := newCertificate(t, "urn:sluice:plantsim", -time.Hour, 365*24*time.Hour)
	mine := newCertificate(t, "urn:sluice:test", -time.Hour, 365*24*time.Hour)
	certs, keys := writeFiles(t, mine)
	t.Setenv("OPCUA_PASSWORD", "s3cret")
	t.Setenv("OPCUA_WRONG", "wrong-s3cret")
	open := newPLC(t, plantsim.OPCUAOptions{Certificate: server})
	closed := newPLC(t, plantsim.OPCUAOptions{Certificate: server, Users: map[string]string{"gateway": "s3cret"}})
	text := func(mode, pin, login string) string {
		return "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntimeout: 2s\npublishing: 50ms\nchannel: {policy: Basic256Sha256, mode: " + mode + "}\n" +
			"cert: " + certs["PEM"] + "\nkey: " + keys["PKCS#8 PEM"] + "\nserver_sha256: \"" + pin + "\"\n" + login +
			"tags: {made: ns=2;s=Line.Made}\n"
	}
	sum := sha256.Sum256(mine.DER)
	for _, c := range []struct {
		name   string
		server *plantsim.OPCUA
		text   string
		err    string
	}{
		{"encrypted", open, text("SignAndEncrypt", server.SHA256(), ""), ""},
		{"signed", open, text("Sign", server.SHA256(), ""), ""},
		{"encrypted, password", closed, text("SignAndEncrypt", server.SHA256(), "login: {user: gateway, password: env:OPCUA_PASSWORD}\n"), ""},
		{"signed, password", closed, text("Sign", server.SHA256(), "login: {user: gateway, password: env:OPCUA_PASSWORD}\n"), ""},
		{"wrong pin", open, text("SignAndEncrypt", hex.EncodeToString(sum[:]), ""), "its SHA-256 is " + server.SHA256()},
		{"wrong password", closed, text("SignAndEncrypt", server.SHA256(), "login: {user: gateway, password: env:OPCUA_WRONG}\n"), "does not take this login"},
		{"anonymous where a password is asked for", closed, text("SignAndEncrypt", server.SHA256(), ""), "does not take this login"},
		{"a login that nobody offers", open, text("SignAndEncrypt", server.SHA256(), "login: {user: gateway, password: env:OPCUA_PASSWORD}\n"), "takes no login of the kind user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := openText(t, c.text, c.server.Addr())
			err := d.Connect(t.Context(), 1)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			until(t, d, "value", func(s plant.Scan) bool {
				r, ok := find(s, "made")
				return ok && r.Value == plant.UintValue(4711)
			})
			d.Close()
			if n := c.server.Counts().OpenSessions; n != 0 {
				t.Errorf("%d sessions left", n)
			}
		})
	}
}

// A server that offers no security is not used by a device that wants it.
func TestNoDowngrade(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	mine := newCertificate(t, "urn:sluice:test", -time.Hour, 365*24*time.Hour)
	certs, keys := writeFiles(t, mine)
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\nchannel: {policy: Basic256Sha256}\ncert: "+certs["DER"]+"\nkey: "+keys["PKCS#1 DER"]+"\nserver_sha256: "+mine.SHA256()+"\ntags: {made: ns=2;s=Line.Made}\n", s.Addr())
	if err := d.Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "does not offer Basic256Sha256/SignAndEncrypt; it offers None/None") {
		t.Error(err)
	}
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
