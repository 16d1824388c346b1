package rest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/internal/render"
)

// Options is what a config says of a rest uplink.
type Options struct {
	// URL is where events are sent, http:// or https://.
	URL string `yaml:"url,required"`
	// Method is POST or PUT.
	Method string `yaml:"method"`
	// Requests say what events are sent as; none: as CloudEvents.
	Requests []Request `yaml:"requests"`
	// Codes are what the receiver calls our codes; of Requests their templates ask for
	// them.
	Codes uplink.CodeTables `yaml:"codes"`
	// Batch is how many events one body holds: 1 sends each as a CloudEvent of
	// its own, more sends CloudEvents JSON batches.
	Batch int `yaml:"batch"`
	// MaxBody is the largest body that the receiver takes; an event that needs
	// more is refused here.
	MaxBody config.Size `yaml:"max_body"`
	// Results says whether the answer to a batch speaks for each event: read,
	// ignore or required.
	Results string `yaml:"results"`
	// Answer are the receiver's own rules for what its answers mean.
	Answer Answer `yaml:"answer"`
	// Conflict says what 409 means: refused or delivered.
	Conflict string `yaml:"conflict"`
	// WebPage says what a success with a web page as its body means: retry, since
	// a login portal answers so, or delivered.
	WebPage string `yaml:"web_page"`
	// Auth is how the gateway shows who it is; empty means not at all.
	Auth httplink.Auth `yaml:"auth"`
	// Sign signs each request; nil for no signature.
	Sign *httplink.Signature `yaml:"sign"`
	// Gzip packs bodies of some size.
	Gzip bool `yaml:"gzip"`
	// TestPath is what a person's test gets, behind the url; empty: OPTIONS of the
	// url itself.
	TestPath string `yaml:"test_path"`
	// CursorURL is asked for the last event that the receiver has of {machine};
	// empty means that it cannot be asked.
	CursorURL string `yaml:"cursor_url"`
	// Headers go with each request, as they are.
	Headers map[string]string `yaml:"headers"`

	httplink.Settings `yaml:",inline"`
	uplink.Options    `yaml:",inline"`
}

// The values of Results, Conflict and WebPage.
const (
	resultsRead     = "read"
	resultsIgnore   = "ignore"
	resultsRequired = "required"

	conflictRefused   = "refused"
	conflictDelivered = "delivered"

	webPageRetry     = "retry"
	webPageDelivered = "delivered"
)

// Bounds of Options.
const maxBatch = 1000

// concurrent is how many machines are sent at once if the config does not say:
// each waits for its own answers, which take a while over HTTP.
const concurrent = 32

func defaults() Options {
	o := Options{
		Method: http.MethodPost, Batch: 1, MaxBody: 1 << 20,
		Results: resultsRead, Conflict: conflictRefused, WebPage: webPageRetry,
		Settings: httplink.DefaultSettings(),
		Options:  uplink.DefaultOptions(),
	}
	o.Concurrent = concurrent
	return o
}

// Validate returns the faults of o as config.FieldErrors, nil if there are none.
func (o Options) Validate() error {
	o.NeedsTime(o.LeastTime())
	errs := []error{
		o.Options.Validate(), // an inline struct is not visited by the decoder
		o.validateTarget(),
		o.validateCursor(),
		o.validateRequests(),
		validateHeaderNames("headers.", o.Headers, o.taken()),
		o.validateSign(),
		o.validateTest(),
	}
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if o.Method != http.MethodPost && o.Method != http.MethodPut {
		bad("method", "it is neither POST nor PUT", "leave it out for POST")
	}
	if o.Batch < 1 || o.Batch > maxBatch {
		bad("batch", fmt.Sprintf("it must be from 1 to %d", maxBatch), "leave it out for 1, an event a request")
	} else if o.Batch > o.BatchEvents {
		bad("batch", fmt.Sprintf("it is above batch_events (%d), so no body would ever be that full", o.BatchEvents), "lower it, or raise batch_events")
	}
	if o.MaxBody < 1<<10 || o.MaxBody > 64<<20 {
		bad("max_body", "it must be from 1 KiB to 64 MiB", "leave it out for 1 MiB")
	}
	if results := []string{resultsRead, resultsIgnore, resultsRequired}; !slices.Contains(results, o.Results) {
		errs = append(errs, config.Unknown("results", "value", o.Results, results))
	}
	if conflicts := []string{conflictRefused, conflictDelivered}; !slices.Contains(conflicts, o.Conflict) {
		errs = append(errs, config.Unknown("conflict", "value", o.Conflict, conflicts))
	}
	if pages := []string{webPageRetry, webPageDelivered}; !slices.Contains(pages, o.WebPage) {
		errs = append(errs, config.Unknown("web_page", "value", o.WebPage, pages))
	}
	return errors.Join(errs...)
}

