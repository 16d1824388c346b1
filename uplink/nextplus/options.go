package nextplus

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// Options is what a config says of a nextplus uplink.
type Options struct {
	// WorkOrderSource is the source of the orders whose events are sent; it must
	// be the same to the letter.
	WorkOrderSource string `yaml:"work_order_source,required"`
	// Device, ItemAttach and Operation are where serial numbers, attached items
	// and operations are sent; a kind without a URL is not carried.
	Device     string `yaml:"device"`
	ItemAttach string `yaml:"item_attach"`
	Operation  string `yaml:"operation"`
	// Doses says which material goes to ItemAttach as well; nil for none.
	Doses *Doses `yaml:"doses"`
	// OnLostReply says what becomes of an event whose request went out and whose
	// reply did not come: retry sends it again, park puts it to the dead letters,
	// for receivers that would book it twice.
	OnLostReply string `yaml:"on_lost_reply"`
	// Redirect says what a status 3xx means: delivered, as Next Plus counts it, or
	// retry. No redirect is ever followed.
	Redirect string `yaml:"redirect"`
	// WebPage says what a success with a web page as its body means: retry, since
	// a login portal answers so, or delivered.
	WebPage string `yaml:"web_page"`
	// UnknownParent says what becomes of an attach to a serial number that this
	// uplink has not told yet: wait for it, or send without the parent's id.
	UnknownParent string `yaml:"unknown_parent"`
	// Remember is how many serial numbers, attaches and operations are known by the
	// receiver's id, for each machine; the oldest is forgotten first.
	Remember int `yaml:"remember"`
	// Codes are the receiver's names of our codes: articles, components,
	// operations and work centers.
	Codes uplink.CodeTables `yaml:"codes"`
	// Auth is how the gateway shows who it is; empty means not at all.
	Auth httplink.Auth `yaml:"auth"`

	httplink.Settings `yaml:",inline"`
	uplink.Options    `yaml:",inline"`
}

// The values of OnLostReply, Redirect, WebPage and UnknownParent.
const (
	lostRetry = "retry"
	lostPark  = "park"

	asDelivered = "delivered"
	asRetry     = "retry"

	parentWait = "wait"
	parentSend = "send"
)

// maxRemember bounds Remember: each takes about 300 bytes of the store.
const maxRemember = 10_000_000

func defaults() Options {
	o := Options{
		OnLostReply: lostRetry, Redirect: asDelivered, WebPage: asRetry, UnknownParent: parentWait, Remember: 100_000,
		Settings: httplink.DefaultSettings(),
		Options:  uplink.DefaultOptions(),
	}
	o.Deduplicates = false // an add is not idempotent, and no key is described
	return o
}

// forms are the keys of the URLs, with the kind of event that each is for.
var forms = []struct {
	key  string
	kind plant.EventKind
	url  func(*Options) string
}{
	{"device", plant.KindSerial, func(o *Options) string { return o.Device }},
	{"item_attach", plant.KindItemAttach, func(o *Options) string { return o.ItemAttach }},
	{"operation", plant.KindOperation, func(o *Options) string { return o.Operation }},
}

// Validate returns the faults of o as config.FieldErrors, nil if there are none.
func (o Options) Validate() error {
	o.NeedsTime(o.LeastTime())
	errs := []error{
		o.Options.Validate(), // an inline struct is not visited by the decoder
		o.validateTargets(),
		o.Codes.Only(plant.CodeArticle, plant.CodeComponent, plant.CodeOperation, plant.CodeWorkCenter),
	}
	for _, choice := range []struct {
		key, value string
		values     []string
	}{
		{"on_lost_reply", o.OnLostReply, []string{lostRetry, lostPark}},
		{"redirect", o.Redirect, []string{asDelivered, asRetry}},
		{"web_page", o.WebPage, []string{asRetry, asDelivered}},
		{"unknown_parent", o.UnknownParent, []string{parentWait, parentSend}},
	} {
		if !slices.Contains(choice.values, choice.value) {
			errs = append(errs, config.Unknown(choice.key, "value", choice.value, choice.values))
		}
	}
	if o.Remember < 1 || o.Remember > maxRemember {
		errs = append(errs, config.Field("remember", fmt.Sprintf("it must be from 1 to %d", maxRemember), "leave it out for 100000"))
	}
	if o.Doses != nil && o.ItemAttach == "" {
		errs = append(errs, config.Field("doses", "doses go where attached items go, and item_attach is not set", "set item_attach"))
	}
	return errors.Join(errs...)
}

// validateTargets checks where events go, and what may be sent there.
func (o Options) validateTargets() error {
	var errs []error
	named := false
	for _, f := range forms {
		text := f.url(&o)
		if text == "" {
			continue
		}
		named = true
		target, err := httplink.ParseURL(f.key, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, moved(f.key, o.ValidateAuth(target, o.Auth, o.SendTimeout)))
		for name := range target.Query() {
			if httplink.Secretive(name) {
				errs = append(errs, config.Warn(f.key, fmt.Sprintf("its query holds `%s`, which proxies and servers log", name), "use auth:, if the receiver takes it there"))
			}
		}
	}
	if !named {
		errs = append(errs, config.Field("", "it names no URL, so nothing would be sent", "write at least one of device:, item_attach: and operation:"))
	}
	return dedupe(errs)
}

// moved puts what is said of the option url at key.
func moved(key string, err error) error {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var errs []error
		for _, inner := range e.Unwrap() {
			errs = append(errs, moved(key, inner))
		}
		return errors.Join(errs...)
	case *config.FieldError:
		if e.Path == "url" {
			at := *e
			at.Path = key
			return &at
		}
	}
	return err
}

// dedupe joins errs without those that were said of another URL already.
func dedupe(errs []error) error {
	var kept []error
	said := make(map[string]bool)
	var each func(err error)
	each = func(err error) {
		if err == nil {
			return
		}
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, inner := range many.Unwrap() {
				each(inner)
			}
			return
		}
		if text := err.Error(); !said[text] {
			said[text] = true
			kept = append(kept, err)
		}
	}
	for _, err := range errs {
		each(err)
	}
	return errors.Join(kept...)
}

// target is where events of one kind go.
type target struct {
	url    *url.URL
	client *httplink.Session
}

// header returns what each request carries, besides who we are.
func (o Options) header() http.Header {
	return http.Header{
		"Accept":          {"application/json"},
		"Accept-Encoding": {"identity"},
		"Content-Type":    {"application/json"},
		"User-Agent":      {"sluice"},
	}
}
