// Package erp holds strict stand-ins of receivers that have no dialect of their
// own: any ERP or webhook receiver with the usual ways to say who asks, one like
// Azumuta's integration layer, and one like a supplier's ProdSys. They are written
// from the vendors' documents alone, and from RFC 2104, 6749, 6750, 7617 and 9110
// for what those leave open.
package erp

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"

	"github.com/sluice-edge/sluice/internal/central"
)

// The rules that a client may break; each is the Rule of a Violation.
const (
	// RuleAuth is no proof of who asks, or a wrong one.
	RuleAuth = "auth"
	// RuleSecretInURL is a secret in a query where a header is asked for.
	RuleSecretInURL = "secret in the URL"
	// RuleRequest is a method, path, query, content type or coding that is not
	// agreed.
	RuleRequest = "request"
	// RuleBody is a body that cannot be read as what is agreed.
	RuleBody = "body"
	// RuleOtherBytes is an id that came again with another content.
	RuleOtherBytes = "same id, other bytes"
	// RuleCode is an order or article that is not known.
	RuleCode = "code"
	// RuleScope is a call that the token is not for.
	RuleScope = "scope"
	// RuleToken is a token fetched again while one is good.
	RuleToken = "needless token"
)

// Generic says what a receiver has agreed on. The zero value takes a POST of
// JSON, one object or a list of them, each with an id, from anybody.
type Generic struct {
	// Method is POST without it; Path any path without it.
	Method, Path string
	// ContentType is what the media type must be; any if empty.
	ContentType string
	// Who checks who asks, all of them; nobody is asked without any.
	Who []Identity
	// IDs names what a request holds; the id of each JSON object without it.
	IDs func(r *http.Request, body []byte) ([]string, error)
	// Refuse says no to one thing; the whole request is then refused with 422.
	Refuse func(id string) error
	// Answer writes the answer to what was booked; 204 without it.
	Answer func(w http.ResponseWriter, ids []string)
}

// Receiver is one such system. It is an http.Handler; all methods may be called
// from any goroutine.
type Receiver struct {
	central.Book
	// Faults stand before everything else.
	Faults central.Faults

	agreed Generic

	mu       sync.Mutex
	booked   []Booking
	times    map[string]int
	contents map[string]string
}

// Booking is one thing that arrived, in order; a repetition is one more.
type Booking struct {
	ID string
	// Request is the whole body of its request, unpacked.
	Request []byte
	Header  http.Header
}

// New makes a receiver.
func New(g Generic) *Receiver {
	if g.Method == "" {
		g.Method = http.MethodPost
	}
	if g.IDs == nil {
		g.IDs = jsonIDs
	}
	return &Receiver{agreed: g, times: map[string]int{}, contents: map[string]string{}}
}

// Booked returns what arrived, in order.
func (v *Receiver) Booked() []Booking {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.booked)
}

// Times returns how often something arrived.
func (v *Receiver) Times(id string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.times[id]
}

// Different returns how many different things arrived.
func (v *Receiver) Different() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.times)
}

// ServeHTTP implements http.Handler.
func (v *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.Faults.Serve(w, r, v.receive)
}

// maxBody is far more than what one request of a gateway may hold.
const maxBody = 16 << 20

// read returns the body, unpacked if it came packed.
func read(w http.ResponseWriter, r *http.Request) (raw, body []byte, err error) {
	raw, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil || r.Header.Get("Content-Encoding") == "" {
		return raw, raw, err
	}
	if r.Header.Get("Content-Encoding") != "gzip" {
		return raw, nil, errors.New("the Content-Encoding is not gzip")
	}
	packed, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return raw, nil, err
	}
	body, err = io.ReadAll(io.LimitReader(packed, maxBody))
	return raw, body, err
}

func (v *Receiver) receive(w http.ResponseWriter, r *http.Request) {
	raw, body, err := read(w, r)
	switch {
	case err != nil && r.Header.Get("Content-Encoding") == "":
		return // a part of a request is no request
	case err != nil:
		v.refuse(w, r, RuleRequest, http.StatusUnsupportedMediaType, err)
	case v.agreed.Path != "" && r.URL.Path != v.agreed.Path:
		v.refuse(w, r, RuleRequest, http.StatusNotFound, errors.New("no such path"))
	case r.Method != v.agreed.Method:
		v.refuse(w, r, RuleRequest, http.StatusMethodNotAllowed, fmt.Errorf("the method is not %s", v.agreed.Method))
	default:
		v.who(w, r, raw, body)
	}
}

func (v *Receiver) refuse(w http.ResponseWriter, r *http.Request, rule string, status int, err error) {
	v.Note(rule, r, "%v", err)
	http.Error(w, err.Error(), status)
}

func (v *Receiver) who(w http.ResponseWriter, r *http.Request, raw, body []byte) {
	for _, check := range v.agreed.Who {
		if err := check(r, raw); err != nil {
			rule := RuleAuth
			var urlErr *inURLError
			if errors.As(err, &urlErr) {
				rule = RuleSecretInURL
			}
			w.Header().Set("WWW-Authenticate", "Bearer")
			if expired := new(expiredError); errors.As(err, &expired) {
				http.Error(w, err.Error(), http.StatusUnauthorized) // nobody can know: no violation
				return
			}
			v.refuse(w, r, rule, http.StatusUnauthorized, err)
			return
		}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); v.agreed.ContentType != "" && (err != nil || kind != v.agreed.ContentType) {
		v.refuse(w, r, RuleRequest, http.StatusUnsupportedMediaType, fmt.Errorf("Content-Type is %q, not %s", r.Header.Get("Content-Type"), v.agreed.ContentType))
		return
	}
	ids, err := v.agreed.IDs(r, body)
	if err != nil {
		v.refuse(w, r, RuleBody, http.StatusBadRequest, err)
		return
	}
	for _, id := range ids {
		if v.agreed.Refuse == nil {
			break
		}
		if err := v.agreed.Refuse(id); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
	}
	v.book(r, body, ids)
	if v.agreed.Answer != nil {
		v.agreed.Answer(w, ids)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (v *Receiver) book(r *http.Request, body []byte, ids []string) {
	parts := map[string]string{}
	if len(ids) == 1 {
		parts[ids[0]] = string(body)
	} else {
		var raw []json.RawMessage
		if json.Unmarshal(body, &raw) == nil && len(raw) == len(ids) {
			for i, id := range ids {
				parts[id] = string(raw[i])
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range ids {
		if before, again := v.contents[id]; again && before != parts[id] && before != "" && parts[id] != "" {
			v.Note(RuleOtherBytes, r, "%s", id)
		}
		v.contents[id] = parts[id]
		v.times[id]++
		v.booked = append(v.booked, Booking{id, body, r.Header.Clone()})
	}
}

// jsonIDs returns the id of each object.
func jsonIDs(_ *http.Request, body []byte) ([]string, error) {
	raw := []json.RawMessage{body}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		if err := json.Unmarshal(body, &raw); err != nil {
			return nil, err
		}
	}
	var ids []string
	for _, one := range raw {
		if _, err := central.ParseObject(one); err != nil {
			return nil, err
		}
		var named struct{ ID string }
		if err := json.Unmarshal(one, &named); err != nil || named.ID == "" {
			return nil, errors.New("an object has no id")
		}
		ids = append(ids, named.ID)
	}
	if len(ids) == 0 {
		return nil, errors.New("the list is empty")
	}
	return ids, nil
}
