package prodsmart

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

func (r *rig) stop(id int, kind string) plant.Event {
	return r.event("M-1", plant.KindStartStop, fmt.Sprintf(`{"running":0,"stop_id":%d,"type":%q,"reason":"7"}`, id, kind))
}

func (r *rig) start(id int) plant.Event {
	since := at(int(r.next["M-1"])).Format(time.RFC3339)
	return r.event("M-1", plant.KindStartStop, fmt.Sprintf(`{"running":1,"stop_id":%d,"since":%q,"duration":1}`, id, since))
}

func (r *rig) explain(id int, kind string) plant.Event {
	return r.event("M-1", plant.KindReason, fmt.Sprintf(`{"stop_id":%d,"type":%q,"reason":"8"}`, id, kind))
}

// eventless is a first start, before any stop.
func (r *rig) firstStart() plant.Event {
	return r.event("M-1", plant.KindStartStop, `{"running":1}`)
}

// missedOf returns the stops that are listed as not told, "id type seconds", with a
// question mark behind those that may have been.
func (r *rig) missedOf(m plant.MachineID) string {
	var all []string
	for _, d := range r.sender.MissedStops(m) {
		length := "?"
		if !d.To.IsZero() {
			length = fmt.Sprint(d.To.Sub(d.From).Seconds())
		}
		if d.Doubtful {
			length += "?"
		}
		all = append(all, fmt.Sprintf("%d %s %s", d.StopID, d.Type, length))
	}
	return strings.Join(all, ", ")
}

const (
	jamOn     = `M-1 startstop {"type":"Jam","running":0}`
	jamOff    = `M-1 startstop {"type":"Jam","running":1}`
	waitingOn = `M-1 startstop {"type":"Waiting","running":0}`
	runOn     = `M-1 startstop {"type":"Run","running":1}`
)

func TestStartsAndStopsOneByOne(t *testing.T) {
	for _, mode := range []string{lateCurrent, lateReplay} {
		t.Run(mode, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, company(), func(o *Options) { o.LateStops = mode })
				r.deliver(r.firstStart())
				r.want(runOn)
				r.deliver(r.stop(1, "Jam"))
				r.want(jamOn)
				r.deliver(r.explain(1, "Waiting"))
				r.want(waitingOn)
				r.deliver(r.explain(1, "Waiting"))
				r.want()
				r.deliver(r.start(1))
				r.want(`M-1 startstop {"type":"Waiting","running":1}`)
				r.deliver(r.explain(1, "Jam")) // over
				r.want()
				r.strict()
				if got := r.missedOf("M-1"); got != "" {
					t.Errorf("missed: %s", got)
				}
			})
		})
	}
}

// TestStartAfterARestart: a start has its stop's type, whoever sent that.
func TestStartAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(r.stop(1, "Jam"))
		r.open()
		r.deliver(r.start(1))
		r.want(jamOff)
		r.strict()
	})
}

func TestStartType(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company(), func(o *Options) { o.StartType, o.DefaultTypes = startDefault, map[string]string{"M-1": "Waiting"} })
		r.deliver(r.stop(1, "Jam"))
		r.deliver(r.start(1))
		r.want(jamOn, `M-1 startstop {"type":"Waiting","running":1}`)
	})
}

func TestFirstStart(t *testing.T) {
	for _, test := range []struct {
		change func(*Options)
		want   []string
	}{
		{func(*Options) {}, []string{runOn}},
		{func(o *Options) { o.FirstStart = firstSkip }, nil},
		{nil, nil}, // without default_type, which is required
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, company(), func(o *Options) {
				if test.change != nil {
					test.change(o)
				}
			})
			if test.change == nil { // check warns of it
				r.options.DefaultType = ""
				if err := r.options.Validate(); err == nil || !strings.Contains(err.Error(), "first start") {
					t.Errorf("check says %v", err)
				}
				r.open()
			}
			e := r.firstStart()
			results := r.send(e)
			named := results[0].Status == plant.Skipped && errors.Is(results[0].Cause, errNoType)
			if wants := r.options.DefaultType == ""; named != wants {
				t.Errorf("left out, in words: %v, want %v: %+v", named, wants, results)
			}
			r.want(test.want...)
			r.strict()
		})
	}
}

