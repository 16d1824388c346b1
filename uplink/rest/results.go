package rest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// item is what an answer says of one event.
type item struct {
	ID     json.RawMessage `json:"id"`
	Status json.RawMessage `json:"status"`
	Error  json.RawMessage `json:"error"`
}

// itemsAt says where in an answer what is said of each event is.
type itemsAt struct{ results, id, status, error JSONPath }

// items returns where the receiver has what it says of each event.
func (s *Sender) items() itemsAt {
	a := &s.options.Answer
	return itemsAt{
		results: cmp.Or(a.Results, "results"),
		id:      cmp.Or(a.ItemID, "id"), status: cmp.Or(a.ItemStatus, "status"), error: cmp.Or(a.ItemError, "error"),
	}
}

// list returns the items of a JSON text; ok is false if not all are objects.
func (at itemsAt) list(raw json.RawMessage) (items []item, ok bool) {
	var objects []map[string]json.RawMessage
	if json.Unmarshal(raw, &objects) != nil {
		return nil, false
	}
	var all []json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return nil, false // it could be read a moment ago
	}
	items = make([]item, len(all))
	for i := range all {
		items[i] = item{at.id.raw(all[i]), at.status.raw(all[i]), at.error.raw(all[i])}
	}
	return items, true
}

// parse finds the results in the body of an answer: the list in an object, or an
// array. spoken is false if there are none: an array counts only if all its
// items are objects and one has a status.
func (at itemsAt) parse(body []byte) (items []item, spoken bool) {
	raw := json.RawMessage(bare(body))
	if len(raw) > 0 && raw[0] == '{' {
		raw = at.results.raw(raw)
	}
	items, ok := at.list(raw)
	if !ok {
		return nil, false
	}
	for i := range items {
		spoken = spoken || items[i].Status != nil
	}
	return items, spoken
}

// unusable says why nobody knows what an answer said of each event: it is damaged
// JSON, or its results are no list. An empty answer says nothing, and one without
// results speaks of other things; so does one that is no JSON, unless it is called
// so.
func (at itemsAt) unusable(body []byte, called bool) string {
	raw := bare(body)
	switch {
	case bytes.IndexByte(raw, 0) >= 0:
		return "what it says is not in UTF-8, as JSON between systems is (RFC 8259 section 8.1)"
	case len(raw) > 0 && raw[0] == '<':
		return "what it says is a page or XML, though it is said to be JSON"
	case len(raw) == 0:
		return ""
	case raw[0] != '{' && raw[0] != '[':
		if called && !json.Valid(raw) {
			return "what it says is no valid JSON, though it is said to be JSON; if the status alone counts, set results: ignore"
		}
		return "" // "OK", as JSON or as text
	}
	if !json.Valid(raw) {
		return "what it says is no valid JSON"
	}
	const noList = "its results are no list of items"
	if raw[0] == '{' {
		found := at.results.raw(raw)
		if len(found) > 0 && found[0] != '"' && string(found) != "null" {
			if _, ok := at.list(found); !ok {
				return noList
			}
		}
		return ""
	}
	var all []json.RawMessage
	if _, ok := at.list(raw); ok || json.Unmarshal(raw, &all) != nil {
		return ""
	}
	for _, one := range all {
		if at.status.raw(one) != nil {
			return noList // of one event it spoke, and of the others nobody knows
		}
	}
	return ""
}

// bare returns a body without the byte order mark that some servers put before
// it.
func bare(body []byte) []byte {
	return bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\ufeff"))
}

// judgeItems turns what was said of each event into Results, in the order of
// the events, up to the first that has to be sent again. Whatever is unclear is
// sent again.
func (s *Sender) judgeItems(msg *message, items []item, wait time.Duration) []plant.Result {
	events := msg.events
	of, err := match(events, items)
	if err != nil {
		r := answerFor(events[:1], plant.Retry, fmt.Errorf("rest: read results: %s", s.client.Clean(err.Error())))
		r.Wait = wait
		return []plant.Result{r}
	}
	var results []plant.Result
	for i := range events {
		r := answerFor(events[i:i+1], plant.Retry, errNotSpoken)
		if of[i] != nil {
			r.Status, r.Cause = s.judgeItem(msg, of[i])
		}
		if r.Status == plant.Retry {
			r.Wait = wait
			return add(results, r)
		}
		results = add(results, r)
	}
	return results
}

var errNotSpoken = errors.New("rest: read results: the receiver answers for other events of the batch, but not for this one")

