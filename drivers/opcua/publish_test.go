package opcua

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// Answers to several requests come in any order, and are handed over in the
// server's. Each is acknowledged once, none twice, and a lost one is noticed.
func TestMessagesArePutInOrder(t *testing.T) {
	const top = math.MaxUint32
	for _, c := range []struct {
		name string
		come []uint32 // 0: a keep-alive
		want []uint32
		left int
		err  bool
	}{
		{"in order", []uint32{1, 2, 3}, []uint32{1, 2, 3}, 0, false},
		{"reversed", []uint32{1, 4, 3, 2, 5}, []uint32{1, 2, 3, 4, 5}, 0, false},
		{"begins anywhere", []uint32{7, 9, 8}, []uint32{7, 8, 9}, 0, false},
		{"keep-alives between", []uint32{0, 1, 0, 3, 0, 2}, []uint32{1, 2, 3}, 0, false},
		{"around the end", []uint32{top - 1, 2, 1, top, 3}, []uint32{top - 1, top, 1, 2, 3}, 0, false},
		{"around the end, too far ahead", []uint32{top - 1, mostEarly}, nil, 0, true},
		{"one is missing", []uint32{1, 3, 4}, []uint32{1}, 2, false},
		{"far ahead, as one request is held up", []uint32{1, 5, 6, 3, 4, 2}, []uint32{1, 2, 3, 4, 5, 6}, 0, false},
		{"too far ahead", []uint32{1, mostEarly + 2}, nil, 0, true},
		{"one that was handed over", []uint32{1, 2, 1}, nil, 0, true},
		{"twice ahead", []uint32{1, 3, 3}, nil, 0, true},
	} {
		in := newInbox(9, time.Second)
		var got []uint32
		var err error
		for _, number := range c.come {
			m := message{publishAnswer: &publishAnswer{number: number}}
			if number != 0 {
				m.parts = 1
			}
			if err = in.take(m, func(m message) error { got = append(got, m.number); return nil }); err != nil {
				break
			}
		}
		if (err != nil) != c.err || !c.err && (!slices.Equal(got, c.want) || len(in.early) != c.left) {
			t.Errorf("%s: %v, %v, %d wait, want %v", c.name, got, err, len(in.early), c.want)
		}
		var acknowledged []uint32
		for _, a := range in.acknowledgements() {
			acknowledged = append(acknowledged, a.SequenceNumber)
		}
		if !slices.Equal(acknowledged, got) || len(in.acknowledgements()) != 0 {
			t.Errorf("%s: acknowledged %v of %v", c.name, acknowledged, got)
		}
	}
}

