package opcua

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uapolicy"
)

const (
	// writeFor is how long the network may take to accept a chunk.
	writeFor = 10 * time.Second
	// leastLifetime is the shortest life of a key that a server may revise ours to.
	leastLifetime = time.Second
	// greeting is how long the server's first answer may be; an error with its
	// reason has 4112 bytes at most.
	greeting = 8192
	// mostKeys is how many keys of a channel are known: the newest, and the one
	// before, which the server may use until it has heard of the newest.
	mostKeys = 2
)

// channel is a secure channel to a server (OPC 10000-6, 6.7). The library's own
// lets the server say how much memory it takes, decodes what it gets unseen, and
// panics where nobody can catch it (docs/adr/0023); of the library this one uses
// the ciphers and the codec. Its methods may be called from any goroutine.
type channel struct {
	conn       net.Conn
	security   security
	lifetime   time.Duration
	maxMessage int
	// chunkSize, theirMessage and theirChunks are what the server takes; 0 is no
	// limit.
	chunkSize                 int
	theirMessage, theirChunks uint32

	running sync.WaitGroup
	done    chan struct{}

	sending  sync.Mutex // one message at a time
	sequence uint32

	mu      sync.Mutex
	id      uint32
	keys    []key // the newest last
	request uint32
	waiting map[uint32]chan<- answer
	opening *opening // nil while no key is asked for
	cause   error
	// doubt is why no answer is believed any longer; nil while they are. The
	// channel serves to take leave then.
	doubt error

	// rooms takes back the samples of answers to publish requests.
	rooms spare

	// Of the goroutine that reads.
	partial map[uint32][]byte
	held    int // bytes in partial
}

// key secures messages for a while.
type key struct {
	token uint32
	algo  *uapolicy.EncryptionAlgorithm
}

// opening is an OpenSecureChannel under way.
type opening struct {
	request uint32
	nonce   []byte
	algo    *uapolicy.EncryptionAlgorithm
	done    chan opened
}

type opened struct {
	lifetime time.Duration
	err      error
}

// answer is what came of a request.
type answer struct {
	body ua.Response
	err  error
}

// openChannel greets the server and opens the channel; it owns conn from then on.
// The channel lives until close, or until something fails.
func openChannel(ctx context.Context, conn net.Conn, endpoint string, s security, lifetime time.Duration, maxMessage int) (*channel, error) {
	c := &channel{
		conn: conn, security: s, lifetime: lifetime, maxMessage: maxMessage, done: make(chan struct{}),
		waiting: make(map[uint32]chan<- answer), partial: make(map[uint32][]byte), rooms: make(spare, publishRequests),
	}
	stop := context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })
	defer stop()
	from := bufio.NewReaderSize(conn, 16<<10)
	if err := c.greet(from, endpoint); err != nil {
		c.fail(err)
		return nil, c.why()
	}
	c.running.Go(func() { c.fail(c.read(from)) })
	lives, err := c.open(ctx, ua.SecurityTokenRequestTypeIssue)
	if err != nil {
		c.fail(err)
		c.running.Wait()
		return nil, c.why()
	}
	c.running.Go(func() { c.renew(lives) })
	return c, nil
}

// greet is Hello and Acknowledge (OPC 10000-6, 7.1.2.3). What the server says of
// itself bounds what it is sent; what it may send is bounded by us.
func (c *channel) greet(from io.Reader, endpoint string) error {
	body, err := (&uacp.Hello{
		ReceiveBufSize: bufferSize, SendBufSize: bufferSize, MaxMessageSize: uint32(c.maxMessage), EndpointURL: endpoint,
	}).Encode()
	if err != nil {
		return err
	}
	if err := c.write(finish(append(startChunk("HEL", final), body...))); err != nil {
		return err
	}
	b, err := readChunk(from, make([]byte, greeting))
	if err != nil {
		return err
	}
	switch string(b[:4]) {
	case "ACKF":
		var ack uacp.Acknowledge
		if _, err := ack.Decode(b[chunkHead:]); err != nil {
			return errors.New("the server's first answer is too short: it is broken, or no OPC UA server")
		}
		if ack.ReceiveBufSize < leastBuffer {
			return fmt.Errorf("the server takes %d bytes at a time, and 8192 are the least that OPC UA allows", ack.ReceiveBufSize)
		}
		c.chunkSize, c.theirMessage, c.theirChunks = int(min(ack.ReceiveBufSize, bufferSize)), ack.MaxMessageSize, ack.MaxChunkCount
		return nil
	case "ERRF":
		return serverError(b)
	default:
		return fmt.Errorf("the server greets with %q: it is no OPC UA server", b[:4])
	}
}

// serverError is the error that a server sends before it hangs up.
func serverError(b []byte) error {
	var e uacp.Error
	if _, err := e.Decode(b[chunkHead:]); err != nil {
		return errors.New("the server sends an error that cannot be read, and hangs up")
	}
	return &e
}

