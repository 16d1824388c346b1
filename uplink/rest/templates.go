package rest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/internal/render"
)

// Request is what events of some kinds are sent as. Path, the values of Headers
// and Body are templates over one event.
type Request struct {
	// Kinds are the kinds of events that it is for.
	Kinds uplink.Kinds `yaml:"kinds,required"`
	// Skip leaves events of these kinds out; nothing else is then set.
	Skip bool `yaml:"skip"`
	// When is a template over one event: one of which it makes nothing but blanks
	// is left out. Empty: each is sent.
	When string `yaml:"when"`
	// Method is that of the uplink if it is empty.
	Method string `yaml:"method"`
	// Path is what stands behind the uplink's url, with a query if there is one.
	Path string `yaml:"path"`
	// Headers go with the request besides the uplink's.
	Headers map[string]string `yaml:"headers"`
	// Format is the language of the body: json, if it is empty, xml, form or text.
	Format string `yaml:"format"`
	// ContentType is that of the format if it is empty.
	ContentType string `yaml:"content_type"`
	// Body is the body; BodyFile is the file that has it instead. Neither: none.
	Body     string      `yaml:"body"`
	BodyFile config.Path `yaml:"body_file"`
	// List puts up to batch events in one body; nil: each has its own.
	List *List `yaml:"list"`
}

// List is what stands around the events of one body.
type List struct {
	Begin   string `yaml:"begin"`
	Between string `yaml:"between"`
	End     string `yaml:"end"`
}

// contentTypes are those of the formats.
var contentTypes = map[render.Format]string{
	render.JSON: "application/json",
	render.XML:  "application/xml; charset=utf-8",
	render.Form: "application/x-www-form-urlencoded",
	render.Text: "text/plain; charset=utf-8",
}

// methods are those that a request may have.
var methods = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodGet, http.MethodDelete}

func (r *Request) format() render.Format {
	if r.Format == "" {
		return render.JSON
	}
	return render.Format(r.Format)
}

func (r *Request) hasBody() bool { return r.Body != "" || r.BodyFile != "" }

// validate checks what needs no file and no template.
func (r *Request) validate(path, method string, taken []string) error {
	var errs []error
	bad := func(key, problem, remedy string) {
		errs = append(errs, config.Field(path+key, problem, remedy))
	}
	if len(r.Kinds) == 0 {
		bad(".kinds", "it names no kind", "write the kinds that are sent so, for example [counter, startstop]")
	}
	if r.Skip {
		if r.When != "" || r.Method != "" || r.Path != "" || r.hasBody() || len(r.Headers) > 0 || r.List != nil {
			bad(".skip", "what is left out needs no when, method, path, headers or body", "leave out skip, or the others")
		}
		return errors.Join(errs...)
	}
	if r.Method != "" {
		method = r.Method
	}
	if !slices.Contains(methods, method) {
		bad(".method", "it is none of "+strings.Join(methods, ", "), "leave it out for that of the uplink")
	}
	if _, known := contentTypes[r.format()]; !known {
		errs = append(errs, config.Unknown(path+".format", "format", r.Format, []string{"json", "xml", "form", "text"}))
	}
	if !httplink.Printable(r.ContentType) {
		bad(".content_type", "it holds a character that no header may hold", "write for example application/vnd.acme+json")
	}
	switch {
	case r.Body != "" && r.BodyFile != "":
		bad(".body_file", "there is a body as well", "keep one of body and body_file")
	case r.hasBody() && method == http.MethodGet:
		bad(".body", "a GET has no body", "put the values in path, behind a ?, or use POST")
	case !r.hasBody() && (method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch):
		bad("", "a "+method+" without a body says nothing of the event", "write body or body_file, or use method: GET with the values in path")
	}
	if r.List != nil {
		errs = append(errs, r.List.validate(path+".list", r))
	}
	return errors.Join(append(errs, validateHeaderNames(path+".headers.", r.Headers, taken))...)
}

func (l *List) validate(path string, r *Request) error {
	switch f := r.format(); {
	case f == render.Form:
		return config.Field(path, "a form holds one event", "leave list out, or use another format")
	case f != render.JSON && l.Begin == "" && l.Between == "" && l.End == "":
		return config.Field(path, "what stands around the events is not known for this format", "write begin, between and end")
	case !r.hasBody():
		return config.Field(path, "there is no body that could hold several events", "leave list out, or write body")
	}
	return nil
}

