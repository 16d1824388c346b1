package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client asks a Server. Make one with Dial or Local.
type Client struct {
	http  *http.Client
	close func() error
}

// Dial connects to the gateway that runs on the store in folder.
// ErrNotRunning means that there is none.
func Dial(ctx context.Context, folder string) (*Client, error) {
	c := newClient(func(ctx context.Context) (net.Conn, error) { return dial(ctx, folder) }, nil)
	var about About
	if err := c.Get(ctx, "/about", nil, &about); err != nil {
		return nil, err
	}
	return c, nil
}

// Local serves h in memory, for a command that has opened the store itself; by
// is who it does so for. Close ends it.
func Local(h http.Handler, by string) *Client {
	p := newPipe(by)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, p, h) }()
	return newClient(p.dial, func() error {
		cancel()
		return errors.Join(p.Close(), <-ended)
	})
}

func newClient(dial func(context.Context) (net.Conn, error), end func() error) *Client {
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true, MaxIdleConns: 2, IdleConnTimeout: 10 * time.Second,
	}
	return &Client{http: &http.Client{Transport: t}, close: func() error {
		t.CloseIdleConnections()
		if end != nil {
			return end()
		}
		return nil
	}}
}

// Close lets go of the connections.
func (c *Client) Close() error { return c.close() }

// Error is a refusal of the server.
type Error struct {
	// Status is the HTTP status, Text the reason for people.
	Status int
	Text   string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Get asks for a JSON value.
func (c *Client) Get(ctx context.Context, path string, q url.Values, into any) error {
	answer, err := c.open(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	return errors.Join(json.NewDecoder(answer.Body).Decode(into), answer.Body.Close())
}

// Post asks for a change.
func (c *Client) Post(ctx context.Context, path string, in, into any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	answer, err := c.open(ctx, http.MethodPost, path, nil, bytes.NewReader(data))
	if err != nil {
		return err
	}
	return errors.Join(json.NewDecoder(answer.Body).Decode(into), answer.Body.Close())
}

func (c *Client) open(ctx context.Context, method, path string, q url.Values, in io.Reader) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "sluice", Path: "/v" + strconv.Itoa(Protocol) + path, RawQuery: q.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the address is of no interest
		}
		return nil, err
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	var f failure
	if err := errors.Join(json.NewDecoder(answer.Body).Decode(&f), answer.Body.Close()); err != nil || f.Error == "" {
		f.Error = "the gateway answered " + answer.Status + ": it may be of another version than this command"
	}
	return nil, &Error{Status: answer.StatusCode, Text: f.Error}
}

// Lines calls each for every line of a stream, without its line break, and
// returns how many there were. A stream that was cut short is an error. line is
// valid during the call only.
func (c *Client) Lines(ctx context.Context, path string, q url.Values, each func(line []byte) error) (n uint64, err error) {
	answer, err := c.open(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	r := bufio.NewReaderSize(answer.Body, 64<<10)
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, part...)
			continue
		case errors.Is(err, io.EOF) && len(part)+len(long) == 0:
			return n, whole(answer, n)
		case errors.Is(err, io.EOF):
			return n, errors.Join(io.ErrUnexpectedEOF, whole(answer, n))
		case err != nil:
			return n, fmt.Errorf("the stream was cut short after %d lines: %w", n, err)
		}
		line := part
		if len(long) > 0 {
			long = append(long, part...)
			line = long
		}
		if err := each(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return n, err
		}
		n++
		long = long[:0]
	}
}

// whole checks the trailers of a stream.
func whole(answer *http.Response, n uint64) error {
	if quoted := answer.Trailer.Get(trailerError); quoted != "" {
		text, err := strconv.Unquote(quoted)
		if err != nil {
			text = quoted
		}
		return errors.New(text)
	}
	if count, err := strconv.ParseUint(answer.Trailer.Get(trailerCount), 10, 64); err != nil || count != n {
		return fmt.Errorf("the stream was cut short after %d lines", n)
	}
	return nil
}

// Copy writes a stream of bytes to w. Whether it is whole its own format says.
func (c *Client) Copy(ctx context.Context, path string, w io.Writer) (err error) {
	answer, err := c.open(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if _, err := io.Copy(w, answer.Body); err != nil {
		return fmt.Errorf("the stream was cut short: %w", err)
	}
	if quoted := answer.Trailer.Get(trailerError); quoted != "" {
		return errors.New(quoted)
	}
	return nil
}
