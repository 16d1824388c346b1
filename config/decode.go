package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

type validator interface{ Validate() error }

// tabler is *Table[T] for any T.
type tabler interface {
	decodeTable(d *decoder, n *node, path string, at Position)
	each(visit func(name string, value reflect.Value))
}

var (
	textType      = reflect.TypeFor[encoding.TextUnmarshaler]()
	validatorType = reflect.TypeFor[validator]()
	tablerType    = reflect.TypeFor[tabler]()
	secretType    = reflect.TypeFor[Secret]()
	pathType      = reflect.TypeFor[Path]()
	clockType     = reflect.TypeFor[time.Duration]()
)

// decoder decodes one section once.
type decoder struct {
	s       *Section
	faults  Faults
	structs map[reflect.Type]*layout
}

// layout is what the yaml tags of a struct type say.
type layout struct {
	fields []field
	byName map[string]int
	names  []string
}

type field struct {
	name     string
	index    []int
	required bool
}

func (s *Section) decode(into any) Faults {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: decode into %T: not a pointer to a struct", into))
	}
	d := &decoder{s: s, structs: make(map[reflect.Type]*layout)}
	root := s.root
	if root == nil {
		root = &node{kind: mappingNode, at: s.at}
	}
	s.unread = nil
	d.structure(root, v.Elem(), "", s.at, s.taken)
	unread := len(d.faults)
	d.validateAll(v.Elem())
	for _, f := range d.faults[unread:] {
		// Nor is more said later of what was found invalid.
		if path := strings.TrimPrefix(strings.TrimPrefix(f.Path, s.path), "."); path != "" && !f.Warning {
			s.unread = append(s.unread, path)
		}
	}
	return d.faults
}

// validateAll validates also what was only partly read, so that one run names
// every fault; of the fields that could not be read nothing more is said.
func (d *decoder) validateAll(v reflect.Value) {
	if len(d.s.unread) > 0 {
		// Validate methods are written for values that could be read. What one of
		// them makes of a half-read value is of no use if it panics.
		defer func() { _ = recover() }()
	}
	d.validate(v, "")
}

// halfRead reports whether something below path could not be read, so that a
// Validate which compares fields would compare with what nobody wrote. Of the
// whole section it does not speak: one wrong key of a device must not hide what
// is wrong with the rest of it.
func (d *decoder) halfRead(path string) bool {
	return path != "" && slices.ContainsFunc(d.s.unread, func(unread string) bool { return within(unread, path) })
}

func (d *decoder) fault(at Position, path, problem, remedy string) {
	d.faults = append(d.faults, Fault{Position: at, Path: join(d.s.path, path), Problem: problem, Remedy: remedy})
	d.s.unread = append(d.s.unread, path)
}

// absent is the fault of a key that is not there, or not there under its name:
// the field called name, which may be "", was not read.
func (d *decoder) absent(at Position, path, name, problem, remedy string) {
	d.fault(at, path, problem, remedy)
	d.s.unread[len(d.s.unread)-1] = join(path, name)
}

// wrong is the fault of a value of another kind than its field.
func (d *decoder) wrong(n *node, path string, at Position, want string) {
	switch {
	case n.kind == nullNode && n.text == "":
		d.fault(at, path, "no value", "write "+want+" or remove the key")
	case n.kind == nullNode:
		d.fault(at, path, "no value", "write "+want+" or remove the key; quote it if the text `"+n.text+"` is meant")
	case n.torn() != "":
		d.fault(at, path, "`"+shorten(n.torn())+"` is torn apart at its colon, as all is in brackets", "write it in quotes: \""+shorten(n.torn())+"\"")
	default:
		d.fault(at, path, n.describe()+" where "+want+" is expected", "write "+want)
	}
}

func (d *decoder) value(n *node, v reflect.Value, path string, at Position) {
	t := v.Type()
	pointer := reflect.PointerTo(t)
	switch {
	case n.reported:
		d.s.unread = append(d.s.unread, path)
	case t == secretType:
		d.secret(n, v, path, at)
	case t == pathType:
		d.path(n, v, path, at)
	case pointer.Implements(tablerType):
		v.Addr().Interface().(tabler).decodeTable(d, n, path, at)
	case pointer.Implements(textType) && (n.kind == scalarNode || t.Kind() != reflect.Struct):
		d.text(n, v, path, at)
	case t == clockType:
		panic("config: use config.Duration instead of time.Duration")
	default:
		d.plain(n, v, path, at)
	}
}

func (d *decoder) plain(n *node, v reflect.Value, path string, at Position) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path, at)
	case reflect.Struct:
		d.structure(n, v, path, at, nil)
	case reflect.Map:
		d.mapping(n, v, path, at)
	case reflect.Slice:
		d.slice(n, v, path, at)
	default:
		d.scalar(n, v, path, at)
	}
}

