package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// item is what an answer says of one event.
type item struct {
	ID     json.RawMessage `json:"id"`
	Status json.RawMessage `json:"status"`
	Error  json.RawMessage `json:"error"`
}

// parseItems finds the results in the body of an answer: {"results": […]}, or
// an array. spoken is false if there are none: an array counts only if all its
// items are objects and one has a status.
func parseItems(body []byte) (items []item, spoken bool) {
	raw := bytes.TrimSpace(body)
	if len(raw) > 0 && raw[0] == '{' {
		var object struct{ Results json.RawMessage }
		if json.Unmarshal(raw, &object) != nil {
			return nil, false
		}
		raw = object.Results
	}
	if json.Unmarshal(raw, &items) != nil {
		return nil, false
	}
	for i := range items {
		spoken = spoken || items[i].Status != nil
	}
	return items, spoken
}

// unusable says why nobody knows what a JSON answer said of each event: it is
// damaged, or its results are no list. An empty answer says nothing, and one
// without results speaks of other things.
func unusable(body []byte) string {
	raw := bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\ufeff"))
	if len(raw) == 0 || raw[0] != '{' && raw[0] != '[' {
		return "" // "OK", whatever its content type says
	}
	if !json.Valid(raw) {
		return "what it says is no valid JSON"
	}
	var object struct{ Results json.RawMessage }
	var items []item
	if raw[0] == '{' && json.Unmarshal(raw, &object) == nil && len(object.Results) > 0 &&
		object.Results[0] != '"' && json.Unmarshal(object.Results, &items) != nil {
		return "its results are no list of items"
	}
	return ""
}

// judgeItems turns what was said of each event into Results, in the order of
// the events, up to the first that has to be sent again. Whatever is unclear is
// sent again.
func (s *Sender) judgeItems(events []plant.Event, items []item, wait time.Duration) []plant.Result {
	of := match(events, items)
	var results []plant.Result
	for i := range events {
		r := answerFor(events[i:i+1], plant.Retry, errNotSpoken)
		if of[i] != nil {
			r.Status, r.Cause = s.judgeItem(of[i])
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

// match finds the item of each event: by the ids, if all are ours, else by the
// order, if there is one for each. An event with two items that differ has
// none.
func match(events []plant.Event, items []item) []*item {
	of := make([]*item, len(events))
	index := make(map[string]int, len(events))
	for i := range events {
		index[events[i].ID().String()] = i
	}
	ours := true
	for i := range items {
		var id string
		at, known := 0, false
		if json.Unmarshal(items[i].ID, &id) == nil {
			at, known = index[id]
		}
		if !known {
			ours = false
			break
		}
		switch {
		case of[at] == nil:
			of[at] = &items[i]
		case !bytes.Equal(of[at].Status, items[i].Status):
			of[at] = &item{Status: json.RawMessage(`"two that differ"`)}
		}
	}
	if ours {
		return of
	}
	clear(of)
	if len(items) == len(events) {
		for i := range items {
			of[i] = &items[i]
		}
	}
	return of
}

// judgeItem returns what an item says: its status is that of a request of its
// own, or delivered, rejected or retry.
func (s *Sender) judgeItem(it *item) (plant.Status, error) {
	said := "nothing"
	var number int
	var word string
	status := plant.Retry
	switch {
	case it.Status == nil:
	case json.Unmarshal(it.Status, &number) == nil:
		said, status = title(number), s.itemStatus(number)
	case json.Unmarshal(it.Status, &word) == nil:
		said = s.clean(word)
		switch strings.ToLower(word) {
		case "delivered":
			status = plant.Delivered
		case "rejected":
			status = plant.Rejected
		case "retry":
		default:
			said += ", which is no status"
		}
	default:
		said = "something that is no status"
	}
	if status == plant.Delivered {
		return status, nil
	}
	text := fmt.Sprintf("rest: %s %s: of this event the receiver says %s", s.options.Method, show(s.target), said)
	if words := s.clean(wordsOfJSON(it.Error, 3)); words != "" {
		text += ": " + words
	}
	return status, &refusal{text}
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
