package modbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/goburrow/serial"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/card"
	"github.com/sluice-edge/sluice/internal/kind"
)

// LineKind is an entry of "lines:", a wire that several devices share.
var LineKind = kind.NewKind("modbus", lineDefaults, planLine)

// LineOptions are a line as a config describes it: a serial port, or a socket to
// what has one.
type LineOptions struct {
	// Port is a serial port of this computer, Endpoint host:port instead of it.
	Port     string   `yaml:"port"`
	Endpoint Endpoint `yaml:"endpoint"`
	// Framing is how requests lie on the socket: "rtu" (the default; a device
	// server that passes bytes on) or "tcp" (a gateway that translates).
	Framing string `yaml:"framing"`
	// Baud, Parity and StopBits are those of the port; a character has 8 bits.
	Baud     int    `yaml:"baud"`
	Parity   string `yaml:"parity"`
	StopBits int    `yaml:"stop_bits"`
	RS485    *RS485 `yaml:"rs485"`
	// Pause comes before each request, Turnaround before one to another unit than
	// the last.
	Pause      config.Duration `yaml:"pause"`
	Turnaround config.Duration `yaml:"turnaround"`
	// Bind is the network card that the socket goes over.
	Bind card.Bind `yaml:"bind"`
}

// RS485 is how the kernel switches the sender of a two-wire line on and off
// (Linux, TIOCSRS485). Adaptors that switch by themselves need none of it.
type RS485 struct {
	// SendHigh and RestHigh are the level of RTS while sending and else.
	SendHigh bool `yaml:"send_high"`
	RestHigh bool `yaml:"rest_high"`
	// Before and After are how long the sender is on around what is sent.
	Before config.Duration `yaml:"before"`
	After  config.Duration `yaml:"after"`
	// Hear keeps the receiver on while sending.
	Hear bool `yaml:"hear"`
}

func lineDefaults() LineOptions {
	return LineOptions{Baud: 19200, Parity: "even", StopBits: 1, Framing: ""}
}

// parities are the words for the library's letters.
var parities = map[string]string{"none": "N", "even": "E", "odd": "O"}

// bauds are the speeds that every system can.
var bauds = []int{300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400}

const (
	// characterBits is a character without its stop bits: start, 8 bits, parity.
	startAndData = 9
	// longestRest bounds pause and turnaround.
	longestRest = config.Duration(10 * time.Second)
	// fastSilence is the silence between frames above 19200 baud, whose 3.5
	// characters would be shorter (MODBUS over Serial Line V1.02, 2.5.1.1).
	fastSilence = 1750 * time.Microsecond
	fastBaud    = 19200
)

// Validate reports everything that is wrong with the line.
func (o *LineOptions) Validate() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	d := lineDefaults()
	switch {
	case o.Port == "" && o.Endpoint == "":
		fault("", "the line has neither a port nor an endpoint", "write port: /dev/ttyUSB0 for a serial port, or endpoint: 10.0.0.9:4001 for a device server")
	case o.Port != "" && o.Endpoint != "":
		fault("endpoint", "the line has a port and an endpoint", "remove one of the two")
	case o.Port == "" && (o.Baud != d.Baud || o.Parity != d.Parity || o.StopBits != d.StopBits || o.RS485 != nil):
		fault("endpoint", "baud, parity, stop_bits and rs485 are those of a port on this computer", "set them at the device server, and remove them here")
	case o.Port != "" && o.Framing != "":
		fault("framing", "a serial port speaks RTU", "remove it")
	case o.Port != "" && o.Bind != "":
		fault("bind", "a serial port is on no network", "remove it")
	}
	if o.Framing != "" && o.Framing != "rtu" && o.Framing != "tcp" {
		errs = append(errs, config.Unknown("framing", "framing", o.Framing, []string{"rtu", "tcp"}))
	}
	if !slices.Contains(bauds, o.Baud) {
		fault("baud", fmt.Sprintf("%d baud is no usual speed", o.Baud), "write what all devices of the line are set to, for example 9600 or 19200")
	}
	if _, ok := parities[o.Parity]; !ok {
		errs = append(errs, config.Unknown("parity", "parity", o.Parity, slices.Sorted(maps.Keys(parities))))
	}
	if o.StopBits != 1 && o.StopBits != 2 {
		fault("stop_bits", fmt.Sprintf("%d stop bits are not possible", o.StopBits), "write 1 or 2")
	}
	for _, rest := range []struct {
		path string
		d    config.Duration
	}{{"pause", o.Pause}, {"turnaround", o.Turnaround}} {
		if rest.d > longestRest {
			fault(rest.path, fmt.Sprintf("%v before each request is too long", rest.d.Std()), "write at most 10s; 20ms is usual where one is needed at all")
		}
	}
	return errors.Join(append(errs, o.RS485.check())...)
}

