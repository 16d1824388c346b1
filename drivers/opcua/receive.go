package opcua

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uacp"
	"github.com/gopcua/opcua/uapolicy"
)

// read takes chunks until something fails. A panic of the codec is an error of
// this channel only.
func (c *channel) read(from io.Reader) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("an answer of the server cannot be decoded (%v)", r)
		}
	}()
	buf := make([]byte, bufferSize)
	for {
		b, err := readChunk(from, buf)
		if err == nil {
			err = c.take(b)
		}
		if err != nil {
			return err
		}
	}
}

// take works on one chunk.
func (c *channel) take(b []byte) error {
	more := b[3]
	switch kind := string(b[:3]); kind {
	case "MSG":
		const head = chunkHead + 8
		if len(b) < head {
			return errTruncated
		}
		k, err := c.keyOf(binary.LittleEndian.Uint32(b[chunkHead:]), binary.LittleEndian.Uint32(b[chunkHead+4:]))
		if err != nil {
			return err
		}
		rest, err := unseal(b, head, k.algo, c.security.signs(), c.security.encrypts())
		if err != nil {
			return err
		}
		return c.collect(more, binary.LittleEndian.Uint32(rest[4:]), rest[sequenceHead:])
	case "OPN":
		return c.takeOpen(b)
	case "ERR":
		return serverError(b)
	case "CLO":
		return errors.New("the server closed the channel")
	default:
		return fmt.Errorf("the server sends a message of the unknown type %q", kind)
	}
}

// keyOf returns the key that a chunk says it is secured by.
func (c *channel) keyOf(id, token uint32) (key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.keys {
		if id == c.id && k.token == token {
			return k, nil
		}
	}
	return key{}, fmt.Errorf("the server sends a message of the channel %d with the key %d, which nobody knows", id, token)
}

// takeOpen takes the answer to open.
func (c *channel) takeOpen(b []byte) error {
	c.mu.Lock()
	o := c.opening
	c.opening = nil
	c.mu.Unlock()
	if o == nil || b[3] != final {
		return errors.New("the server opens a channel that nobody asked for")
	}
	n, err := checkOpenHead(b, &c.security)
	if err != nil {
		return err
	}
	rest, err := unseal(b, n, o.algo, c.security.signs(), c.security.signs())
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(rest[4:]) != o.request {
		return errors.New("the server opens a channel that nobody asked for")
	}
	body, err := decode(append([]byte(nil), rest[sequenceHead:]...))
	if err != nil {
		return err
	}
	if f, ok := body.(*ua.ServiceFault); ok && f.ResponseHeader != nil && f.ResponseHeader.ServiceResult != ua.StatusOK {
		return fmt.Errorf("the server opens no channel: %w", refused(f.ResponseHeader.ServiceResult))
	}
	r, ok := body.(*ua.OpenSecureChannelResponse)
	if !ok {
		return fmt.Errorf("the server opens the channel with %T", body)
	}
	if r.SecurityToken == nil || c.security.signs() && len(r.ServerNonce) != o.algo.NonceLength() {
		return errors.New("the server opens the channel without a proper key")
	}
	algo, err := uapolicy.Symmetric(c.security.policy, o.nonce, r.ServerNonce)
	if err != nil {
		return err
	}
	lives := min(time.Duration(r.SecurityToken.RevisedLifetime)*time.Millisecond, c.lifetime)
	c.mu.Lock()
	c.id = r.SecurityToken.ChannelID
	c.keys = append(c.keys, key{r.SecurityToken.TokenID, algo})
	c.keys = c.keys[max(0, len(c.keys)-mostKeys):]
	c.mu.Unlock()
	o.done <- opened{lifetime: max(lives, leastLifetime)}
	return nil
}

