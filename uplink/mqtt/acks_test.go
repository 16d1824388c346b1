package mqtt

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

func TestParseAck(t *testing.T) {
	id := plant.EventID{Gateway: "gw", Machine: "M", Epoch: 7, Sequence: 5}.String()
	other := plant.EventID{Gateway: "gw", Machine: "N", Epoch: 7, Sequence: 9}.String()
	for text, want := range map[string]string{
		`{"id":"` + id + `"}`: "M 5-5",
		`{"id":"` + id + `","source":"/a/b","data":{"good":1}}`: "M 5-5",
		`{"ids":["` + id + `","` + other + `"]}`:                "M 5-5 N 9-9",
		`["` + id + `", "` + other + `"]`:                       "M 5-5 N 9-9",
		`[{"id":"` + id + `"},{"machine":"N","up_to":12}]`:      "M 5-5 N 1-12",
		" " + id + "\r\n" + other + "\n":                        "M 5-5 N 9-9",
		`{"machine":"M","up_to":3}`:                             "M 1-3",
		`{"up_to":3}`:                                           "error",
		`{}`:                                                    "error",
		`[]`:                                                    "error",
		``:                                                      "error",
		`{"id":5}`:                                              "error",
		`{"id":"gw/M"}`:                                         "error",
		`hello`:                                                 "error",
		`{"id":"` + id + `"`:                                    "error",
		`[{"id":"` + id + `"},{"id":"nothing"}]`:                "error",
		"\x00\xff":                                              "error",
		`{"machine":"M","up_to":-1}`:                            "error",
		`{"machine":"M","up_to":99999999999999999999999999999999}`: "error",
	} {
		all, err := parseAck([]byte(text))
		var got []string
		for _, a := range all {
			got = append(got, fmt.Sprintf("%s %d-%d", a.machine, uint64(a.first), uint64(a.last)))
		}
		if err != nil {
			got = []string{"error"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v, want %s", text, got, err, want)
		}
	}
	if _, err := parseAck(nil); err == nil {
		t.Error("one that is too large is read")
	}
}

// What is open is what was published and not acknowledged, in whatever order,
// pieces and repetitions the acknowledgements come.
func TestWhatIsOpen(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		a := newAcks(time.Minute, zap.NewNop())
		open := map[plant.Sequence]bool{}
		next, accepted := plant.Sequence(1), uint64(0)
		for range 100 {
			if r.IntN(3) > 0 {
				var events []plant.Event
				for range 1 + r.IntN(5) {
					next += plant.Sequence(1 + r.IntN(2)*r.IntN(3)) // some numbers are not for this uplink
					events = append(events, plant.Event{Machine: "M", Sequence: next})
				}
				there := r.IntN(len(events) + 1)
				a.onTheirWay("M", events)
				a.notThere("M", events[there:])
				for _, e := range events[:there] {
					open[e.Sequence] = true
				}
				continue
			}
			s := plant.Sequence(1 + r.Uint64N(uint64(next)))
			text, first := fmt.Sprintf(`{"machine":"M","up_to":%d}`, uint64(s)), plant.Sequence(1)
			if r.IntN(2) == 0 {
				text, first = plant.EventID{Gateway: "gw", Machine: "M", Epoch: 1, Sequence: s}.String(), s
			}
			a.heard([]byte(text))
			for n := first; n <= s; n++ {
				if open[n] {
					accepted++
				}
				delete(open, n)
			}
		}
		var s uplink.Stats
		a.fill(&s)
		if s.Unaccepted != len(open) || s.Accepted != accepted || s.BadAcks != 0 {
			t.Fatalf("seed %d: %d open and %d accepted, want %d and %d", seed, s.Unaccepted, s.Accepted, len(open), accepted)
		}
	}
}

// A MES that never acknowledges costs no memory without bound.
func TestOpenRangesAreBounded(t *testing.T) {
	a := newAcks(time.Minute, zap.NewNop())
	for n := range plant.Sequence(10 * maxOpen) {
		a.onTheirWay("M", []plant.Event{{Machine: "M", Sequence: 1 + 2*n}})
	}
	if n := len(a.open["M"]); n != maxOpen {
		t.Errorf("%d ranges are kept", n)
	}
	a.heard(fmt.Appendf(nil, `{"machine":"M","up_to":%d}`, 20*maxOpen))
	if len(a.open) != 0 {
		t.Errorf("%d ranges are left", len(a.open["M"]))
	}
}