// parts returns what stands around events, with the defaults.
func (l *List) parts(f render.Format) (begin, between, end string) {
	if f == render.JSON && *l == (List{}) {
		return "[", ",", "]"
	}
	return l.Begin, l.Between, l.End
}

// templated sends each kind of event as its templates say.
type templated struct {
	batch int
	of    map[plant.EventKind]*sheet
	// event is told of each event before it is written; nil for nobody.
	event func(*plant.Event)
}

// sheet is a Request that was read.
type sheet struct {
	kinds  *render.Kinds
	format render.Format
	method string
	base   *url.URL
	// header is what does not depend on the event.
	header http.Header
	// when is nil for none, and so are path and body.
	when, path, body *render.Template
	values           []named
	// steady is set if path and headers are the same for all events of a kind.
	steady              bool
	list                bool
	begin, between, end string
}

// named is the template of a header.
type named struct {
	name  string
	value *render.Template
}

// head is what is not the body of a message: two events with one head may share
// a body.
type head struct {
	path   string
	values []string
}

// fill implements form.
func (f *templated) fill(events []plant.Event, limit, most int) (*message, error) {
	s := f.of[events[0].Kind]
	if s == nil { // Carries has let none through
		return nil, &misfit{err: &render.Error{Problem: fmt.Sprintf("no request sends events of kind %q", events[0].Kind)}}
	}
	n := 1
	if s.list {
		n = f.batch
	}
	for {
		m, err := s.message(events[:min(n, len(events))], f, limit, most)
		if err == nil || n == 1 {
			return m, err
		}
		n = 1 // so that the one which is at fault stands alone
	}
}

// message makes a message of the first of events and of those that go with it.
func (s *sheet) message(events []plant.Event, f *templated, limit, most int) (*message, error) {
	m := &message{method: s.method, list: s.list}
	var first head
	for i := range events {
		e := &events[i]
		if i > 0 && (f.of[e.Kind] != s || len(m.body) >= limit) {
			break
		}
		value, err := s.kinds.Value(e)
		if err != nil {
			return nil, &misfit{err: err, kind: e.Kind}
		}
		if f.event != nil {
			f.event(e)
		}
		if applies, err := s.applies(value); err != nil {
			return nil, &misfit{err: err, kind: e.Kind}
		} else if !applies {
			if i == 0 {
				return &message{events: events[:1], leftOut: true}, nil
			}
			break
		}
		h := first
		if i == 0 || !s.steady || e.Kind != events[0].Kind {
			if h, err = s.head(value, most); err != nil {
				return nil, &misfit{err: err, kind: e.Kind}
			}
		}
		if i == 0 {
			first = h
		} else if h.path != first.path || !slices.Equal(h.values, first.values) {
			break
		}
		before := len(m.body)
		if err := s.add(m, value, i, most); err != nil {
			return nil, &misfit{err: err, kind: e.Kind}
		}
		if i > 0 && len(m.body)+len(s.end) > limit {
			m.body = m.body[:before]
			break
		}
		m.events = events[:i+1]
	}
	return m, s.finish(m, first, most)
}

// applies reports whether an event is sent at all.
func (s *sheet) applies(value map[string]any) (bool, error) {
	if s.when == nil {
		return true, nil
	}
	return s.when.Applies(value)
}

// add appends the body of one more event.
func (s *sheet) add(m *message, value map[string]any, i, most int) (err error) {
	switch {
	case s.body == nil:
		return nil
	case i == 0:
		m.body = append(m.body, s.begin...)
	default:
		m.body = append(m.body, s.between...)
	}
	m.body, err = s.body.Append(m.body, value, most)
	return err
}

// finish ends the message and looks whether it can be sent.
func (s *sheet) finish(m *message, h head, most int) error {
	kind := m.events[0].Kind
	if s.body != nil {
		m.body = append(m.body, s.end...)
		if len(m.body) > most {
			return &tooBig{len(m.body), most}
		}
		if err := s.format.Check(m.body); err != nil {
			return &misfit{err: err, kind: kind}
		}
	}
	target, err := behind(s.base, h.path)
	if err != nil {
		return &misfit{err: err, kind: kind}
	}
	m.target, m.header = target, s.header
	if len(s.values) > 0 {
		m.header = s.header.Clone()
		for i, v := range s.values {
			m.header.Set(v.name, h.values[i])
		}
	}
	return nil
}