func (r *RS485) check() error {
	switch {
	case r == nil:
		return nil
	case runtime.GOOS != "linux":
		return config.Field("rs485", "the system's driver cannot switch the sender here", "use an adaptor that switches by itself, and remove it")
	case r.SendHigh == r.RestHigh:
		return config.Field("rs485", "RTS is the same while sending and else, so it switches nothing", "write send_high: true where RTS switches the sender on, rest_high: true where it is the other way round")
	case r.Before > config.Duration(time.Second) || r.After > config.Duration(time.Second) || r.Before%config.Duration(time.Millisecond) != 0 || r.After%config.Duration(time.Millisecond) != 0:
		return config.Field("rs485", "before and after are whole milliseconds up to 1s", "write 0ms to 1s, as the adaptor's manual says")
	default:
		return nil
	}
}

// rtu reports whether frames have no transaction ids.
func (o *LineOptions) rtu() bool { return o.Framing != "tcp" }

func (o *LineOptions) place() string {
	switch {
	case o.Port != "":
		return o.Port
	case o.rtu():
		return "rtu://" + string(o.Endpoint)
	default:
		return "tcp://" + string(o.Endpoint)
	}
}

// character is how long one character takes on the port's wire.
func (o *LineOptions) character() time.Duration {
	if o.Port == "" {
		return 0
	}
	bits := startAndData + o.StopBits
	if o.Parity != "none" {
		bits++
	}
	return time.Duration(bits) * time.Second / time.Duration(o.Baud)
}

// silence is what parts two frames: 3.5 characters.
func (o *LineOptions) silence() time.Duration {
	silence := fastSilence
	if o.Port != "" && o.Baud <= fastBaud {
		silence = o.character() * 7 / 2
	}
	return silence
}

func planLine(name string, o LineOptions) (drivers.LinePlan, error) {
	return drivers.LinePlan{
		Endpoint: o.place(),
		Open:     func(log *zap.Logger) drivers.Line { return newLine(name, o, log) },
		RTU:      o.rtu(), Exclusive: o.Port != "",
	}, nil
}

func newLine(name string, o LineOptions, log *zap.Logger) *line {
	l := &line{
		name: name, endpoint: o.place(), log: log, frames: newMBAP,
		char: o.character(), silence: o.Pause.Std(), turnaround: o.Turnaround.Std(),
		probing: make(chan struct{}, 1), rtu: o.rtu(), restless: true,
	}
	if o.rtu() {
		l.frames, l.silence = newRTU, max(o.silence(), l.silence)
	}
	l.dial = func(ctx context.Context) (wire, error) {
		if o.Port != "" {
			return openSerial(ctx, o.serial())
		}
		conn, err := o.Bind.Dial(ctx, "tcp", string(o.Endpoint))
		if err != nil {
			return nil, bare(err)
		}
		return conn, nil
	}
	return l
}

func (o *LineOptions) serial() serial.Config {
	c := serial.Config{
		Address: strings.TrimSpace(o.Port), BaudRate: o.Baud, DataBits: 8, StopBits: o.StopBits, Parity: parities[o.Parity],
		Timeout: max(serialSlice, o.silence()),
	}
	if r := o.RS485; r != nil {
		c.RS485 = serial.RS485Config{
			Enabled: true, RtsHighDuringSend: r.SendHigh, RtsHighAfterSend: r.RestHigh,
			DelayRtsBeforeSend: r.Before.Std(), DelayRtsAfterSend: r.After.Std(), RxDuringTx: r.Hear,
		}
	}
	return c
}

// dialer connects to a device with a socket of its own.
func dialer(o Options) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return o.Bind.Dial(ctx, "tcp", string(o.Endpoint)) }
}
