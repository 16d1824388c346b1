package formula

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Compile reads an expression. A name in it is a tag, which resolve finds;
// tag("scale/gross weight") is one whose name is no word. path is that of the
// option, for errors, which are config.FieldErrors and say at which character of
// the expression.
func Compile(path, expression string, resolve rule.Resolver) (*Formula, error) {
	c := &compiler{path: path, text: expression, resolve: resolve}
	if n := utf8.RuneCountInString(expression); n > MaxLength || strings.TrimSpace(expression) == "" {
		return nil, config.Field(path, fmt.Sprintf("an expression has 1 to %d characters, not %d", MaxLength, n), "write one, for example made - purge")
	}
	o := conf.CreateNew()
	o.MaxNodes = 4 * maxNodes // what our own bound says has the better words
	tree, err := parser.ParseWithConfig(expression, o)
	if err != nil {
		var at *file.Error
		if errors.As(err, &at) {
			return nil, c.fault(at.From, at.Message, "see the examples in docs/config.md")
		}
		return nil, c.fault(0, err.Error(), "see the examples in docs/config.md")
	}
	root, typ := c.node(tree.Node)
	if c.err != nil {
		return nil, c.err
	}
	if len(c.inputs) == 0 {
		return nil, c.fault(0, "it names no tag, so it never changes", "name a tag of the machine's device")
	}
	return &Formula{text: strings.Join(strings.Fields(expression), " "), root: root, typ: typ, inputs: c.inputs}, nil
}

// compiler turns what the library parsed into nodes of our own. After the first
// error it goes on without a meaning.
type compiler struct {
	path, text string
	resolve    rule.Resolver
	inputs     []rule.Input
	// reads counts the tags by name, each time.
	reads int
	nodes int
	err   error
}

// fault is an error at a character, counted from 0 as the library does.
func (c *compiler) fault(at int, problem, remedy string) error {
	shown := []rune(strings.Join(strings.Fields(c.text), " "))
	if len(shown) > 100 {
		shown = append(shown[:99:99], '…')
	}
	return config.Field(c.path, fmt.Sprintf("in the expression `%s`, at character %d: %s", string(shown), at+1, problem), remedy)
}

func (c *compiler) refuse(n ast.Node, problem, remedy string) (node, kind) {
	if c.err == nil {
		at := 0
		if n != nil {
			at = n.Location().From
		}
		c.err = c.fault(at, problem, remedy)
	}
	return constant{}, unknown
}

const known = "use + - * / %, comparisons, and or not, in [1, 2], a ? b : c, and abs min max div round floor ceil bit tag"

// node compiles a part. One that reads no tag is worked out once: if it has no value,
// it never will.
func (c *compiler) node(n ast.Node) (node, kind) {
	reads := c.reads
	made, k := c.part(n)
	if c.err == nil && c.reads == reads {
		if _, why := made.eval(nil); why != None {
			return c.refuse(n, "this never has a value: "+why.String(), "write the numbers that are meant, or name a tag")
		}
	}
	return made, k
}

func (c *compiler) part(n ast.Node) (node, kind) {
	if c.nodes++; c.nodes > maxNodes {
		return c.refuse(n, fmt.Sprintf("it has more than %d operands and operators", maxNodes), "make two values of it")
	}
	if c.err != nil {
		return constant{}, unknown
	}
	switch n := n.(type) {
	case *ast.IntegerNode:
		return constant{plant.IntValue(int64(n.Value))}, whole
	case *ast.FloatNode:
		if d, err := plant.DecimalOf(n.Value, 64); err == nil {
			return constant{plant.ExactValue(d)}, number
		}
		return c.refuse(n, "this number has too many digits", "write at most 18 in all")
	case *ast.BoolNode:
		return constant{plant.BoolValue(n.Value)}, truth
	case *ast.StringNode:
		return constant{plant.TextValue(n.Value)}, text
	case *ast.IdentifierNode:
		return c.tag(n, n.Value)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.choice(n)
	case *ast.BuiltinNode:
		return c.call(n, n.Name, n.Arguments)
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.call(n, callee.Value, n.Arguments)
		}
	case *ast.MemberNode:
		return c.refuse(n, "there are no members and no indexes here", `write tag("name") for a tag whose name is no word`)
	}
	return c.refuse(n, "this is not part of what an expression may hold: it could take any time or memory", known)
}

