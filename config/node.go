package config

import (
	"strings"
	"unicode/utf8"
)

type nodeKind uint8

const (
	nullNode nodeKind = iota
	scalarNode
	mappingNode
	sequenceNode
)

// node is one value of a config, with the text exactly as it was written: a
// code such as 0012345 must not pass through a number on its way.
type node struct {
	kind   nodeKind
	quoted bool
	// reported is set if a fault of it has been named already, so that it has
	// no value.
	reported bool
	text     string
	at       Position
	// entries are a mapping's, in the order of the file, without duplicates.
	entries []entry
	items   []*node
	// index finds a key in a long mapping; find builds it.
	index map[string]int
	// table is the content of the CSV file that a scalar names, once it was
	// read, so that positions inside of it are found by path.
	table *node
	// absent are the columns that a CSV row lacks because its header does,
	// which has been reported once for all rows.
	absent []string
}

type entry struct {
	key   string
	keyAt Position
	value *node
}

// place is where a fault of the entry is shown: at the value if it stands on
// the line of its key, else at the key.
func (e *entry) place() Position {
	if e.value.kind != nullNode && e.value.at.Line == e.keyAt.Line {
		return e.value.at
	}
	return e.keyAt
}

// torn returns the text that n was meant to be if it is a mapping only since a text
// with a colon, without a blank behind it, stands in brackets; "" if it is not.
func (n *node) torn() string {
	if n.kind != mappingNode || len(n.entries) != 1 {
		return ""
	}
	e := &n.entries[0]
	adjacent := e.keyAt.Line == e.value.at.Line && e.keyAt.Column+utf8.RuneCountInString(e.key)+1 == e.value.at.Column
	if !adjacent || e.value.kind != scalarNode || e.value.quoted {
		return ""
	}
	return e.key + ":" + e.value.text
}

// describe names the kind of a value for people.
func (n *node) describe() string {
	switch n.kind {
	case nullNode:
		return "nothing"
	case mappingNode:
		return "a mapping"
	case sequenceNode:
		return "a list"
	default:
		if n.quoted {
			return "quoted text"
		}
		return "`" + shorten(n.text) + "`"
	}
}

// shorten keeps what a file holds short enough to be quoted in a message.
func shorten(s string) string { return oneLine(s, 60) }

// oneLine returns at most so many characters of s without anything that could
// break a line or a terminal.
func oneLine(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unprintable(r) {
			return '\ufffd'
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// find returns the entry of a mapping with that key, nil if there is none.
func (n *node) find(key string) *entry {
	if len(n.entries) <= 8 {
		for i := range n.entries {
			if n.entries[i].key == key {
				return &n.entries[i]
			}
		}
		return nil
	}
	if n.index == nil {
		n.index = make(map[string]int, len(n.entries))
		for i := range n.entries {
			n.index[n.entries[i].key] = i
		}
	}
	if i, ok := n.index[key]; ok {
		return &n.entries[i]
	}
	return nil
}

// position returns where path leads from n, or the place of its longest prefix
// that exists.
func (n *node) position(path string, at Position) Position {
	_, _, at = n.walk(path, at)
	return at
}

// lookup returns the node that path leads to, nil if there is none.
func (n *node) lookup(path string) *node {
	n, rest, _ := n.walk(path, Position{})
	if rest != "" {
		return nil
	}
	return n
}

// walk follows path as far as it leads. Keys may hold dots themselves, so the
// longest key wins.
func (n *node) walk(path string, at Position) (last *node, rest string, place Position) {
	for path != "" {
		if n.table != nil {
			n = n.table
		}
		e, rest := n.step(path)
		if e == nil {
			break
		}
		n, path, at = e.value, rest, e.place()
	}
	return n, path, at
}

// step takes the longest first part of path that names an entry of n.
func (n *node) step(path string) (e *entry, rest string) {
	if n.kind == sequenceNode {
		return n.item(path)
	}
	if rest, one := strings.CutPrefix(path, "[0]"); one {
		// A list of one may be written as that one.
		return &entry{keyAt: n.at, value: n}, strings.TrimPrefix(rest, ".")
	}
	for end := len(path); end > 0; end = strings.LastIndexAny(path[:end], ".[") {
		if e := n.find(path[:end]); e != nil {
			return e, strings.TrimPrefix(path[end:], ".")
		}
	}
	return nil, path
}

// item takes the number of an item, written "[2]" or "2".
func (n *node) item(path string) (e *entry, rest string) {
	number, rest, _ := strings.Cut(path, ".")
	if inner, ok := strings.CutPrefix(path, "["); ok {
		number, rest, _ = strings.Cut(inner, "]")
		rest = strings.TrimPrefix(rest, ".")
	}
	i := 0
	for _, digit := range number {
		if digit < '0' || digit > '9' || i > len(n.items) {
			return nil, path
		}
		i = 10*i + int(digit-'0')
	}
	if number == "" || i >= len(n.items) {
		return nil, path
	}
	item := n.items[i]
	return &entry{keyAt: item.at, value: item}, rest
}
