// Package nextplus is a strict stand-in of an ERP that was built to receive the
// reports of Next Plus's Integration Builder, written from the vendor's document
// alone: three URLs, three payloads field for field, and the ERP's own ids in the
// answers. It notes whatever Next Plus itself would never send.
package nextplus

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-edge/sluice/internal/central"
)

// The paths of the three integrations.
const (
	DevicePath    = "/device"
	ItemPath      = "/item"
	OperationPath = "/operation"
)

// The rules that a client may break; each is the Rule of a Violation.
const (
	// RuleRequest is a method, path, query or content type that the document has not.
	RuleRequest = "request"
	// RuleAuth is a request without the header that the ERP asks for.
	RuleAuth = "auth"
	// RuleBody is a payload that is not as the document has it.
	RuleBody = "body"
	// RuleSource is a work order of another source: it must match exactly.
	RuleSource = "work order source"
	// RuleExternalID is an externalId that is not the one the ERP gave, or none
	// where it gave one.
	RuleExternalID = "externalId"
	// RuleParent is an item attached to a serial that the ERP does not have.
	RuleParent = "parent"
	// RuleDouble is an add of what is there.
	RuleDouble = "booked twice"
	// RuleUnknown is a remove or update of what was never added.
	RuleUnknown = "never added"
	// RuleKey is an Idempotency-Key that is missing or stands for two payloads.
	RuleKey = "idempotency key"
)

// ERP says how the receiver behaves. The zero value answers 200 with an
// externalId to whatever is right.
type ERP struct {
	// WorkOrders are those of the configured source; a work order that is not
	// among them came from another. Empty takes all.
	WorkOrders []string
	// Authorization is what the header of that name must be; empty asks for none.
	Authorization string
	// NoDevices says that serials are not reported here: an item's parent cannot
	// be checked.
	NoDevices bool
	// NoExternalID leaves the id out of successes.
	NoExternalID bool
	// Status is the one of a success; 200 without it. Any below 400 is one.
	Status int
	// HonoursKeys answers a repeated Idempotency-Key as the first time.
	HonoursKeys bool
	// NeedsKeys makes a missing Idempotency-Key a violation.
	NeedsKeys bool
	// Refuse says no to a payload, with a status of at least 400 and the words for
	// the user; a status of 0 takes it.
	Refuse func(path string, fields map[string]any) (status int, message string)
}

// Device is a serial that the ERP has.
type Device struct {
	WorkOrder, SKU, Serial, ExternalID string
	// Times is how often it was added.
	Times int
	// Was are the serials that it had before, oldest first.
	Was []string
}

// Item is a component that was attached.
type Item struct {
	WorkOrder, SKU, Parent, ItemSKU, ItemSerial, ExternalID string
	Quantity                                                float64
	Removed                                                 bool
}

// Operation is a report of an operation.
type Operation struct {
	WorkOrder, SKU, Serial, ActCode, WorkCenter, ExternalID string
	Position, Valid, Invalid                                float64
	Removed                                                 bool
}

// Fake is one ERP. It is an http.Handler; all methods may be called from any
// goroutine.
type Fake struct {
	central.Book
	// Faults stand before everything else.
	Faults central.Faults

	erp ERP

	mu         sync.Mutex
	devices    map[string]*Device // by serial
	items      []*Item
	operations []*Operation
	keys       map[string]remembered
	accepted   []Accepted
	nextID     int
}

// Accepted is one payload that was taken, in order.
type Accepted struct {
	Path, Type string
	Key        string // its Idempotency-Key
	// Repeated is set if the sender says that it may have been sent before.
	Repeated bool
	Body     []byte
}

type remembered struct {
	body   string
	answer reply
}

type reply struct {
	status     int
	externalID string
	message    string
}

// New makes an ERP.
func New(e ERP) *Fake {
	if e.Status == 0 {
		e.Status = http.StatusOK
	}
	return &Fake{erp: e, devices: map[string]*Device{}, keys: map[string]remembered{}}
}

// Device returns what the ERP has of a serial; nil for none.
func (f *Fake) Device(serial string) *Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.devices[serial]
	if d == nil {
		return nil
	}
	copied := *d
	copied.Was = slices.Clone(d.Was)
	return &copied
}

// Devices returns how many serials the ERP has.
func (f *Fake) Devices() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.devices)
}

// Items returns the attached components in order, the removed ones too.
func (f *Fake) Items() []Item {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Item
	for _, i := range f.items {
		all = append(all, *i)
	}
	return all
}

// Operations returns the reports in order, the removed ones too.
func (f *Fake) Operations() []Operation {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Operation
	for _, o := range f.operations {
		all = append(all, *o)
	}
	return all
}

// Accepted returns the payloads that were taken, in order.
func (f *Fake) Accepted() []Accepted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.accepted)
}

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.Faults.Serve(w, r, f.receive)
}

const maxBody = 1 << 20

