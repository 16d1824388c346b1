package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// browseCmd lists what a device has.
type browseCmd struct {
	Config string   `help:"The config file or folder (default: /etc/sluice/sluice.yaml, else ./sluice.yaml)." short:"c" placeholder:"FILE"`
	What   string   `arg:"" optional:"" name:"device" help:"A device of the config, or opc.tcp://… for a server that is in none; --channel says how it is secured, and -c whose certificates are shown and trusted."`
	From   string   `help:"The node to begin at; without it the machine's own nodes." placeholder:"NODE"`
	Filter string   `help:"List only what has this text in its path or address." placeholder:"TEXT"`
	Depth  int      `help:"How many levels are followed." default:"20"`
	Most   int      `help:"How many nodes are listed at most." default:"5000"`
	All    bool     `help:"List what every server has as well: diagnostics, properties."`
	Values bool     `help:"Read the values, too." default:"true" negatable:""`
	Modbus string   `help:"Look for registers of a Modbus TCP device; needs --range." placeholder:"HOST[:PORT]"`
	Unit   int      `help:"The unit id, with --modbus." default:"1"`
	Range  []string `help:"The addresses to read, with --modbus, such as holding:0-200. Only reads; at most 2000." placeholder:"TABLE:FROM-TO"`
	JSON   bool     `help:"Print one JSON document." xor:"form"`
	CSV    bool     `name:"csv" help:"Print a CSV table." xor:"form"`
	Lines  bool     `name:"config-lines" help:"Print the tags as lines of a config, to paste." xor:"form"`
	serverFlags
}

// browsed is a node as it is printed.
type browsed struct {
	Path     string     `json:"path"`
	Address  string     `json:"address"`
	Stable   string     `json:"stable,omitempty"`
	Variable bool       `json:"variable"`
	Type     string     `json:"type,omitempty"`
	Tag      string     `json:"tag_type,omitempty"`
	Writable bool       `json:"writable,omitempty"`
	Value    any        `json:"value,omitempty"`
	Quality  string     `json:"quality,omitempty"`
	Source   *time.Time `json:"source,omitempty"`
	// Unusable says why no tag can read it, Cause why there is no value.
	Unusable string `json:"unusable,omitempty"`
	Cause    string `json:"cause,omitempty"`
}

