package driverstest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
)

// This file is a whole driver, as small as one can be, that passes the suite. It
// is the example of docs/adding-a-driver.md, which shows parts of it word for
// word, and shows that the suite asks nothing that only Modbus has. The devices
// answer the line "17 made" with "17 4711".

// Kind is "driver: ask".
var Kind = kind.NewKind("ask", defaults, plan)

// Options are such a device as a config describes it.
type Options struct {
	Endpoint string          `yaml:"endpoint,required"`
	Interval config.Duration `yaml:"interval"`
	Timeout  config.Duration `yaml:"timeout"`
	Tags     []string        `yaml:"tags,required"`
}

func defaults() Options {
	return Options{Interval: config.Duration(time.Second), Timeout: config.Duration(time.Second)}
}

// Validate reports what is wrong; the decoder finds the lines.
func (o *Options) Validate() error {
	var errs []error
	if o.Interval <= 0 {
		errs = append(errs, config.Field("interval", "it is 0", "write the time between two polls, for example 1s"))
	}
	if o.Timeout <= 0 {
		errs = append(errs, config.Field("timeout", "it is 0", "write how long one answer may take, for example 1s"))
	}
	return errors.Join(errs...)
}

func plan(_ string, o Options) (drivers.Plan, error) {
	p := drivers.Plan{Interval: o.Interval.Std(), Timeout: o.Timeout.Std() * time.Duration(1+len(o.Tags)), Endpoint: o.Endpoint}
	for _, name := range o.Tags {
		p.Tags = append(p.Tags, plant.Tag{ID: plant.TagID(name), Type: plant.TypeUint32, Address: name})
	}
	p.Open = func(env drivers.Env) drivers.Driver { return &driver{name: env.Name, o: o} }
	return p, nil
}

type driver struct {
	name    plant.DeviceID
	o       Options
	session uint64
	conn    net.Conn // nil without a session
	answers *bufio.Reader
	asked   uint64 // goes on over reconnects, so that an old answer fits no new question
	seen    bool
}

var _ drivers.Driver = (*driver)(nil)

// Connect implements drivers.Driver.
func (d *driver) Connect(ctx context.Context, session uint64) error {
	_ = d.Close() // a session left open, which the Poller never does
	dialer := net.Dialer{Timeout: d.o.Timeout.Std()}
	conn, err := dialer.DialContext(ctx, "tcp", d.o.Endpoint)
	if err != nil {
		return fmt.Errorf("ask: connect %s: %w", d.o.Endpoint, err)
	}
	d.conn, d.answers, d.session, d.seen = conn, bufio.NewReader(conn), session, false
	return nil
}

// Read implements drivers.Driver.
func (d *driver) Read(ctx context.Context) ([]plant.Scan, error) {
	if d.conn == nil {
		return nil, fmt.Errorf("ask: read from %s: %w", d.o.Endpoint, drivers.ErrNotConnected)
	}
	scan := plant.Scan{Asked: time.Now(), Device: d.name, Session: d.session, Snapshot: !d.seen}
	for _, tag := range d.o.Tags {
		answer, err := d.ask(ctx, tag)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ask: read %s from %s: %w", tag, d.o.Endpoint, err), d.Close())
		}
		reading := plant.Reading{Tag: plant.TagID(tag)}
		if n, err := strconv.ParseUint(answer, 10, 32); err != nil {
			reading.Quality, reading.Cause = plant.Bad, "the device answers: "+answer
		} else {
			reading.Quality, reading.Value = plant.Good, plant.UintValue(n)
		}
		scan.Readings = append(scan.Readings, reading)
	}
	d.seen, scan.Received = true, time.Now()
	return []plant.Scan{scan}, nil
}

// ask returns the answer to this very question. After an error an answer may
// still be due, so the caller ends the session.
func (d *driver) ask(ctx context.Context, tag string) (string, error) {
	conn := d.conn
	if err := conn.SetDeadline(time.Now().Add(d.o.Timeout.Std())); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	d.asked++
	if _, err := fmt.Fprintf(conn, "%d %s\n", d.asked, tag); err != nil {
		return "", err
	}
	line, err := d.answers.ReadString('\n')
	if err != nil {
		return "", err
	}
	number, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
	if number != strconv.FormatUint(d.asked, 10) {
		return "", fmt.Errorf("the answer %q to question %d", line, d.asked)
	}
	return answer, nil
}

// Write implements drivers.Driver: these devices cannot be written.
func (d *driver) Write(_ context.Context, w plant.Write) error {
	return fmt.Errorf("ask: write %s: %w", w.Tag, drivers.ErrNotWritable)
}

// Close implements drivers.Driver.
func (d *driver) Close() error {
	if d.conn == nil {
		return nil
	}
	conn := d.conn
	d.conn = nil
	return conn.Close()
}

// server is a device of the protocol.
type server struct {
	*faultnet.Server
	mu   sync.Mutex
	tags map[string]string
}

var _ driverstest.Server = (*server)(nil)

func (s *server) Set(tag plant.TagID, v plant.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags[string(tag)] = v.Text()
}

func (s *server) answer(c net.Conn) {
	defer c.Close()
	for in := bufio.NewScanner(c); in.Scan(); {
		number, tag, _ := strings.Cut(in.Text(), " ")
		s.mu.Lock()
		value, ok := s.tags[tag]
		s.mu.Unlock()
		if !ok {
			value = "no such tag"
		}
		fmt.Fprintf(c, "%s %s\n", number, value)
	}
}

func TestConformance(t *testing.T) {
	driverstest.Run(t, driverstest.Subject{
		Start: func(t *testing.T) driverstest.Server {
			s := &server{tags: map[string]string{"made": "4711", "bad": "12"}}
			s.Server = faultnet.NewServer(s.answer)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			return s
		},
		Open: func(t *testing.T, addr string) drivers.Driver {
			s, _ := config.ParseSection("dut", "test.yaml", "{driver: ask, endpoint: "+addr+", timeout: 300ms, tags: [made, bad, none]}")
			p, faults := Kind.Check(s)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			return p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()})
		},
		Timeout:  300 * time.Millisecond,
		Values:   map[plant.TagID]plant.Value{"made": plant.UintValue(4711), "bad": plant.UintValue(12)},
		Bad:      "none",
		Changing: "made", NewValue: plant.UintValue(4712),
	})
}
