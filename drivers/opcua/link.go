package opcua

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// link is a session of OPC UA over a channel of its own (OPC 10000-4, 5.6). Its
// methods may be called from any goroutine once it is active.
type link struct {
	channel *channel
	token   *ua.NodeID // nil before there is a session
	made    made       // once there is one

	mu         sync.Mutex
	namespaces []string
}

// login is what a session is made with.
type login struct {
	endpoint, name string
	device         string
	timeout        time.Duration
	// chosen is the endpoint with the one token policy to log in by; nil for a
	// channel without security and nobody's login, where there is nothing to
	// choose.
	chosen   *ua.EndpointDescription
	user     string
	password string
	// person is the certificate of a user.
	person identity
}

// dialLink connects and opens a channel.
func dialLink(ctx context.Context, k *socket, o *Options, s security, lifetime time.Duration) (*link, error) {
	conn, err := k.dial(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := openChannel(ctx, conn, string(o.Endpoint), s, lifetime, int(o.MaxMessage))
	if err != nil {
		return nil, err
	}
	return &link{channel: c}, nil
}

// address returns host:port of an endpoint.
func (e Endpoint) address() string {
	u, err := url.Parse(string(e))
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), u.Port())
}

// endpoints asks for what the server offers.
func (l *link) endpoints(ctx context.Context, endpoint string) ([]*ua.EndpointDescription, error) {
	r, err := l.channel.call(ctx, nil, &ua.GetEndpointsRequest{EndpointURL: endpoint})
	if err != nil {
		return nil, err
	}
	got, ok := r.(*ua.GetEndpointsResponse)
	if !ok {
		return nil, fmt.Errorf("an answer of the wrong type %T", r)
	}
	return got.Endpoints, nil
}

// activate makes a session and logs in.
func (l *link) activate(ctx context.Context, in login) error {
	s := &l.channel.security
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	answer, err := l.channel.call(ctx, nil, &ua.CreateSessionRequest{
		ClientDescription: &ua.ApplicationDescription{
			ApplicationURI: applicationURI(s.own.cert, in.device), ProductURI: "urn:sluice",
			ApplicationName: ua.NewLocalizedText("sluice"), ApplicationType: ua.ApplicationTypeClient,
		},
		EndpointURL: in.endpoint, SessionName: in.name, ClientNonce: nonce, ClientCertificate: s.own.cert,
		RequestedSessionTimeout: float64(in.timeout.Milliseconds()), MaxResponseMessageSize: uint32(l.channel.maxMessage),
	})
	r, ok := answer.(*ua.CreateSessionResponse)
	var status ua.StatusCode
	if ok && !errors.As(err, &status) {
		l.token = r.AuthenticationToken // also of an answer that is not believed: the session is there
	}
	if err != nil {
		return err
	}
	if l.token == nil {
		return fmt.Errorf("an answer of the wrong type %T", answer)
	}
	if err := l.confirm(r, nonce, in.chosen); err != nil {
		return err
	}
	l.made = made{in, r}
	return l.identify(ctx, l.made)
}

// made is a session as the server has made it: all that is needed to activate it,
// also over another channel.
type made struct {
	in login
	// answer has the newest nonce of the server.
	answer *ua.CreateSessionResponse
}

// identify activates a session over this channel.
func (l *link) identify(ctx context.Context, m made) (err error) {
	s := &l.channel.security
	req := &ua.ActivateSessionRequest{ClientSignature: &ua.SignatureData{}, UserTokenSignature: &ua.SignatureData{}}
	if s.signs() {
		if req.ClientSignature, err = sign(s.policy, s.own.key, s.public, s.server, m.answer.ServerNonce); err != nil {
			return err
		}
	}
	if err := m.in.token(req, s, m.answer); err != nil {
		return err
	}
	answer, err := l.channel.call(ctx, m.answer.AuthenticationToken, req)
	if err != nil {
		return err
	}
	if r, ok := answer.(*ua.ActivateSessionResponse); ok {
		m.answer.ServerNonce = r.ServerNonce
	}
	return nil
}

