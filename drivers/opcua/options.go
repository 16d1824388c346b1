package opcua

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/card"
	"github.com/sluice-edge/sluice/plant"
)

// defaultPort is the port that IANA has registered for opc.tcp.
const defaultPort = "4840"

// leastMessage and mostMessage bound what the config may say of the length of an
// answer. A list of endpoints with chains of certificates needs some 50 KiB.
const leastMessage, mostMessage = 64 << 10, 16 << 20

// maxQueue is what one item may keep at the server.
const maxQueue = 10_000

// Options are an OPC UA server as a config describes it.
type Options struct {
	Endpoint Endpoint `yaml:"endpoint,required"`
	// Bind is the network card that the server is reached over.
	Bind card.Bind `yaml:"bind"`
	// Channel says how the connection is secured. No other way is taken if the
	// server does not offer this one.
	Channel Channel `yaml:"channel"`
	// Cert and Key are the gateway's application instance certificate; without
	// them it makes its own.
	Cert config.Path `yaml:"cert"`
	Key  config.Path `yaml:"key"`
	// ServerSHA256 is the fingerprint of the one certificate that is trusted,
	// whatever the store says.
	ServerSHA256 Fingerprint `yaml:"server_sha256"`
	Trust        Trust       `yaml:"trust"`
	// PKI is the folder of certificates; empty for the gateway's own.
	PKI   config.Path `yaml:"pki"`
	Login Login       `yaml:"login"`
	// AllowInsecure lets a password go over a channel without security.
	AllowInsecure bool `yaml:"allow_insecure"`
	// Poll is the time from poll to poll; 0 means that the driver subscribes.
	Poll config.Duration `yaml:"poll"`
	// Publishing is how often the server reports changes, Sampling how often it
	// looks for them (0: as often), Queue how many changes of a tag it keeps
	// between two reports (0: by Publishing and Sampling).
	Publishing config.Duration `yaml:"publishing"`
	Sampling   config.Duration `yaml:"sampling"`
	Queue      int             `yaml:"queue"`
	// MaxMessage is how long an answer of the server may be.
	MaxMessage config.Size `yaml:"max_message"`
	// Timeout is what one request may take.
	Timeout config.Duration   `yaml:"timeout"`
	Tags    config.Table[Tag] `yaml:"tags,required"`
}

func defaults() Options {
	return Options{
		Publishing: config.Duration(200 * time.Millisecond),
		MaxMessage: 1 << 20,
		Timeout:    config.Duration(5 * time.Second),
	}
}

// Validate reports everything that is wrong with the device as a whole; each
// Tag reports for itself.
func (o *Options) Validate() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if o.Poll > 0 && o.Poll.Std() < 10*time.Millisecond {
		fault("poll", "it is less than 10ms", "write the time between two polls, for example 1s, or remove it to subscribe")
	}
	if p := o.Publishing.Std(); p < 10*time.Millisecond || p > time.Minute {
		fault("publishing", fmt.Sprintf("%v is out of range", p), "write 10ms to 1m")
	}
	if o.Sampling > o.Publishing {
		fault("sampling", "it is longer than publishing", "write a shorter time, or remove it")
	}
	if o.Queue < 0 || o.Queue > maxQueue {
		fault("queue", fmt.Sprintf("%d values are not possible", o.Queue), fmt.Sprintf("write 1 to %d, or remove it", maxQueue))
	}
	if t := o.Timeout.Std(); t < 100*time.Millisecond || t > time.Minute {
		fault("timeout", fmt.Sprintf("%v is out of range", t), "write how long the server may take for one answer, 100ms to 1m")
	}
	if o.MaxMessage < leastMessage || o.MaxMessage > mostMessage {
		fault("max_message", fmt.Sprintf("%v is out of range", o.MaxMessage), "write 64 KiB to 16 MiB, or remove it")
	}
	if len(o.Tags.Rows) == 0 {
		fault("tags", "the device has no tags", "name at least one, for example made: ns=2;s=Line.Made")
	}
	return errors.Join(append(errs, o.validateSecurity(), o.numbered())...)
}

