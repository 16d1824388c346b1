package line

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/card"
	"github.com/sluice-edge/sluice/plant"
)

// Limits of what a config may ask for.
const (
	mostLine  = 8192
	mostQueue = 100_000
	mostText  = 64
)

// sics is the format of weighing instruments by Mettler-Toledo and others.
const sics = "mt-sics"

// Options are a device that speaks in lines of text as a config describes it.
type Options struct {
	// Exactly one of Endpoint (the gateway calls the device), Listen (the device
	// calls the gateway) and Port (a serial port of this computer) says where it is.
	Endpoint Endpoint `yaml:"endpoint"`
	Listen   Listen   `yaml:"listen"`
	Port     string   `yaml:"port"`
	// Bind is the network card that the gateway calls Endpoint over, or that
	// devices call at Listen on, which then is a port alone.
	Bind card.Bind `yaml:"bind"`
	// HangsUp says that devices that call close the connection between two lines,
	// so that being gone means nothing.
	HangsUp bool `yaml:"hangs_up"`

	// Of a serial port.
	Baud     int    `yaml:"baud"`
	DataBits int    `yaml:"data_bits"`
	Parity   string `yaml:"parity"`
	StopBits int    `yaml:"stop_bits"`

	// Start and End delimit a line. Without Start it begins where the one before
	// ended.
	Start Delimiter `yaml:"start"`
	End   Delimiter `yaml:"end"`
	// Encoding is utf-8 or latin-1.
	Encoding string `yaml:"encoding"`
	// MaxLine is the longest line in bytes; what is longer is no line.
	MaxLine int `yaml:"max_line"`
	// HalfAfter is how long the rest of a line may take.
	HalfAfter config.Duration `yaml:"half_after"`

	// Pattern is a regular expression that a whole line must match; its named
	// groups are the fields. Format is a format known by name, instead.
	Pattern Pattern `yaml:"pattern"`
	Format  string  `yaml:"format"`
	// Decimal is the sign before the digits behind the point: "." or ",".
	Decimal string `yaml:"decimal"`

	// Poll is what the gateway sends to get a line, every Interval; without it the
	// device speaks by itself. OnConnect is sent once in each session, and Reply
	// when the rules have kept a line. CommandEnd ends each of them but Reply.
	Poll       Text            `yaml:"poll"`
	Interval   config.Duration `yaml:"interval"`
	OnConnect  Text            `yaml:"on_connect"`
	CommandEnd Delimiter       `yaml:"command_end"`
	Reply      Text            `yaml:"reply"`
	// Timeout is what connecting, and one answer, may take.
	Timeout config.Duration `yaml:"timeout"`
	// SilentAfter is how long a device that speaks by itself may say nothing; 0
	// where silence is normal.
	SilentAfter config.Duration `yaml:"silent_after"`

	// Queue is how many lines wait for the rules at most, and MaxRate how many a
	// second they are given.
	Queue   int         `yaml:"queue"`
	MaxRate config.Rate `yaml:"max_rate"`

	Tags config.Table[Tag] `yaml:"tags,required"`
}

func defaults() Options {
	return Options{
		Baud: 9600, DataBits: 8, Parity: "none", StopBits: 1,
		End: Delimiter{name: "any"}, CommandEnd: Delimiter{name: "crlf", text: "\r\n"},
		Encoding: "utf-8", MaxLine: 1024, HalfAfter: config.Duration(2 * time.Second), Decimal: ".",
		Interval: config.Duration(time.Second), Timeout: config.Duration(2 * time.Second),
		Queue: 1000, MaxRate: config.Rate{Count: 100, Per: time.Second},
	}
}

// Validate reports everything that is wrong with the device as a whole; each
// Tag reports for itself.
func (o *Options) Validate() error {
	return errors.Join(o.validateWay(), o.validateFrame(), o.validateTalk(), o.validateFields())
}

// streams reports whether each line is the newest of a value, not an event.
func (o *Options) streams() bool { return o.Poll != "" || o.SilentAfter > 0 }

// faults collects what is wrong.
type faults []error

func (f *faults) add(path, problem, remedy string) {
	*f = append(*f, config.Field(path, problem, remedy))
}

