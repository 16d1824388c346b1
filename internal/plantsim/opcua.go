package plantsim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"

	"github.com/sluice-edge/sluice/internal/faultnet"
)

// OPCUANamespace is the URI of the namespace that holds the nodes of an OPCUA
// server. Its index is 2, as with many PLCs.
const OPCUANamespace = "urn:sluice:plantsim:line"

// namespaceIndex is where OPCUANamespace stands; 1 is the server's own.
const namespaceIndex = 2

// OPCUAOptions say what an OPCUA server is like.
type OPCUAOptions struct {
	// Addr is where it listens, for example "127.0.0.1:0" for a free port.
	Addr string
	// Certificate and Key, made by NewCertificate, let it offer Policies with Sign
	// and SignAndEncrypt instead of None.
	Certificate *Certificate
	// Policies are the names of security policies; none means Basic256Sha256.
	Policies []string
	// Users are who may log in, with their passwords; nobody else may then.
	Users map[string]string
	// MaxNodesPerRead and MaxItemsPerCall are its operation limits; 0 means
	// that it names none.
	MaxNodesPerRead, MaxItemsPerCall uint32
	// Unnamed makes it keep to its limits without naming them, as small PLCs do.
	Unnamed bool
	// MaxItems is how many items one subscription may have; 0 means any number.
	MaxItems int
	// MaxNodesPerBrowse is its limit of that name, BrowsePage how many references
	// one answer holds for a node; 0 means none. With Circles folders lead back to
	// where they began.
	MaxNodesPerBrowse uint32
	BrowsePage        int
	Circles           bool
	// ReadOnly are nodes that no user may write.
	ReadOnly []string
	// NoDeadband makes it refuse every deadband, as an S7-1200 does.
	NoDeadband bool
}

// Nodes is the address space of an OPCUA server: variables with string
// identifiers in OPCUANamespace. It is used only inside OPCUA.Update.
type Nodes struct {
	byName map[string]*variable
	// changed collects what was set, for the subscriptions.
	changed []change
}

type change struct {
	name string
	now  *variable // nil: removed
}

type variable struct {
	value  any
	status ua.StatusCode
	at     time.Time
}

// Set gives a node a value, and makes the node if there is none. The Go type
// decides the OPC UA type: int16 is Int16, string is String, and so on.
func (n *Nodes) Set(name string, value any) {
	n.put(name, variable{value: value, at: time.Now()})
}

// SetAt is Set with a source timestamp.
func (n *Nodes) SetAt(name string, value any, at time.Time) {
	n.put(name, variable{value: value, at: at})
}

// SetStatus gives a node a status code other than Good; its value stays.
func (n *Nodes) SetStatus(name string, status uint32) {
	n.put(name, variable{value: n.Get(name), status: ua.StatusCode(status), at: time.Now()})
}

// Hide changes a truth value without a sample of any subscription: a pulse
// shorter than the sampling interval.
func (n *Nodes) Hide(name string, value bool) {
	n.byName[name] = &variable{value: value, at: time.Now()}
}

// Remove takes a node away.
func (n *Nodes) Remove(name string) {
	delete(n.byName, name)
	n.changed = append(n.changed, change{name: name})
}

// Clear takes all nodes away.
func (n *Nodes) Clear() {
	for name := range n.byName {
		n.Remove(name)
	}
}

// Get returns the value of a node, nil if there is none.
func (n *Nodes) Get(name string) any {
	if v := n.byName[name]; v != nil {
		return v.value
	}
	return nil
}

func (n *Nodes) put(name string, v variable) {
	n.byName[name] = &v
	n.changed = append(n.changed, change{name, &v})
}

// data returns what the server says of a node, nil for one that is not there.
func (v *variable) data() *ua.DataValue {
	now := time.Now()
	if v == nil {
		return &ua.DataValue{EncodingMask: ua.DataValueStatusCode | ua.DataValueServerTimestamp, Status: ua.StatusBadNodeIDUnknown, ServerTimestamp: now}
	}
	d := &ua.DataValue{Status: v.status, SourceTimestamp: v.at, ServerTimestamp: now}
	d.EncodingMask = ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp
	if v.status != ua.StatusOK {
		d.EncodingMask |= ua.DataValueStatusCode
	}
	if value, err := ua.NewVariant(v.value); err == nil && v.value != nil {
		d.Value = value
		d.EncodingMask |= ua.DataValueValue
	}
	return d
}

