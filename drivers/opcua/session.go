package opcua

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// probes is how many questions in a row a server may leave unanswered, at
	// least.
	probes = 3
	// farewell bounds the end of a session.
	farewell = time.Second
	// burial bounds the end of sessions that were lost, mostOrphans how many are
	// remembered.
	burial      = 500 * time.Millisecond
	mostOrphans = 16
	// graceForCause is how long a failed request may take to say why.
	graceForCause = 20 * time.Millisecond
	// longestKeepAlive bounds what a server may make of our wish for keep-alives;
	// publishTimeout is longer than any silence.
	longestKeepAlive = 3 * time.Minute
	publishTimeout   = 15 * time.Minute
	// leastSessionTimeout is how long the server keeps a session that went silent.
	// We never take one up again, and after a kill of the gateway a server with few
	// sessions lets nobody in before it is over.
	leastSessionTimeout = 10 * time.Second
	// mostOften bounds how often a session is kept that the server keeps for a
	// moment only.
	mostOften = 100 * time.Millisecond
)

// session is one connection with its client, which is never used again.
type session struct {
	d      *driver
	number uint64
	client *link
	socket socket
	// ctx ends with close; the goroutines in running end with it.
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	// writing is how many writes wait for their answers.
	writing atomic.Int32

	// lost is closed once, after cause is set.
	lost  chan struct{}
	once  sync.Once
	cause error

	namespaces []string
	items      []*item // by index in driver.points
	records    []*record
	// maxRead and maxItems are what the server says that it takes in a call; perRead
	// and perCall what it does take.
	maxRead, maxItems int

	subscription uint32
	interval     time.Duration // of publishing, as the server has revised it
	silence      time.Duration
	published    chan publish

	// Of the goroutine of Read.
	polling bool // there should be a subscription and is none
	over    bool // an error was returned
	strayed bool // a value under an unknown number was told of
	refused []plant.Reading
	audit   audit
	retryAt time.Time
	// scans and readings are the room of what Read has returned, polled that of
	// what was read; ordered counts what inOrder has looked at.
	scans    []plant.Scan
	readings []plant.Reading
	polled   []sample
	ordered  int
	// pollAt is when what nobody reports is read again, spacesAt when the list of
	// namespaces is.
	pollAt, spacesAt time.Time
	scanned          int
}

// start dials, asks what the server allows, and subscribes.
func (d *driver) start(ctx context.Context, number uint64) (*session, error) {
	s := &session{d: d, number: number, lost: make(chan struct{}), published: make(chan publish), silence: d.o.silence()}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.connect(ctx); err != nil {
		s.stop()
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, soon(err)
	}
	return s, nil
}

// prepare makes a connected session ready to be read.
func (s *session) prepare(ctx context.Context) error {
	if err := s.limits(ctx); err != nil {
		return err
	}
	s.items = make([]*item, len(s.d.points))
	for i, p := range s.d.points {
		s.items[i] = &item{point: p, handle: uint32(i + 1)}
	}
	s.namespaces = s.client.Namespaces()
	s.resolve(s.items)
	s.spacesAt = time.Now().Add(s.d.namespacesEvery)
	if err := s.learnStructures(ctx); err != nil {
		return err
	}
	s.records = s.newRecords(s.d.records)
	if s.d.o.Poll > 0 {
		s.stay()
		return nil
	}
	if why := s.d.subscribes.why(); why != "" {
		s.pollInstead(why)
		return nil
	}
	s.d.advice.say(onSubscription, "")
	s.d.advice.say(onStray, "")
	s.d.advice.say(onHaste, "")
	if err := s.subscribe(ctx); err != nil {
		return err
	}
	s.retryAt = time.Now().Add(s.d.retry)
	s.audit.at = time.Now().Add(s.d.auditEvery)
	s.running.Go(func() { s.guard(s.publishing) })
	s.running.Go(func() { s.guard(s.watch) })
	return nil
}

// sessionTimeout is longer than what lies between two requests: a poll may come
// once an hour, a subscription asks for the server's state all the time.
func (o *Options) sessionTimeout() time.Duration {
	return max(leastSessionTimeout, 2*o.Poll.Std()+o.Timeout.Std())
}

// silence is how long the server may say nothing to a subscription: three
// keep-alives and a time-out. The server may revise both to be longer.
func (o *Options) silence() time.Duration {
	return 3*time.Duration(o.keepAlives())*o.Publishing.Std() + o.Timeout.Std()
}

// connect makes the link to the server, and watches it.
func (s *session) connect(ctx context.Context) error {
	l, err := s.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return soon(ctx.Err())
		}
		return err
	}
	s.client = l
	s.running.Go(func() {
		select {
		case <-s.ctx.Done():
		case <-l.channel.done:
			// The request that failed knows why; it gets a moment to say so.
			time.AfterFunc(graceForCause, func() { s.end(lostBy(l.channel.why())) })
		}
	})
	return nil
}

