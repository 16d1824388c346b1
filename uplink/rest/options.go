package rest

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/tlsfiles"
)

// Options is what a config says of a rest uplink.
type Options struct {
	// URL is where events are sent, http:// or https://.
	URL string `yaml:"url,required"`
	// Method is POST or PUT.
	Method string `yaml:"method"`
	// Batch is how many events one body holds: 1 sends each as a CloudEvent of
	// its own, more sends CloudEvents JSON batches.
	Batch int `yaml:"batch"`
	// MaxBody is the largest body that the receiver takes; an event that needs
	// more is refused here.
	MaxBody config.Size `yaml:"max_body"`
	// Results says whether the answer to a batch speaks for each event: read,
	// ignore or required.
	Results string `yaml:"results"`
	// Conflict says what 409 means: refused or delivered.
	Conflict string `yaml:"conflict"`
	// WebPage says what a success with a web page as its body means: retry, since
	// a login portal answers so, or delivered.
	WebPage string `yaml:"web_page"`
	// Auth is how the gateway shows who it is; empty means not at all.
	Auth Auth `yaml:"auth"`
	// CursorURL is asked for the last event that the receiver has of {machine};
	// empty means that it cannot be asked.
	CursorURL string `yaml:"cursor_url"`
	// Headers go with each request, as they are.
	Headers map[string]string `yaml:"headers"`
	// CA is a PEM file of the authorities to trust instead of the system's; Cert
	// and Key are the client's certificate.
	CA   config.Path `yaml:"ca"`
	Cert config.Path `yaml:"cert"`
	Key  config.Path `yaml:"key"`
	// ServerName is the name that the receiver's certificate must carry; empty
	// means the URL's host.
	ServerName string `yaml:"server_name"`
	// Proxy is the http:// proxy to go through; the environment's are not looked
	// at.
	Proxy string `yaml:"proxy"`
	// AllowInsecure lets secrets go over plain HTTP beyond this computer.
	AllowInsecure bool `yaml:"allow_insecure"`
	// Timeout bounds one request, from connecting to the end of the answer.
	Timeout config.Duration `yaml:"timeout"`
	// Kinds are the kinds of events that go to this receiver.
	Kinds uplink.Kinds `yaml:"kinds"`

	uplink.Options `yaml:",inline"`
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
const (
	maxBatch   = 1000
	maxTimeout = 5 * time.Minute
)

func defaults() Options {
	return Options{
		Method: http.MethodPost, Batch: 1, MaxBody: 1 << 20,
		Results: resultsRead, Conflict: conflictRefused, WebPage: webPageRetry,
		Timeout: config.Duration(10 * time.Second),
		Options: uplink.DefaultOptions(),
	}
}

// Validate returns the faults of o as config.FieldErrors, nil if there are none.
func (o Options) Validate() error {
	errs := []error{
		o.Options.Validate(), // an inline struct is not visited by the decoder
		o.validateTarget(),
		o.validateCursor(),
		o.validateHeaders(),
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
	if o.Timeout < config.Duration(100*time.Millisecond) || o.Timeout > config.Duration(maxTimeout) {
		bad("timeout", "it must be from 100ms to 5m", "leave it out for 10s")
	} else if o.SendTimeout < 2*o.Timeout {
		bad("timeout", fmt.Sprintf("send_timeout (%v) does not leave time for two requests (2 × timeout = %v)", o.SendTimeout, 2*o.Timeout), "lower it, or raise send_timeout")
	}
	return errors.Join(errs...)
}

// validateTarget checks where events go, and what may be sent there.
func (o Options) validateTarget() error {
	target, err := parseURL("url", o.URL)
	if err != nil {
		return err
	}
	var errs []error
	secure := target.Scheme == "https"
	errs = append(errs, o.files().Validate(secure, "https://"))
	if !secure && (!loopback(target.Hostname()) || o.Proxy != "") {
		switch {
		case o.Auth.none():
			errs = append(errs, config.Warn("url", "events go over the network in clear text, and anybody may answer in the receiver's place", "use https://"))
		case o.AllowInsecure:
			errs = append(errs, config.Warn("allow_insecure", "the secret of auth goes over the network in clear text", "use https://"))
		default:
			errs = append(errs, config.Field("url", "the secret of auth would go over the network in clear text", "use https://, or set allow_insecure: true if you accept that"))
		}
	}
	for name := range target.Query() {
		if secretive(name) {
			errs = append(errs, config.Warn("url", fmt.Sprintf("its query holds `%s`, which proxies and servers log", name), "use auth: or a header, if the receiver takes it there"))
		}
	}
	if o.Proxy != "" {
		proxy, err := parseURL("proxy", o.Proxy)
		if err == nil && (strings.Trim(proxy.Path, "/") != "" || proxy.RawQuery != "") {
			err = config.Field("proxy", "there is something behind host and port", "write it like http://proxy.example:3128")
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ownHeaders are set by the gateway or by HTTP itself.
var ownHeaders = []string{
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
	"Idempotency-Key", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// validateHeaders checks that the headers can be sent and hold no secret.
func (o Options) validateHeaders() error {
	var errs []error
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		path, canonical := "headers."+name, http.CanonicalHeaderKey(name)
		switch {
		case !token(name):
			errs = append(errs, config.Field(path, "it is no name of a header", "use letters, digits and -"))
		case slices.Contains(ownHeaders, canonical):
			errs = append(errs, config.Field(path, "the gateway sets this header itself", "leave it out"))
		case secretive(name):
			errs = append(errs, config.Field(path, "it looks like a secret in clear text", "use auth:, whose secrets are env:NAME or file:PATH"))
		case !printable(o.Headers[name]):
			errs = append(errs, config.Field(path, "its value holds a character that no header may hold", "use printable ASCII"))
		case seen[canonical] || strings.EqualFold(name, o.Auth.header()):
			errs = append(errs, config.Field(path, "the header is set twice", "name it once; upper and lower case are the same"))
		}
		seen[canonical] = true
	}
	return errors.Join(errs...)
}

// files returns what the options say of certificates.
func (o Options) files() tlsfiles.Files {
	return tlsfiles.Files{CA: o.CA, Cert: o.Cert, Key: o.Key, ServerName: o.ServerName}
}

// parseURL reads an HTTP URL; its error is a config.FieldError and never holds
// a password.
func parseURL(path, text string) (*url.URL, error) {
	bad := func(problem, remedy string) (*url.URL, error) { return nil, config.Field(path, problem, remedy) }
	remedy := "write it like https://mes.example/events"
	if path == "proxy" {
		remedy = "write it like http://proxy.example:3128"
	}
	u, err := url.Parse(text)
	if err != nil || !printable(text) || strings.Contains(text, " ") {
		return bad("it is no URL", remedy)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("it does not begin with https:// or http://", remedy)
	case u.Scheme == "https" && path == "proxy":
		return bad("a proxy that is itself called by TLS is not supported", "use its plain port; what goes through it to an https:// url is encrypted end to end")
	case u.User != nil && path == "proxy":
		return bad("it holds a user or password, which would be shown and logged", "let the proxy pass this computer without a login")
	case u.User != nil:
		return bad("it holds a user or password, which would be shown and logged", "use auth: {basic: {user: …, password: env:NAME}}")
	case u.Hostname() == "":
		return bad("it names no host", remedy)
	case config.HostProblem(u.Hostname()) != "":
		return bad("it "+config.HostProblem(u.Hostname()), remedy)
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return bad("it has a fragment (#…), which is never sent", "leave out what begins with #")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return bad("the port is not from 1 to 65535", remedy)
		}
	}
	return u, nil
}

// show returns a URL for people, without its query: some receivers want a key
// in it.
func show(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// loopback reports whether nothing sent to host leaves this computer.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// secretive reports whether a header or parameter of that name usually holds a
// secret.
func secretive(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	return slices.ContainsFunc([]string{"authorization", "token", "apikey", "accesskey", "secret", "password", "cookie", "signature"},
		func(word string) bool { return strings.Contains(name, word) })
}

// token reports whether s is a token of RFC 9110 section 5.6.2.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// printable reports whether s is printable ASCII.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