// tag is a tag by its name.
func (c *compiler) tag(n ast.Node, name string) (node, kind) {
	c.reads++
	in, err := c.resolve(c.path, name)
	if err != nil {
		var field *config.FieldError
		if errors.As(err, &field) {
			return c.refuse(n, field.Problem, field.Remedy)
		}
		return c.refuse(n, err.Error(), "")
	}
	i := slices.IndexFunc(c.inputs, func(o rule.Input) bool { return o.Ref == in.Ref })
	if i < 0 {
		i = len(c.inputs)
		c.inputs = append(c.inputs, in)
	}
	return input(i), kindOf(in.Tag)
}

// want compiles an operand that must be one of kinds; a number may be whole.
func (c *compiler) want(n ast.Node, of string, kinds ...kind) (node, kind) {
	found, k := c.node(n)
	if c.err == nil && k != unknown && !slices.Contains(kinds, k) {
		return c.refuse(n, fmt.Sprintf("this is %s, and %s takes %s", k, of, kinds[len(kinds)-1]), "name a tag of another type, or compare it first")
	}
	return found, k
}

// second compiles the operand on the right of a division or of bit, of which the
// left alone may change: one that makes it fail in any case is refused.
func (c *compiler) second(n ast.Node, of string, kinds ...kind) node {
	reads := c.reads
	made, _ := c.want(n, of, kinds...)
	if c.err != nil || c.reads != reads {
		return made
	}
	v, _ := made.eval(nil)
	f, _ := v.Float()
	switch {
	case of == "bit" && (f < 0 || f > 63):
		c.refuse(n, NoBit.String(), "the bits of a tag are 0 to 63")
	case of != "bit" && f == 0:
		c.refuse(n, "this is 0, and nothing can be divided by it", "write the number that is meant, or name a tag")
	}
	return made
}

func (c *compiler) unary(n *ast.UnaryNode) (node, kind) {
	switch n.Operator {
	case "not", "!":
		of, _ := c.want(n.Node, n.Operator, truth)
		return not{of}, truth
	case "-":
		of, k := c.want(n.Node, "-", whole, number)
		return arithmetic{'-', constant{plant.IntValue(0)}, of}, k
	case "+":
		return c.want(n.Node, "+", whole, number)
	}
	return c.refuse(n, "there is no "+n.Operator+" here", known)
}

func (c *compiler) binary(n *ast.BinaryNode) (node, kind) {
	switch n.Operator {
	case "+", "-", "*":
		a, ka := c.want(n.Left, n.Operator, whole, number)
		b, kb := c.want(n.Right, n.Operator, whole, number)
		return arithmetic{n.Operator[0], a, b}, wider(ka, kb)
	case "/":
		a, _ := c.want(n.Left, "/", whole, number)
		return arithmetic{'/', a, c.second(n.Right, "/", whole, number)}, number
	case "%":
		a, _ := c.want(n.Left, "%", whole)
		return arithmetic{'%', a, c.second(n.Right, "%", whole)}, whole
	case "and", "&&", "or", "||":
		a, _ := c.want(n.Left, n.Operator, truth)
		b, _ := c.want(n.Right, n.Operator, truth)
		return logic{n.Operator == "or" || n.Operator == "||", a, b}, truth
	case "==", "!=", "<", "<=", ">", ">=":
		a, ka := c.node(n.Left)
		b, kb := c.node(n.Right)
		if !alike(ka, kb, len(n.Operator) == 2 && (n.Operator[0] == '=' || n.Operator[0] == '!')) {
			return c.refuse(n, fmt.Sprintf("%s and %s cannot be compared by %s", ka, kb, n.Operator), "compare numbers with numbers, texts with texts by == and !=")
		}
		return comparison{n.Operator, a, b}, truth
	case "in", "not in":
		return c.within(n)
	}
	return c.refuse(n, "there is no "+n.Operator+" here", known)
}

