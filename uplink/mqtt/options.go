package mqtt

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/card"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Options is what a config says of an mqtt uplink.
type Options struct {
	// URL is the broker: tcp:// or mqtt:// (port 1883), tls://, mqtts:// or
	// ssl:// (port 8883).
	URL string `yaml:"url,required"`
	// Fallback are further brokers, in the order in which they are tried when the
	// ones before cannot be had; FailBack is how soon those are tried again.
	Fallback []string        `yaml:"fallback"`
	FailBack config.Duration `yaml:"fail_back"`
	// ClientID is the MQTT client identifier; empty means
	// sluice-<gateway>-<uplink>.
	ClientID string        `yaml:"client_id"`
	User     string        `yaml:"user"`
	Password config.Secret `yaml:"password"`
	// CA is a PEM file of the authorities to trust instead of the system's; Cert
	// and Key are the client's certificate.
	CA   config.Path `yaml:"ca"`
	Cert config.Path `yaml:"cert"`
	Key  config.Path `yaml:"key"`
	// ServerName is the name that the broker's certificate must carry; empty
	// means the URL's host.
	ServerName string `yaml:"server_name"`
	// Topic and StatusTopic are templates; see checkTemplate.
	Topic       string `yaml:"topic"`
	StatusTopic string `yaml:"status_topic"`
	// CursorTopic is a template of the topic at which a receiver keeps, retained,
	// which event of {machine} it had last; empty means that it is not asked.
	CursorTopic string `yaml:"cursor_topic"`
	// StateTopic is a template of the topic at which the broker keeps, retained, what
	// {machine} is doing; empty for nothing.
	StateTopic string `yaml:"state_topic"`
	// Lines and Cells say which machines, by code or pattern, are in which line and
	// cell, for {line} and {cell}.
	Lines map[string]uplink.Machines `yaml:"lines"`
	Cells map[string]uplink.Machines `yaml:"cells"`
	// AckTopic is a template of the topic at which the receiver acknowledges events,
	// within AckWithin; empty means that it does not. With AckWait an event counts as
	// delivered only then.
	AckTopic  string          `yaml:"ack_topic"`
	AckWithin config.Duration `yaml:"ack_within"`
	AckWait   bool            `yaml:"ack_wait"`
	// Codes are what the receiver calls our codes.
	Codes uplink.CodeTables `yaml:"codes"`
	// Window and WindowBytes bound what is in flight without a PUBACK.
	Window      int         `yaml:"window"`
	WindowBytes config.Size `yaml:"window_bytes"`
	// MaxPacket is the largest packet that the broker takes; an event that needs
	// more is refused here.
	MaxPacket      config.Size     `yaml:"max_packet"`
	KeepAlive      config.Duration `yaml:"keep_alive"`
	ConnectTimeout config.Duration `yaml:"connect_timeout"`
	AckTimeout     config.Duration `yaml:"ack_timeout"`
	// Bind is the network card that the brokers are reached over.
	Bind card.Bind `yaml:"bind"`

	uplink.Options `yaml:",inline"`
}

func defaults() Options {
	return Options{
		Topic:          "sluice/{enterprise}/{site}/{area}/{machine}/{kind}",
		StatusTopic:    "sluice/{enterprise}/{site}/{area}/" + string(plant.GatewayStream) + "/{gateway}/status",
		FailBack:       config.Duration(time.Minute),
		AckWithin:      config.Duration(30 * time.Second),
		Window:         20,
		WindowBytes:    1 << 20,
		MaxPacket:      256 << 10,
		KeepAlive:      config.Duration(10 * time.Second),
		ConnectTimeout: config.Duration(5 * time.Second),
		AckTimeout:     config.Duration(10 * time.Second),
		Options:        uplink.DefaultOptions(),
	}
}

