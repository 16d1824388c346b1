package st

import (
	"fmt"
	"slices"
	"strings"
)

// Parse reads one function block. It refuses what a compiler of a PLC refuses:
// names that are not declared, types that do not fit, blocks that are not
// closed, statements without their semicolon; and a block that writes its own
// inputs or never sets one of its outputs.
func Parse(text string) (b *Block, err error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, fmt.Errorf("st: %w", err)
	}
	p := &parser{tokens: tokens, b: &Block{byName: map[string]*variable{}}, written: map[string]bool{}}
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fault)
			if !ok {
				panic(r)
			}
			b, err = nil, fmt.Errorf("st: %w", f)
		}
	}()
	p.block()
	return p.b, nil
}

type parser struct {
	tokens  []token
	at      int
	b       *Block
	written map[string]bool
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != end {
		p.at++
	}
	return t
}

func (p *parser) is(text string) bool { t := p.peek(); return t.kind != number && t.text == text }

func (p *parser) accept(text string) bool {
	if p.is(text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if t := p.next(); t.text != text {
		p.fail(t, "`%s` is missing before %v", text, t)
	}
}

func (p *parser) fail(t token, format string, args ...any) {
	panic(fault{t.line, fmt.Sprintf(format, args...)})
}

func (p *parser) name() token {
	t := p.next()
	if t.kind != word || slices.Contains(keywords, t.text) {
		p.fail(t, "a name is missing before %v", t)
	}
	return t
}

var keywords = strings.Fields("function_block end_function_block var_input var_output var var_temp end_var retain constant begin version array of if then elsif else end_if case end_case for to by do end_for and or xor not mod true false")

func (p *parser) block() {
	p.expect("function_block")
	p.b.Name = p.name().text
	if p.accept("version") { // S7
		p.expect(":")
		for p.next(); p.accept("."); {
			p.next()
		}
	}
	for p.declarations() {
	}
	p.accept("begin") // S7
	p.b.body = p.statements("end_function_block")
	p.expect("end_function_block")
	if t := p.next(); t.kind != end {
		p.fail(t, "%v stands behind the block", t)
	}
	for _, v := range p.b.variables {
		if v.class == Out && !p.written[v.name] {
			p.fail(p.peek(), "the output `%s` is never set", v.name)
		}
	}
}

// declarations reads one VAR … END_VAR.
func (p *parser) declarations() bool {
	classes := map[string]Class{"var_input": In, "var_output": Out, "var": Static, "var_temp": Temp}
	class, ok := classes[p.peek().text]
	if !ok {
		return false
	}
	p.next()
	retain := p.accept("retain")
	if p.accept("constant") {
		class = Constant
	}
	for !p.accept("end_var") {
		p.declaration(class, retain)
	}
	return true
}

func (p *parser) declaration(class Class, retain bool) {
	names := []token{p.name()}
	for p.accept(",") {
		names = append(names, p.name())
	}
	p.expect(":")
	v := variable{class: class, retain: retain}
	if p.accept("array") {
		p.expect("[")
		v.low = p.constant()
		p.expect("..")
		v.size = p.constant() - v.low + 1
		p.expect("]")
		p.expect("of")
		if v.size < 1 {
			p.fail(names[0], "the array `%s` has no element", names[0].text)
		}
	}
	t := p.next()
	if v.base = bases[t.text]; v.base == 0 {
		p.fail(t, "%v is no type of this subset", t)
	}
	if p.accept(":=") {
		t := p.peek()
		e := p.expression()
		if e.name != "" && p.b.byName[e.name].class != Constant {
			p.fail(t, "an initial value is a constant")
		}
		p.fits(t, v.base, e)
		v.initial = v.base.wrap(e.eval(&Instance{block: p.b}))
	} else if class == Constant {
		p.fail(t, "the constant has no value")
	}
	p.expect(";")
	for _, n := range names {
		if p.b.byName[n.text] != nil {
			p.fail(n, "`%s` is declared twice", n.text)
		}
		one := v
		one.name, one.at = n.text, p.b.cells
		p.b.cells += int(max(v.size, 1))
		p.b.variables = append(p.b.variables, &one)
		p.b.byName[n.text] = &one
	}
}

// constant reads a whole number, a declared constant, or a sum or product of
// them.
func (p *parser) constant() int64 {
	t := p.peek()
	e := p.expression()
	if !e.base.numeric() {
		p.fail(t, "a number is missing")
	}
	return e.eval(&Instance{block: p.b})
}

// statements reads up to one of the words that close them.
func (p *parser) statements(closers ...string) (all []statement) {
	for !slices.Contains(closers, p.peek().text) || p.peek().kind == number {
		p.open(strings.ToUpper(closers[len(closers)-1]))
		all = append(all, p.statement())
	}
	return all
}

// open fails where something else ends than what has to be closed first.
func (p *parser) open(closer string) {
	t := p.peek()
	if t.kind == end || t.kind == word && (strings.HasPrefix(t.text, "end_") || t.text == "else" || t.text == "elsif") {
		p.fail(t, "`%s` is missing before %v", closer, t)
	}
}

func run(all []statement, i *Instance) {
	for _, s := range all {
		s(i)
	}
}

func (p *parser) statement() statement {
	var s statement
	switch t := p.peek(); t.text {
	case "if":
		s = p.ifStatement()
	case "case":
		s = p.caseStatement()
	case "for":
		s = p.forStatement()
	case ";":
		p.fail(t, "there is no statement before `;`")
	default:
		s = p.assignment()
	}
	p.expect(";")
	return s
}

func (p *parser) condition() expression {
	t := p.peek()
	e := p.expression()
	if e.base != boolean {
		p.fail(t, "a condition is a BOOL, this is a %s", e.base)
	}
	return e
}

func (p *parser) ifStatement() statement {
	p.expect("if")
	condition := p.condition()
	p.expect("then")
	yes := p.statements("elsif", "else", "end_if")
	var no []statement
	switch {
	case p.is("elsif"):
		p.tokens[p.at].text = "if"
		no = []statement{p.ifStatement()}
		return func(i *Instance) { branch(i, condition, yes, no) }
	case p.accept("else"):
		no = p.statements("end_if")
	}
	p.expect("end_if")
	return func(i *Instance) { branch(i, condition, yes, no) }
}

func branch(i *Instance, condition expression, yes, no []statement) {
	if condition.eval(i) != 0 {
		run(yes, i)
	} else {
		run(no, i)
	}
}

func (p *parser) caseStatement() statement {
	p.expect("case")
	t := p.peek()
	of := p.expression()
	if !of.base.numeric() {
		p.fail(t, "CASE is of a number")
	}
	p.expect("of")
	cases := map[int64][]statement{}
	var otherwise []statement
	for !p.accept("end_case") {
		if p.accept("else") {
			otherwise = p.statements("end_case")
			continue
		}
		t := p.next()
		if t.kind != number {
			p.fail(t, "a number is missing before %v", t)
		}
		p.expect(":")
		if _, twice := cases[t.value]; twice {
			p.fail(t, "%d stands twice", t.value)
		}
		cases[t.value] = p.caseBody()
	}
	return func(i *Instance) {
		body, ok := cases[of.eval(i)]
		if !ok {
			body = otherwise
		}
		run(body, i)
	}
}

// caseBody reads up to the next number with a colon.
func (p *parser) caseBody() (all []statement) {
	for p.peek().kind != number && !p.is("else") && !p.is("end_case") {
		p.open("END_CASE")
		all = append(all, p.statement())
	}
	return all
}

func (p *parser) forStatement() statement {
	p.expect("for")
	t := p.peek()
	to := p.variable(true)
	if !to.base.numeric() || to.size > 0 {
		p.fail(t, "%v counts nothing", t)
	}
	p.expect(":=")
	first := p.number()
	p.expect("to")
	last := p.number()
	p.expect("do")
	body := p.statements("end_for")
	p.expect("end_for")
	return func(i *Instance) {
		// As in a PLC the limit is looked at once.
		for n, limit := first.eval(i), last.eval(i); n <= limit; n++ {
			i.memory[to.at] = to.base.wrap(n)
			run(body, i)
		}
	}
}

func (p *parser) number() expression {
	t := p.peek()
	e := p.expression()
	if !e.base.numeric() {
		p.fail(t, "a number is missing, this is a %s", e.base)
	}
	return e
}

// variable reads the name of one, which may be written.
func (p *parser) variable(write bool) *variable {
	t := p.name()
	v := p.b.byName[t.text]
	if v == nil {
		p.fail(t, "`%s` is not declared", t.text)
	}
	if write {
		if v.class == In || v.class == Constant {
			p.fail(t, "`%s` is an input or a constant: the block does not write it", t.text)
		}
		p.written[v.name] = true
	}
	return v
}

func (p *parser) assignment() statement {
	t := p.peek()
	if v := p.b.byName[t.text]; v != nil && v.base == timer {
		return p.call()
	}
	to := p.variable(true)
	index := p.index(t, to)
	p.expect(":=")
	at := p.peek()
	from := p.expression()
	p.fits(at, to.base, from)
	return func(i *Instance) {
		value := to.base.wrap(from.eval(i))
		i.memory[to.at+index(i)] = value
	}
}

// index reads the index of an array, and refuses one where there is none.
func (p *parser) index(t token, v *variable) func(*Instance) int {
	if v.size == 0 {
		if p.is("[") {
			p.fail(t, "`%s` is no array", v.name)
		}
		return func(*Instance) int { return 0 }
	}
	p.expect("[")
	index := p.number()
	p.expect("]")
	return func(i *Instance) int {
		n := index.eval(i) - v.low
		if n < 0 || n >= v.size {
			panic(fault{t.line, fmt.Sprintf("%s[%d] is outside of the array", v.name, n+v.low)})
		}
		return int(n)
	}
}

// call reads a call of a timer, name(IN := …, PT := …).
func (p *parser) call() statement {
	v := p.variable(false)
	p.expect("(")
	p.expect("in")
	p.expect(":=")
	in := p.condition()
	p.expect(",")
	p.expect("pt")
	p.expect(":=")
	t := p.peek()
	pt := p.expression()
	p.fits(t, timeType, pt)
	p.expect(")")
	return func(i *Instance) {
		tm := i.timers[v.at]
		on := in.eval(i) != 0
		if on && !tm.in {
			tm.started = i.now
		}
		tm.in = on
		tm.q = on && i.now-tm.started >= pt.eval(i)
	}
}

// fits refuses a value of another type.
func (p *parser) fits(t token, to base, from expression) {
	if from.base == to || from.base == literal && to.numeric() && to != timeType {
		return
	}
	p.fail(t, "a %s is no %s", from.base, to)
}