func (f *Fake) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // a part of a request is no request
	}
	f.mu.Lock()
	a := f.answer(r, body)
	f.mu.Unlock()
	if a.status == http.StatusNoContent || a.externalID == "" && a.message == "" {
		w.WriteHeader(a.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	said := map[string]string{"externalId": a.externalID}
	if a.message != "" {
		said = map[string]string{"message": a.message}
	}
	_ = json.NewEncoder(w).Encode(said) // who asked may be gone
}

func (f *Fake) refuse(r *http.Request, rule string, status int, format string, args ...any) reply {
	f.Note(rule, r, format, args...)
	return reply{status: status, message: fmt.Sprintf(format, args...)}
}

func (f *Fake) answer(r *http.Request, body []byte) reply {
	read := map[string]func(*payload) reply{DevicePath: f.device, ItemPath: f.item, OperationPath: f.operation}[r.URL.Path]
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case read == nil:
		return f.refuse(r, RuleRequest, http.StatusNotFound, "no integration has this path")
	case r.Method != http.MethodPost:
		return f.refuse(r, RuleRequest, http.StatusMethodNotAllowed, "an integration is a POST")
	case r.URL.RawQuery != "":
		return f.refuse(r, RuleRequest, http.StatusBadRequest, "a payload has no query")
	case err != nil || kind != "application/json":
		return f.refuse(r, RuleRequest, http.StatusUnsupportedMediaType, "Content-Type is %q, not application/json", r.Header.Get("Content-Type"))
	case f.erp.Authorization != "" && r.Header.Get("Authorization") != f.erp.Authorization:
		return f.refuse(r, RuleAuth, http.StatusUnauthorized, "the Authorization is missing or wrong")
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" && f.erp.NeedsKeys {
		f.Note(RuleKey, r, "is missing")
	}
	before, again := f.keys[key]
	if again && before.body != string(body) {
		return f.refuse(r, RuleKey, http.StatusUnprocessableEntity, "%s stood for another payload before", key)
	}
	if again && f.erp.HonoursKeys {
		return before.answer
	}
	a := f.book(r, body, key, read)
	if key != "" && a.status < http.StatusBadRequest {
		f.keys[key] = remembered{string(body), a}
	}
	return a
}

// payload is one body while it is read.
type payload struct {
	*central.Object
	request *http.Request
	kind    string // its type
	order   string
	sku     string
	serial  string
}

func (f *Fake) book(r *http.Request, body []byte, key string, read func(*payload) reply) reply {
	o, err := central.ParseObject(body)
	if err != nil {
		return f.refuse(r, RuleBody, http.StatusBadRequest, "%v", err)
	}
	var fields map[string]any
	_ = json.Unmarshal(body, &fields) // ParseObject has read it
	p := &payload{Object: o, request: r, kind: o.String("type", true), order: o.String("workorderNumber", true), sku: o.String("sku", true)}
	p.serial = o.String("serial", r.URL.Path == DevicePath)
	for _, id := range []string{"workorderId", "stockId", "sessionId"} {
		if v := o.String(id, true); v != "" && !uuid.MatchString(v) {
			o.Fail(id, "must be a UUID, not %q", v)
		}
	}
	_, _ = o.OrNull("workorderExternalId", false)
	if f.erp.Refuse != nil {
		if status, message := f.erp.Refuse(r.URL.Path, fields); status != 0 {
			return reply{status: status, message: message}
		}
	}
	a := read(p)
	if a.status < http.StatusBadRequest {
		f.accepted = append(f.accepted, Accepted{r.URL.Path, p.kind, key, r.Header.Get("Sluice-Repeated") == "true", body})
	}
	return a
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// read checks what all three have in common once every field was asked for.
func (f *Fake) read(p *payload, kinds ...string) *reply {
	if p.kind != "" && !slices.Contains(kinds, p.kind) {
		p.Fail("type", "must be one of %s, not %q", strings.Join(kinds, ", "), p.kind)
	}
	p.End()
	if len(p.Problems()) > 0 {
		refused := f.refuse(p.request, RuleBody, http.StatusBadRequest, "%s", strings.Join(p.Problems(), "; "))
		return &refused
	}
	if len(f.erp.WorkOrders) > 0 && !slices.Contains(f.erp.WorkOrders, p.order) {
		refused := f.refuse(p.request, RuleSource, http.StatusBadRequest, "the work order %q is not of this source", p.order)
		return &refused
	}
	return nil
}

// only fails if a field stands there that this type of payload does not have.
func (p *payload) only(field string, when bool, words string) {
	if p.Has(field) && !when {
		p.Fail(field, "stands there only %s", words)
	}
}

// same notes an externalId that is not the one that was given.
func (f *Fake) same(p *payload, what, given, known string) {
	switch {
	case given == known:
	case known == "":
		f.Note(RuleExternalID, p.request, "%s has %q, which nobody gave", what, given)
	case given == "":
		f.Note(RuleExternalID, p.request, "%s has none, %q was given", what, known)
	default:
		f.Note(RuleExternalID, p.request, "%s has %q, %q was given", what, given, known)
	}
}

func (f *Fake) id(kind string) string {
	if f.erp.NoExternalID {
		return ""
	}
	f.nextID++
	return fmt.Sprintf("ERP-%s-%d", kind, f.nextID)
}

func (f *Fake) done(externalID string) reply {
	return reply{status: f.erp.Status, externalID: externalID}
}
