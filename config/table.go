package config

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var _ tabler = (*Table[struct{}])(nil)

func (t *Table[T]) decodeTable(d *decoder, n *node, path string, at Position) {
	source := n
	*t = Table[T]{}
	switch n.kind {
	case mappingNode:
	case scalarNode:
		t.File = d.absolute(n.text)
		var whole bool
		if source, whole = d.csv(t.File, reflect.TypeFor[T](), path, at); source == nil {
			return
		}
		if whole {
			n.table = source
		}
	default:
		d.wrong(n, path, at, "a mapping or the path of a CSV file")
		return
	}
	t.Rows = make([]Row[T], len(source.entries))
	for i := range source.entries {
		e := &source.entries[i]
		t.Rows[i].Name, t.Rows[i].At = e.key, e.keyAt
		d.value(e.value, reflect.ValueOf(&t.Rows[i].Value).Elem(), join(path, e.key), e.place())
	}
}

func (t *Table[T]) each(visit func(name string, value reflect.Value)) {
	for i := range t.Rows {
		visit(t.Rows[i].Name, reflect.ValueOf(&t.Rows[i].Value).Elem())
	}
}

// csv reads a CSV file as the mapping that it stands for, so that its cells are
// decoded like the values of a config; nil if there is nothing to decode. It is
// not whole if rows could not be told from one another.
func (d *decoder) csv(file string, row reflect.Type, path string, at Position) (table *node, whole bool) {
	f, err := os.Open(file)
	if err != nil {
		d.fault(at, path, "the table cannot be read: "+err.Error(), remedyOf(err, "write a mapping, or the path of a CSV file from the folder of this config"))
		return nil, false
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		d.fault(at, path, "the table cannot be read: "+err.Error(), remedyOf(err, "write a mapping, or the path of a CSV file from the folder of this config"))
		return nil, false
	}
	start := Position{File: file, Line: 1, Column: 1}
	if len(text) > maxFile {
		d.fault(start, path, fmt.Sprintf("the table is larger than %s", Size(maxFile)), "split it")
		return nil, false
	}
	c := &sheet{d: d, path: path, file: file, row: row}
	if c.load(text); len(c.header) == 0 {
		if !c.failed {
			d.fault(start, path, "the table is empty", "name the columns in its first row: the name first, then the fields")
		}
		return nil, false
	}
	table = c.mapping()
	if len(c.cells) == 0 && !c.failed {
		d.faults = append(d.faults, Fault{Position: start, Path: join(d.s.path, path), Warning: true,
			Problem: "the table has its first row, which names the columns, and no other", Remedy: "write a row for each name, or remove the key"})
	}
	return table, !c.torn
}

// sheet is one CSV file while it is read.
type sheet struct {
	d      *decoder
	path   string
	file   string
	row    reflect.Type
	lines  [][]byte
	header []string
	cells  [][]cell
	failed bool
	// torn is set once the text of a row could not be split into cells.
	torn bool
}

type cell struct {
	text string
	at   Position
}

func (c *sheet) fault(at Position, problem, remedy string) {
	c.failed = true
	c.d.fault(at, c.path, problem, remedy)
}

// load splits the text into cells. It accepts what spreadsheets write: a byte
// order mark, CRLF, and semicolons where the comma is the decimal point.
func (c *sheet) load(text []byte) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	c.lines = bytes.Split(text, []byte("\n"))
	for i, line := range c.lines {
		if bad := strange(bytes.TrimSuffix(line, []byte("\r"))); bad >= 0 {
			at := Position{File: c.file, Line: i + 1, Column: utf8.RuneCount(line[:bad]) + 1}
			c.fault(at, fmt.Sprintf("the byte 0x%02x does not belong into a table", line[bad]), "save it as \"CSV UTF-8\"")
			return
		}
	}
	comma := separator(bytes.TrimLeft(text, "\r\n"))
	if m := excelSeparator.FindSubmatch(text); m != nil {
		comma, _ = utf8.DecodeRune(m[1])
		text = text[len(m[0])-1:] // the line end stays, so that lines count on
	}
	in := csv.NewReader(bytes.NewReader(text))
	in.Comma = comma
	in.FieldsPerRecord = -1
	for {
		record, err := in.Read()
		if err == io.EOF {
			return
		}
		if err != nil {
			c.broken(err)
			continue
		}
		row := make([]cell, len(record))
		for i, text := range record {
			line, column := in.FieldPos(i)
			row[i] = cell{text: strings.TrimSpace(text), at: c.position(line, column)}
		}
		switch {
		case !slices.ContainsFunc(row, func(c cell) bool { return c.text != "" }):
		case c.header == nil:
			if c.columns(row); c.header == nil {
				return // whatever follows has no meaning
			}
		default:
			c.cells = append(c.cells, row)
		}
	}
}

func (c *sheet) broken(err error) {
	c.torn = true
	at := Position{File: c.file, Line: 1, Column: 1}
	var detail *csv.ParseError
	if errors.As(err, &detail) {
		at, err = c.position(detail.Line, detail.Column), detail.Err
		if detail.StartLine != detail.Line { // an open quote: where it ends says nothing
			at.Line, at.Column = detail.StartLine, 1
		}
	}
	c.fault(at, "not valid CSV: "+err.Error(), "quote a cell only as a whole, and double the quotes inside of it")
}

// position turns a column in bytes into one in characters.
func (c *sheet) position(line, column int) Position {
	at := Position{File: c.file, Line: line, Column: column}
	if line <= len(c.lines) && column-1 <= len(c.lines[line-1]) {
		at.Column = utf8.RuneCount(c.lines[line-1][:column-1]) + 1
	}
	return at
}

