package opcua

import (
	"bytes"
	"crypto/rsa"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// Whoever answers must be the server of the channel, with its key, and the list of
// endpoints that was chosen from its own.
func TestConfirm(t *testing.T) {
	year := 365 * 24 * time.Hour
	server, mine, other := newCertificate(t, "urn:server", -time.Hour, year), newCertificate(t, "urn:mine", -time.Hour, year), newCertificate(t, "urn:other", -time.Hour, year)
	nonce := bytes.Repeat([]byte{7}, 32)
	s := security{policy: strong, mode: ua.MessageSecurityModeSignAndEncrypt, own: identity{mine.DER, mine.Key}, server: server.DER, public: &server.Key.PublicKey}
	signed := func(by *rsa.PrivateKey, over ...[]byte) *ua.SignatureData {
		a, err := uapolicy.Asymmetric(strong, by, &mine.Key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := a.Signature(slices.Concat(over...))
		if err != nil {
			t.Fatal(err)
		}
		return &ua.SignatureData{Signature: signature}
	}
	right := endpoint(strong, ua.MessageSecurityModeSignAndEncrypt, anonymous(), user("u", strong))
	chosen := endpoint(strong, ua.MessageSecurityModeSignAndEncrypt, user("u", strong))
	for _, c := range []struct {
		name   string
		change func(*ua.CreateSessionResponse)
		want   string
	}{
		{"as it should be", func(*ua.CreateSessionResponse) {}, ""},
		{"a chain", func(r *ua.CreateSessionResponse) { r.ServerCertificate = slices.Concat(server.DER, other.DER) }, ""},
		{"no list", func(r *ua.CreateSessionResponse) { r.ServerEndpoints = nil }, ""},
		{"another certificate", func(r *ua.CreateSessionResponse) { r.ServerCertificate = other.DER }, "another certificate"},
		{"no certificate", func(r *ua.CreateSessionResponse) { r.ServerCertificate = nil }, "another certificate"},
		{"another's signature", func(r *ua.CreateSessionResponse) { r.ServerSignature = signed(other.Key, mine.DER, nonce) }, "signature is wrong"},
		{"of another time", func(r *ua.CreateSessionResponse) { r.ServerSignature = signed(server.Key, mine.DER, nonce[1:]) }, "signature is wrong"},
		{"no signature", func(r *ua.CreateSessionResponse) { r.ServerSignature = nil }, "signature is wrong"},
		{"the password in clear text", func(r *ua.CreateSessionResponse) {
			r.ServerEndpoints = []*ua.EndpointDescription{nil, endpoint(strong, ua.MessageSecurityModeSignAndEncrypt, user("u", none))}
		}, "may have changed it"},
		{"another mode", func(r *ua.CreateSessionResponse) {
			r.ServerEndpoints = []*ua.EndpointDescription{endpoint(strong, ua.MessageSecurityModeSign, user("u", strong))}
		}, "may have changed it"},
	} {
		r := &ua.CreateSessionResponse{ServerCertificate: server.DER, ServerSignature: signed(server.Key, mine.DER, nonce), ServerEndpoints: []*ua.EndpointDescription{right}}
		c.change(r)
		err := (&link{channel: &channel{security: s}}).confirm(r, nonce, chosen)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}

	for _, c := range []struct {
		name string
		head []byte
		want string
	}{
		{"as it should be", openHead(1, &security{policy: strong, own: identity{cert: server.DER}, server: mine.DER}), ""},
		{"a chain", openHead(1, &security{policy: strong, own: identity{cert: slices.Concat(server.DER, other.DER)}, server: mine.DER}), ""},
		{"another certificate", openHead(1, &security{policy: strong, own: identity{cert: other.DER}, server: mine.DER}), "another certificate than"},
		{"no security", openHead(1, &security{policy: none}), "opens the channel with the policy"},
		{"for somebody else", openHead(1, &security{policy: strong, own: identity{cert: server.DER}, server: other.DER}), "answers somebody"},
		{"cut", openHead(1, &security{policy: strong, own: identity{cert: server.DER}, server: mine.DER})[:200], "ends in the middle"},
	} {
		n, err := checkOpenHead(c.head, &s)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || err == nil && n != len(c.head) {
			t.Errorf("%s: %d, %v, want %q", c.name, n, err, c.want)
		}
	}
}

// Each kind of login, as the server gets it: a password only sealed for the server
// of the channel, a user's certificate with a signature over its nonce.
func TestLoginTokens(t *testing.T) {
	year := 365 * 24 * time.Hour
	server, mine, person := newCertificate(t, "urn:server", -time.Hour, year), newCertificate(t, "urn:mine", -time.Hour, year), newCertificate(t, "urn:person", -time.Hour, year)
	s := security{policy: strong, mode: ua.MessageSecurityModeSign, own: identity{mine.DER, mine.Key}, server: server.DER, public: &server.Key.PublicKey}
	r := &ua.CreateSessionResponse{ServerNonce: bytes.Repeat([]byte{9}, 32), ServerCertificate: mine.DER}
	for _, policy := range []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss} {
		theirs, err := uapolicy.Asymmetric(policy, server.Key, &person.Key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		in := login{user: "gateway", password: "s3cret", chosen: endpoint(strong, ua.MessageSecurityModeSign, user("u", policy))}
		req := &ua.ActivateSessionRequest{}
		if err := in.token(req, &s, r); err != nil {
			t.Fatal(err)
		}
		sealed, _ := req.UserIdentityToken.Value.(*ua.UserNameIdentityToken)
		open, err := theirs.Decrypt(sealed.Password)
		if err != nil || sealed.UserName != "gateway" || sealed.PolicyID != "u" || !bytes.Equal(open[4:], slices.Concat([]byte("s3cret"), r.ServerNonce)) || sealed.EncryptionAlgorithm != theirs.EncryptionURI() {
			t.Errorf("%s: %+v, %v", policy, sealed, err)
		}

		in = login{person: identity{person.DER, person.Key}, chosen: endpoint(strong, ua.MessageSecurityModeSign, &ua.UserTokenPolicy{PolicyID: "c", TokenType: ua.UserTokenTypeCertificate, SecurityPolicyURI: policy})}
		req = &ua.ActivateSessionRequest{}
		if err := in.token(req, &s, r); err != nil {
			t.Fatal(err)
		}
		token, _ := req.UserIdentityToken.Value.(*ua.X509IdentityToken)
		if token == nil || !bytes.Equal(token.CertificateData, person.DER) || theirs.VerifySignature(slices.Concat(server.DER, r.ServerNonce), req.UserTokenSignature.Signature) != nil {
			t.Errorf("%s: %+v", policy, token)
		}
	}
}