// head makes what is not the body.
func (s *sheet) head(value map[string]any, most int) (h head, err error) {
	if s.path != nil {
		path, err := s.path.Append(nil, value, most)
		if err == nil {
			err = render.Path.Check(path)
		}
		if err != nil {
			return h, err
		}
		h.path = string(path)
	}
	for _, v := range s.values {
		text, err := v.value.Append(nil, value, most)
		if err == nil {
			err = render.Header.Check(text)
		}
		if err != nil {
			return h, err
		}
		h.values = append(h.values, string(bytes.TrimSpace(text)))
	}
	return h, nil
}

// behind puts path behind url, whose host stays.
func behind(base *url.URL, path string) (*url.URL, error) {
	if path == "" {
		return base, nil
	}
	before, query, _ := strings.Cut(path, "?")
	plain := *base
	plain.RawQuery, plain.ForceQuery = "", false
	text := plain.String()
	if before != "" {
		text = strings.TrimSuffix(text, "/")
	}
	target, err := url.Parse(text + before)
	if err != nil || !httplink.SameOrigin(target, base) {
		return nil, &render.Error{Problem: "the path leads nowhere", Remedy: "this event cannot be sent there", Result: path}
	}
	target.RawQuery = base.RawQuery
	if query != "" && target.RawQuery != "" {
		target.RawQuery += "&"
	}
	target.RawQuery += query
	return target, nil
}

// misfit is the Cause of an event of which the templates make nothing that can
// be sent.
type misfit struct {
	kind plant.EventKind
	err  error
}

// Error implements error.
func (e *misfit) Error() string {
	return fmt.Sprintf("rest: make the request for a %s event: %v; %s", e.kind, e.err, e.Remedy())
}

// Remedy implements uplink.Unsent.
func (e *misfit) Remedy() string {
	if wrong := new(render.Error); errors.As(e.err, &wrong) && wrong.Remedy != "" {
		return wrong.Remedy
	}
	return "look at what requests: says of " + string(e.kind)
}

// Unwrap returns what the template said.
func (e *misfit) Unwrap() error { return e.err }

// translates says what becomes of the codes of a kind.
func (f *templated) translates(kind plant.CodeKind) uplink.Translation {
	says := uplink.Untranslated
	for _, s := range f.of {
		switch asked, demanded := s.kinds.Asks(kind); {
		case demanded:
			return uplink.Demanded
		case asked:
			says = uplink.Translated
		}
	}
	return says
}

// pooled lends templates to one call of fill at a time, so that their codes are
// looked up for the event that is being written. It may be used from any goroutine.
type pooled struct{ free sync.Pool }

// bound are templates whose codes are looked up for one event.
type bound struct {
	*templated
	codes eventCodes
}

// eventCodes are the codes of the event that is being written.
type eventCodes struct {
	uplink.EventCodes
	all *uplink.Codes
}

// of makes e the event that codes are looked up for.
func (c *eventCodes) of(e *plant.Event) { c.EventCodes = c.all.For(e.Machine, e.Sequence) }

// pool returns the form whose templates look codes up there.
func (f *templated) pool(codes *uplink.Codes) form {
	p := &pooled{}
	p.free.New = func() any {
		b := &bound{codes: eventCodes{all: codes}}
		b.templated = f.with(&b.codes)
		b.event = b.codes.of
		return b
	}
	return p
}

// fill implements form.
func (p *pooled) fill(events []plant.Event, limit, most int) (*message, error) {
	b := p.free.Get().(*bound)
	defer p.free.Put(b)
	return b.fill(events, limit, most)
}

// with returns a copy whose templates look codes up there.
func (f *templated) with(codes render.Codes) *templated {
	out := &templated{batch: f.batch, of: make(map[plant.EventKind]*sheet)}
	copies := make(map[*sheet]*sheet)
	for kind, s := range f.of {
		if copies[s] == nil {
			c := *s
			if c.when != nil {
				c.when = c.when.With(codes)
			}
			if c.path != nil {
				c.path = c.path.With(codes)
			}
			if c.body != nil {
				c.body = c.body.With(codes)
			}
			c.values = make([]named, len(s.values))
			for i, v := range s.values {
				c.values[i] = named{v.name, v.value.With(codes)}
			}
			copies[s] = &c
		}
		out.of[kind] = copies[s]
	}
	return out
}