func (o *Options) validateWay() error {
	var f faults
	ways := 0
	for _, set := range []bool{o.Endpoint != "", o.Listen != "", o.Port != ""} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		problem := "more than one of endpoint, listen and port is given"
		if ways == 0 {
			problem = "nothing says where the device is"
		}
		f.add("endpoint", problem, "write endpoint: host:port where the gateway calls the device, listen: address:port where the device calls the gateway, or port: the serial port of this computer, such as /dev/ttyUSB0")
	}
	switch {
	case o.Bind == "":
	case o.Port != "":
		f.add("bind", "a serial port is on no network", "remove it")
	case o.Listen != "" && !strings.HasPrefix(string(o.Listen), ":"):
		f.add("bind", "the address in listen says already which network card is used", "remove it, or leave the port alone in listen, such as \":4001\"")
	}
	if o.HangsUp && o.Listen == "" {
		f.add("hangs_up", "is of use with listen only", "remove it")
	}
	if !slices.Contains(bauds, o.Baud) {
		f.add("baud", fmt.Sprintf("%d baud is no speed of a serial port", o.Baud), "write what the device is set to, for example 9600")
	}
	if o.DataBits != 7 && o.DataBits != 8 {
		f.add("data_bits", fmt.Sprintf("%d data bits are not possible", o.DataBits), "write 7 or 8")
	}
	if o.StopBits != 1 && o.StopBits != 2 {
		f.add("stop_bits", fmt.Sprintf("%d stop bits are not possible", o.StopBits), "write 1 or 2")
	}
	if _, ok := parities[o.Parity]; !ok {
		f = append(f, config.Unknown("parity", "parity", o.Parity, []string{"none", "even", "odd"}))
	}
	return errors.Join(f...)
}

// bauds are the speeds that every platform has.
var bauds = []int{300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}

var parities = map[string]string{"none": "N", "even": "E", "odd": "O"}

func (o *Options) validateFrame() error {
	var f faults
	switch {
	case o.End.name == "none":
		f.add("end", "a line needs an end", "let the device send CR or LF behind each line, and write end: any")
	case o.Start.name == "any" || o.Start.name == "none":
		f.add("start", "`"+o.Start.name+"` is no sign", "write stx or the characters themselves, or leave it out")
	case o.Start.text != "" && o.Start.text == o.End.text:
		f.add("start", "is the end, too", "leave it out")
	}
	if o.CommandEnd.name == "any" {
		f.add("command_end", "`any` is no sign", "write crlf, cr, lf, etx or none")
	}
	if o.Encoding != "utf-8" && o.Encoding != "latin-1" {
		f = append(f, config.Unknown("encoding", "encoding", o.Encoding, []string{"utf-8", "latin-1"}))
	}
	if o.MaxLine < 1 || o.MaxLine > mostLine {
		f.add("max_line", fmt.Sprintf("%d bytes are not possible", o.MaxLine), fmt.Sprintf("write 1 to %d", mostLine))
	}
	if o.HalfAfter <= 0 {
		f.add("half_after", "it is 0", "write how long the rest of a line may take, for example 2s")
	}
	if o.Decimal != "." && o.Decimal != "," {
		f.add("decimal", fmt.Sprintf("`%s` is no decimal sign", o.Decimal), `write "." or ","`)
	}
	return errors.Join(f...)
}

func (o *Options) validateTalk() error {
	var f faults
	if o.Interval <= 0 {
		f.add("interval", "it is 0", "write the time between two polls, for example 1s")
	}
	if o.Timeout <= 0 {
		f.add("timeout", "it is 0", "write how long the device may take to answer, for example 2s")
	}
	if o.Poll != "" && o.Listen != "" {
		f.add("poll", "several devices may call at listen, and it would not be known which one is asked", "write endpoint: where the device listens, or remove poll")
	}
	if o.Poll != "" && o.SilentAfter > 0 {
		f.add("silent_after", "a device that is asked is away when it does not answer within timeout", "remove it")
	}
	if o.OnConnect != "" && o.Listen != "" {
		f.add("on_connect", "is of use with endpoint and port only", "remove it")
	}
	if o.Queue < 1 || o.Queue > mostQueue {
		f.add("queue", fmt.Sprintf("%d lines cannot wait", o.Queue), fmt.Sprintf("write 1 to %d", mostQueue))
	}
	if o.MaxRate.PerSecond() > 10_000 {
		f.add("max_rate", "so many lines no rule can take", "write 10000/s at most")
	}
	return errors.Join(f...)
}