// dial returns a link with an active session. A channel without security and
// login needs no list of endpoints: nothing in it could be trusted.
func (s *session) dial(ctx context.Context) (l *link, err error) {
	o := &s.d.o
	in := login{
		endpoint: string(o.Endpoint), name: "sluice " + string(s.d.device), device: string(s.d.device), timeout: o.sessionTimeout(),
		user: o.Login.User, password: o.Login.Password.Reveal(), person: s.d.user,
	}
	sealed := unsecured()
	if !o.Channel.none() || !o.Login.anonymous() {
		offered, err := s.endpoints(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask for its endpoints: %w", err)
		}
		if in.chosen, err = choose(offered, o.Channel, o.Login.token()); err != nil {
			return nil, err
		}
		if sealed, err = s.d.secured(in.chosen); err != nil {
			return nil, err
		}
	}
	err = s.open(ctx, func(ctx context.Context) error {
		if l, err = dialLink(ctx, &s.socket, o, sealed, s.d.lifetime); err != nil {
			return err
		}
		err := l.activate(ctx, in)
		if len(s.d.orphans) > 0 && (err == nil || errors.Is(err, ua.StatusBadTooManySessions)) {
			s.bury(ctx, l)
		}
		if err != nil {
			return err
		}
		return l.UpdateNamespaces(ctx)
	})
	if err != nil {
		if hangUp(l) {
			s.d.leave(l.made)
		}
		return nil, explain(err)
	}
	return l, nil
}

// endpoints asks the server what it offers, over a connection of its own.
func (s *session) endpoints(ctx context.Context) (offered []*ua.EndpointDescription, err error) {
	err = s.open(ctx, func(ctx context.Context) error {
		l, err := dialLink(ctx, &s.socket, &s.d.o, unsecured(), s.d.lifetime)
		if err != nil {
			return err
		}
		defer hangUp(l)
		offered, err = l.endpoints(ctx, string(s.d.o.Endpoint))
		return err
	})
	return offered, err
}

// open runs one step of connecting within the time-out.
func (s *session) open(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.d.o.Timeout.Std())
	defer cancel()
	err := step(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("the server gives no answer within %v: %w", s.d.o.Timeout.Std(), err)
	}
	return soon(err)
}

// hangUp ends a link that was not used, if there is one. It returns whether the
// server may still have its session.
func hangUp(l *link) (left bool) {
	if l == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	return l.close(ctx)
}

// noAnswer is a request without an answer in its time.
type noAnswer struct{ error }

// ask sends a request and returns its answer within the time-out. An error means
// that the session is not used any longer, also after a refused request: nobody
// knows what else the server has made of it. Only where the server says that it was
// too much (overmuch), or a listing gets no answer in time, less is asked for.
func ask[R ua.Response](ctx context.Context, s *session, req ua.Request) (answer R, err error) {
	limited, cancel := context.WithTimeout(ctx, s.d.o.Timeout.Std())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err = s.client.Send(limited, req, func(v ua.Response) error {
		r, ok := v.(R)
		if !ok {
			return fmt.Errorf("an answer of the wrong type %T", v)
		}
		answer = r
		return nil
	})
	switch {
	case err == nil:
		s.d.heard.Store(time.Now().UnixNano())
		return answer, nil
	case ctx.Err() != nil:
		return answer, ctx.Err()
	case s.ctx.Err() != nil:
		return answer, errors.New("the session was closed")
	case limited.Err() != nil:
		return answer, noAnswer{fmt.Errorf("the server gives no answer within %v", s.d.o.Timeout.Std())}
	default:
		return answer, refusal(err)
	}
}

// read reads attributes in one request.
func (s *session) read(ctx context.Context, nodes []*ua.ReadValueID) ([]*ua.DataValue, error) {
	answer, err := ask[*ua.ReadResponse](ctx, s, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth, NodesToRead: nodes})
	err = s.learn(ctx, &s.d.reads, len(nodes), err)
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != len(nodes) {
		return nil, fmt.Errorf("%d answers to %d nodes", len(answer.Results), len(nodes))
	}
	return answer.Results, nil
}

// perRead is how much one Read may hold, perCall one call about monitored items. A
// refusal of the server makes it less.
func (s *session) perRead() int { return s.d.reads.limit(cmp.Or(s.maxRead, chunk)) }

func (s *session) perCall() int { return s.d.calls.limit(s.maxItems) }

// overmuch reports whether a request held more than the server takes: it is to be
// asked for less then.
func overmuch(err error) bool {
	var status ua.StatusCode
	return errors.As(err, &status) && tooMuch[status]
}

// readAll reads attributes in as many requests as the server's limits call for,
// named or not. It may be called before they are known.
func (s *session) readAll(ctx context.Context, nodes []*ua.ReadValueID) (all []*ua.DataValue, err error) {
	for len(nodes) > 0 {
		part := nodes[:min(len(nodes), s.perRead())]
		got, err := s.read(ctx, part)
		if overmuch(err) && len(part) > 1 {
			continue // half of it from now on
		}
		if err != nil {
			return nil, err
		}
		all, nodes = append(all, got...), nodes[len(part):]
	}
	return all, nil
}

