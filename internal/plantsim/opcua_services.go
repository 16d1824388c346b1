package plantsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
	"github.com/gopcua/opcua/uasc"
)

// header answers a request.
func header(r ua.Request) *ua.ResponseHeader {
	return &ua.ResponseHeader{
		Timestamp: time.Now(), RequestHandle: r.Header().RequestHandle,
		ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil),
	}
}

// known reports whether a request belongs to a session of this life of the
// device; s.mu is held.
func (s *OPCUA) known(r ua.Request) bool {
	_, ok := s.sessions[r.Header().AuthenticationToken.String()]
	return ok
}

// own returns the name of one of our nodes.
func own(n *ua.NodeID) (name string, ok bool) {
	return n.StringID(), n.Namespace() == namespaceIndex && n.Type() == ua.NodeIDTypeString
}

// read answers for our nodes and for the limits itself; the rest of the address
// space is the server's.
func (s *OPCUA) read(inner *server.Server) server.Handler {
	return func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
		req, ok := r.(*ua.ReadRequest)
		if !ok {
			return nil, ua.StatusBadRequestTypeInvalid
		}
		s.readCount.Add(1)
		s.readNodes.Add(uint64(len(req.NodesToRead)))
		if limit := s.options.MaxNodesPerRead; limit > 0 && len(req.NodesToRead) > int(limit) {
			s.tooMany.Add(1)
			return nil, ua.StatusBadTooManyOperations
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.known(r) {
			return nil, ua.StatusBadSessionIDInvalid
		}
		if s.onRead != nil {
			s.onRead(&s.nodes, asked(req.NodesToRead))
			s.sample()
		}
		s.reads = s.reads[:0]
		results := make([]*ua.DataValue, len(req.NodesToRead))
		for i, n := range req.NodesToRead {
			results[i] = s.attribute(inner, n)
		}
		return &ua.ReadResponse{ResponseHeader: header(r), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
	}
}

// asked returns the names of our nodes whose value is asked for.
func asked(nodes []*ua.ReadValueID) (names []string) {
	for _, n := range nodes {
		if name, ok := own(n.NodeID); ok && n.AttributeID == ua.AttributeIDValue {
			names = append(names, name)
		}
	}
	return names
}

func (s *OPCUA) attribute(inner *server.Server, n *ua.ReadValueID) *ua.DataValue {
	if name, ok := own(n.NodeID); ok {
		d := s.nodes.byName[name].data()
		switch n.AttributeID {
		case ua.AttributeIDValue:
			s.reads = append(s.reads, name)
			return d
		case ua.AttributeIDDataType:
			if d.Value != nil {
				return server.DataValueFromValue(ua.NewNumericNodeID(0, uint32(d.Value.Type())))
			}
		case ua.AttributeIDValueRank:
			if d.Value != nil {
				return server.DataValueFromValue(rank(d.Value))
			}
		case ua.AttributeIDUserAccessLevel:
			if d.Status != ua.StatusBadNodeIDUnknown {
				return server.DataValueFromValue(s.access(name))
			}
		}
		return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadAttributeIDInvalid}
	}
	if n.NodeID.Namespace() == 0 {
		number := n.NodeID.IntID()
		if s.options.Unnamed && (number == id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead || number == id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall) {
			return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
		}
		switch number {
		case id.Server_NamespaceArray:
			if s.renamed != "" && n.AttributeID == ua.AttributeIDValue {
				names := make([]string, 0, namespaceIndex+1)
				for _, space := range inner.Namespaces()[:namespaceIndex] {
					names = append(names, space.Name())
				}
				return server.DataValueFromValue(append(names, s.renamed))
			}
		case id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead:
			return server.DataValueFromValue(s.options.MaxNodesPerRead)
		case id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall:
			return server.DataValueFromValue(s.options.MaxItemsPerCall)
		case id.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse:
			if s.options.Unnamed {
				return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
			}
			return server.DataValueFromValue(s.options.MaxNodesPerBrowse)
		}
	}
	space, err := inner.Namespace(int(n.NodeID.Namespace()))
	if err != nil {
		return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Status: ua.StatusBadNodeIDUnknown}
	}
	return space.Attribute(n.NodeID, n.AttributeID)
}

// rank is the attribute ValueRank: one dimension or none.
func rank(v *ua.Variant) int32 {
	if v.Has(ua.VariantArrayValues) {
		return 1
	}
	return -1
}

// access is what any user may do with one of our nodes.
func (s *OPCUA) access(name string) uint8 {
	level := ua.AccessLevelTypeCurrentRead | ua.AccessLevelTypeCurrentWrite
	if slices.Contains(s.options.ReadOnly, name) {
		level = ua.AccessLevelTypeCurrentRead
	}
	return uint8(level)
}