// validateTarget checks where events go, and what may be sent there.
func (o Options) validateTarget() error {
	target, err := httplink.ParseURL("url", o.URL)
	if err != nil {
		return err
	}
	errs := []error{o.ValidateAuth(target, o.Auth, o.SendTimeout)}
	for name := range target.Query() {
		if httplink.Secretive(name) {
			errs = append(errs, config.Warn("url", fmt.Sprintf("its query holds `%s`, which proxies and servers log", name), "use auth: or a header, if the receiver takes it there"))
		}
	}
	return errors.Join(errs...)
}

// validateHeaderNames checks that headers can be sent and hold no secret; taken
// are those that are set besides them.
func validateHeaderNames(path string, headers map[string]string, taken []string) error {
	var errs []error
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		at, canonical := path+name, http.CanonicalHeaderKey(name)
		switch {
		case !httplink.Token(name):
			errs = append(errs, config.Field(at, "it is no name of a header", "use letters, digits and -"))
		case httplink.OwnHeader(name):
			errs = append(errs, config.Field(at, "the gateway sets this header itself", "leave it out"))
		case httplink.Secretive(name) && !slices.Contains(taken, name):
			errs = append(errs, config.Field(at, "it looks like a secret in clear text", "use auth:, whose secrets are env:NAME or file:PATH"))
		case !httplink.Printable(headers[name]):
			errs = append(errs, config.Field(at, "its value holds a character that no header may hold", "use printable ASCII"))
		case seen[canonical] || slices.ContainsFunc(taken, func(t string) bool { return strings.EqualFold(t, name) }):
			errs = append(errs, config.Field(at, "the header is set twice", "name it once; upper and lower case are the same"))
		}
		seen[canonical] = true
	}
	return errors.Join(errs...)
}

// taken are the headers that show who the gateway is.
func (o Options) taken() []string {
	taken := []string{o.Auth.Header()}
	if o.Sign != nil {
		taken = append(taken, o.Sign.Headers()...)
	}
	return taken
}

func (o Options) validateTest() error {
	if o.TestPath == "" {
		return nil
	}
	if err := render.Path.Check([]byte(o.TestPath)); err != nil {
		return fieldOf("test_path", "", err)
	}
	return nil
}

func (o Options) validateSign() error {
	if o.Sign != nil && strings.EqualFold(o.Sign.Header, o.Auth.Header()) {
		return config.Field("sign.header", "auth sets this header", "write another one")
	}
	return nil
}

// validateRequests checks that each kind has one request, and what is in them.
func (o Options) validateRequests() error {
	if len(o.Requests) == 0 {
		return nil
	}
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	of := make(map[plant.EventKind]int)
	for i := range o.Requests {
		r, path := &o.Requests[i], fmt.Sprintf("requests[%d]", i)
		errs = append(errs, r.validate(path, o.Method, o.taken()))
		for j, kind := range r.Kinds {
			if first, twice := of[kind]; twice && first != i {
				bad(fmt.Sprintf("%s.kinds[%d]", path, j), fmt.Sprintf("requests[%d] sends %q already", first, kind), "name each kind once")
			}
			of[kind] = i
		}
		if r.List != nil && o.Batch == 1 {
			bad(path+".list", "batch is 1, so that no body holds more than one event", "set batch, for example to 100, or leave list out")
		}
	}
	for i, kind := range o.Kinds {
		if _, sent := of[kind]; !sent && kind != plant.KindGap {
			bad(fmt.Sprintf("kinds[%d]", i), fmt.Sprintf("no request sends %q", kind), "add a request for it, or leave it out here")
		}
	}
	if _, told := of[plant.KindGap]; !told {
		errs = append(errs, config.Warn("requests", "none is for `gap`, so this receiver is not told that events are missing", "add one, or {kinds: [gap], skip: true} if it cannot take it"))
	}
	return errors.Join(errs...)
}

// carries reports whether events of that kind go to the receiver.
func (o Options) carries(kind plant.EventKind) bool {
	if !o.Kinds.Carry(kind) {
		return false
	}
	return len(o.Requests) == 0 || slices.ContainsFunc(o.Requests, func(r Request) bool { return !r.Skip && slices.Contains(r.Kinds, kind) })
}