// within is a value that is one of a list of constants.
func (c *compiler) within(n *ast.BinaryNode) (node, kind) {
	of, k := c.node(n.Left)
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return c.refuse(n.Right, "what comes behind in is a list", "write it out, for example state in [3, 6]")
	}
	m := member{of: of, not: n.Operator == "not in"}
	for _, item := range list.Nodes {
		v, ki := c.node(item)
		value, ok := v.(constant)
		if !ok || !alike(k, ki, true) {
			return c.refuse(item, "the list holds constants of the type of what is looked for", "write numbers or texts, for example [3, 6]")
		}
		m.list = append(m.list, value.v)
	}
	return m, truth
}

func (c *compiler) choice(n *ast.ConditionalNode) (node, kind) {
	cond, _ := c.want(n.Cond, "a choice", truth)
	a, ka := c.node(n.Exp1)
	b, kb := c.node(n.Exp2)
	k := ka
	switch {
	case ka == unknown || kb == unknown:
		k = unknown
	case ka != kb && numeric(ka) && numeric(kb):
		k = number
	case ka != kb:
		return c.refuse(n, fmt.Sprintf("it is %s in one case and %s in the other", ka, kb), "let both be of one type")
	}
	return choice{cond, a, b}, k
}

func numeric(k kind) bool { return k == whole || k == number }

// wider is what a sum of both is.
func wider(a, b kind) kind {
	switch {
	case a == unknown || b == unknown:
		return unknown
	case a == whole && b == whole:
		return whole
	}
	return number
}

// alike reports whether two kinds can be compared; texts and truths only
// for being equal.
func alike(a, b kind, equal bool) bool {
	switch {
	case !equal && (a == text || b == text || a == truth || b == truth):
		return false
	case a == unknown || b == unknown:
		return true
	}
	return a == b || numeric(a) && numeric(b)
}

// call is one of the functions.
func (c *compiler) call(n ast.Node, name string, args []ast.Node) (node, kind) {
	count := func(least, most int) bool {
		if len(args) >= least && len(args) <= most {
			return true
		}
		c.refuse(n, fmt.Sprintf("%s does not take %d arguments", name, len(args)), known)
		return false
	}
	switch name {
	case "tag":
		if !count(1, 1) {
			return constant{}, unknown
		}
		if s, ok := args[0].(*ast.StringNode); ok {
			return c.tag(n, s.Value)
		}
		return c.refuse(args[0], "the name of a tag is a text that stands here", `write tag("scale/gross weight")`)
	case "abs", "round", "floor", "ceil":
		if !count(1, 1) {
			return constant{}, unknown
		}
		a, k := c.want(args[0], name, whole, number)
		if name != "abs" {
			k = whole
		}
		return function{name[0], a}, k
	case "min", "max":
		if !count(2, maxNodes) {
			return constant{}, unknown
		}
		least, k := c.want(args[0], name, whole, number)
		for _, arg := range args[1:] {
			b, kb := c.want(arg, name, whole, number)
			least, k = extreme{name == "max", least, b}, wider(k, kb)
		}
		return least, k
	case "div", "bit":
		if !count(2, 2) {
			return constant{}, unknown
		}
		a, _ := c.want(args[0], name, whole)
		b := c.second(args[1], name, whole)
		if name == "bit" {
			return bit{a, b}, truth
		}
		return arithmetic{'d', a, b}, whole
	}
	return c.refuse(n, "there is no function "+name+" here: it could take any time or memory", known)
}