// validateFields checks pattern, format and what the tags name of them.
func (o *Options) validateFields() error {
	var f faults
	if o.Format != "" && o.Format != sics {
		f = append(f, config.Unknown("format", "format", o.Format, []string{sics}))
	}
	if o.Format != "" && o.Pattern.re != nil {
		f.add("pattern", "the format says already what a line looks like", "remove one of the two")
	}
	if len(o.Tags.Rows) == 0 {
		f.add("tags", "the device has no tags", "name at least one, for example code: line")
	}
	if o.Pattern.text != "" && o.Pattern.re == nil {
		return errors.Join(f...) // what its groups are called is not known
	}
	names, taken := o.fields(), false
	for _, row := range o.Tags.Rows {
		field := row.Value.Field
		taken = taken || field == fieldTaken
		if !slices.Contains(names, field) {
			err := config.Unknown("tags."+row.Name, "field of a line", field, names)
			if o.Pattern.re == nil && o.Format == "" {
				err = config.Field("tags."+row.Name, fmt.Sprintf("`%s` is no field of a line", field),
					"write a pattern with this name in it, such as pattern: '(?P<"+identifier(field)+">.+)', or use the field line, which is the whole line")
			}
			f = append(f, err)
		}
		if t := row.Value; ownFields[field] != plant.TypeUnknown && t.Type != 0 && plant.TagType(t.Type) != ownFields[field] {
			f.add("tags."+row.Name+".type", fmt.Sprintf("the field %s is of type %s", field, ownFields[field]), "remove it")
		}
	}
	if o.Reply != "" && !taken {
		f.add("reply", "is sent when the rules have kept a line, but no tag tells the driver of it", "add a tag such as kept: taken, and name it in the rule as ack:")
	}
	return errors.Join(f...)
}

// Pattern is a regular expression for a whole line.
type Pattern struct {
	text string
	re   *regexp.Regexp
}

// UnmarshalText reads a regular expression as Go and RE2 write it.
func (p *Pattern) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	p.text = string(b)
	if _, err := regexp.Compile(p.text); err != nil {
		return config.Field("", "is no regular expression: "+err.Error(), `write one for the whole line, for example '(?P<code>[0-9]{13})'`)
	}
	re, err := regexp.Compile(`^(?:` + string(b) + `)$`)
	if err != nil {
		return config.Field("", "is too large as a pattern for a whole line", "write a shorter one")
	}
	*p = Pattern{text: string(b), re: re}
	return nil
}

// String returns it as the config has it.
func (p Pattern) String() string { return p.text }

// identifier is what of a name a group of a pattern may be called.
func identifier(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
}

// Endpoint is host:port of a device.
type Endpoint string

// UnmarshalText accepts "10.0.0.30:2001" and "tcp://10.0.0.30:2001".
func (e *Endpoint) UnmarshalText(b []byte) error {
	host, port, err := hostPort(b)
	if err != nil {
		return err
	}
	if problem := config.HostProblem(host); problem != "" {
		return config.Field("", fmt.Sprintf("`%s` %s", b, problem), "write host:port, for example 10.0.0.30:2001")
	}
	*e = Endpoint(net.JoinHostPort(host, port))
	return nil
}

// Listen is where devices call the gateway: a port, or an address of the gateway
// and a port.
type Listen string

// UnmarshalText accepts ":4001" and "192.168.1.5:4001".
func (l *Listen) UnmarshalText(b []byte) error {
	host, port, err := hostPort(b)
	if err != nil {
		return err
	}
	if host != "" && !address(host) {
		return config.Field("", fmt.Sprintf("`%s` has no IP address before the port", b), "write the address of the network card that the devices are on, such as 192.168.1.5:4001, or :4001 for all of them")
	}
	*l = Listen(net.JoinHostPort(host, port))
	return nil
}

func address(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func hostPort(b []byte) (host, port string, err error) {
	if at := bytes.LastIndexByte(b, '@'); at >= 0 {
		// What is before it may be a password: it is not repeated.
		return "", "", config.Field("", fmt.Sprintf("`…%s` has a user before the @, but a line of text knows none", b[at:]), "write host:port alone, for example 10.0.0.30:2001")
	}
	host, port, err = net.SplitHostPort(strings.TrimPrefix(strings.TrimSpace(string(b)), "tcp://"))
	if err != nil {
		return "", "", config.Field("", fmt.Sprintf("`%s` is no host and port", b), "write both, for example 10.0.0.30:2001: lines of text have no usual port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", config.Field("", fmt.Sprintf("`%s` has no port from 1 to 65535", b), "write the port that the device's manual names, for example 10.0.0.30:2001")
	}
	return host, port, nil
}