// bury ends a session whose channel was lost before it could be closed: the server
// keeps it, and counts it, until it has timed out there.
func (l *link) bury(ctx context.Context, m made) error {
	if err := l.identify(ctx, m); err != nil {
		return err
	}
	_, err := l.channel.call(ctx, m.answer.AuthenticationToken, &ua.CloseSessionRequest{DeleteSubscriptions: true})
	return err
}

// applicationURI is who the gateway says it is: what its certificate says, since
// servers compare the two.
func applicationURI(der []byte, device string) string {
	if cert, err := x509.ParseCertificate(der); err == nil && len(cert.URIs) > 0 {
		return cert.URIs[0].String()
	}
	return "urn:sluice:" + device
}

// confirm checks that it is the server of the channel that answers, and that the
// list of endpoints, which nobody has signed, was its own (OPC 10000-4, 5.6.2).
func (l *link) confirm(r *ua.CreateSessionResponse, nonce []byte, chosen *ua.EndpointDescription) error {
	s := &l.channel.security
	if !s.signs() {
		return nil
	}
	if !bytes.HasPrefix(r.ServerCertificate, s.server) {
		return errors.New("the server shows another certificate in the session than in its list of endpoints")
	}
	algo, err := uapolicy.Asymmetric(s.policy, s.own.key, s.public)
	if err != nil {
		return err
	}
	if r.ServerSignature == nil || algo.VerifySignature(slices.Concat(s.own.cert, nonce), r.ServerSignature.Signature) != nil {
		return errors.New("the server's signature is wrong: it does not have the key of its certificate")
	}
	if len(r.ServerEndpoints) == 0 || chosen == nil {
		return nil
	}
	want := chosen.UserIdentityTokens[0]
	for _, e := range r.ServerEndpoints {
		if e == nil || e.SecurityPolicyURI != chosen.SecurityPolicyURI || e.SecurityMode != chosen.SecurityMode {
			continue
		}
		for _, t := range e.UserIdentityTokens {
			if t != nil && t.PolicyID == want.PolicyID && t.TokenType == want.TokenType && t.SecurityPolicyURI == want.SecurityPolicyURI {
				return nil
			}
		}
	}
	return errors.New("the list of endpoints that came without a signature is not the server's own: somebody on the network may have changed it")
}

// sign proves that the owner of key answers to this very nonce.
func sign(policy string, key *rsa.PrivateKey, server *rsa.PublicKey, cert, nonce []byte) (*ua.SignatureData, error) {
	algo, err := uapolicy.Asymmetric(policy, key, server)
	if err != nil {
		return nil, err
	}
	signature, err := algo.Signature(slices.Concat(cert, nonce))
	if err != nil {
		return nil, err
	}
	return &ua.SignatureData{Algorithm: algo.SignatureURI(), Signature: signature}, nil
}