// Validate returns the faults of o as config.FieldErrors, nil if there are none.
func (o Options) Validate() error {
	o.NeedsTime(o.least())
	topic := checkTemplate("topic", o.Topic, eventPlaceholders)
	errs := []error{
		o.Options.Validate(), // an inline struct is not visited by the decoder
		topic,
		checkTemplate("status_topic", o.StatusTopic, statusPlaceholders),
		o.validateCursor(),
		o.validateTimes(),
		o.validateAcks(),
		o.validateState(),
		o.Codes.CheckCloudEvents(),
	}
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	endpoint, err := parseURL("url", o.URL)
	if err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, o.validateSecurity(endpoint), endpoint.doubtfulPort())
	}
	errs = append(errs, o.validateFallback())
	if strings.ContainsFunc(o.ClientID, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(o.ClientID) > 256 {
		bad("client_id", "it holds a control character or is longer than 256 bytes", "leave it out for sluice-<gateway>-<uplink>")
	}
	if topic == nil && !strings.Contains(o.Topic, "{machine}") { // else {mashine} would be named twice
		errs = append(errs, config.Warn("topic", "it does not name the {machine}, so all machines share a topic", "put {machine} into it"))
	}
	if o.Window < 1 || o.Window > 100 {
		bad("window", "it must be from 1 to 100", "leave it out for 20")
	}
	if o.WindowBytes < 1<<10 || o.WindowBytes > 64<<20 {
		bad("window_bytes", "it must be from 1 KiB to 64 MiB", "leave it out for 1 MiB")
	}
	// An MQTT packet ends at 256 MiB (MQTT 3.1.1 section 2.2.3).
	if o.MaxPacket < 1<<10 || o.MaxPacket > 256<<20 {
		bad("max_packet", "it must be from 1 KiB to 256 MiB", "leave it out for 256 KiB")
	}
	return errors.Join(errs...)
}

// validateFallback checks the further brokers, which share certificates and user.
func (o Options) validateFallback() error {
	var errs []error
	if o.FailBack < config.Duration(time.Second) || o.FailBack > config.Duration(10*time.Minute) {
		errs = append(errs, config.Field("fail_back", "it must be from 1s to 10m", "leave it out for 1m"))
	}
	if len(o.Fallback) > maxFallback {
		errs = append(errs, config.Field("fallback", fmt.Sprintf("there are more than %d", maxFallback), "name fewer brokers"))
	}
	seen := []string{}
	if first, err := parseURL("url", o.URL); err == nil {
		seen = append(seen, first.address)
	}
	for i, text := range o.Fallback {
		path := fmt.Sprintf("fallback[%d]", i)
		e, err := parseURL(path, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if slices.Contains(seen, e.address) {
			errs = append(errs, config.Field(path, "that broker is named already", "name each broker once"))
		}
		seen = append(seen, e.address)
		if !e.secure && !e.loopback() && !o.Password.IsZero() {
			errs = append(errs, config.Warn(path, "the password goes over the network in clear text", "use tls://"))
		}
	}
	return errors.Join(errs...)
}

// maxFallback bounds the further brokers.
const maxFallback = 4

// validateState checks state_topic and the levels of the machines.
func (o Options) validateState() error {
	var errs []error
	if o.StateTopic != "" {
		if err := checkTemplate("state_topic", o.StateTopic, cursorPlaceholders); err != nil {
			errs = append(errs, err)
		} else if !strings.Contains(o.StateTopic, "{"+inMachine+"}") {
			errs = append(errs, config.Field("state_topic", "it does not say where the machine's code goes", "write {machine} there, for example sluice/{site}/{machine}/state"))
		}
		if o.StateTopic == o.Topic || o.StateTopic == o.CursorTopic {
			errs = append(errs, config.Field("state_topic", "another topic of this uplink is the same", "give states a topic of their own"))
		}
	}
	for _, level := range []struct {
		path  string
		names map[string]uplink.Machines
	}{{inLine, o.Lines}, {inCell, o.Cells}} {
		used := strings.Contains(o.Topic+o.StateTopic+o.CursorTopic, "{"+level.path+"}")
		if len(level.names) > 0 && !used {
			errs = append(errs, config.Warn(level.path+"s", "no topic names the {"+level.path+"}", "write {"+level.path+"} into topic, or leave this out"))
		}
		if len(level.names) == 0 && used {
			errs = append(errs, config.Field(level.path+"s", "a topic names the {"+level.path+"}, and nothing says which machine is in which", "write for example "+level.path+"s: {"+strings.ToUpper(level.path[:1])+"1: [PRESS-*]}"))
		}
	}
	return errors.Join(errs...)
}

func (o Options) validateTimes() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if o.KeepAlive < config.Duration(time.Second) || o.KeepAlive > config.Duration(5*time.Minute) || o.KeepAlive%config.Duration(time.Second) != 0 {
		bad("keep_alive", "it must be a whole number of seconds, from 1s to 5m", "leave it out for 10s")
	}
	if o.ConnectTimeout < config.Duration(100*time.Millisecond) || o.ConnectTimeout > config.Duration(time.Minute) {
		bad("connect_timeout", "it must be from 100ms to 1m", "leave it out for 5s")
	}
	if o.AckTimeout < config.Duration(100*time.Millisecond) || o.AckTimeout > config.Duration(5*time.Minute) {
		bad("ack_timeout", "it must be from 100ms to 5m", "leave it out for 10s")
	}
	if least := o.least(); o.SendTimeout < least {
		sum := "connect_timeout"
		if len(o.Fallback) > 0 {
			sum += fmt.Sprintf(" for each of %d brokers", 1+len(o.Fallback))
		}
		if sum += " + 2 × ack_timeout"; o.AckWait {
			sum += " + ack_within"
		}
		bad("send_timeout", fmt.Sprintf("it is %v, and one call may take %v (%s)", o.SendTimeout, least, sum), fmt.Sprintf("leave it out, or write %v", least))
	}
	return errors.Join(errs...)
}