// excelSeparator is a first line that is not part of the table: it tells Excel
// what is between the cells.
var excelSeparator = regexp.MustCompile(`^(?i)"?sep=([,;\t|])"?\r?\n`)

// separator guesses what is between the cells by the first row.
func separator(text []byte) rune {
	header, _, _ := bytes.Cut(text, []byte("\n"))
	best, most := ',', bytes.Count(header, []byte(","))
	for _, r := range ";\t" {
		if n := bytes.Count(header, []byte(string(r))); n > most {
			best, most = r, n
		}
	}
	return best
}

// named reports whether the columns are the fields of a struct; otherwise a
// table has two columns, the name and the value.
func (c *sheet) named() bool {
	return c.row.Kind() == reflect.Struct && c.row != secretType && len(c.d.layout(c.row).fields) > 0
}

// columns takes the first row: the name column may be called anything.
func (c *sheet) columns(row []cell) {
	c.header = make([]string, len(row))
	if !c.named() {
		if len(row) != 2 {
			kind := "value"
			c.fault(row[0].at, fmt.Sprintf("the table has %d columns instead of 2", len(row)), "keep two: the name and its "+kind)
		}
		return
	}
	l := c.d.layout(c.row)
	if !l.anyOf(row[1:]) {
		c.fault(row[0].at, "the first row must name the columns, and none of its cells does", "write them above it: the name first, then any of `"+strings.Join(l.names, "`, `")+"`")
		c.header = nil
		return
	}
	var unknown []cell
	for i, cell := range row[1:] {
		switch {
		case cell.text == "":
		case !l.column(c.row, cell.text):
			unknown = append(unknown, cell)
		case slices.Contains(c.header, cell.text):
			c.fault(cell.at, "the column `"+cell.text+"` is here twice", "remove one of the two")
		default:
			c.header[i+1] = cell.text
		}
	}
	missing := l.missing(func(name string) bool { return slices.Contains(c.header, name) })
	for _, cell := range unknown {
		meant, remedy := l.meant(cell.text, len(unknown), missing)
		c.fault(cell.at, "unknown column `"+shorten(cell.text)+"`", remedy)
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == meant })
	}
	for _, name := range missing {
		c.fault(row[0].at, "the column `"+name+"` is missing", "add it to the first row")
	}
}

// anyOf reports whether one of the cells may be the name of a field, however it
// is spelt, or there is nothing to tell by.
func (l *layout) anyOf(row []cell) bool {
	named := false
	for _, c := range row {
		if _, near := Nearest(c.text, l.names); near {
			return true
		}
		named = named || c.text != ""
	}
	return !named
}

// column reports whether a cell of the first row names a field, or, as
// "types.erp", an entry of one that is a mapping.
func (l *layout) column(row reflect.Type, name string) bool {
	if _, known := l.byName[name]; known {
		return true
	}
	base, entry, _ := strings.Cut(name, ".")
	i, known := l.byName[base]
	return known && entry != "" && row.FieldByIndex(l.fields[i].index).Type.Kind() == reflect.Map
}

func (c *sheet) mapping() *node {
	out := &node{kind: mappingNode, at: Position{File: c.file, Line: 1, Column: 1}}
	var absent []string
	if c.named() {
		for _, name := range c.d.layout(c.row).names {
			if !slices.Contains(c.header, name) {
				absent = append(absent, name)
			}
		}
	}
	for _, row := range c.cells {
		name := row[0]
		if name.text == "" {
			c.fault(name.at, "a row without a name", "write the name into the first column")
			continue
		}
		if first := out.find(name.text); first != nil {
			c.fault(name.at, fmt.Sprintf("the name `%s` is here twice, first on line %d", shorten(name.text), first.keyAt.Line), "remove or rename one of the two")
			continue
		}
		out.entries = append(out.entries, entry{key: name.text, keyAt: name.at, value: c.value(row, absent)})
		if out.index != nil {
			out.index[name.text] = len(out.entries) - 1
		}
	}
	return out
}

func (c *sheet) value(row []cell, absent []string) *node {
	if len(row) > len(c.header) {
		for _, extra := range row[len(c.header):] {
			if extra.text != "" {
				c.fault(extra.at, fmt.Sprintf("the row has %d cells, the first row only %d", len(row), len(c.header)), "quote a cell that holds the separator")
				break
			}
		}
		row = row[:len(c.header)]
	}
	if !c.named() {
		if len(row) < 2 || row[1].text == "" {
			return &node{at: row[0].at}
		}
		return &node{kind: scalarNode, text: row[1].text, at: row[1].at}
	}
	out := &node{kind: mappingNode, at: row[0].at, absent: absent}
	for i, cell := range row {
		if c.header[i] == "" || cell.text == "" {
			continue
		}
		into, key := out, c.header[i]
		if base, inner, ok := strings.Cut(key, "."); ok {
			into, key = out.find(base).inner(out, base, cell.at), inner
		}
		into.entries = append(into.entries, entry{key: key, keyAt: cell.at, value: &node{kind: scalarNode, text: cell.text, at: cell.at}})
	}
	return out
}

// inner is the mapping that e holds; where there is none yet, n gets it.
func (e *entry) inner(n *node, key string, at Position) *node {
	if e != nil {
		return e.value
	}
	made := &node{kind: mappingNode, at: at}
	n.entries = append(n.entries, entry{key: key, keyAt: at, value: made})
	return made
}
