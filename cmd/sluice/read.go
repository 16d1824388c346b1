package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// readCmd reads tags, or addresses that no config has yet.
type readCmd struct {
	Config string        `help:"The config file or folder (default: /etc/sluice/sluice.yaml, else ./sluice.yaml)." short:"c" placeholder:"FILE"`
	What   []string      `arg:"" optional:"" name:"tag" help:"A device, or a tag as device/tag; all devices if nothing is named. With --modbus or --opcua addresses, such as holding:100 or ns=2;s=Made."`
	Modbus string        `help:"Read from a Modbus TCP device that is in no config." placeholder:"HOST[:PORT]" xor:"adhoc"`
	Unit   int           `help:"The unit id, with --modbus." default:"1"`
	OPCUA  string        `name:"opcua" help:"Read from an OPC UA server that is in no config; --channel says how it is secured, and -c whose certificates are shown and trusted." placeholder:"URL" xor:"adhoc"`
	Type   string        `help:"The type of the addresses, with --modbus: int16, uint32, float32, …" placeholder:"TYPE"`
	Watch  bool          `help:"Go on and print what changes, until Ctrl-C."`
	For    time.Duration `help:"How long to watch." placeholder:"30s"`
	Wait   time.Duration `help:"How long to wait for what a device says by itself." default:"5s"`
	JSON   bool          `help:"Print JSON: one document, with --watch one object a line."`
	serverFlags
}

// readTag is one reading as it is printed.
type readTag struct {
	Device  string     `json:"device,omitempty"`
	Tag     string     `json:"tag"`
	Address string     `json:"address"`
	Type    string     `json:"type"`
	Value   any        `json:"value"`
	Unit    string     `json:"unit,omitempty"`
	Quality string     `json:"quality"`
	Cause   string     `json:"cause,omitempty"`
	Source  *time.Time `json:"source,omitempty"`
	Server  *time.Time `json:"server,omitempty"`
	At      *time.Time `json:"received,omitempty"`
	// Raw are the registers as they came, Meanings what they would be.
	Raw      string    `json:"raw,omitempty"`
	Meanings []meaning `json:"meanings,omitempty"`

	text string
}

// adHocRegisters are shown of an address of which nobody said what it is: the
// longest number takes four.
const adHocRegisters = 4