// What takes too long, cannot be read or cannot be heard is told.
func TestAcksAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAcks(30*time.Second, zap.NewNop())
		told := func() string {
			var s uplink.Stats
			a.fill(&s)
			var all []string
			for _, n := range s.Notices {
				if n.Do == "" || n.Since.IsZero() {
					t.Errorf("%+v says not what to do, or since when", n)
				}
				all = append(all, n.Text)
			}
			return strings.Join(all, "; ")
		}
		events := []plant.Event{{Machine: "M", Sequence: 1}, {Machine: "M", Sequence: 2}}
		a.onTheirWay("M", events)
		if got := told(); got != "" {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(20 * time.Second)
		a.onTheirWay("M", events) // sent again, and no younger by that
		time.Sleep(11 * time.Second)
		if got := told(); !strings.Contains(got, "has not acknowledged, 2 of them") {
			t.Errorf("after 31 s: %s", got)
		}
		a.heard([]byte("rubbish"))
		if got := told(); !strings.Contains(got, "cannot be read") {
			t.Errorf("rubbish: %s", got)
		}
		a.heard([]byte(`{"machine":"M","up_to":2}`))
		a.listening(fmt.Errorf("not allowed"))
		if got := told(); got != "the receiver's acknowledgements cannot be heard: not allowed" {
			t.Errorf("got %s", got)
		}
		a.listening(nil)
		if got := told(); got != "" {
			t.Errorf("in the end: %s", got)
		}
	})
}

// A MES behind the broker acknowledges what it has stored: the page tells it from
// what the broker has, and with ack_wait only that is delivered.
func TestTheReceiverAcknowledges(t *testing.T) {
	for name, newReceiver := range map[string]func(testing.TB) uplinktest.Receiver{
		"embedded":  func(t testing.TB) uplinktest.Receiver { return newEmbedded(t) },
		"mosquitto": func(t testing.TB) uplinktest.Receiver { return newMosquitto(t) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newReceiver(t)
			o := testOptions(b.Addr())
			o.AckTopic, o.AckWithin, o.AckWait, o.SendTimeout = "mes/{site}/ack", config.Duration(time.Second), true, config.Duration(time.Minute)
			o.KeepAlive = config.Duration(10 * time.Second) // nothing is sent while the receiver is waited for
			s := openWith(t, o)
			defer s.Close()
			mes := connect(t, b.Addr(), "mes")
			defer mes.Disconnect(100)
			answer := make(chan string, 10)
			subscribe(t, mes, "ev/#", func(payload []byte) {
				select {
				case text := <-answer:
					mes.Publish("mes/lisbon/ack", 1, false, text) // what comes of it is seen at the sender
				default: // it has stored nothing
				}
			})
			events := uplinktest.Events("M", 1, 3)
			answer <- `{"id":"` + events[0].ID().String() + `"}`
			r := s.Send(t.Context(), "M", events)
			if len(r) != 2 || r[0].Status != plant.Delivered || r[0].Last != 1 || r[1].Status != plant.Retry || r[1].First != 2 || !strings.Contains(r[1].Cause.Error(), "has not acknowledged") {
				t.Fatalf("one of three is acknowledged: %+v", r)
			}
			var stats uplink.Stats
			s.(uplink.Informer).Inform(&stats)
			if stats.Accepted != 1 || stats.Unaccepted != 2 {
				t.Errorf("%d accepted, %d not", stats.Accepted, stats.Unaccepted)
			}
			answer <- `{"machine":"M","up_to":3}`
			if r := s.Send(t.Context(), "M", events[1:]); len(r) != 1 || r[0].Status != plant.Delivered || r[0].Last != 3 {
				t.Errorf("acknowledged up to the last: %+v", r)
			}
			// The one who counts hears of them by itself, maybe later than the sender
			// of the acknowledgement.
			arrived := func() int { return len(b.(interface{ Arrivals() []uplinktest.Arrival }).Arrivals()) }
			for deadline := time.Now().Add(20 * time.Second); arrived() < 5 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			}
			if n := arrived(); n != 5 {
				t.Errorf("%d arrivals, want 3 and 2 again", n)
			}
		})
	}
}