// TestNoStartWithoutItsStop: it could end what an operator has opened.
func TestNoStartWithoutItsStop(t *testing.T) {
	for _, mode := range []string{lateCurrent, lateReplay} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, company(), func(o *Options) { o.LateStops = mode })
			r.fake.OperatorStops("M-1", "Waiting")
			r.deliver(r.start(4)) // its stop was before the uplink
			r.want()
			if got := r.missedOf("M-1"); got != "4  1" {
				t.Errorf("missed: %q", got)
			}
			r.strict()
		})
	}
	// A stop that was refused is none.
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		stop := r.stop(1, "Unassigned")
		if results := r.send(stop); results[0].Status != plant.Rejected {
			t.Fatalf("%+v", results)
		}
		r.fake.OperatorStops("M-1", "Waiting")
		r.wire.asked()
		r.deliver(r.start(1))
		r.want()
		r.strict(fake.RuleCode)
	})
}

// TestLateStops: an outage with stops that are over when it ends.
func TestLateStops(t *testing.T) {
	for _, test := range []struct {
		name   string
		late   string
		events func(*rig) []plant.Event
		want   []string
		missed string
	}{
		{"stops that are over, and it runs", lateCurrent, func(r *rig) []plant.Event {
			return []plant.Event{r.stop(2, "Jam"), r.start(2), r.stop(3, "Waiting"), r.explain(3, "Jam"), r.start(3)}
		}, nil, "2 Jam 1, 3 Jam 2"},
		{"it stands", lateCurrent, func(r *rig) []plant.Event {
			return []plant.Event{r.stop(2, "Jam"), r.start(2), r.stop(3, "Waiting")}
		}, []string{waitingOn}, "2 Jam 1"},
		{"one after the other", lateReplay, func(r *rig) []plant.Event {
			return []plant.Event{r.stop(2, "Jam"), r.start(2), r.stop(3, "Waiting"), r.start(3)}
		}, []string{jamOn, jamOff, waitingOn, `M-1 startstop {"type":"Waiting","running":1}`}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, company(), func(o *Options) { o.LateStops = test.late })
				r.deliver(r.firstStart())
				r.wire.asked()
				r.deliver(test.events(r)...)
				r.want(test.want...)
				if got := r.missedOf("M-1"); got != test.missed {
					t.Errorf("missed %q, want %q", got, test.missed)
				}
				r.strict()
				r.open() // what is listed outlives the process
				if got := r.missedOf("M-1"); got != test.missed {
					t.Errorf("after a restart missed %q, want %q", got, test.missed)
				}
			})
		})
	}
}

// TestAnOpenStopIsEndedBeforeAnother: the outage began within a stop that
// Prodsmart knows, and ends within another.
func TestAnOpenStopIsEndedBeforeAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(r.stop(1, "Jam"))
		r.wire.asked()
		r.deliver(r.start(1), r.stop(2, "Jam"), r.start(2), r.stop(3, "Jam"))
		r.want(jamOff, jamOn)
		if got := r.missedOf("M-1"); got != "2 Jam 1" {
			t.Errorf("missed %q", got)
		}
		if d := r.fake.Machine("M-1").Downtimes; len(d) != 2 || d[0].End.IsZero() || !d[1].End.IsZero() {
			t.Errorf("downtimes %+v", d)
		}
		r.strict()
	})
}

// TestLostStop: an answer was lost; the same state is set again.
func TestLostStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.fake.Faults.Add(central.LostReply())
		stop := r.stop(1, "Jam")
		r.deliver(stop)
		r.deliver(r.start(1))
		r.want(jamOn, jamOn, jamOff)
		if d := r.fake.Machine("M-1").Downtimes; len(d) != 1 {
			t.Errorf("downtimes %+v", d)
		}
		r.strict()
	})
}

// TestStopsGoBeforeCounts of the same machine, and are not sent again with a
// count that has to be.
func TestStopsGoBeforeCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.fake.Faults.Add(central.LostReply().On("counter"))
		r.deliver(r.event("M-1", plant.KindCounter, counter(5, 5)), r.stop(1, "Jam"))
		r.want(jamOn, `M-1 counter {"count":5}`, `M-1 counter {"count":5}`)
		r.strict(fake.RuleEqual)
	})
}