// With a round trip of three publishing intervals each interval still has its
// report: several publish requests are on their way at once.
func TestALongRoundTripDelaysReportsOnly(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	proxy, err := faultnet.New(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 100ms\nqueue: 1\ntags: {made: ns=2;s=Line.Made}\n", proxy.Addr())
	connect(t, d, 1)
	until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	proxy.Delay(100 * time.Millisecond) // each way
	unasked := s.Counts().Unasked
	done := make(chan struct{})
	go func() { // a count each 50 ms for 4 s
		defer close(done)
		for i := range uint32(80) {
			s.Set("Line.Made", 10000+i)
			time.Sleep(50 * time.Millisecond) // the rate of the machine
		}
	}()
	reports := 0
	until(t, d, "last", func(scan plant.Scan) bool {
		r, ok := find(scan, "made")
		if ok {
			reports++
		}
		return ok && r.Value == plant.UintValue(10079)
	})
	<-done
	// With one request at a time it was nearly each second interval that found none.
	unasked = s.Counts().Unasked - unasked
	t.Logf("%d reports, and %d intervals without a request", reports, unasked)
	if unasked > uint64(reports)/4 {
		t.Errorf("%d intervals found no publish request, %d found one", unasked, reports)
	}
}

// What a server refuses ends a session in plain words, and the next one works.
func TestServiceFaults(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	for _, c := range []struct {
		name    string
		service plantsim.Service
		status  ua.StatusCode
		early   bool   // it makes Connect fail
		mode    string // how tags are read
		want    string
	}{
		{"no session", plantsim.ServiceActivateSession, ua.StatusBadTooManySessions, true, "publishing", "no session left"},
		{"no subscription", plantsim.ServiceCreateSubscription, ua.StatusBadTooManySubscriptions, true, "publishing", "takes no more subscriptions (BadTooManySubscriptions"},
		{"publish requests", plantsim.ServicePublish, ua.StatusBadTooManyPublishRequests, false, "publishing", "more publish requests than the server takes (BadTooManyPublishRequests"},
		{"subscription lost", plantsim.ServicePublish, ua.StatusBadNoSubscription, false, "publishing", "BadNoSubscription"},
		{"subscription unknown", plantsim.ServicePublish, ua.StatusBadSubscriptionIDInvalid, false, "publishing", "forgotten the subscription (BadSubscriptionIdInvalid"},
		{"session lost", plantsim.ServicePublish, ua.StatusBadSessionIDInvalid, false, "publishing", "forgotten the session (BadSessionIdInvalid"},
		{"session lost, polling", plantsim.ServiceRead, ua.StatusBadSessionIDInvalid, false, "poll", "forgotten the session (BadSessionIdInvalid"},
	} {
		d := openText(t, strings.Replace(handshake, "publishing: 50ms", c.mode+": 50ms", 1), s.Addr())
		var err error
		if c.early {
			s.Refuse(c.service, uint32(c.status))
			err = d.Connect(t.Context(), 1)
		} else {
			connect(t, d, 1)
			until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
			s.Refuse(c.service, uint32(c.status))
			s.Set("Line.Made", s.Get("Line.Made").(uint32)+1) // so that a publish is asked for
			_, err = readErr(t, d)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if full := c.status == ua.StatusBadTooManySessions; errors.Is(err, drivers.ErrBusy) != full {
			t.Errorf("%s: busy is %v", c.name, !full)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		connect(t, d, 2)
		until(t, d, "again", func(s plant.Scan) bool {
			r, ok := find(s, "made")
			return ok && r.Quality == plant.Good && s.Session == 2
		})
		want := int32(publishRequests)
		if c.status == ua.StatusBadTooManyPublishRequests {
			want = 1
		}
		if got := d.(*driver).publishes.Load(); got != want {
			t.Errorf("%s: %d publish requests, want %d", c.name, got, want)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A server that forgets its subscriptions while the session lives is noticed,
// also if it answers none of the requests that wait.
func TestALostSubscriptionIsNoticed(t *testing.T) {
	for _, silently := range []bool{false, true} {
		s := newPLC(t, plantsim.OPCUAOptions{})
		d := openText(t, strings.Replace(section, "timeout: 1s", "timeout: 1500ms", 1), s.Addr())
		connect(t, d, 1)
		until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
		s.LoseSubscriptions(silently)
		start := time.Now()
		_, err := readErr(t, d)
		want := "BadNoSubscription"
		if silently {
			want = "the subscription is silent"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("silently %v: %v", silently, err)
		}
		t.Logf("silently %v: noticed after %v", silently, time.Since(start).Round(time.Millisecond))
		connect(t, d, 2)
		until(t, d, "again", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	}
}

// While the library renews the key of a channel it holds locks that know no
// context: a server that freezes then must hold up nobody.
func TestFrozenWhileTheKeyIsRenewed(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	for _, c := range []struct {
		name, timeout string
		loses         bool
	}{{"close", "20s", false}, {"noticed", "3s", true}} {
		proxy, err := faultnet.New(s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = proxy.Close() })
		d := openText(t, strings.Replace(section, "timeout: 1s", "timeout: "+c.timeout, 1), proxy.Addr())
		d.(*driver).lifetime = 2 * time.Second // it is renewed after one second, the library counts whole ones
		connect(t, d, 1)
		opened := time.Now()
		until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
		time.Sleep(time.Until(opened.Add(900 * time.Millisecond))) // just before the renewal
		proxy.Stall()
		if c.loses {
			_, err := readErr(t, d)
			if took := time.Since(opened); err == nil || took > 15*time.Second {
				t.Errorf("noticed after %v: %v", took, err)
			}
		}
		time.Sleep(time.Until(opened.Add(1500 * time.Millisecond))) // the renewal hangs
		start := time.Now()
		if err := within(t, d); err != nil {
			t.Error(err)
		}
		t.Logf("%s: closed within %v", c.name, time.Since(start).Round(time.Millisecond))
		if took := time.Since(start); took > farewell+5*time.Second {
			t.Errorf("%s: Close took %v", c.name, took)
		}
	}
}

func within(t *testing.T, d drivers.Driver) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- d.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("Close did not return")
		return nil
	}
}

// A key that is renewed in time is noticed by nobody. With a foreign server,
// since the renewal of the library's own server has data races.
func TestForeignKeyIsRenewed(t *testing.T) {
	f := newForeign(t)
	d := openText(t, foreignText(""), f.addr())
	d.(*driver).lifetime = 2 * time.Second
	connect(t, d, 1)
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		until(t, d, "value", func(s plant.Scan) bool {
			r, ok := find(s, "v0")
			return ok && r.Quality == plant.Good && s.Session == 1
		})
	}
}

// What the server reports under a number that no tag has is taken for none, and
// the page says so, once a session.
func TestValuesUnderUnknownNumbers(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	d := checkPlan(t, "driver: opcua\nendpoint: localhost\ntags: {a: ns=2;s=A, b: ns=2;s=B}\n", "").Open(drivers.Env{Name: "dut", Log: zap.New(core)}).(*driver)
	s := &session{d: d}
	for i, p := range d.points {
		s.items = append(s.items, &item{point: p, handle: uint32(i + 1)})
	}
	at := func(handle, value uint32) sample {
		return sampleOf(handle, &ua.DataValue{Value: ua.MustVariant(value), EncodingMask: ua.DataValueValue})
	}
	for range 3 {
		scans := s.changed(t.Context(), publish{changes: []sample{at(0, 10), at(3, 11), at(2, 12), at(math.MaxUint32, 13)}})
		if len(scans) != 1 || len(scans[0].Readings) != 1 || scans[0].Readings[0].Tag != "b" || scans[0].Readings[0].Value != plant.UintValue(12) {
			t.Fatalf("%+v", scans)
		}
	}
	if said := strings.Join(d.Advice(), "\n"); strings.Count(said, "under a number that no tag has (client handle 0)") != 1 || logs.Len() != 1 {
		t.Errorf("%s\n%v", said, logs.All())
	}
}