// Run prints what was asked for. A tag that cannot be read well, or a device that
// does not answer, ends it with exit code 1; wrong words with 2.
func (r *readCmd) Run(ctx context.Context, c *console) error {
	l, devices, done, err := r.devices(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	if r.Watch {
		return r.watch(ctx, c, l, devices)
	}
	all, bad := []readTag{}, 0
	for _, d := range devices {
		got, _, err := l.look(ctx, d, r.Wait, nil)
		if err != nil {
			fmt.Fprintf(c.Err, "sluice: %s: %s\n", r.name(d), l.say(helped(err)))
			bad++
			if len(got) == 0 {
				continue
			}
		}
		for _, t := range d.Plan.Tags {
			row := r.row(d, t, got[t.ID])
			if row.Quality != plant.Good.String() {
				bad++
			}
			r.raw(ctx, l, d, t, &row)
			all = append(all, row)
		}
	}
	if err := r.print(c.Out, all); err != nil {
		return fmt.Errorf("read: write the answer: %w", err)
	}
	if bad > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// name is what a device is called in a message.
func (r *readCmd) name(d *devicePlan) string { return cmp.Or(r.Modbus, r.OPCUA, string(d.Name)) }

// devices returns the devices with the tags that are meant.
func (r *readCmd) devices(ctx context.Context, c *console) (l *looker, devices []*devicePlan, done func(), err error) {
	done = func() {}
	if r.Modbus != "" || r.OPCUA != "" {
		l, d, done, err := r.adHoc(ctx, c)
		return l, []*devicePlan{d}, done, err
	}
	for _, w := range r.What {
		if strings.Contains(w, "://") {
			return nil, nil, nil, &exitError{code: exitUsage, cause: fmt.Errorf("%q is no tag: to read from a server that is in no config write sluice read --opcua %s 'ns=2;s=…'", w, w)}
		}
	}
	if err := r.refused("a device of the config has its channel and login there"); err != nil {
		return nil, nil, nil, err
	}
	p, err := (&storeFlag{Config: r.Config}).load(c)
	if err != nil {
		return nil, nil, nil, err
	}
	if devices, err = meant(p, r.What); err != nil {
		return nil, nil, nil, &exitError{code: exitUsage, cause: err}
	}
	return newLooker(ctx, p), devices, done, nil
}

// adHoc is a device with the addresses of the command line as its tags.
func (r *readCmd) adHoc(ctx context.Context, c *console) (l *looker, d *devicePlan, done func(), err error) {
	tags, names := map[string]any{}, map[plant.TagID]string{}
	for i, address := range r.What {
		name := "t" + strconv.Itoa(i)
		tag := map[string]any{"address": address}
		if r.OPCUA != "" {
			tag = map[string]any{"node": address}
		}
		if r.Type != "" {
			tag["type"] = r.Type
		}
		tags[name], names[plant.TagID(name)] = tag, address
	}
	if len(tags) == 0 {
		return nil, nil, nil, wrong("name the addresses: sluice read --modbus 10.0.0.7 holding:100, or sluice read --opcua opc.tcp://10.0.0.5:4840 'ns=2;s=Made'")
	}
	if r.OPCUA != "" {
		l, d, done, err = r.server(ctx, c, r.OPCUA, r.Config, tags)
	} else if err = r.refused("Modbus has neither"); err == nil {
		l, done = newLooker(ctx, nil), func() {}
		if d, err = adHoc("modbus", map[string]any{"endpoint": r.Modbus, "unit": r.Unit, "tags": tags}); err != nil {
			err = &exitError{code: exitUsage, cause: err}
		}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	slices.SortFunc(d.Plan.Tags, func(a, b plant.Tag) int { return cmp.Compare(index(a.ID), index(b.ID)) })
	return l, d, done, nil
}

// index is the number of a tag that adHoc has named.
func index(id plant.TagID) int {
	n, _ := strconv.Atoi(strings.TrimLeft(string(id), "t+"))
	return n
}

// meant returns the devices of a plan that words name, each with the tags that
// are meant.
func meant(p *plan, words []string) (found []*devicePlan, err error) {
	if len(words) == 0 {
		for i := range p.Devices {
			found = append(found, &p.Devices[i])
		}
		return found, nil
	}
	var names []string
	for _, d := range p.Devices {
		names = append(names, string(d.Name))
	}
	for _, word := range words {
		device, tag, one := strings.Cut(word, "/")
		i := slices.Index(names, device)
		if i < 0 {
			err := config.Unknown("", "device", device, names)
			if ref, ok := onlyOne(p, word); ok {
				err = fmt.Errorf("%q is no device: did you mean %s?", word, ref)
			}
			return nil, err
		}
		j := slices.IndexFunc(found, func(d *devicePlan) bool { return string(d.Name) == device })
		if j < 0 {
			d := p.Devices[i]
			if one {
				d.Plan.Tags = nil
			}
			found, j = append(found, &d), len(found)
		}
		if !one {
			found[j].Plan.Tags = p.Devices[i].Plan.Tags
			continue
		}
		t := slices.IndexFunc(p.Devices[i].Plan.Tags, func(t plant.Tag) bool { return string(t.ID) == tag })
		if t < 0 {
			return nil, config.Unknown("", "tag of "+device, tag, tagNames(p.Devices[i].Plan.Tags))
		}
		if !slices.ContainsFunc(found[j].Plan.Tags, func(t plant.Tag) bool { return string(t.ID) == tag }) {
			found[j].Plan.Tags = append(slices.Clone(found[j].Plan.Tags), p.Devices[i].Plan.Tags[t])
		}
	}
	return found, nil
}

// onlyOne finds the tag of that name if one device has it.
func onlyOne(p *plan, tag string) (ref plant.TagRef, ok bool) {
	n := 0
	for _, d := range p.Devices {
		for _, t := range d.Plan.Tags {
			if string(t.ID) == tag {
				ref, n = plant.TagRef{Device: d.Name, Tag: t.ID}, n+1
			}
		}
	}
	return ref, n == 1
}

func tagNames(tags []plant.Tag) (names []string) {
	for _, t := range tags {
		names = append(names, string(t.ID))
	}
	return names
}

// row is a reading made ready for people and programs.
func (r *readCmd) row(d *devicePlan, t plant.Tag, got looked) readTag {
	row := readTag{Device: string(d.Name), Tag: string(t.ID), Address: t.Address, Type: t.Type.String(), Unit: t.Unit, Quality: got.Quality.String(), Cause: got.Cause, Value: jsonValue(got.Value), text: got.Value.Text()}
	if r.Modbus != "" || r.OPCUA != "" {
		row.Device, row.Tag = "", t.Address
	}
	if got.Received.IsZero() {
		row.Cause = "the device has said nothing of it in " + r.Wait.String() + ": wait longer with --wait, or watch it with --watch"
		return row
	}
	row.At = &got.Received
	if !got.Source.IsZero() {
		row.Source = &got.Source
	}
	if !got.Server.IsZero() {
		row.Server = &got.Server
	}
	return row
}

// raw adds the registers of a number that was named, and what they would be in
// each type and order. It is a request of its own over a connection of its own. It is a help for people, so what cannot be had is left out.
func (r *readCmd) raw(ctx context.Context, l *looker, d *devicePlan, t plant.Tag, row *readTag) {
	named := r.Modbus != "" || slices.Contains(r.What, string(d.Name)+"/"+string(t.ID))
	if !named || d.Plan.Registers == nil || t.Type == plant.TypeString || t.Type == plant.TypeBool {
		return
	}
	least := 1
	if r.Modbus != "" && r.Type == "" {
		least = adHocRegisters
	}
	p, ok := d.Plan.Registers(t.ID, least)
	if !ok {
		return
	}
	got, _, err := l.look(ctx, &devicePlan{Name: d.Name, Plan: p}, r.Wait, nil)
	if err != nil {
		return
	}
	var bytes []byte
	for _, one := range p.Tags[1:] {
		n, whole := got[one.ID].Value.Int()
		if got[one.ID].Quality != plant.Good || !whole {
			break
		}
		bytes = append(bytes, byte(n>>8), byte(n))
	}
	if len(bytes) == 0 {
		return
	}
	// The value is of the same request as the registers.
	if v, ok := got[t.ID]; ok {
		again := r.row(d, t, v)
		again.Device, again.Tag = row.Device, row.Tag
		*row = again
	}
	row.Raw = hex.EncodeToString(bytes)
	for n := 2; n <= len(bytes); n *= 2 {
		if n == len(bytes) || least > 1 {
			row.Meanings = append(row.Meanings, meanings(bytes[:n])...)
		}
	}
}

func (r *readCmd) print(out io.Writer, all []readTag) error {
	if r.JSON {
		return encodeJSON(out, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TAG\tVALUE\tQUALITY\tSOURCE TIME\tADDRESS\tTYPE")
	for i := range all {
		t := &all[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.name(), t.value(), t.Quality, t.source(), plain(t.Address), t.Type)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range all {
		if t := &all[i]; t.Cause != "" {
			fmt.Fprintf(out, "%s: %s\n", t.name(), plain(t.Cause))
		}
	}
	for i := range all {
		if t := &all[i]; t.Raw != "" {
			t.printRaw(out)
		}
	}
	return nil
}

func (t *readTag) name() string {
	if t.Device == "" {
		return plain(t.Tag)
	}
	return plain(t.Device + "/" + t.Tag)
}

func (t *readTag) value() string {
	switch {
	case t.Value == nil:
		return "-"
	case t.Unit != "":
		return plain(t.text + " " + t.Unit)
	default:
		return plain(t.text)
	}
}

func (t *readTag) source() string {
	if t.Source == nil {
		return "-"
	}
	return t.Source.Local().Format("2006-01-02 15:04:05.000")
}

// printRaw prints the registers and what they would be; what looks like a value
// has an asterisk.
func (t *readTag) printRaw(out io.Writer) {
	var registers []string
	for i := 0; i+4 <= len(t.Raw); i += 4 {
		registers = append(registers, t.Raw[i:i+4])
	}
	fmt.Fprintf(out, "\n%s, registers as they came: %s   (* looks like a value)\n", t.name(), strings.Join(registers, " "))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, m := range t.Meanings {
		mark := ""
		if m.Plausible {
			mark = "*"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", m.Letters, m.Order, m.Type, m.Value, mark)
	}
	_ = w.Flush() // what it writes to has been told of already
}

// watch prints each tag when it is read first and when it changes.
func (r *readCmd) watch(ctx context.Context, c *console, l *looker, devices []*devicePlan) error {
	if r.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.For)
		defer cancel()
	}
	w := &watcher{cmd: r, say: l.say, out: c.Out, talk: c.Err, last: map[plant.TagRef]plant.Reading{}}
	var running sync.WaitGroup
	for _, d := range devices {
		driver, err := l.open(d)
		if err != nil {
			fmt.Fprintf(c.Err, "sluice: %s: %s\n", r.name(d), plain(err.Error()))
			w.failed = true
			continue
		}
		o := d.Plan.PollerOptions(d.Name)
		o.MaxBackoff = 2 * time.Second // somebody is looking
		p := drivers.NewPoller(o, driver, []drivers.Sink{&watched{w, d}}, zap.NewNop())
		running.Go(func() { _ = p.Run(ctx) }) // it returns when ctx ends
	}
	running.Wait()
	if w.failed {
		return &exitError{code: exitFailed}
	}
	return w.err
}

// watcher prints what the pollers of several devices hand over.
type watcher struct {
	cmd       *readCmd
	say       func(string) string
	out, talk io.Writer

	mu     sync.Mutex
	last   map[plant.TagRef]plant.Reading
	failed bool
	err    error
}

// watched is the sink of one device.
type watched struct {
	*watcher
	d *devicePlan
}

// Offer implements drivers.Sink.
func (w *watched) Offer(in plant.Input) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch in := in.(type) {
	case plant.DeviceState:
		words := "answers"
		if !in.Connected {
			words = "does not answer: " + w.say(in.Cause)
		}
		fmt.Fprintf(w.talk, "sluice: %s %s\n", w.cmd.name(w.d), plain(words))
	case plant.Scan:
		for _, v := range in.Readings {
			w.show(&in, v)
		}
	}
}

// show prints a reading if it is another one than before.
func (w *watched) show(in *plant.Scan, v plant.Reading) {
	i := slices.IndexFunc(w.d.Plan.Tags, func(t plant.Tag) bool { return t.ID == v.Tag })
	ref := plant.TagRef{Device: w.d.Name, Tag: v.Tag}
	before, seen := w.last[ref]
	if i < 0 || seen && before.Value == v.Value && before.Quality == v.Quality && before.Cause == v.Cause {
		return
	}
	w.last[ref] = v
	row := w.cmd.row(w.d, w.d.Plan.Tags[i], looked{Reading: v, Received: in.Received})
	if w.cmd.JSON {
		e := json.NewEncoder(w.out)
		e.SetEscapeHTML(false)
		w.err = cmp.Or(w.err, e.Encode(row))
		return
	}
	line := fmt.Sprintf("%s  %-24s %s", in.Received.Format("15:04:05.000"), row.name(), row.value())
	if row.Quality != plant.Good.String() {
		line += "  " + row.Quality + ": " + plain(row.Cause)
	}
	_, err := fmt.Fprintln(w.out, line)
	w.err = cmp.Or(w.err, err)
}