// TestDowntimeTypesAreTranslated by the uplink's table, and by the machine's own
// column before it.
func TestDowntimeTypesAreTranslated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.codes = uplink.NewCodes(uplink.CodeTables{
			DowntimeType: config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: "stau", Value: uplink.Code{Theirs: "Jam"}}}},
			Machine:      config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: "PRESS 1", Value: uplink.Code{Theirs: "M-1"}}}},
		}, nil)
		r.open()
		e := r.event("PRESS 1", plant.KindStartStop, `{"running":0,"stop_id":1,"type":"stau","reason":"7"}`)
		r.deliver(e)
		r.want(jamOn)
		r.strict()
	})
}

// TestUnknownMachineWaits: it is a setting, no event is at fault.
func TestUnknownMachineWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.fake.Faults.Add(central.Answered(404, "no machine M-1").Always())
		stop := r.stop(1, "Jam")
		for range 12 {
			if results := r.send(stop); results[0].Status != plant.Held || !strings.Contains(results[0].Cause.Error(), "codes: machine:") {
				t.Fatalf("%+v", results)
			}
			elapse(5 * time.Second)
		}
		if n := len(r.wire.asked()); n > 2 {
			t.Errorf("%d requests in a minute for what a person must mend", n)
		}
		r.fake.Faults.Clear()
		elapse(time.Minute)
		r.deliver(stop)
		r.strict()
	})
}

// TestAToldStopIsNotListed: a count before it waits, so that a stop that Prodsmart
// has had is not settled when its start, or the next stop, is merged with it.
func TestAToldStopIsNotListed(t *testing.T) {
	for _, test := range []struct {
		name   string
		later  func(*rig) [][]plant.Event // the turns, in each of which the count is refused but in the last
		want   []string
		missed string
	}{
		{"its start", func(r *rig) [][]plant.Event { return [][]plant.Event{{r.start(1)}} }, []string{jamOff}, ""},
		{"another stop", func(r *rig) [][]plant.Event { return [][]plant.Event{{r.start(1), r.stop(2, "Waiting")}} }, []string{jamOff, waitingOn}, ""},
		{"a stop that was over", func(r *rig) [][]plant.Event {
			return [][]plant.Event{{r.start(1), r.stop(2, "Waiting"), r.start(2)}}
		}, []string{jamOff}, "2 Waiting 1"},
		{"its start, and then another stop", func(r *rig) [][]plant.Event {
			return [][]plant.Event{{r.start(1)}, {r.stop(2, "Waiting")}}
		}, []string{jamOff, waitingOn}, ""},
		{"its start, and then a stop that was over", func(r *rig) [][]plant.Event {
			return [][]plant.Event{{r.start(1)}, {r.stop(2, "Waiting"), r.start(2)}}
		}, []string{jamOff}, "2 Waiting 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, company())
				r.fake.Faults.Add(central.Answered(500, "not now").On("counter").Always())
				waiting := []plant.Event{r.event("M-1", plant.KindCounter, counter(5, 5)), r.stop(1, "Jam")}
				r.send(waiting...)
				turns := test.later(r)
				for i, turn := range turns {
					waiting = append(waiting, turn...)
					if i == len(turns)-1 {
						r.fake.Faults.Clear()
						elapse(time.Minute)
						r.deliver(waiting...)
					} else {
						elapse(time.Minute)
						r.send(waiting...)
					}
				}
				var states []string
				for _, line := range r.wire.asked() {
					if strings.Contains(line, "startstop") {
						states = append(states, strings.Replace(line, "POST /api/machines/", "", 1))
					}
				}
				for i := range states {
					states[i] = strings.Replace(states[i], "M-1/startstop", "M-1 startstop", 1)
				}
				if want := append([]string{jamOn}, test.want...); strings.Join(states, "\n") != strings.Join(want, "\n") {
					t.Errorf("asked %q, want %q", states, want)
				}
				if got := r.missedOf("M-1"); got != test.missed {
					t.Errorf("listed as not told: %q, want %q", got, test.missed)
				}
			})
		})
	}
}