// least is what one Send needs: to try each broker, for two acknowledgements of the
// broker, and for the receiver's if that is waited for.
func (o Options) least() config.Duration {
	least := o.ConnectTimeout*config.Duration(1+len(o.Fallback)) + 2*o.AckTimeout
	if o.AckWait {
		least += o.AckWithin
	}
	return least
}

// owns returns what only one client of the broker at that address may have.
func (o Options) owns(address string) (all []uplink.Own) {
	add := func(key, value, harm, remedy string) {
		if value != "" {
			all = append(all, uplink.Own{Key: key, Thing: address + " " + value, Harm: harm, Remedy: remedy})
		}
	}
	add("client_id", o.ClientID, "the broker throws one of the two out for the other", "leave client_id out, or give each its own")
	add("status_topic", o.StatusTopic, "when one of the two ends, the topic says that the gateway is offline though the other is not", "write a status_topic of its own for one of the two")
	add("state_topic", o.StateTopic, "each of the two keeps its own state there", "leave state_topic out of one of the two")
	return all
}

// endpoint is a checked URL.
type endpoint struct {
	scheme, host, address string
	secure                bool
}

// String returns the URL for people.
func (e endpoint) String() string { return e.scheme + "://" + e.address }

// loopback reports whether nothing leaves this computer.
func (e endpoint) loopback() bool {
	ip := net.ParseIP(e.host)
	return e.host == "localhost" || (ip != nil && ip.IsLoopback())
}

// doubtfulPort warns of the registered port of MQTT with TLS, and of that
// without (IANA: 8883 secure-mqtt, 1883 mqtt).
func (e endpoint) doubtfulPort() error {
	_, port, _ := net.SplitHostPort(e.address)
	switch {
	case e.secure && port == "1883":
		return config.Warn("url", "port 1883 is where brokers speak without TLS", "write port 8883, or tcp:// if the broker has no TLS")
	case !e.secure && port == "8883":
		return config.Warn("url", "port 8883 is where brokers speak TLS", "write tls://, or port 1883")
	default:
		return nil
	}
}

// parseURL reads a broker's URL; its error is a config.FieldError and never
// holds a password.
func parseURL(path, text string) (endpoint, error) {
	bad := func(problem, remedy string) (endpoint, error) {
		return endpoint{}, config.Field(path, problem, remedy)
	}
	const remedy = "write it like tls://broker.example:8883 or tcp://127.0.0.1:1883"
	u, err := url.Parse(text)
	if err != nil {
		return bad("it is no URL", remedy)
	}
	e := endpoint{scheme: strings.ToLower(u.Scheme), host: u.Hostname()}
	port := "1883"
	switch e.scheme {
	case "tcp", "mqtt":
	case "tls", "mqtts", "ssl":
		e.secure, port = true, "8883"
	case "ws", "wss":
		return bad("MQTT over WebSocket is not supported", "use the broker's TCP or TLS listener")
	default:
		return bad("it does not begin with tcp://, mqtt://, tls://, mqtts:// or ssl://", remedy)
	}
	if u.User != nil {
		return bad("it holds a user or password, which would be shown and logged", "use user: and password: (env:NAME or file:PATH)")
	}
	if problem := config.HostProblem(e.host); problem != "" {
		return bad("it "+problem, remedy)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return bad("there is something behind host and port", remedy)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("the port is not from 1 to 65535", remedy)
	}
	e.address = net.JoinHostPort(e.host, port)
	return e, nil
}
