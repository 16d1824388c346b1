package st

import "strings"

// The precedence of IEC 61131-3, from the loosest.
var levels = [][]string{{"or"}, {"xor"}, {"and"}, {"=", "<>"}, {"<", ">", "<=", ">="}, {"+", "-"}, {"*", "mod"}}

func (p *parser) expression() expression { return p.binary(0) }

func (p *parser) binary(level int) expression {
	if level == len(levels) {
		return p.unary()
	}
	left := p.binary(level + 1)
	for {
		t := p.peek()
		found := false
		for _, operator := range levels[level] {
			found = found || p.is(operator)
		}
		if !found || t.kind == number {
			return left
		}
		p.next()
		left = p.combine(t, left, p.binary(level+1))
	}
}

// combine makes one expression of two.
func (p *parser) combine(t token, a, b expression) expression {
	common := a.base
	if a.base == literal {
		common = b.base
	}
	logical := t.text == "and" || t.text == "or" || t.text == "xor"
	switch {
	case a.base != b.base && a.base != literal && b.base != literal, a.base == literal && !b.base.numeric(), b.base == literal && !a.base.numeric():
		p.fail(t, "%v between a %s and a %s", t, a.base, b.base)
	case logical && common != boolean, !logical && common == boolean && t.text != "=" && t.text != "<>":
		p.fail(t, "%v is not for a %s", t, common)
	}
	operate := map[string]func(x, y int64) int64{
		"or": func(x, y int64) int64 { return x | y }, "and": func(x, y int64) int64 { return x & y }, "xor": func(x, y int64) int64 { return x ^ y },
		"=": func(x, y int64) int64 { return truth(x == y) }, "<>": func(x, y int64) int64 { return truth(x != y) },
		"<": func(x, y int64) int64 { return truth(x < y) }, ">": func(x, y int64) int64 { return truth(x > y) },
		"<=": func(x, y int64) int64 { return truth(x <= y) }, ">=": func(x, y int64) int64 { return truth(x >= y) },
		"+": func(x, y int64) int64 { return x + y }, "-": func(x, y int64) int64 { return x - y }, "*": func(x, y int64) int64 { return x * y },
		"mod": func(x, y int64) int64 {
			if y == 0 {
				panic(fault{t.line, "a division by zero"})
			}
			return x % y
		},
	}[t.text]
	result := common
	if strings.ContainsAny(t.text, "=<>") {
		result = boolean
	}
	return expression{base: result, eval: func(i *Instance) int64 { return result.wrap(operate(a.eval(i), b.eval(i))) }}
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (p *parser) unary() expression {
	switch t := p.peek(); {
	case p.accept("not"):
		e := p.unary()
		if e.base != boolean {
			p.fail(t, "NOT is not for a %s", e.base)
		}
		return expression{base: boolean, eval: func(i *Instance) int64 { return 1 - e.eval(i) }}
	case p.accept("("):
		e := p.expression()
		p.expect(")")
		e.name = ""
		return e
	case p.accept("true"), p.accept("false"):
		value := truth(t.text == "true")
		return expression{base: boolean, eval: func(*Instance) int64 { return value }}
	case t.kind == number:
		p.next()
		return expression{base: literal, eval: func(*Instance) int64 { return t.value }}
	case t.kind == duration:
		p.next()
		return expression{base: timeType, eval: func(*Instance) int64 { return t.value }}
	default:
		return p.named()
	}
}

// named reads a conversion, the output of a timer, or a variable.
func (p *parser) named() expression {
	t := p.name()
	if from, to, ok := strings.Cut(t.text, "_to_"); ok && p.is("(") {
		p.expect("(")
		at := p.peek()
		e := p.expression()
		p.expect(")")
		want, result := bases[from], bases[to]
		if !want.numeric() || !result.numeric() {
			p.fail(t, "%v is no conversion of this subset", t)
		}
		p.fits(at, want, e)
		return expression{base: result, eval: func(i *Instance) int64 { return result.wrap(e.eval(i)) }}
	}
	v := p.b.byName[t.text]
	switch {
	case v == nil:
		p.fail(t, "`%s` is not declared", t.text)
	case v.base == timer:
		p.expect(".")
		if q := p.next(); q.text != "q" {
			p.fail(q, "a timer has no %v", q)
		}
		return expression{base: boolean, eval: func(i *Instance) int64 { return truth(i.timers[v.at].q) }}
	}
	if v.class == Constant {
		value := v.initial
		return expression{base: v.base, name: v.name, eval: func(*Instance) int64 { return value }}
	}
	index := p.index(t, v)
	return expression{base: v.base, name: v.name, eval: func(i *Instance) int64 { return i.memory[v.at+index(i)] }}
}