// token puts the login into a request (OPC 10000-4, 7.41).
func (in *login) token(req *ua.ActivateSessionRequest, s *security, r *ua.CreateSessionResponse) error {
	if in.chosen == nil {
		req.UserIdentityToken = ua.NewExtensionObject(&ua.AnonymousIdentityToken{PolicyID: anonymousPolicy(r.ServerEndpoints)})
		return nil
	}
	t := in.chosen.UserIdentityTokens[0]
	policy := cmp.Or(t.SecurityPolicyURI, in.chosen.SecurityPolicyURI)
	if t.TokenType == ua.UserTokenTypeAnonymous {
		req.UserIdentityToken = ua.NewExtensionObject(&ua.AnonymousIdentityToken{PolicyID: t.PolicyID})
		return nil
	}
	cert, public, err := s.forTokens(r)
	if err != nil && policy != ua.SecurityPolicyURINone {
		return err
	}
	if t.TokenType == ua.UserTokenTypeCertificate {
		req.UserIdentityToken = ua.NewExtensionObject(&ua.X509IdentityToken{PolicyID: t.PolicyID, CertificateData: in.person.cert})
		req.UserTokenSignature, err = sign(policy, in.person.key, public, cert, r.ServerNonce)
		return err
	}
	token := &ua.UserNameIdentityToken{PolicyID: t.PolicyID, UserName: in.user, Password: []byte(in.password)}
	if policy != ua.SecurityPolicyURINone {
		algo, err := uapolicy.Asymmetric(policy, nil, public)
		if err != nil {
			return err
		}
		secret := binary.LittleEndian.AppendUint32(nil, uint32(len(in.password)+len(r.ServerNonce)))
		secret = append(append(secret, in.password...), r.ServerNonce...)
		if token.Password, err = algo.Encrypt(secret); err != nil {
			return fmt.Errorf("encrypt the password: %w", err)
		}
		token.EncryptionAlgorithm = algo.EncryptionURI()
	}
	req.UserIdentityToken = ua.NewExtensionObject(token)
	return nil
}

// forTokens returns the certificate that a login is sealed for: the one that was
// judged, or on a channel without security the one that the server shows.
func (s *security) forTokens(r *ua.CreateSessionResponse) (der []byte, public *rsa.PublicKey, err error) {
	if s.signs() {
		return s.server, s.public, nil
	}
	cert, err := firstCertificate(r.ServerCertificate)
	if err != nil {
		return nil, nil, errors.New("the server wants an encrypted login and shows no certificate to encrypt it for")
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, nil, errors.New("the server's certificate has no RSA key")
	}
	return cert.Raw, public, nil
}

// anonymousPolicy is what a server calls nobody's login, as far as it says.
func anonymousPolicy(offered []*ua.EndpointDescription) string {
	for _, e := range offered {
		if e == nil || e.SecurityMode != ua.MessageSecurityModeNone {
			continue
		}
		for _, t := range e.UserIdentityTokens {
			if t != nil && t.TokenType == ua.UserTokenTypeAnonymous {
				return t.PolicyID
			}
		}
	}
	return "Anonymous"
}

// Send sends a request of the session and hands its answer to take; a bad status
// is an error. It returns at the end of ctx or of the channel, too.
func (l *link) Send(ctx context.Context, req ua.Request, take func(ua.Response) error) error {
	answer, err := l.channel.call(ctx, l.token, req)
	if err != nil {
		if answer != nil {
			_ = take(answer) // what a refusal says beside its status
		}
		return err
	}
	return take(answer)
}

// UpdateNamespaces reads the list of namespaces.
func (l *link) UpdateNamespaces(ctx context.Context) error {
	return l.Send(ctx, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: []*ua.ReadValueID{value(standard(id.Server_NamespaceArray))}}, func(v ua.Response) error {
		r, ok := v.(*ua.ReadResponse)
		if !ok || len(r.Results) != 1 || r.Results[0] == nil {
			return fmt.Errorf("an answer of the wrong type %T", v)
		}
		if status := r.Results[0].Status; status != ua.StatusOK {
			return fmt.Errorf("read the list of namespaces: %w", refused(status))
		}
		var list []string
		if r.Results[0].Value != nil {
			list, _ = r.Results[0].Value.Value().([]string)
		}
		if len(list) == 0 {
			return errors.New("the server has no list of namespaces")
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.namespaces = list
		return nil
	})
}

// Namespaces returns the list that was read last.
func (l *link) Namespaces() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.namespaces)
}

// close ends the session at the server, within ctx, and then the channel. It
// returns whether the server may still have the session.
func (l *link) close(ctx context.Context) (left bool) {
	if l.token != nil {
		_, err := l.channel.call(ctx, l.token, &ua.CloseSessionRequest{DeleteSubscriptions: true})
		var status ua.StatusCode
		left = err != nil && !errors.As(err, &status) // a server that answers has ended it, or never had it
	}
	l.channel.close()
	return left
}