// open asks for a key and returns how long it lives.
func (c *channel) open(ctx context.Context, kind ua.SecurityTokenRequestType) (time.Duration, error) {
	algo, err := uapolicy.Asymmetric(c.security.policy, c.security.own.key, c.security.public)
	if err != nil {
		return 0, err
	}
	nonce, err := algo.MakeNonce()
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	c.request++
	o := &opening{request: c.request, nonce: nonce, algo: algo, done: make(chan opened, 1)}
	c.opening = o
	id := c.id
	c.mu.Unlock()
	body, err := encode(&ua.OpenSecureChannelRequest{
		RequestHeader: requestHeader(ctx, nil, o.request), RequestType: kind, SecurityMode: c.security.mode,
		ClientNonce: nonce, RequestedLifetime: uint32(c.lifetime.Milliseconds()),
	})
	if err != nil {
		return 0, err
	}
	c.sending.Lock()
	c.sequence++
	b, err := seal(openHead(id, &c.security), c.sequence, o.request, body, algo, c.security.signs(), c.security.signs())
	if err == nil {
		err = c.write(b)
	}
	c.sending.Unlock()
	if err != nil {
		return 0, err
	}
	select {
	case got := <-o.done:
		return got.lifetime, got.err
	case <-c.done:
		return 0, c.why()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// renew asks for the next key after three quarters of the life of each (OPC
// 10000-4, 5.5.2.1). Requests go on under the one that there is.
func (c *channel) renew(lives time.Duration) {
	for {
		timer := time.NewTimer(lives * 3 / 4)
		select {
		case <-c.done:
			timer.Stop()
			return
		case <-timer.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), max(lives/4, leastLifetime))
		next, err := c.open(ctx, ua.SecurityTokenRequestTypeRenew)
		cancel()
		if err != nil {
			c.fail(fmt.Errorf("renew the key of the channel: %w", err))
			return
		}
		lives = next
	}
}

// encode is a message with the number of its type before it.
func encode(message any) ([]byte, error) {
	b := ua.NewBuffer(nil)
	b.WriteStruct(ua.NewFourByteExpandedNodeID(0, ua.ServiceTypeID(message)))
	b.WriteStruct(message)
	return b.Bytes(), b.Error()
}

func requestHeader(ctx context.Context, session *ua.NodeID, number uint32) *ua.RequestHeader {
	if session == nil {
		session = ua.NewTwoByteNodeID(0)
	}
	hint := publishTimeout
	if end, ok := ctx.Deadline(); ok {
		hint = max(time.Until(end), time.Millisecond)
	}
	return &ua.RequestHeader{AuthenticationToken: session, Timestamp: time.Now(), RequestHandle: number, TimeoutHint: uint32(hint.Milliseconds())}
}

// call sends a request and waits for its answer, for ctx or for the end of the
// channel. An answer with a bad status comes with that status as the error. Once an
// answer was not that to its request, all requests fail but those that take leave.
func (c *channel) call(ctx context.Context, session *ua.NodeID, req ua.Request) (ua.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	got := make(chan answer, 1)
	c.mu.Lock()
	if c.doubt != nil && !takesLeave(req) {
		defer c.mu.Unlock()
		return nil, c.doubt
	}
	c.request++
	number := c.request
	c.waiting[number] = got
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, number)
	}()
	req.SetHeader(requestHeader(ctx, session, number))
	body, err := encode(req)
	if err != nil {
		return nil, err
	}
	if err := c.send("MSG", number, body); err != nil {
		return nil, err
	}
	select {
	case a := <-got:
		return a.body, a.err
	case <-c.done:
		return nil, c.why()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// takesLeave reports whether a request ends something at the server, so that
// nothing hangs on its answer.
func takesLeave(req ua.Request) bool {
	switch req.(type) {
	case *ua.CloseSessionRequest, *ua.DeleteSubscriptionsRequest:
		return true
	default:
		return false
	}
}

// send writes a message in as many chunks as it needs.
func (c *channel) send(kind string, number uint32, body []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	if len(c.keys) == 0 {
		c.mu.Unlock()
		return c.why()
	}
	id, k := c.id, c.keys[len(c.keys)-1]
	c.mu.Unlock()
	const head = chunkHead + 8
	most := room(c.chunkSize, head, k.algo, c.security.signs(), c.security.encrypts())
	if chunks := uint32(len(body)/most + 1); c.theirMessage > 0 && uint32(len(body)) > c.theirMessage || c.theirChunks > 0 && chunks > c.theirChunks {
		return fmt.Errorf("a request of %d bytes is more than the server takes (%d bytes, %d chunks): name fewer tags in one device", len(body), c.theirMessage, c.theirChunks)
	}
	for more := byte(intermediate); more == intermediate; {
		part := body
		if len(part) <= most {
			more = final
		} else {
			part = part[:most]
		}
		body = body[len(part):]
		h := make([]byte, 0, head+sequenceHead+len(part)+64)
		h = append(h, startChunk(kind, more)...)
		h = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(h, id), k.token)
		c.sequence++
		b, err := seal(h, c.sequence, number, part, k.algo, c.security.signs(), c.security.encrypts())
		if err != nil {
			return err
		}
		if err := c.write(b); err != nil {
			return err
		}
	}
	return nil
}

// write gives the network a whole chunk, or ends the channel.
func (c *channel) write(b []byte) error {
	err := c.conn.SetWriteDeadline(time.Now().Add(writeFor))
	if err == nil {
		_, err = c.conn.Write(b)
	}
	if err != nil {
		c.fail(err)
		return c.why()
	}
	return nil
}

// fail ends the channel; the first cause stays.
func (c *channel) fail(err error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = err
		close(c.done)
	}
	c.mu.Unlock()
	_ = c.conn.Close() // everybody who waits for it returns
}

// why returns why the channel has ended.
func (c *channel) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		return errors.New("the channel is not open")
	}
	return c.cause
}

var errClosed = errors.New("the channel was closed")

// close says farewell, ends the channel and waits for its goroutines.
func (c *channel) close() {
	select {
	case <-c.done:
	default:
		c.mu.Lock()
		c.request++
		number := c.request
		c.mu.Unlock()
		req := &ua.CloseSecureChannelRequest{RequestHeader: requestHeader(context.Background(), nil, number)}
		if body, err := encode(req); err == nil {
			_ = c.send("CLO", number, body) // nobody answers, and a server that is gone need not hear it
		}
	}
	c.fail(errClosed)
	c.running.Wait()
}