// OPCUAWrite is a write by a client.
type OPCUAWrite struct {
	Node  string
	Value any
}

// OPCUACounts counts requests since the start.
type OPCUACounts struct {
	// Reads counts Read requests, ReadNodes the nodes in them.
	Reads, ReadNodes uint64
	Writes           uint64
	// Sessions counts sessions made, OpenSessions and Subscriptions those there
	// are now.
	Sessions                    uint64
	OpenSessions, Subscriptions int
	// TooMany counts requests that were refused because of a limit.
	TooMany uint64
	// Unasked counts the publishing intervals that had something to say, and no
	// publish request to answer.
	Unasked uint64
}

// OPCUA is an OPC UA server. Channels, sessions and codecs are those of gopcua's
// server package. Reads, writes and subscriptions are our own, since the
// package's keep one value of each item only, accept items of nodes that do not
// exist, and give the number of a subscription twice. Its methods may be called
// from any goroutine.
type OPCUA struct {
	options OPCUAOptions
	front   front

	mu       sync.Mutex // one request, one publish or one Update at a time
	nodes    Nodes
	subs     map[uint32]*subscription
	requests map[string][]publishRequest // by authentication token
	sessions map[string]struct{}
	lastID   uint32
	onWrite  func(*Nodes, OPCUAWrite)
	onRead   func(*Nodes, []string)
	refuse   map[Service]ua.StatusCode
	silent   bool     // publish requests without a subscription are never answered
	reads    []string // of the last Read request, for tests
	renamed  string   // what OPCUANamespace is called; empty for its own name

	created, readCount, readNodes, writes, tooMany, unasked atomic.Uint64

	running sync.Mutex
	inner   *server.Server
	target  *faultnet.Port // where inner listens
	stop    context.CancelFunc
}

// NewOPCUA starts a server. Making one takes a second, since the server package
// reads the whole standard address space.
func NewOPCUA(o OPCUAOptions) (*OPCUA, error) {
	s := &OPCUA{options: o, nodes: Nodes{byName: map[string]*variable{}}, front: front{addr: o.Addr}}
	if err := s.serve(); err != nil {
		return nil, fmt.Errorf("plantsim: start OPC UA server: %w", err)
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Addr returns host:port, the same after Stop and Start.
func (s *OPCUA) Addr() string { return s.front.addr }

// serve starts the server proper, on a port that only front knows.
func (s *OPCUA) serve() error {
	port, err := faultnet.KeepPort("127.0.0.1")
	if err != nil {
		return err
	}
	number, _ := strconv.Atoi(port.Number()) // the system's
	options := []server.Option{
		server.EndPoint("127.0.0.1", number),
		server.EnableAuthMode(ua.UserTokenTypeAnonymous),
		server.SetLogger(slog.New(slog.DiscardHandler)),
	}
	if s.options.Users != nil {
		options = append(options, server.EnableAuthMode(ua.UserTokenTypeUserName))
	}
	if c := s.options.Certificate; c != nil {
		options = append(options, server.Certificate(c.DER), server.PrivateKey(c.Key))
		policies := s.options.Policies
		if len(policies) == 0 {
			policies = []string{"Basic256Sha256"}
		}
		for _, policy := range policies {
			options = append(options, server.EnableSecurity(policy, ua.MessageSecurityModeSign),
				server.EnableSecurity(policy, ua.MessageSecurityModeSignAndEncrypt))
		}
	} else {
		options = append(options, server.EnableSecurity("None", ua.MessageSecurityModeNone))
	}
	inner := server.New(options...)
	server.NewNodeNameSpace(inner, "urn:sluice:plantsim")
	server.NewNodeNameSpace(inner, OPCUANamespace)
	s.handle(inner)
	ctx, stop := context.WithCancel(context.Background())
	if err := inner.Start(ctx); err != nil {
		stop()
		return err
	}
	s.inner, s.stop, s.target = inner, stop, port
	return nil
}

// Rename gives the namespace of the nodes another name, as if another namespace
// had its number now; empty gives its own name back. A server changes it only
// while it has no sessions: between Stop and Start.
func (s *OPCUA) Rename(uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renamed = uri
}

// Start brings the device back on its port, with its nodes as they are now but
// without the sessions that there were.
func (s *OPCUA) Start() error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.front.open() {
		return nil
	}
	s.reset()
	if err := s.front.listen(s.target.Addr()); err != nil {
		return fmt.Errorf("plantsim: start OPC UA server: %w", err)
	}
	return nil
}

// Stop closes the port and resets all connections: the device goes away. Start
// brings it back.
func (s *OPCUA) Stop() error {
	s.running.Lock()
	defer s.running.Unlock()
	err := s.front.close()
	s.reset()
	return err
}

// Close stops the device for good.
func (s *OPCUA) Close() error {
	err := s.Stop()
	if s.inner == nil {
		return err
	}
	err = errors.Join(err, s.inner.Close())
	s.stop()
	return err
}

// reset forgets sessions and subscriptions.
func (s *OPCUA) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number := range s.subs {
		s.forget(number)
	}
	s.subs = map[uint32]*subscription{}
	s.requests = map[string][]publishRequest{}
	s.sessions = map[string]struct{}{}
	s.silent = false
}