// Run prints what there is. Exit code 1 means that the device did not answer, or
// that not all could be listed; 2 wrong words.
func (b *browseCmd) Run(ctx context.Context, c *console) error {
	if b.Depth < 1 || b.Most < 1 {
		return wrong("--depth and --most are at least 1")
	}
	if b.Modbus != "" || len(b.Range) > 0 {
		return b.scan(ctx, c)
	}
	l, d, done, err := b.device(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	if d.Plan.Browse == nil {
		return wrong("%s has no list of what it holds: Modbus and lines of text know none. For Modbus, scan: sluice browse --modbus HOST --range holding:0-200; or take the addresses from the PLC's list", d.Name)
	}
	steps := newProgress(c.Err, "nodes")
	list, err := d.Plan.Browse(ctx, l.env(d), drivers.BrowseOptions{
		From: b.From, Depth: b.Depth, Most: b.Most, Values: b.Values, All: b.All, Step: func(n int) { steps.step(uint64(n)) },
	})
	steps.end()
	if err != nil {
		return &exitError{code: exitFailed, cause: errors.New(l.say(helped(err)))}
	}
	nodes := filtered(list.Nodes, b.Filter)
	if err := b.print(c.Out, nodes); err != nil {
		return fmt.Errorf("browse: write the list: %w", err)
	}
	for _, p := range list.Problems {
		fmt.Fprintln(c.Err, "sluice: not listed:", plain(p))
	}
	if list.More {
		fmt.Fprintf(c.Err, "sluice: there is more than %d nodes or %d levels: begin further down with --from, or raise --most and --depth\n", b.Most, b.Depth)
	}
	if len(nodes) == 0 && len(list.Problems) == 0 {
		fmt.Fprintln(c.Err, "sluice: nothing was found:", b.elsewhere())
	}
	if list.More || len(list.Problems) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// elsewhere is what to try where nothing was found.
func (b *browseCmd) elsewhere() string {
	switch {
	case b.Filter != "":
		return "look without --filter"
	case b.From != "":
		return "there is nothing below " + plain(b.From) + "; if it is a variable, sluice read shows its value"
	case !b.All:
		return "look with --all"
	default:
		return "the server lists no node of its own: is the login allowed to see any?"
	}
}

// wrong is an error of the words on the command line.
func wrong(format string, args ...any) error {
	return &exitError{code: exitUsage, cause: fmt.Errorf(format, args...)}
}

// device returns the device that is meant.
func (b *browseCmd) device(ctx context.Context, c *console) (l *looker, d *devicePlan, done func(), err error) {
	switch {
	case strings.HasPrefix(b.What, "opc.tcp://"):
		return b.server(ctx, c, b.What, b.Config, map[string]any{"state": "i=2259"})
	case strings.Contains(b.What, "://"):
		return nil, nil, nil, wrong("%q is no OPC UA server: write opc.tcp://host:4840, or a device of the config", b.What)
	}
	if err := b.refused("a device of the config has its channel and login there"); err != nil {
		return nil, nil, nil, err
	}
	p, err := (&storeFlag{Config: b.Config}).load(c)
	if err != nil {
		return nil, nil, nil, err
	}
	if b.What == "" {
		var names []string
		for _, d := range p.Devices {
			names = append(names, string(d.Name))
		}
		return nil, nil, nil, wrong("name a device (%s), or a server: sluice browse opc.tcp://10.0.0.5:4840", some(names, 10))
	}
	found, err := meant(p, []string{b.What})
	if err != nil {
		return nil, nil, nil, &exitError{code: exitUsage, cause: err}
	}
	return newLooker(ctx, p), found[0], func() {}, nil
}

// filtered keeps nodes with a text in path or address, and what they are below.
func filtered(nodes []drivers.Node, text string) []drivers.Node {
	if text == "" {
		return nodes
	}
	text = strings.ToLower(text)
	keep, least := make([]bool, len(nodes)), 0
	for i := len(nodes) - 1; i >= 0; i-- { // least is the depth of what the kept ones are below
		n := &nodes[i]
		hit := strings.Contains(strings.ToLower(n.Path), text) || strings.Contains(strings.ToLower(n.Address), text)
		if keep[i] = hit || n.Depth < least; keep[i] {
			least = n.Depth
		}
	}
	var kept []drivers.Node
	for i := range nodes {
		if keep[i] {
			kept = append(kept, nodes[i])
		}
	}
	return kept
}

func (b *browseCmd) print(out io.Writer, nodes []drivers.Node) error {
	switch {
	case b.JSON:
		all := make([]browsed, len(nodes))
		for i := range nodes {
			all[i] = forPrograms(&nodes[i])
		}
		return encodeJSON(out, all)
	case b.CSV:
		return spreadsheet(out, nodes)
	case b.Lines:
		return b.configLines(out, nodes)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range nodes {
		n := &nodes[i]
		name := strings.Repeat("  ", n.Depth) + plain(n.Name)
		if !n.Variable {
			fmt.Fprintf(w, "%s/\t\t\t%s\n", name, plain(n.Address))
			continue
		}
		value := n.Value.Text()
		if n.Value.IsZero() {
			value = "-"
			if why := cmp.Or(n.Unusable, n.Cause); why != "" {
				value = "(" + plain(why) + ")"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, plain(n.Type), shortened(plain(value)), plain(n.Address))
	}
	return w.Flush()
}

// shortened keeps a column narrow.
func shortened(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

func forPrograms(n *drivers.Node) browsed {
	b := browsed{
		Path: n.Path, Address: n.Address, Stable: n.Stable, Variable: n.Variable, Type: n.Type, Writable: n.Writable,
		Value: jsonValue(n.Value), Unusable: n.Unusable, Cause: n.Cause,
	}
	if n.Tag != plant.TypeUnknown {
		b.Tag = n.Tag.String()
	}
	if !n.Value.IsZero() {
		b.Quality = n.Quality.String()
	}
	if !n.Source.IsZero() {
		b.Source = &n.Source
	}
	return b
}

// spreadsheet prints the variables as CSV. A cell that would be run as a formula
// is kept from it.
func spreadsheet(out io.Writer, nodes []drivers.Node) error {
	w := csv.NewWriter(out)
	rows := [][]string{{"path", "node", "type", "value", "quality", "writable", "unusable"}}
	for i := range nodes {
		if n := &nodes[i]; n.Variable {
			quality := ""
			if !n.Value.IsZero() {
				quality = n.Quality.String()
			}
			rows = append(rows, []string{cell(plain(n.Path)), cell(plain(n.Stable)), plain(n.Type), cell(plain(n.Value.Text())), quality, strconv.FormatBool(n.Writable), cell(plain(n.Unusable))})
		}
	}
	return w.WriteAll(rows)
}

// cell keeps text from being a formula, as OWASP's "CSV Injection" has it; a
// negative number is none.
func cell(text string) string {
	if text == "" || !strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	return "'" + text
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// configLines prints what can be read as the tags of a device, with names of
// their own.
func (b *browseCmd) configLines(out io.Writer, nodes []drivers.Node) error {
	fmt.Fprintln(out, "    tags:")
	key := "node"
	if b.Modbus != "" {
		key = "address"
	}
	taken := map[string]bool{}
	for i := range nodes {
		n := &nodes[i]
		if !n.Variable {
			continue
		}
		if n.Tag == plant.TypeUnknown || n.Unusable != "" {
			if _, err := fmt.Fprintf(out, "      # %s: %s\n", plain(n.Path), plain(n.Unusable)); err != nil {
				return err
			}
			continue
		}
		address, err := json.Marshal(n.Stable) // as YAML reads it, too
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "      %s: {%s: %s, type: %s}\n", tagName(n, taken), key, address, n.Tag); err != nil {
			return err
		}
	}
	return nil
}

// tagName is the shortest end of a node's path that no other tag has taken. Where
// all of it is taken, since another namespace has the same path, a number goes
// behind it; where no letter of the node's name can stand in a tag's, its id does.
func tagName(n *drivers.Node, taken map[string]bool) string {
	parts := strings.Split(n.Path, "/")
	last := len(parts) - 1
	name := nameFor(parts[last])
	if name == "" {
		_, id, _ := strings.Cut(n.Address, ";")
		if name = "tag"; nameFor(id[min(1, len(id)):]) != "" {
			name = "node_" + nameFor(id[1:])
		}
	}
	for i := last - 1; i >= 0 && taken[name]; i-- {
		if before := nameFor(parts[i]); before != "" {
			name = nameFor(before + "_" + name)
		}
	}
	for base, i := name, 2; taken[name]; i++ {
		name = base + "_" + strconv.Itoa(i)
	}
	taken[name] = true
	return name
}

// longestName bounds the name of a tag that is made of a server's words.
const longestName = 64

// nameFor keeps of a text what can stand in the name of a tag, and its end if it is
// long.
func nameFor(text string) string {
	name := strings.Trim(notInNames.ReplaceAllString(text, "_"), "_-")
	return strings.TrimLeft(name[max(0, len(name)-longestName):], "_-")
}

const (
	// mostScanned bounds a scan, and scanPause lies between two looks at what the
	// device refuses: a scan may take its time.
	mostScanned = 2000
	scanPause   = 100 * time.Millisecond
	mostLooks   = 200
)

// scan reads ranges of a Modbus device and lists what answers.
func (b *browseCmd) scan(ctx context.Context, c *console) error {
	if b.Modbus == "" || len(b.Range) == 0 || b.What != "" {
		return wrong("a scan needs the device and the addresses: sluice browse --modbus 10.0.0.7 --range holding:0-200")
	}
	if err := b.refused("Modbus has neither"); err != nil {
		return err
	}
	tags := map[string]any{}
	for _, r := range b.Range {
		if err := scanned(r, tags); err != nil {
			return err
		}
	}
	d, err := adHoc("modbus", map[string]any{"endpoint": b.Modbus, "unit": b.Unit, "interval": scanPause.String(), "max_gap": 0, "tags": tags})
	if err != nil {
		return &exitError{code: exitUsage, cause: err}
	}
	got, refused, err := b.answers(ctx, c, d)
	if err != nil {
		return &exitError{code: exitFailed, cause: errors.New(helped(err))}
	}
	slices.SortFunc(got, func(x, y drivers.Node) int { return natural(x.Path, y.Path) })
	if err := b.print(c.Out, got); err != nil {
		return fmt.Errorf("browse: write the list: %w", err)
	}
	fmt.Fprintf(c.Err, "sluice: %d addresses answered, %d did not; what they mean says the device's manual, and what they would be in other types sluice read --modbus\n", len(got), refused)
	return nil
}

// natural orders addresses by table, then by number.
func natural(a, b string) int {
	ta, na, _ := strings.Cut(a, ":")
	tb, nb, _ := strings.Cut(b, ":")
	x, _ := strconv.Atoi(na)
	y, _ := strconv.Atoi(nb)
	if ta != tb {
		return strings.Compare(ta, tb)
	}
	return x - y
}

var rangeForm = regexp.MustCompile(`^(holding|input|coil|discrete):(\d{1,5})-(\d{1,5})$`)

// scanned adds the addresses of a range to the tags of a scan.
func scanned(text string, tags map[string]any) error {
	m := rangeForm.FindStringSubmatch(text)
	if m == nil {
		return wrong("%q is no range: write holding:0-200, input:…, coil:… or discrete:…", text)
	}
	from, _ := strconv.Atoi(m[2])
	to, _ := strconv.Atoi(m[3])
	if to < from || to > 65535 {
		return wrong("%q ends before it begins, or behind 65535", text)
	}
	if len(tags)+to-from+1 > mostScanned {
		return wrong("that are more than %d addresses: scan in parts, so that the device is not kept busy", mostScanned)
	}
	for n := from; n <= to; n++ {
		tags[fmt.Sprintf("%s-%d", m[1], n)] = fmt.Sprintf("%s:%d", m[1], n)
	}
	return nil
}

// answers reads until the driver knows of each address whether the device has it:
// it halves what is refused, a little with each look.
func (b *browseCmd) answers(ctx context.Context, c *console, d *devicePlan) (all []drivers.Node, refused int, err error) {
	driver := d.Plan.Open((&looker{gateway: "sluice"}).env(d))
	defer func() { _ = driver.Close() }() // nothing is owed to the device
	limited, cancel := context.WithTimeout(ctx, d.Plan.Timeout)
	defer cancel()
	if err := driver.Connect(limited, 1); err != nil {
		return nil, 0, err
	}
	steps := newProgress(c.Err, "looks")
	defer steps.end()
	newest := map[plant.TagID]plant.Reading{}
	for look, same, before := 0, 0, -1; look < mostLooks && same < 5; look++ {
		reading, cancel := context.WithTimeout(ctx, d.Plan.Timeout)
		scans, err := driver.Read(reading)
		cancel()
		if err != nil {
			return nil, 0, err
		}
		good := 0
		for i := range scans {
			for _, r := range scans[i].Readings {
				newest[r.Tag] = r
			}
		}
		for _, r := range newest {
			if r.Quality == plant.Good {
				good++
			}
		}
		steps.step(uint64(look + 1))
		if good == len(d.Plan.Tags) {
			break
		}
		if same++; good != before {
			same, before = 0, good
		}
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-time.After(scanPause):
		}
	}
	for _, t := range d.Plan.Tags {
		r := newest[t.ID]
		if r.Quality != plant.Good {
			refused++
			continue
		}
		address := strings.Replace(string(t.ID), "-", ":", 1)
		all = append(all, drivers.Node{Name: address, Path: address, Address: t.Address, Stable: address, Variable: true, Type: t.Type.String(), Tag: t.Type, Value: r.Value, Quality: r.Quality})
	}
	return all, refused, nil
}
