package erp

import (
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/sluice-edge/sluice/internal/central"
)

// Azumuta is a receiver in the manner of Azumuta's webhooks: GET with a query or
// POST with JSON, the product order number and, where they apply, the ids of a
// work instruction and a recording, and an API key. The document names no
// parameter, so the names are settings.
type Azumuta struct {
	central.Book
	// Faults stand before everything else.
	Faults central.Faults
	// Method is GET or POST.
	Method string
	// Path is the endpoint's.
	Path string
	// KeyHeader and Key are the API key.
	KeyHeader, Key string
	// Order, Instruction and Recording are the names of the parameters. Without
	// them productOrderNumber, workInstructionId and recordingId.
	Order, Instruction, Recording string
	// Orders are those that are known; empty takes all.
	Orders []string

	mu    sync.Mutex
	calls []Trigger
}

// Trigger is one call that was taken.
type Trigger struct{ Order, Instruction, Recording string }

// Triggers returns the calls that were taken, in order.
func (a *Azumuta) Triggers() []Trigger {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// ServeHTTP implements http.Handler.
func (a *Azumuta) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.Faults.Serve(w, r, a.receive)
}

func (a *Azumuta) names() [3]string {
	names := [3]string{a.Order, a.Instruction, a.Recording}
	for i, name := range []string{"productOrderNumber", "workInstructionId", "recordingId"} {
		if names[i] == "" {
			names[i] = name
		}
	}
	return names
}

func (a *Azumuta) refuse(w http.ResponseWriter, r *http.Request, rule string, status int, words string) {
	a.Note(rule, r, "%s", words)
	http.Error(w, words, status)
}

func (a *Azumuta) receive(w http.ResponseWriter, r *http.Request) {
	_, body, err := read(w, r)
	if err != nil {
		return // a part of a request is no request
	}
	if r.URL.Path != a.Path || r.Method != a.Method {
		a.refuse(w, r, RuleRequest, http.StatusNotFound, "no such endpoint")
		return
	}
	if err := APIKey(a.KeyHeader, a.Key)(r, body); err != nil {
		a.refuse(w, r, RuleAuth, http.StatusUnauthorized, err.Error())
		return
	}
	values, err := a.values(r, body)
	if err != nil {
		a.refuse(w, r, RuleBody, http.StatusBadRequest, err.Error())
		return
	}
	if len(a.Orders) > 0 && !slices.Contains(a.Orders, values[0]) {
		a.refuse(w, r, RuleCode, http.StatusNotFound, fmt.Sprintf("the product order %q is not known", values[0]))
		return
	}
	a.mu.Lock()
	a.calls = append(a.calls, Trigger{values[0], values[1], values[2]})
	a.mu.Unlock()
}

// values reads the three parameters; only the first must be there.
func (a *Azumuta) values(r *http.Request, body []byte) (values [3]string, err error) {
	names := a.names()
	if a.Method == http.MethodGet {
		if len(body) > 0 {
			return values, fmt.Errorf("a GET has a body of %d bytes", len(body))
		}
		for name, given := range r.URL.Query() {
			i := slices.Index(names[:], name)
			if i < 0 || len(given) != 1 {
				return values, fmt.Errorf("the parameter %s is not known, or stands there twice", name)
			}
			values[i] = given[0]
		}
		if values[0] == "" {
			return values, fmt.Errorf("%s is missing", names[0])
		}
		return values, nil
	}
	if r.URL.RawQuery != "" {
		return values, fmt.Errorf("a POST has a query")
	}
	o, err := central.ParseObject(body)
	if err != nil {
		return values, err
	}
	for i, name := range names {
		values[i] = o.String(name, i == 0)
	}
	o.End()
	if len(o.Problems()) > 0 {
		return values, fmt.Errorf("%s", o.Problems()[0])
	}
	return values, nil
}