// handle takes over the services that are our own. The server asks for its
// handlers by name and takes the first that is registered.
func (s *OPCUA) handle(inner *server.Server) {
	discovery := func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
		return &ua.GetEndpointsResponse{ResponseHeader: header(r), Endpoints: inner.Endpoints()}, nil
	}
	for service, h := range map[Service]server.Handler{
		id.GetEndpointsRequest_Encoding_DefaultBinary: discovery,
		ServiceRead:                                          s.read(inner),
		id.WriteRequest_Encoding_DefaultBinary:               s.write,
		id.BrowseRequest_Encoding_DefaultBinary:              s.browse,
		id.BrowseNextRequest_Encoding_DefaultBinary:          s.browseNext,
		ServiceCreateSubscription:                            s.createSubscription,
		ServiceCreateMonitoredItems:                          s.createItems,
		ServiceDeleteMonitoredItems:                          s.deleteItems,
		ServicePublish:                                       s.publish,
		id.DeleteSubscriptionsRequest_Encoding_DefaultBinary: s.deleteSubscriptions,
		ServiceActivateSession:                               s.activate(inner),
		id.CloseSessionRequest_Encoding_DefaultBinary:        s.closeSession,
	} {
		inner.RegisterHandler(uint16(service), s.unlessRefused(service, h))
	}
}

// Update changes the nodes. A request and a publish see all of one Update or
// nothing of it.
func (s *OPCUA) Update(change func(*Nodes)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.nodes)
	s.sample()
}

// Set gives one node a value.
func (s *OPCUA) Set(name string, value any) { s.Update(func(n *Nodes) { n.Set(name, value) }) }

// Get returns the value of one node.
func (s *OPCUA) Get(name string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes.Get(name)
}

// OnWrite sets what is called for each accepted write, after it changed the
// node and before the client has its answer, as part of the same atomic change.
// It must not call Update, Set or Get of the server.
func (s *OPCUA) OnWrite(hook func(*Nodes, OPCUAWrite)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onWrite = hook
}

// OnRead sets what is called with the names of its nodes that a Read request asks
// for, before they are read: what a PLC changes while a request is on its way.
// It must not call Update, Set or Get of the server.
func (s *OPCUA) OnRead(hook func(*Nodes, []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onRead = hook
}

// LastRead returns which of its nodes the last Read request asked for.
func (s *OPCUA) LastRead() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reads)
}

// Counts returns the counts since NewOPCUA.
func (s *OPCUA) Counts() OPCUACounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return OPCUACounts{
		Reads: s.readCount.Load(), ReadNodes: s.readNodes.Load(), Writes: s.writes.Load(), TooMany: s.tooMany.Load(), Unasked: s.unasked.Load(),
		Sessions: s.created.Load(), OpenSessions: len(s.sessions), Subscriptions: len(s.subs),
	}
}