// Endpoint is opc.tcp://host:port[/path] of a server.
type Endpoint string

// UnmarshalText accepts "opc.tcp://10.0.0.5:4840/path", and the host alone.
func (e *Endpoint) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	bad := func(problem string) error {
		return config.Field("", fmt.Sprintf("`%s` %s", b, problem), "write opc.tcp://host:port, for example opc.tcp://10.0.0.5:4840")
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "opc.tcp", text
	}
	if scheme != "opc.tcp" {
		return bad("does not begin with opc.tcp://, the only transport that this driver speaks")
	}
	u, err := url.Parse("opc.tcp://" + rest)
	if err != nil || u.Hostname() == "" {
		return bad("is no host and port")
	}
	if u.User != nil {
		return bad("holds a user: put it under login")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return bad("has something behind the path")
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("has no port from 1 to 65535")
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	*e = Endpoint(strings.TrimSuffix(u.String(), "/"))
	return nil
}

// loopback reports whether the server is on this computer.
func (e Endpoint) loopback() bool {
	u, err := url.Parse(string(e))
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Tag is one node of a server as a config describes it: the node id alone, or a
// mapping, or a row of a CSV file.
type Tag struct {
	Node NodeID `yaml:"node,required"`
	// Member is which part of the node's value the tag is, where that is an array
	// or a structure.
	Member Member `yaml:"member"`
	// Type is the type at the server, for rules that must know it before the
	// first connection; a value of another type is bad.
	Type Type `yaml:"type"`
	// Sampling and Queue override those of the device.
	Sampling config.Duration `yaml:"sampling"`
	Queue    int             `yaml:"queue"`
	// Deadband is by how much a number must move to be reported.
	Deadband float64 `yaml:"deadband"`
	// A number is read as raw × Scale, exactly for whole raw numbers.
	Scale *config.Number `yaml:"scale"`
	// Unit is the unit of the scaled value, for people.
	Unit string `yaml:"unit"`
	// Writable allows the gateway to write the tag.
	Writable bool `yaml:"writable"`
}

// UnmarshalText reads a tag that is written as its node id alone.
func (t *Tag) UnmarshalText(b []byte) error { return t.Node.UnmarshalText(b) }

// address is the node, and the part of its value if the tag is not all of it.
func (t *Tag) address() string {
	if t.Member.steps == "" {
		return t.Node.String()
	}
	return t.Node.String() + " " + t.Member.steps
}

// Validate reports everything that is wrong with the tag by itself.
func (t *Tag) Validate() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	kind := plant.TagType(t.Type)
	if t.Queue < 0 || t.Queue > maxQueue {
		fault("queue", fmt.Sprintf("%d values are not possible", t.Queue), fmt.Sprintf("write 1 to %d, or remove it", maxQueue))
	}
	if t.Deadband < 0 || math.IsNaN(t.Deadband) || math.IsInf(t.Deadband, 0) {
		fault("deadband", "it is no amount", "write by how much the number must move, for example 0.5")
	}
	if kind != plant.TypeUnknown && !kind.Numeric() {
		if t.Deadband > 0 {
			fault("deadband", "only a number has one, not a "+kind.String(), "remove it")
		}
		if t.Scale != nil {
			fault("scale", "only a number can be scaled, not a "+kind.String(), "remove it")
		}
	}
	if t.Member.steps != "" && t.Writable {
		fault("writable", "a part of an array or structure cannot be written alone", "remove it, or name a node of its own for the part")
	}
	if t.Member.steps != "" && t.Deadband > 0 {
		fault("deadband", "a part of an array or structure has none at the server", "remove it, or name a node of its own for the part")
	}
	if t.Scale != nil && t.Scale.IsZero() {
		fault("scale", "times 0 every value is the same", "write the factor from the number in the server to the value, for example 0.1")
	}
	return errors.Join(errs...)
}

// Type is the type of a node; 0 if the config names none.
type Type plant.TagType