func (d *decoder) structure(n *node, v reflect.Value, path string, at Position, taken []string) {
	l := d.layout(v.Type())
	if n.kind == scalarNode && len(l.names) > 0 {
		d.fault(at, path, n.describe()+" where a mapping of keys is expected", "write keys, for example {"+l.names[0]+": …}; there are `"+strings.Join(l.names[:min(6, len(l.names))], "`, `")+"`")
		return
	}
	if n.kind != mappingNode {
		d.wrong(n, path, at, "a mapping of keys")
		return
	}
	present := make(map[string]bool, len(n.entries))
	var unknown []*entry
	for i := range n.entries {
		e := &n.entries[i]
		f, ok := l.byName[e.key]
		switch {
		case ok:
			present[e.key] = true
			d.value(e.value, v.FieldByIndex(l.fields[f].index), join(path, e.key), e.place())
		case !slices.Contains(taken, e.key):
			unknown = append(unknown, e)
		}
	}
	missing := l.missing(func(name string) bool { return present[name] || slices.Contains(n.absent, name) })
	for _, e := range unknown {
		meant, remedy := l.meant(e.key, len(unknown), missing)
		if below := d.below(v.Type(), l, e.key); below != "" {
			meant, remedy = "", "it stands below `"+below+":`"
		}
		d.absent(e.keyAt, path, cmp.Or(meant, e.key), "unknown key `"+shorten(e.key)+"`", remedy)
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == meant })
	}
	for _, name := range missing {
		d.absent(at, path, name, "required key `"+name+"` is missing", "add `"+name+":`")
	}
}

// below returns the one key of t that holds a mapping in which there is a key of that
// name; "" if there is none, or several.
func (d *decoder) below(t reflect.Type, l *layout, name string) (key string) {
	for _, f := range l.fields {
		inner := t.FieldByIndex(f.index).Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		if _, there := d.layout(inner).byName[name]; there {
			if key != "" {
				return ""
			}
			key = f.name
		}
	}
	return key
}

// missing returns the required fields that are not there.
func (l *layout) missing(there func(name string) bool) (names []string) {
	for _, f := range l.fields {
		if f.required && !there(f.name) {
			names = append(names, f.name)
		}
	}
	return names
}

// meant guesses which field an unknown name stands for, and says so. The only
// name that nobody knows and the only one that is missing are one mistake, not
// two.
func (l *layout) meant(name string, unknown int, missing []string) (field, remedy string) {
	field, near := Nearest(name, l.names)
	if !near && unknown == 1 && len(missing) == 1 {
		return missing[0], "did you mean `" + missing[0] + "`, which is required?"
	}
	return field, suggest(name, l.names)
}

func (d *decoder) mapping(n *node, v reflect.Value, path string, at Position) {
	if n.kind != mappingNode {
		d.wrong(n, path, at, "a mapping")
		return
	}
	t := v.Type()
	out := reflect.MakeMapWithSize(t, len(n.entries))
	for i := range n.entries {
		e := &n.entries[i]
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		d.value(&node{kind: scalarNode, text: e.key, at: e.keyAt}, key, join(path, e.key), e.keyAt)
		d.value(e.value, value, join(path, e.key), e.place())
		out.SetMapIndex(key, value)
	}
	v.Set(out)
}

func (d *decoder) slice(n *node, v reflect.Value, path string, at Position) {
	items := n.items
	switch n.kind {
	case nullNode:
		d.wrong(n, path, at, "a list")
		return
	case scalarNode, mappingNode:
		items = []*node{n}
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if n.kind == sequenceNode {
			d.value(item, out.Index(i), path+"["+strconv.Itoa(i)+"]", item.at)
		} else {
			d.value(item, out.Index(i), path, at)
		}
	}
	v.Set(out)
}

func (d *decoder) scalar(n *node, v reflect.Value, path string, at Position) {
	want, ok := wanted(v.Kind())
	if !ok {
		panic(fmt.Sprintf("config: decode %s: a config cannot hold a %s", path, v.Type()))
	}
	if n.kind != scalarNode {
		d.wrong(n, path, at, want)
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(n.text)
		return
	}
	if n.quoted {
		d.fault(at, path, fmt.Sprintf("the text %q where %s is expected", shorten(n.text), want), "remove the quotes")
		return
	}
	if v.Kind() == reflect.Bool {
		d.bool(n, v, path, at)
		return
	}
	d.number(n, v, path, at, want)
}

func wanted(k reflect.Kind) (string, bool) {
	switch k {
	case reflect.String:
		return "text", true
	case reflect.Bool:
		return "true or false", true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number", true
	case reflect.Float32, reflect.Float64:
		return "a number", true
	default:
		return "", false
	}
}

func (d *decoder) bool(n *node, v reflect.Value, path string, at Position) {
	switch strings.ToLower(n.text) {
	case "true", "false":
		if n.text == strings.ToLower(n.text) {
			v.SetBool(n.text == "true")
			return
		}
		d.wrong(n, path, at, "true or false")
	case "yes", "on", "y", "1":
		d.fault(at, path, n.describe()+" where true or false is expected", "write true")
	case "no", "off", "n", "0":
		d.fault(at, path, n.describe()+" where true or false is expected", "write false")
	default:
		d.wrong(n, path, at, "true or false")
	}
}