// learn is capacity.learn for what the server, and not the end of a context, made
// of a call.
func (s *session) learn(ctx context.Context, c *capacity, n int, err error) error {
	if ctx.Err() != nil || s.ctx.Err() != nil {
		return err
	}
	return c.learn(n, err)
}

func value(node *ua.NodeID) *ua.ReadValueID { return attribute(node, ua.AttributeIDValue) }

func attribute(node *ua.NodeID, a ua.AttributeID) *ua.ReadValueID {
	return &ua.ReadValueID{NodeID: node, AttributeID: a, DataEncoding: &ua.QualifiedName{}}
}

func standard(number uint32) *ua.NodeID { return ua.NewNumericNodeID(0, number) }

// limits asks how much one call may hold, and whether the server runs.
func (s *session) limits(ctx context.Context) error {
	got, err := s.readAll(ctx, []*ua.ReadValueID{
		value(standard(stateNode)),
		value(standard(id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)),
		value(standard(id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall)),
	})
	if err != nil {
		return fmt.Errorf("ask for its limits: %w", err)
	}
	s.maxRead, s.maxItems = limit(got[1]), limit(got[2])
	return running(got[0])
}

// limit reads an operation limit; 0 and a node that is not there mean none
// (OPC 10000-5, 6.3.11).
func limit(d *ua.DataValue) int {
	if d == nil || d.Value == nil {
		return chunk
	}
	n, ok := d.Value.Value().(uint32)
	if !ok || n == 0 {
		return chunk
	}
	return min(int(n), chunk)
}

// running checks ServerStatus.State. A server that does not tell answers, and
// that is enough.
func running(d *ua.DataValue) error {
	if d == nil || d.Value == nil {
		return nil
	}
	state, ok := d.Value.Value().(int32)
	if !ok || ua.ServerState(state) == ua.ServerStateRunning {
		return nil
	}
	words := map[ua.ServerState]string{
		ua.ServerStateFailed: "has failed", ua.ServerStateNoConfiguration: "has no configuration", ua.ServerStateSuspended: "is suspended",
		ua.ServerStateShutdown: "is shutting down", ua.ServerStateTest: "is in test mode", ua.ServerStateCommunicationFault: "has no contact to its devices",
	}
	word := words[ua.ServerState(state)]
	if word == "" {
		word = "is not running"
	}
	return fmt.Errorf("the server %s (state %d)", word, state)
}

// stay keeps a session that is polled more seldom than the server keeps it: servers
// have a longest time of their own, whatever they were asked for (OPC 10000-4,
// 5.6.2).
func (s *session) stay() {
	revised := s.client.made.answer.RevisedSessionTimeout
	if !(revised > 0 && revised < milliseconds(2*s.d.o.Poll.Std()+s.d.o.Timeout.Std())) {
		return
	}
	kept := time.Duration(revised * float64(time.Millisecond))
	s.running.Go(func() {
		s.guard(func() error {
			tick := time.NewTicker(max(kept/3, mostOften))
			defer tick.Stop()
			for {
				select {
				case <-s.ctx.Done():
					return nil
				case <-tick.C:
				}
				if _, err := s.read(s.ctx, []*ua.ReadValueID{value(standard(stateNode))}); err != nil {
					return err
				}
			}
		})
	})
}

// watch asks for the server's state all the time: neither a frozen server nor a
// cut cable is noticed by anybody else.
func (s *session) watch() error {
	period := min(max(s.d.o.Timeout.Std()/5, 20*time.Millisecond), time.Second)
	tick := time.NewTicker(period)
	defer tick.Stop()
	// A request may take as long as the time-out, if that is shorter.
	allowed := max(probes, int(min(s.d.o.Timeout.Std(), probes*time.Second)/period))
	spacesAt := time.Now().Add(s.d.namespacesEvery)
	for missed := 0; ; {
		select {
		case <-s.ctx.Done():
			return nil
		case <-tick.C:
		}
		asked := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, period*9/10)
		nodes := []*ua.ReadValueID{value(standard(stateNode))}
		if asked.After(spacesAt) && s.perRead() > 1 {
			nodes, spacesAt = append(nodes, namespaceArray()), asked.Add(s.d.namespacesEvery)
		}
		got, err := s.read(ctx, nodes)
		late := ctx.Err() != nil
		cancel()
		switch {
		case late && s.d.Heard().After(asked):
			missed = 0 // slow, but it reports
		case late:
			if missed++; missed >= allowed {
				return fmt.Errorf("the server has not answered for %v", time.Duration(allowed)*period)
			}
		case err != nil:
			return err
		default:
			if err := s.judgeFront(got); err != nil {
				return err
			}
			missed = 0
		}
	}
}
