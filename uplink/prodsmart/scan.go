package prodsmart

import (
	"bytes"
	"strconv"

	"github.com/sluice-edge/sluice/plant"
)

// A long backlog is merged event by event, so what merging needs of a count is
// read without encoding/json, at a tenth of its cost. Whatever does not look as
// the gateway itself writes it is left to encoding/json.

// count is what merging needs of a counter event. Its texts are parts of the
// event's data.
type count struct {
	machine, mode, order, unattributed []byte
	good, goodDelta                    int64
	rework, reworkDelta                int64
	scrap                              []scrapCount
}

type scrapCount struct {
	code            []byte // quoted
	quantity, delta int64
}

// parse reads data; scrap has room that is used again. It returns false if data is
// not as expected.
func (c *count) parse(data []byte, scrap []scrapCount) bool {
	*c = count{scrap: scrap[:0]}
	fine := true
	number := func(value []byte, into *int64) {
		n, err := strconv.ParseInt(string(value), 10, 64)
		*into, fine = n, fine && err == nil
	}
	ok := members(data, func(key, value []byte) {
		switch string(key) {
		case "machine":
			c.machine = value
		case "mode":
			c.mode = value
		case "order":
			c.order = value
		case "unattributed":
			c.unattributed = value
		case "good":
			number(value, &c.good)
		case "good_delta":
			number(value, &c.goodDelta)
		case "rework":
			number(value, &c.rework)
		case "rework_delta":
			number(value, &c.reworkDelta)
		case "scrap":
			fine = fine && items(value, func(item []byte) bool {
				var s scrapCount
				ok := members(item, func(key, value []byte) {
					switch string(key) {
					case "code":
						s.code = value
					case "quantity":
						number(value, &s.quantity)
					case "delta":
						number(value, &s.delta)
					}
				})
				c.scrap = append(c.scrap, s)
				return ok
			})
		}
	})
	return ok && fine
}

// sameOrder reports whether c and o are of one order, or of none. Two that differ
// in what does not matter here are not merged, which is only less short.
func (c *count) sameOrder(o *count) bool {
	return bytes.Equal(c.order, o.order) && bytes.Equal(c.mode, o.mode) && bytes.Equal(c.unattributed, o.unattributed)
}

// add puts what was new in an older count into c. It returns false if a number of
// c went back.
func (c *count) add(older *count) bool {
	if c.good < older.good || c.rework < older.rework {
		return false
	}
	for i := range older.scrap {
		j := 0
		for j < len(c.scrap) && !bytes.Equal(c.scrap[j].code, older.scrap[i].code) {
			j++
		}
		if j == len(c.scrap) || c.scrap[j].quantity < older.scrap[i].quantity {
			return false
		}
		c.scrap[j].delta += older.scrap[i].delta
	}
	c.goodDelta += older.goodDelta
	c.reworkDelta += older.reworkDelta
	return true
}

// append writes what the Sender reads of a counter event.
func (c *count) append(dst []byte) []byte {
	text := func(key string, value []byte) {
		if value != nil {
			dst = append(append(dst, key...), value...)
		}
	}
	number := func(key string, n int64) { dst = strconv.AppendInt(append(dst, key...), n, 10) }
	text(`{"machine":`, c.machine)
	text(`,"mode":`, c.mode)
	text(`,"order":`, c.order)
	text(`,"unattributed":`, c.unattributed)
	number(`,"good":`, c.good)
	number(`,"good_delta":`, c.goodDelta)
	number(`,"rework":`, c.rework)
	number(`,"rework_delta":`, c.reworkDelta)
	for i, s := range c.scrap {
		if i == 0 {
			dst = append(dst, `,"scrap":[`...)
		} else {
			dst = append(dst, ',')
		}
		text(`{"code":`, s.code)
		number(`,"quantity":`, s.quantity)
		number(`,"delta":`, s.delta)
		dst = append(dst, '}')
		if i == len(c.scrap)-1 {
			dst = append(dst, ']')
		}
	}
	return append(dst, '}')
}

// mergeFast merges two counts that are written as the gateway writes them; sure is
// false if they are not.
func mergeFast(earlier, later *plant.Event) (merged, sure bool) {
	var a, b count
	var roomA, roomB [8]scrapCount
	if !a.parse(earlier.Data, roomA[:]) || !b.parse(later.Data, roomB[:]) || a.machine == nil || b.machine == nil {
		return false, false
	}
	if !b.sameOrder(&a) || !b.add(&a) {
		return false, true
	}
	later.Data = b.append(make([]byte, 0, len(later.Data)+32))
	return true, true
}

// members visits the members of a JSON object without spaces; false if that is not
// what data is.
func members(data []byte, visit func(key, value []byte)) bool {
	if len(data) < 2 || data[0] != '{' {
		return false
	}
	for at := 1; at < len(data); {
		if data[at] == '}' && at == 1 {
			return len(data) == 2
		}
		end := value(data, at)
		if end < 0 || data[at] != '"' || end >= len(data) || data[end] != ':' {
			return false
		}
		next := value(data, end+1)
		if next < 0 || next >= len(data) {
			return false
		}
		visit(data[at+1:end-1], data[end+1:next])
		if data[next] == '}' {
			return next == len(data)-1
		}
		if data[next] != ',' {
			return false
		}
		at = next + 1
	}
	return false
}

// items visits the values of a JSON array without spaces.
func items(data []byte, visit func(item []byte) bool) bool {
	if len(data) < 2 || data[0] != '[' {
		return false
	}
	if len(data) == 2 {
		return data[1] == ']'
	}
	for at := 1; at < len(data); {
		end := value(data, at)
		if end < 0 || end >= len(data) || !visit(data[at:end]) {
			return false
		}
		if data[end] == ']' {
			return end == len(data)-1
		}
		if data[end] != ',' {
			return false
		}
		at = end + 1
	}
	return false
}

// value returns the end of the JSON value that begins at at, -1 if there is none.
func value(data []byte, at int) int {
	if at >= len(data) {
		return -1
	}
	depth := 0
	for i := at; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if i >= len(data) {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of what holds a number
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		case ' ', '\t', '\n', '\r':
			return -1
		}
	}
	return -1
}