func (d *decoder) number(n *node, v reflect.Value, path string, at Position, want string) {
	digits := strings.TrimLeft(n.text, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		d.fault(at, path, n.describe()+" has leading zeros where "+want+" is expected", "write it without them")
		return
	}
	if point, ok := withPoint(n.text); ok && v.CanFloat() {
		if _, err := strconv.ParseFloat(point, 64); err == nil {
			d.fault(at, path, "a decimal comma in "+n.describe(), writePoint(point))
			return
		}
	}
	var err error
	bits := v.Type().Bits()
	var limits string
	switch {
	case v.CanInt():
		var i int64
		if i, err = strconv.ParseInt(n.text, 10, bits); err == nil {
			v.SetInt(i)
		}
		limits = fmt.Sprintf("a whole number from %d to %d", int64(-1)<<(bits-1), int64(1)<<(bits-1)-1)
	case v.CanUint():
		var u uint64
		if u, err = strconv.ParseUint(strings.TrimPrefix(n.text, "+"), 10, bits); err == nil {
			v.SetUint(u)
		} else if strings.HasPrefix(n.text, "-") && strings.Trim(n.text, "-0123456789") == "" {
			err = strconv.ErrRange
		}
		limits = fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-bits))
	default:
		var f float64
		f, err = strconv.ParseFloat(n.text, bits)
		if strings.Trim(n.text, "+-.0123456789eE") != "" {
			err = strconv.ErrSyntax
		}
		if err == nil {
			v.SetFloat(f)
		}
		limits = "a smaller number"
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		d.fault(at, path, n.describe()+" is out of range", "write "+limits)
	case err != nil:
		d.wrong(n, path, at, want)
	}
}

// text gives a scalar to the type's own UnmarshalText.
func (d *decoder) text(n *node, v reflect.Value, path string, at Position) {
	if n.kind != scalarNode {
		d.wrong(n, path, at, "one value")
		return
	}
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text))
	if err == nil {
		return
	}
	if point, ok := withPoint(n.text); ok && reflect.New(v.Type()).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(point)) == nil {
		d.fault(at, path, "a decimal comma in `"+shorten(n.text)+"`", writePoint(point))
		return
	}
	for _, f := range d.s.locate(path, err, nil) {
		if f.Remedy == "" {
			f.Problem, f.Remedy, _ = strings.Cut(f.Problem, " — ")
		}
		f.Position = at
		d.faults = append(d.faults, f)
	}
	d.s.unread = append(d.s.unread, path)
}

func (d *decoder) path(n *node, v reflect.Value, path string, at Position) {
	if n.kind != scalarNode || n.text == "" {
		d.wrong(n, path, at, "the path of a file")
		return
	}
	v.SetString(d.absolute(n.text))
}

// absolute gives a relative path the folder of the config file.
func (d *decoder) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(d.s.folder(), filepath.FromSlash(path))
}

func (d *decoder) layout(t reflect.Type) *layout {
	if l, ok := d.structs[t]; ok {
		return l
	}
	l := &layout{byName: make(map[string]int)}
	l.add(t, nil)
	d.structs[t] = l
	return l
}

// add appends the fields of t, and those of its inline structs.
func (l *layout) add(t reflect.Type, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, flags, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		at := append(slices.Clone(index), i)
		switch {
		case flags == "inline":
			l.add(f.Type, at)
		case name != "" && name != "-" && f.IsExported():
			if _, twice := l.byName[name]; twice {
				panic(fmt.Sprintf("config: %s has the yaml name %q twice", t, name))
			}
			l.byName[name] = len(l.fields)
			l.names = append(l.names, name)
			l.fields = append(l.fields, field{name: name, index: at, required: flags == "required"})
		}
	}
}

// validate calls the Validate methods of v and of what it holds.
func (d *decoder) validate(v reflect.Value, path string) {
	t := v.Type()
	if t == secretType {
		return
	}
	if reflect.PointerTo(t).Implements(validatorType) && v.Kind() != reflect.Pointer && !d.halfRead(path) {
		if err := v.Addr().Interface().(validator).Validate(); err != nil {
			d.faults = d.s.locate(path, err, d.faults)
		}
	}
	if reflect.PointerTo(t).Implements(tablerType) {
		v.Addr().Interface().(tabler).each(func(name string, value reflect.Value) {
			d.validate(value, join(path, name))
		})
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			d.validate(v.Elem(), path)
		}
	case reflect.Struct:
		for _, f := range d.layout(t).fields {
			d.validate(v.FieldByIndex(f.index), join(path, f.name))
		}
	case reflect.Slice:
		for i := range v.Len() {
			d.validate(v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			value := reflect.New(t.Elem()).Elem()
			value.Set(it.Value())
			d.validate(value, join(path, fmt.Sprint(it.Key())))
		}
	}
}
