// Package prodsmart is a strict stand-in of Prodsmart's REST API, written from
// the vendor's document alone. It books what a gateway sends, refuses what
// Prodsmart would refuse, and notes everything that the document forbids. Where
// the document is silent, its Company says what this one does, so that a sender
// can be tested both ways.
package prodsmart

import (
	"net/http"
	"time"
)

// The rules that a client may break; each is the Rule of a Violation.
const (
	// RuleAuth is a wrong way to say who asks: no or wrong credentials, Basic
	// where a token belongs, a token at a machine endpoint.
	RuleAuth = "auth"
	// RuleTokenInURL is access_token in a query where Basic would have done, or
	// anywhere if the Company takes tokens in the header.
	RuleTokenInURL = "token in the URL" //nolint:gosec // the name of a rule
	// RuleAuthorization is a DELETE of the company's authorisation, or a POST while
	// there is one that is good.
	RuleAuthorization = "authorization"
	// RuleRate is a request beyond the company's limit without others' calls.
	RuleRate = "rate"
	// RuleRetryAfter is a request before the time that a 429 named.
	RuleRetryAfter = "retry-after"
	// RuleRequest is a path, method, query or content type that the document has not.
	RuleRequest = "request"
	// RuleBody is a body that is not as the document has it.
	RuleBody = "body"
	// RuleCode is a machine, waste, downtime type or product that is not known.
	RuleCode = "code"
	// RuleDecreasing is a count or waste below the one before.
	RuleDecreasing = "decreasing"
	// RuleEqual is a count or waste that did not grow.
	RuleEqual = "equal"
	// RuleStart is a start whose stop was never sent.
	RuleStart = "start without stop"
	// RuleDoubleBOM is a movement of what Prodsmart consumes by a bill of materials.
	RuleDoubleBOM = "bill of materials twice"
	// RuleStock is a POST of stock by a gateway that is not its master.
	RuleStock = "stock"
)

// Machine is a machine as defined in Prodsmart.
type Machine struct {
	Code string
	// DowntimeTypes are those assigned to the machine.
	DowntimeTypes []string
	// Count is its counter before the test began.
	Count float64
}

// Component is one line of a bill of materials.
type Component struct {
	Product   string
	Quantity  float64
	Operation string
}

// Product is a product with its unit and bill of materials.
type Product struct {
	Code, Name, UoM string
	Components      []Component
	Operations      []Operation
	Stock           float64
}

// Operation is a step of a product's routing.
type Operation struct {
	Code string
	// Machines it may be done on, and Waste the codes of waste that it may have.
	Machines, Waste []string
}

// Order is a production order.
type Order struct {
	ID            int
	Code, Product string
	Machines      []string
	Quantity      float64
	// RunningStatus is notstarted, started, closed or archived.
	RunningStatus string
	StartDate     time.Time
	DueDate       time.Time
	Inactive      bool
}

// Reply is how the counter's new value is told.
type Reply int

// The forms that "returns the new value for the machine's counter" may have.
const (
	ReplyNumber Reply = iota
	ReplyText
	ReplyObject
	ReplyNothing
)

// TokenPlace is where a token is taken.
type TokenPlace int

const (
	// TokenInQuery is the letter of the document: ?access_token=.
	TokenInQuery TokenPlace = iota
	// TokenInHeader takes Authorization: Bearer only.
	TokenInHeader
)

// Company is the data of one company and what this Prodsmart does where the
// document says nothing. The zero values are the document's letter or the
// default of central-systems.md.
type Company struct {
	Key, Secret string
	Machines    []Machine
	WasteCodes  []string
	Products    []Product
	Orders      []Order
	// Channels are the change channels by name, with their type, such as
	// DOWN_TIME or PRODUCTION.
	Channels map[string]string
	// StockMaster says that the gateway may set stock.
	StockMaster bool

	// Now is the clock; time.Now without it.
	Now func() time.Time
	// TokenLife is 2 hours without it.
	TokenLife time.Duration
	// Tokens says where a token is taken.
	Tokens TokenPlace
	// Refused is the status of wrong credentials and expired tokens; 401 without it.
	Refused int
	// NoToken is the status of GET /api/authorization without a good token; 404
	// without it.
	NoToken int
	// KeepsExpired lets GET answer an expired token.
	KeepsExpired bool
	// PostKeeps lets the older token live on after a POST.
	PostKeeps bool
	// Limit is the number of requests in a minute; 120 without it.
	Limit int
	// RefusedAreFree says that refused calls do not count against the limit.
	RefusedAreFree bool

	// EqualIsFine takes a count that did not grow.
	EqualIsFine bool
	// SilentRefusal leaves the last value out of the words of "must be greater".
	SilentRefusal bool
	// CountReply is the form of the counter's new value.
	CountReply Reply
	// NewestFirst turns lists around.
	NewestFirst bool
	// MovementTypes are in, out, consumption and production without it.
	MovementTypes []string
	// Created is the status of a movement that was booked; 200 without it.
	Created int
}

func (c *Company) settle() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MovementTypes == nil {
		c.MovementTypes = []string{"in", "out", "consumption", "production"}
	}
	c.TokenLife = or(c.TokenLife, 2*time.Hour)
	c.Refused = or(c.Refused, http.StatusUnauthorized)
	c.NoToken = or(c.NoToken, http.StatusNotFound)
	c.Created = or(c.Created, http.StatusOK)
	c.Limit = or(c.Limit, 120)
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
