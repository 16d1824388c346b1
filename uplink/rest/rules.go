package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// Answer says what answers of a receiver mean that has rules of its own.
type Answer struct {
	// Delivered, Refused and Retry are statuses that mean that, besides the usual
	// ones: 409, or 4xx for a whole class. A status of its own goes before a class.
	Delivered []Statuses `yaml:"delivered"`
	Refused   []Statuses `yaml:"refused"`
	Retry     []Statuses `yaml:"retry"`
	// Success is where in the body of a success a word says that it is one, and Is
	// the words that do; without a path the status alone counts.
	Success JSONPath `yaml:"success"`
	Is      []string `yaml:"is"`
	// Error is where in it an error would be.
	Error JSONPath `yaml:"error"`
	// Failure is what a success is that is none by these: refused or retry.
	Failure string `yaml:"failure"`
	// ID is where in it the receiver's own id is, for the journal.
	ID JSONPath `yaml:"id"`
	// Results is where the answer to a list has what it says of each event; ItemID,
	// ItemStatus and ItemError are where each of them has that.
	Results    JSONPath `yaml:"results"`
	ItemID     JSONPath `yaml:"item_id"`
	ItemStatus JSONPath `yaml:"item_status"`
	ItemError  JSONPath `yaml:"item_error"`
	// Words are what other words as a status mean: delivered, rejected or retry.
	Words map[string]string `yaml:"words"`
}

// The values of Failure.
const (
	failureRefused = "refused"
	failureRetry   = "retry"
)

// The words for what an item says.
const (
	wordDelivered = "delivered"
	wordRejected  = "rejected"
	wordRetry     = "retry"
)

// Validate returns the faults of a as config.FieldErrors, nil if there are none.
func (a Answer) Validate() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	seen := make(map[Statuses]string)
	for _, list := range []struct {
		name string
		of   []Statuses
	}{{"delivered", a.Delivered}, {"refused", a.Refused}, {"retry", a.Retry}} {
		for i, s := range list.of {
			path := fmt.Sprintf("%s[%d]", list.name, i)
			if other, twice := seen[s]; twice {
				bad(path, fmt.Sprintf("%s is in %s as well", s, other), "keep one of them")
			}
			seen[s] = list.name
			if list.name == "delivered" && (s == 401 || s == 403 || s == 407 || s == 429 || s == 3 || s == 5 || s >= 300 && s < 400 || s >= 500) {
				bad(path, fmt.Sprintf("%s cannot mean that the receiver has the events", s), "leave it out: events would be lost")
			}
		}
	}
	if (a.Success == "") != (len(a.Is) == 0) {
		bad("is", "success and is belong together, and one is missing", "write for example success: status and is: [ok]")
	}
	if a.Failure != "" && a.Failure != failureRefused && a.Failure != failureRetry {
		errs = append(errs, config.Unknown("failure", "value", a.Failure, []string{failureRefused, failureRetry}))
	}
	if a.Failure != "" && a.Success == "" && a.Error == "" {
		bad("failure", "nothing says what a failure is", "set success or error, or leave it out")
	}
	for _, word := range slices.Sorted(maps.Keys(a.Words)) {
		if means := a.Words[word]; !slices.Contains([]string{wordDelivered, wordRejected, wordRetry}, means) {
			errs = append(errs, config.Unknown("words."+word, "meaning", means, []string{wordDelivered, wordRejected, wordRetry}))
		}
	}
	return errors.Join(errs...)
}

// reads reports whether the body of a success has to be read.
func (a *Answer) reads() bool { return a.Success != "" || a.Error != "" || a.ID != "" }

// outcome returns what a status means by these rules; ok is false if they say
// nothing of it.
func (a *Answer) outcome(status int) (o outcome, ok bool) {
	for _, s := range []Statuses{Statuses(status), Statuses(status / 100)} {
		switch {
		case slices.Contains(a.Delivered, s):
			return taken, true
		case slices.Contains(a.Refused, s):
			return refused, true
		case slices.Contains(a.Retry, s):
			return again, true
		}
	}
	return 0, false
}

// failed says why the body of a success is none; empty if it is one. An error
// says that nobody knows.
func (a *Answer) failed(body []byte) (why string, err error) {
	document, err := decoded(body)
	if err != nil && a.Success != "" {
		return "", err
	}
	if err != nil {
		return "", nil // "OK", or nothing at all
	}
	if a.Error != "" {
		if found, ok := a.Error.find(document); ok && !nothing(found) {
			return wordOf(found), nil
		}
	}
	if a.Success == "" {
		return "", nil
	}
	found, ok := a.Success.find(document)
	if !ok {
		return "", fmt.Errorf("there is no %s in what it says", a.Success)
	}
	if word := wordOf(found); !slices.ContainsFunc(a.Is, func(is string) bool { return strings.EqualFold(is, word) }) {
		return fmt.Sprintf("%s is %s", a.Success, word), nil
	}
	return "", nil
}