// The built-in types of OPC UA (OPC 10000-6, 5.1.2) and the names of IEC
// 61131-3, beside our own.
var typeNames = map[string]plant.TagType{
	"boolean": plant.TypeBool, "sbyte": plant.TypeInt8, "byte": plant.TypeUint8, "float": plant.TypeFloat32, "double": plant.TypeFloat64,
	"sint": plant.TypeInt8, "usint": plant.TypeUint8, "int": plant.TypeInt16, "uint": plant.TypeUint16, "word": plant.TypeUint16,
	"dint": plant.TypeInt32, "udint": plant.TypeUint32, "dword": plant.TypeUint32,
	"lint": plant.TypeInt64, "ulint": plant.TypeUint64, "lword": plant.TypeUint64,
	"real": plant.TypeFloat32, "lreal": plant.TypeFloat64,
}

// UnmarshalText reads "bool", "int8", …, "float64", "string", "Int32" and the
// other names of OPC UA, or a name of IEC 61131-3 such as "DINT".
func (t *Type) UnmarshalText(b []byte) error {
	name := strings.ToLower(strings.TrimSpace(string(b)))
	kind, ok := plant.ParseTagType(name)
	if !ok {
		kind, ok = typeNames[name]
	}
	if !ok {
		return config.Field("", fmt.Sprintf("`%s` is no type of an OPC UA node", b), "write bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64 or string")
	}
	*t = Type(kind)
	return nil
}

// NodeID is a node id whose namespace may be named by its URI.
type NodeID struct {
	// URI is the namespace's name; if it is empty, Index is its number.
	URI   string
	Index uint16
	// identifier is "s=…", "i=…", "g=…" or "b=…".
	identifier string
}

// UnmarshalText reads the text form of OPC 10000-6, 5.3.1.10, as browsers and
// engineering tools show it: "ns=2;s=Line.Made", "nsu=urn:line;i=1001", "i=2258".
func (n *NodeID) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	bad := func(problem string) error {
		return config.Field("", fmt.Sprintf("`%s` %s", b, problem), "write ns=2;s=Line.Made or nsu=urn:line;s=Line.Made, with i= for a number, g= for a GUID, b= for base64")
	}
	*n = NodeID{identifier: text}
	if rest, ok := strings.CutPrefix(text, "nsu="); ok {
		uri, identifier, found := cutIdentifier(rest)
		if !found || uri == "" {
			return bad("names a namespace but no node")
		}
		// The text form escapes what would end the URI.
		uri = strings.NewReplacer("%3B", ";", "%3b", ";", "%25", "%").Replace(uri)
		*n = NodeID{URI: uri, identifier: identifier}
	} else if rest, ok := strings.CutPrefix(text, "ns="); ok {
		number, identifier, _ := strings.Cut(rest, ";")
		index, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return bad("has no namespace number from 0 to 65535")
		}
		*n = NodeID{Index: uint16(index), identifier: identifier}
	}
	if len(n.identifier) < 3 || n.identifier[1] != '=' || !strings.ContainsRune("sigb", rune(n.identifier[0])) {
		return bad("is no node id")
	}
	if _, err := n.in(n.Index); err != nil {
		return bad("is no node id")
	}
	return nil
}

// cutIdentifier splits at the first ";s=", ";i=", ";g=" or ";b=".
func cutIdentifier(text string) (uri, identifier string, ok bool) {
	for i := 0; i+2 < len(text); i++ {
		if text[i] == ';' && text[i+2] == '=' && strings.IndexByte("sigb", text[i+1]) >= 0 {
			return text[:i], text[i+1:], true
		}
	}
	return "", "", false
}

// in returns the node id with that namespace.
func (n NodeID) in(index uint16) (*ua.NodeID, error) {
	return ua.ParseNodeID(fmt.Sprintf("ns=%d;%s", index, n.identifier))
}

// String returns the text form.
func (n NodeID) String() string {
	switch {
	case n.URI != "":
		return "nsu=" + strings.NewReplacer("%", "%25", ";", "%3B").Replace(n.URI) + ";" + n.identifier
	case n.Index != 0:
		return fmt.Sprintf("ns=%d;%s", n.Index, n.identifier)
	default:
		return n.identifier
	}
}