// match finds the item of each event: by the ids where all are ours, by the
// order where none is. An id that is ours also says where an item belongs if
// others have none, so an order that contradicts it is an error, and so is an
// id that is not ours among those that are: nobody knows then which event is
// meant. An event with two items that differ has none.
func match(events []plant.Event, items []item) ([]*item, error) {
	index := make(map[string]int, len(events))
	for i := range events {
		index[events[i].ID().String()] = i
	}
	at := make([]int, len(items)) // the event of each item by its id, or noID or foreignID
	ours, displaced, foreign := 0, -1, -1
	for i := range items {
		at[i] = place(items[i].ID, index)
		switch {
		case at[i] == foreignID:
			foreign = i
		case at[i] >= 0:
			ours++
			if at[i] != i && displaced < 0 {
				displaced = i
			}
		}
	}
	switch {
	case ours == len(items):
		return byID(len(events), items, at), nil
	case ours > 0 && foreign >= 0:
		return nil, fmt.Errorf("the receiver answers for ids of the batch and for %s, which is not in it", items[foreign].ID)
	case ours > 0 && displaced >= 0:
		return nil, fmt.Errorf("the receiver answers for some events by id and for others without, and %s stands as result %d instead of %d", items[displaced].ID, displaced+1, at[displaced]+1)
	case len(items) != len(events):
		return nil, fmt.Errorf("the receiver gives %d results for %d events, and not each has the id of one", len(items), len(events))
	}
	of := make([]*item, len(events))
	for i := range items {
		of[i] = &items[i]
	}
	return of, nil
}

const (
	noID      = -1
	foreignID = -2
)

// place returns the event that an id names.
func place(raw json.RawMessage, index map[string]int) int {
	if raw == nil || string(raw) == "null" {
		return noID
	}
	var id string
	if json.Unmarshal(raw, &id) == nil {
		if at, ok := index[id]; ok {
			return at
		}
	}
	return foreignID
}

// byID sorts the items to n events.
func byID(n int, items []item, at []int) []*item {
	of := make([]*item, n)
	for i := range items {
		switch first := of[at[i]]; {
		case first == nil:
			of[at[i]] = &items[i]
		case !bytes.Equal(first.Status, items[i].Status):
			of[at[i]] = &item{Status: json.RawMessage(`"two that differ"`)}
		}
	}
	return of
}

// judgeItem returns what an item says: its status is that of a request of its
// own, or delivered, rejected or retry. With any other nobody knows what became
// of the event: it is sent again after a growing wait, and the status is named.
func (s *Sender) judgeItem(msg *message, it *item) (plant.Status, error) {
	said, status := "nothing", plant.Retry
	var word string
	number, isNumber := itemNumber(it.Status)
	switch {
	case it.Status == nil:
	case isNumber:
		said, status = httplink.Title(number), s.itemStatus(number)
	case json.Unmarshal(it.Status, &word) == nil, s.options.Answer.flag(it.Status, &word):
		said = s.client.Clean(word)
		switch s.options.Answer.meaning(word) {
		case wordDelivered:
			status = plant.Delivered
		case wordRejected:
			status = plant.Rejected
		case wordRetry:
		default:
			said += ", which is no status"
		}
	default:
		said = "something that is no status"
	}
	if status == plant.Delivered {
		return status, nil
	}
	text := fmt.Sprintf("rest: %s %s: of this event the receiver says %s", msg.method, httplink.Show(msg.target), said)
	if words := s.client.Clean(httplink.WordsOfJSON(it.Error)); words != "" {
		text += ": " + words
	}
	return status, &refusal{text}
}

// itemNumber reads an HTTP status as receivers write it in JSON: 201, 201.0,
// "201" or "201 Created".
func itemNumber(raw json.RawMessage) (int, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		code, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		n, err := strconv.Atoi(code)
		return n, err == nil && len(code) == 3
	}
	var n float64
	if json.Unmarshal(raw, &n) != nil || n != math.Trunc(n) || math.Abs(n) > 999 || string(raw) == "null" {
		return 0, false
	}
	return int(n), true
}

// itemStatus returns what an HTTP status says of one event of a batch. The
// request as a whole was accepted, so that a status which would say "wrong
// settings" is about this event.
func (s *Sender) itemStatus(status int) plant.Status {
	switch outcomeOf(status) {
	case taken:
		return plant.Delivered
	case again, down:
		return plant.Retry
	case conflicting:
		if s.options.Conflict == conflictDelivered {
			return plant.Delivered
		}
		return plant.Rejected
	default:
		if status < 400 || status > 499 {
			return plant.Retry
		}
		return plant.Rejected
	}
}
