package prodsmart

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
)

// maxBody is far more than any request of a gateway.
const maxBody = 1 << 20

// Fake is one company's Prodsmart. It is an http.Handler; all methods may be
// called from any goroutine.
type Fake struct {
	central.Book
	// Faults stand before everything else, the rate limit too.
	Faults central.Faults

	company Company

	mu          sync.Mutex
	machines    map[string]*machine
	products    map[string]*Product
	productions []*Production
	movements   []Movement
	changes     map[string][]change
	handed      map[string]int
	calls       []Call
	nextID      int

	tokens []token
	window window
}

// Call is one request that was answered, without its query.
type Call struct {
	At           time.Time
	Method, Path string
	Status       int
}

// New makes the Prodsmart of a company.
func New(c Company) *Fake {
	c.settle()
	f := &Fake{company: c, machines: map[string]*machine{}, products: map[string]*Product{}, changes: map[string][]change{}, handed: map[string]int{}, nextID: 12345}
	for _, m := range c.Machines {
		f.machines[m.Code] = newMachine(m)
	}
	for _, p := range c.Products {
		f.products[p.Code] = &p
	}
	return f
}

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.Faults.Serve(w, r, f.receive)
}

// request is one call while it is worked on, under the Fake's lock.
type request struct {
	*http.Request
	body  []byte
	query url.Values
	now   time.Time
}

// reply is what becomes of it: a status, and JSON or text.
type reply struct {
	status int
	body   any // a string goes as text, nil as nothing
}

func text(status int, words string) reply { return reply{status, words} }

func (f *Fake) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // a part of a request is no request
	}
	a, wait := f.answer(r, body)
	if wait != "" {
		w.Header().Set("Retry-After", wait)
	}
	write(w, a)
}

// answer books the request and returns what to say, before anything is written:
// a client that reads slowly holds nobody up.
func (f *Fake) answer(r *http.Request, body []byte) (a reply, wait string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := &request{Request: r, body: body, query: r.URL.Query(), now: f.company.Now()}
	if a, wait = f.limit(q); wait == "" {
		a = f.route(q)
	}
	f.calls = append(f.calls, Call{q.now, r.Method, r.URL.Path, a.status})
	return a, wait
}

func write(w http.ResponseWriter, a reply) {
	switch body := a.body.(type) {
	case nil:
		w.WriteHeader(a.status)
	case string:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, body) // who asked may be gone
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		_ = json.NewEncoder(w).Encode(body) // the same
	}
}

// route finds what the request is for.
func (f *Fake) route(q *request) reply {
	path, ok := strings.CutPrefix(q.URL.EscapedPath(), "/api/")
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for i := range parts {
		part, err := url.PathUnescape(parts[i])
		ok = ok && err == nil && part != ""
		parts[i] = part
	}
	if !ok {
		f.Note(RuleRequest, q.Request, "no such path")
		return text(http.StatusNotFound, "Not Found")
	}
	switch {
	case path == "authorization":
		return f.authorization(q)
	case len(parts) == 3 && parts[0] == "machines":
		return f.machineCall(q, parts[1], parts[2])
	}
	if refused := f.needToken(q); refused != nil {
		return *refused
	}
	one := ""
	if len(parts) == 2 {
		one = parts[1]
	}
	if len(parts) <= 2 {
		switch q.Method + " " + parts[0] {
		case "POST inventory-movements":
			if one == "" {
				return f.postMovement(q)
			}
		case "GET inventory-movements":
			return f.getMovements(q, one)
		case "GET products":
			return f.getProducts(q, one)
		case "GET productions":
			return f.getProductions(q, one)
		case "GET production-orders":
			return f.getOrders(q, one)
		case "GET downtimes":
			return f.getDowntimes(q, one)
		case "GET stock":
			return f.getStock(q, one)
		case "POST stock":
			return f.postStock(q)
		case "GET changes":
			return f.getChanges(q, one)
		}
	}
	f.Note(RuleRequest, q.Request, "a gateway has no such call")
	return text(http.StatusNotFound, "Not Found")
}

// known refuses query parameters that the call has not.
func (f *Fake) known(q *request, names ...string) *reply {
	for name := range q.query {
		if name == "access_token" {
			continue
		}
		found := false
		for _, n := range names {
			found = found || n == name
		}
		if !found {
			f.Note(RuleRequest, q.Request, "the query has %q, which the document has not", name)
			refused := text(http.StatusBadRequest, "Unknown parameter "+name)
			return &refused
		}
	}
	return nil
}

// object reads the body, or says what is wrong with it.
func (f *Fake) object(q *request) (*central.Object, *reply) {
	if kind, _, err := mime.ParseMediaType(q.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		f.Note(RuleRequest, q.Request, "Content-Type is %q, not application/json", q.Header.Get("Content-Type"))
		refused := text(http.StatusBadRequest, "Invalid JSON")
		return nil, &refused
	}
	o, err := central.ParseObject(q.body)
	if err != nil {
		f.Note(RuleBody, q.Request, "%v", err)
		refused := text(http.StatusBadRequest, "Invalid JSON")
		return nil, &refused
	}
	return o, nil
}

// problems notes what is wrong with a body that was read; nil if nothing is.
func (f *Fake) problems(q *request, o *central.Object) *reply {
	o.End()
	if len(o.Problems()) == 0 {
		return nil
	}
	words := strings.Join(o.Problems(), "; ")
	f.Note(RuleBody, q.Request, "%s", words)
	refused := text(http.StatusBadRequest, words)
	return &refused
}

// refuse notes a violation and answers 400 with the same words.
func (f *Fake) refuse(q *request, rule, words string) reply {
	f.Note(rule, q.Request, "%s", words)
	return text(http.StatusBadRequest, words)
}

// Calls returns what was asked and answered, in order; what a fault answered is
// not among it.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Busiest returns how many calls the busiest span of that length held.
func (f *Fake) Busiest(span time.Duration) int {
	most, from := 0, 0
	calls := f.Calls()
	for i := range calls {
		for calls[i].At.Sub(calls[from].At) >= span {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}