// collect puts the chunks of a message together and hands it to who asked.
func (c *channel) collect(more byte, number uint32, part []byte) error {
	c.mu.Lock()
	to := c.waiting[number]
	c.mu.Unlock()
	before := c.partial[number]
	if to == nil || more != intermediate {
		delete(c.partial, number)
		c.held -= len(before)
	}
	switch {
	case to == nil: // who asked has gone
		return nil
	case more == aborted:
		c.deliver(to, number, answer{err: abortOf(part)})
		return nil
	case len(before)+len(part) > c.maxMessage:
		delete(c.partial, number)
		if more == intermediate {
			c.held -= len(before)
		}
		c.deliver(to, number, answer{err: tooLong(c.maxMessage)})
		return nil
	case more == intermediate:
		// Each message is bounded; all that are begun and not ended are, too.
		if c.held += len(part); c.held > 2*c.maxMessage {
			return errors.New("the server begins answers and does not end them")
		}
		c.partial[number] = append(before, part...)
		return nil
	case more != final:
		return fmt.Errorf("the server sends a chunk of the unknown kind %q", more)
	}
	body, err := c.decode(before, part)
	if err != nil {
		c.deliver(to, number, answer{err: err})
		return nil
	}
	r, ok := body.(ua.Response)
	if !ok || r.Header() == nil {
		c.deliver(to, number, answer{err: fmt.Errorf("the server answers with %T", body)})
		return nil
	}
	if err := handleOf(r, number); err != nil {
		c.doubtAll(to, number, r, err)
		return nil
	}
	a := answer{body: r}
	if status := r.Header().ServiceResult; status != ua.StatusOK {
		a.err = refused(status)
	}
	c.deliver(to, number, a)
	return nil
}

// tooLong is an answer that is longer than so many bytes.
type tooLong int

// Error says so.
func (n tooLong) Error() string {
	return fmt.Sprintf("an answer of the server is longer than %d bytes: read less at once, or raise max_message", int(n))
}

// handleOf checks that an answer carries the handle of the request with the number:
// the server returns what it was given (OPC 10000-4, 7.33). Where it does not, the
// values of the answer may be those of other tags, and so may those of the next.
// Only a fault may carry none: a server that cannot read a request does not know
// its handle.
func handleOf(r ua.Response, number uint32) error {
	got := r.Header().RequestHandle
	if _, fault := r.(*ua.ServiceFault); got == number || fault && got == 0 {
		return nil
	}
	return fmt.Errorf("the server answers request %d with the answer to another one (handle %d): none of its values are taken: restart the server, update its firmware", number, got)
}

// doubtAll ends all requests with err, since one of them was answered with r, which
// is the answer to another one. The channel stays for the farewell: a server that
// hears none keeps the session, and counts it.
func (c *channel) doubtAll(to chan<- answer, number uint32, r ua.Response, err error) {
	c.mu.Lock()
	c.doubt = err // before anybody hears of it, and takes leave
	all := c.waiting
	c.waiting = make(map[uint32]chan<- answer)
	c.mu.Unlock()
	delete(all, number)
	a := answer{err: err}
	if _, made := r.(*ua.CreateSessionResponse); made {
		a.body = r // no value is taken of it, but it names what has to be closed
	}
	to <- a
	for _, to := range all {
		to <- answer{err: err}
	}
}

// deliver hands over an answer, once.
func (c *channel) deliver(to chan<- answer, number uint32, a answer) {
	c.mu.Lock()
	delete(c.waiting, number)
	c.mu.Unlock()
	to <- a
}

// abortOf is why a server does not end an answer.
func abortOf(part []byte) error {
	var e uacp.Error
	if _, err := e.Decode(part); err != nil {
		return errors.New("the server does not end its answer")
	}
	return &e
}

// decode makes an answer of its chunks: all but the last, if there are any, and the
// last, which is not kept.
func (c *channel) decode(before, last []byte) (any, error) {
	whole := last
	if len(before) > 0 {
		whole = append(before, last...)
	}
	if a, ok := decodePublish(whole, c.rooms); ok {
		return a, nil
	}
	if len(before) == 0 {
		whole = bytes.Clone(last)
	}
	body, err := decode(whole)
	if r, ok := body.(*ua.PublishResponse); ok && err == nil && r.ResponseHeader != nil {
		return publishAnswerOf(r), nil
	}
	return body, err
}

// decode makes a message of its bytes, once it is sure that it may be decoded. It
// owns b.
func decode(b []byte) (any, error) {
	if err := skim(b); err != nil {
		return nil, fmt.Errorf("an answer of the server is not decoded: %w", err)
	}
	_, body, err := ua.DecodeService(b)
	if err != nil {
		return nil, fmt.Errorf("an answer of the server cannot be decoded: %w", err)
	}
	return body, nil
}
