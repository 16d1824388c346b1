package line

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
)

// device is a text-speaking device on a TCP port: it answers each question with
// its line or, if streaming, sends it by itself all the time.
type device struct {
	*faultnet.Server
	stream time.Duration

	mu    sync.Mutex
	tags  map[plant.TagID]string
	asked []string
}

var _ driverstest.Server = (*device)(nil)

func (s *device) Set(tag plant.TagID, v plant.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags[tag] = v.Text()
}

func (s *device) line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("ID %s|%s|%s|%s|%s|end\r\n", s.tags["code"], s.tags["made"], s.tags["weight"], s.tags["run"], "n/a")
}

func (s *device) serve(c net.Conn) {
	defer c.Close()
	if s.stream > 0 {
		go func() {
			for {
				if _, err := c.Write([]byte(s.line())); err != nil {
					return
				}
				time.Sleep(s.stream) // the device's own rhythm
			}
		}()
	}
	for in := bufio.NewScanner(c); in.Scan(); {
		s.mu.Lock()
		s.asked = append(s.asked, in.Text())
		s.mu.Unlock()
		if s.stream == 0 {
			if _, err := c.Write([]byte(s.line())); err != nil {
				return
			}
		}
	}
}

func startDevice(t *testing.T, stream time.Duration) *device {
	t.Helper()
	s := &device{stream: stream, tags: map[plant.TagID]string{
		"code": "0012345", "made": "4711", "weight": "-12.50", "run": "RUN",
	}}
	s.Server = faultnet.NewServer(s.serve)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// planOf checks a device's config.
func planOf(t *testing.T, text string) drivers.Plan {
	t.Helper()
	section, _ := config.ParseSection(string(driverstest.Device), "test.yaml", text)
	p, faults := Kind.Check(section)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return p
}

func opened(t *testing.T, text string, records ...plant.Record) drivers.Driver {
	t.Helper()
	d := planOf(t, text).Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Records: records})
	t.Cleanup(func() { d.Close() })
	return d
}

const talker = `
driver: line
endpoint: ADDR
timeout: 1s
pattern: 'ID (?P<code>\w+)\|(?P<made>\d+)\|(?P<weight>[-+ .0-9]+)\|(?P<run>\w+)\|(?P<junk>.*)\|end'
HOW
tags:
  code: code
  made: {field: made, type: uint32}
  weight: {field: weight, type: number, unit: kg}
  run: {field: run, is: [RUN, GO]}
  junk: {field: junk, type: int16}
`

func subject(how string, stream time.Duration) driverstest.Subject {
	open := func(t *testing.T, addr string, extra string, records ...plant.Record) drivers.Driver {
		return opened(t, strings.NewReplacer("ADDR", addr, "HOW", how).Replace(talker)+extra, records...)
	}
	order := plant.Record{
		ID: "PRESS-01/order", Device: driverstest.Device, Trigger: "code", On: plant.OnChange, Optional: true,
		Fields: []plant.TagID{"code", "weight"},
	}
	s := driverstest.Subject{
		Start:       func(t *testing.T) driverstest.Server { return startDevice(t, stream) },
		Open:        func(t *testing.T, addr string) drivers.Driver { return open(t, addr, "") },
		Subscribing: stream > 0,
		Timeout:     time.Second,
		Values: map[plant.TagID]plant.Value{
			"code": plant.TextValue("0012345"), "made": plant.UintValue(4711), "run": plant.BoolValue(true),
			"weight": plant.ExactValue(plant.Decimal{Unscaled: -1250, Scale: 2}),
		},
		Bad: "junk", Changing: "made", NewValue: plant.UintValue(4712),
		Order: order, Changed: plant.TextValue("77B"),
		OpenOrder: func(t *testing.T, addr string) drivers.Driver { return open(t, addr, "", order) },
	}
	if stream == 0 {
		s.Open = func(t *testing.T, addr string) drivers.Driver { return open(t, addr, "  kept: taken\n") }
		s.Values["kept"] = plant.UintValue(0)
		s.Writable, s.NewWritten, s.ReadOnly = "kept", plant.UintValue(7), "made"
	}
	return s
}

func TestConformance(t *testing.T) {
	driverstest.Run(t, subject(`poll: 'M'`, 0))
}

func TestConformanceOfAStream(t *testing.T) {
	driverstest.Run(t, subject(`silent_after: 2s`, 20*time.Millisecond))
}

// A device that is polled gets the question with its end, and what it is asked
// once.
func TestQuestions(t *testing.T) {
	s := startDevice(t, 0)
	defer s.Stop()
	d := opened(t, strings.NewReplacer("ADDR", s.Addr(), "HOW", "poll: 'M'\non_connect: 'H\\x41LLO'").Replace(talker))
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	// The answer to HALLO comes, before or behind the question; neither matters.
	for range 3 {
		if _, err := d.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) < 3 || s.asked[0] != "HALLO" || slices.ContainsFunc(s.asked[1:], func(q string) bool { return q != "M" }) {
		t.Errorf("asked %q", s.asked)
	}
}