// words returns what an answer that is no success says to people: what stands
// where errors are, else the usual.
func (a *Answer) words(answer *httplink.Answer) string {
	if a.Error != "" && answer.Coding() == "" {
		if document, err := decoded(answer.Body); err == nil {
			if found, ok := a.Error.find(document); ok && !nothing(found) {
				return wordOf(found)
			}
		}
	}
	return answer.Words()
}

// id returns the receiver's own id, empty if it gave none.
func (a *Answer) id(body []byte) string {
	if a.ID == "" {
		return ""
	}
	document, err := decoded(body)
	if err != nil {
		return ""
	}
	found, ok := a.ID.find(document)
	if !ok || nothing(found) {
		return ""
	}
	return wordOf(found)
}

// meaning returns what a word of an item means: delivered, rejected or retry;
// another one if nobody knows.
func (a *Answer) meaning(word string) string {
	for theirs, means := range a.Words {
		if strings.EqualFold(theirs, word) {
			return means
		}
	}
	return strings.ToLower(word)
}

// flag reads a status that is true or false, which is one only where the config
// says what item_status is: then it is the word of what it means.
func (a *Answer) flag(raw json.RawMessage, word *string) bool {
	switch {
	case a.ItemStatus == "":
		return false
	case string(raw) == "true":
		*word = wordDelivered
	case string(raw) == "false":
		*word = wordRejected
	default:
		return false
	}
	return true
}

func decoded(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(bare(body)))
	d.UseNumber()
	var document any
	if err := d.Decode(&document); err != nil {
		return nil, errors.New("what it says is no valid JSON")
	}
	return document, nil
}

// nothing reports whether a value says that there is no error.
func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		return v == "0"
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// wordOf returns a value as people read it.
func wordOf(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v) // it was decoded from JSON, so this does not happen
	}
	return string(text)
}

// Statuses is a status of HTTP, or a class of them by its first digit.
type Statuses int

// UnmarshalText reads 409 or 4xx.
func (s *Statuses) UnmarshalText(b []byte) error {
	text := strings.ToLower(strings.TrimSpace(string(b)))
	if class, ok := strings.CutSuffix(text, "xx"); ok && len(class) == 1 && class[0] >= '2' && class[0] <= '5' {
		*s = Statuses(class[0] - '0')
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		return config.Field("", fmt.Sprintf("`%s` is no status of HTTP", text), "write a number from 200 to 599, or a class such as 4xx")
	}
	*s = Statuses(n)
	return nil
}

// String returns what UnmarshalText reads.
func (s Statuses) String() string {
	if s < 10 {
		return strconv.Itoa(int(s)) + "xx"
	}
	return strconv.Itoa(int(s))
}

// JSONPath leads to a value in JSON: names with points between, and the number
// of an item in brackets, from 0: data.items[0].id. A leading "$." may stand.
type JSONPath string

// UnmarshalText checks the path.
func (p *JSONPath) UnmarshalText(b []byte) error {
	text := strings.TrimPrefix(strings.TrimPrefix(string(b), "$"), ".")
	if !pathForm.MatchString(text) {
		return config.Field("", fmt.Sprintf("`%s` is no path", b), "write names with points between and items in brackets, for example data.items[0].id")
	}
	*p = JSONPath(text)
	return nil
}

// pathForm is what a path looks like, and pathStep one step of it.
var (
	pathForm = regexp.MustCompile(`^([^.\[\]*?@\s]+|\[\d{1,5}\])(\.[^.\[\]*?@\s]+|\[\d{1,5}\])*$`)
	pathStep = regexp.MustCompile(`\[\d+\]|[^.\[\]]+`)
)

// steps returns the names and numbers on the way.
func (p JSONPath) steps() []any {
	var steps []any
	for _, step := range pathStep.FindAllString(string(p), -1) {
		if step[0] != '[' {
			steps = append(steps, step)
			continue
		}
		n, err := strconv.Atoi(step[1 : len(step)-1])
		if err != nil {
			panic(err) // pathForm lets five digits through
		}
		steps = append(steps, n)
	}
	return steps
}

// find returns the value that p leads to in a decoded document.
func (p JSONPath) find(document any) (any, bool) {
	for _, step := range p.steps() {
		switch step := step.(type) {
		case string:
			object, _ := document.(map[string]any)
			next, ok := object[step]
			if !ok {
				return nil, false
			}
			document = next
		case int:
			list, _ := document.([]any)
			if step >= len(list) {
				return nil, false
			}
			document = list[step]
		}
	}
	return document, true
}

// raw returns the JSON text that p leads to, nil if there is none.
func (p JSONPath) raw(text json.RawMessage) json.RawMessage {
	for _, step := range p.steps() {
		switch step := step.(type) {
		case string:
			var object map[string]json.RawMessage
			if json.Unmarshal(text, &object) != nil {
				return nil
			}
			next, ok := object[step]
			for name := range object {
				if ok {
					break
				}
				if strings.EqualFold(name, step) {
					next, ok = object[name], true
				}
			}
			text = next
		case int:
			var list []json.RawMessage
			if json.Unmarshal(text, &list) != nil || step >= len(list) {
				return nil
			}
			text = list[step]
		}
		if text == nil {
			return nil
		}
	}
	return text
}