// write accepts a value of the very type that the node has, as PLCs do.
func (s *OPCUA) write(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.WriteRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	s.writes.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known(r) {
		return nil, ua.StatusBadSessionIDInvalid
	}
	results := make([]ua.StatusCode, len(req.NodesToWrite))
	for i, w := range req.NodesToWrite {
		results[i] = s.writeOne(w)
	}
	s.sample()
	return &ua.WriteResponse{ResponseHeader: header(r), Results: results, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

func (s *OPCUA) writeOne(w *ua.WriteValue) ua.StatusCode {
	name, ok := own(w.NodeID)
	v := s.nodes.byName[name]
	switch {
	case !ok || v == nil:
		return ua.StatusBadNodeIDUnknown
	case w.AttributeID != ua.AttributeIDValue || w.Value == nil || w.Value.Value == nil:
		return ua.StatusBadAttributeIDInvalid
	case w.Value.EncodingMask != ua.DataValueValue:
		return ua.StatusBadWriteNotSupported // timestamps and status, as many PLCs
	case reflect.TypeOf(w.Value.Value.Value()) != reflect.TypeOf(v.value):
		return ua.StatusBadTypeMismatch
	}
	s.nodes.Set(name, w.Value.Value.Value())
	if s.onWrite != nil {
		s.onWrite(&s.nodes, OPCUAWrite{Node: name, Value: w.Value.Value.Value()})
	}
	return ua.StatusOK
}

// activate checks passwords, which the server package does not, and counts
// sessions: the package's own service is of use only after it has been started.
func (s *OPCUA) activate(inner *server.Server) server.Handler {
	return func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
		req, ok := r.(*ua.ActivateSessionRequest)
		if !ok {
			return nil, ua.StatusBadRequestTypeInvalid
		}
		if inner.Session(req.RequestHeader) == nil {
			return nil, ua.StatusBadSessionIDInvalid
		}
		if !s.allowed(req.UserIdentityToken) {
			return nil, ua.StatusBadUserAccessDenied
		}
		nonce := make([]byte, 32)
		if _, err := rand.Read(nonce); err != nil {
			return nil, ua.StatusBadInternalError
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.created.Add(1)
		s.sessions[req.RequestHeader.AuthenticationToken.String()] = struct{}{}
		return &ua.ActivateSessionResponse{ResponseHeader: header(r), ServerNonce: nonce, Results: []ua.StatusCode{}, DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
	}
}

// closeSession ends a session with its subscriptions.
func (s *OPCUA) closeSession(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
	req, ok := r.(*ua.CloseSessionRequest)
	if !ok {
		return nil, ua.StatusBadRequestTypeInvalid
	}
	token := req.RequestHeader.AuthenticationToken.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, token)
	delete(s.requests, token)
	for number, sub := range s.subs {
		if sub.token == token && req.DeleteSubscriptions {
			s.forget(number)
		}
	}
	return &ua.CloseSessionResponse{ResponseHeader: header(r)}, nil
}

// allowed reports whether a token of a login is one of Users, or anybody if
// there are none.
func (s *OPCUA) allowed(token *ua.ExtensionObject) bool {
	if s.options.Users == nil {
		return true
	}
	if token == nil {
		return false
	}
	t, ok := token.Value.(*ua.UserNameIdentityToken)
	if !ok {
		return false
	}
	want, known := s.options.Users[t.UserName]
	password := t.Password
	if t.EncryptionAlgorithm != "" {
		if s.options.Certificate == nil {
			return false
		}
		key := s.options.Certificate.Key
		algorithm, err := uapolicy.Asymmetric(ua.SecurityPolicyURIBasic256Sha256, key, &key.PublicKey)
		if err != nil {
			return false
		}
		secret, err := algorithm.Decrypt(password)
		// Four bytes of length, the password, the server's nonce of 32 bytes.
		if err != nil || len(secret) < 36 || int(binary.LittleEndian.Uint32(secret)) != len(secret)-4 {
			return false
		}
		password = secret[4 : len(secret)-32]
	}
	return known && want == string(password)
}

// Certificate is an application instance certificate with its key.
type Certificate struct {
	DER []byte
	Key *rsa.PrivateKey
}

// NewCertificate makes a certificate that signs itself, of the form that OPC UA
// asks for (OPC 10000-6, 6.2.2), for an application of that URI on 127.0.0.1.
func NewCertificate(applicationURI string, from, until time.Time) (*Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("plantsim: make certificate: %w", err)
	}
	uri, err := url.Parse(applicationURI)
	if err != nil {
		return nil, fmt.Errorf("plantsim: make certificate: %w", err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: "plantsim"},
		NotBefore: from, NotAfter: until, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{uri}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("plantsim: make certificate: %w", err)
	}
	return &Certificate{DER: der, Key: key}, nil
}

// SHA256 returns the certificate's fingerprint in hexadecimal.
func (c *Certificate) SHA256() string {
	sum := sha256.Sum256(c.DER)
	return hex.EncodeToString(sum[:])
}
