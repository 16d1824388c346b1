package erp

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
)

// ProdSys is a receiver in the manner of a supplier's ProdSys: tokens with
// scopes that expire without saying when, orders that arrive as drafts, article
// numbers that must be the supplier's own, contacts that must be the same letter
// by letter or become duplicates, and an integration log. The document names no
// paths; these are by rule: /purchase-orders, /articles/{number}, /contacts.
type ProdSys struct {
	central.Book
	// Faults stand before everything else.
	Faults central.Faults
	// Tokens are those that were given out; their fields are set before use.
	Tokens []Token
	// Articles are the numbers that the supplier has.
	Articles []string
	Now      func() time.Time

	mu       sync.Mutex
	contacts []Contact
	drafts   []Draft
	log      []string
}

// The scopes of a token.
const (
	ScopeOrders   = "PurchaseOrders:Create"
	ScopeArticles = "Articles:Read"
	ScopeContacts = "Contacts:ReadWrite"
)

// Token is one token with what it is for.
type Token struct {
	Text   string
	Scopes []string
	Ends   time.Time // the zero time never
}

// Contact is a company with its address and person.
type Contact struct{ Company, Address, Person string }

// Draft is an order that waits for a person.
type Draft struct {
	Number  string
	Contact Contact
	Lines   []Line
}

// Line is one line of a draft.
type Line struct {
	Article  string
	Quantity float64
}

// Drafts returns the drafts in order.
func (p *ProdSys) Drafts() []Draft {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.drafts)
}

// Contacts returns the companies that are known; one that was written in two ways
// is there twice.
func (p *ProdSys) Contacts() []Contact {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.contacts)
}

// Log returns the lines of the integration log.
func (p *ProdSys) Log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// ServeHTTP implements http.Handler.
func (p *ProdSys) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.Faults.Serve(w, r, p.receive)
}

func (p *ProdSys) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked may be gone
}

func (p *ProdSys) refuse(w http.ResponseWriter, r *http.Request, rule string, status int, words ...string) {
	p.Note(rule, r, "%s", strings.Join(words, "; "))
	p.mu.Lock()
	p.log = append(p.log, words...)
	p.mu.Unlock()
	p.answer(w, status, map[string]any{"errors": words})
}

// allowed answers a call without a token for it.
func (p *ProdSys) allowed(w http.ResponseWriter, r *http.Request, scope string) bool {
	given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	for _, t := range p.Tokens {
		switch {
		case t.Text != given || given == "":
		case !t.Ends.IsZero() && !p.Now().Before(t.Ends):
			p.answer(w, http.StatusUnauthorized, map[string]any{"errors": []string{"the token has expired"}}) // nobody can read its end: no violation
			return false
		case !slices.Contains(t.Scopes, scope):
			p.refuse(w, r, RuleScope, http.StatusForbidden, "the token is not for "+scope)
			return false
		default:
			return true
		}
	}
	p.refuse(w, r, RuleAuth, http.StatusUnauthorized, "no or another token")
	return false
}

func (p *ProdSys) receive(w http.ResponseWriter, r *http.Request) {
	article, isArticle := strings.CutPrefix(r.URL.Path, "/articles/")
	switch {
	case r.Method == http.MethodGet && isArticle:
		if p.allowed(w, r, ScopeArticles) {
			p.article(w, article)
		}
	case r.Method == http.MethodPost && r.URL.Path == "/purchase-orders":
		if p.allowed(w, r, ScopeOrders) {
			p.order(w, r)
		}
	case r.Method == http.MethodGet && r.URL.Path == "/contacts":
		if p.allowed(w, r, ScopeContacts) {
			p.answer(w, http.StatusOK, p.Contacts())
		}
	default:
		p.refuse(w, r, RuleRequest, http.StatusNotFound, "no such call")
	}
}

func (p *ProdSys) article(w http.ResponseWriter, number string) {
	if !slices.Contains(p.Articles, number) {
		p.answer(w, http.StatusNotFound, map[string]any{"errors": []string{"no article " + number}})
		return
	}
	p.answer(w, http.StatusOK, map[string]any{"number": number})
}

// order books {"number","supplier":{"name","address","contact"},"lines":[{"article","quantity"}]}.
func (p *ProdSys) order(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // a part of a request is no request
	}
	o, err := central.ParseObject(body)
	if err != nil {
		p.refuse(w, r, RuleBody, http.StatusBadRequest, err.Error())
		return
	}
	d := Draft{Number: o.String("number", true)}
	if c := o.Object("supplier", true); c != nil {
		d.Contact = Contact{c.String("name", true), c.String("address", false), c.String("contact", false)}
		c.End()
	}
	var missing []string
	for _, l := range o.Objects("lines", true) {
		line := Line{Article: l.String("article", true)}
		line.Quantity, _ = l.Number("quantity", true)
		l.End()
		if line.Article != "" && !slices.Contains(p.Articles, line.Article) {
			missing = append(missing, fmt.Sprintf("order %s: no article %q", d.Number, line.Article))
		}
		d.Lines = append(d.Lines, line)
	}
	if len(d.Lines) == 0 {
		o.Fail("lines", "is empty")
	}
	o.End()
	switch {
	case len(o.Problems()) > 0:
		p.refuse(w, r, RuleBody, http.StatusBadRequest, o.Problems()...)
	case len(missing) > 0:
		p.refuse(w, r, RuleCode, http.StatusUnprocessableEntity, missing...)
	default:
		p.draft(w, d)
	}
}

func (p *ProdSys) draft(w http.ResponseWriter, d Draft) {
	p.mu.Lock()
	if !slices.Contains(p.contacts, d.Contact) {
		p.contacts = append(p.contacts, d.Contact)
	}
	p.drafts = append(p.drafts, d)
	n := len(p.drafts)
	p.mu.Unlock()
	p.answer(w, http.StatusCreated, map[string]any{"id": n, "state": "draft"})
}
