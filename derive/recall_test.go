package derive

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestCountsGoOnFromTheNumberOfTheNewestEvent: where the state of the rules is gone,
// the pieces since the newest counter event are counted from the number in it, where
// that can be known, and marked where it can not.
func TestCountsGoOnFromTheNumberOfTheNewestEvent(t *testing.T) {
	for name, c := range map[string]struct {
		counter string
		// made and bad are what the device shows before and after; pieces are not
		// reported before 50.
		made, bad [2]int
		pause     time.Duration
		// good and scrap are the cumulative counts at the end.
		good, scrap               int64
		ambiguous, suspect, lower bool
		alarm                     string
	}{
		"a total alone":        {counter: "total: made", made: [2]int{160, 190}, pause: time.Minute, good: 90},
		"good":                 {counter: "good: made", made: [2]int{160, 190}, pause: time.Minute, good: 90},
		"nothing was made":     {counter: "good: made", made: [2]int{160, 160}, pause: time.Minute, good: 60},
		"baseline zero":        {counter: "total: made, baseline: zero", made: [2]int{160, 190}, pause: time.Minute, good: 190},
		"a reset meanwhile":    {counter: "good: made", made: [2]int{160, 20}, pause: time.Minute, good: 70, lower: true},
		"round its end":        {counter: "good: made, modulus: 200", made: [2]int{160, 10}, pause: time.Minute, good: 110, ambiguous: true},
		"more than can be":     {counter: "good: made", made: [2]int{160, 9000}, pause: time.Minute, good: 50, suspect: true, alarm: "nothing was counted"},
		"without a rate":       {counter: "good: wide", made: [2]int{160, 190}, pause: time.Minute, good: 90, ambiguous: true},
		"good beside scrap":    {counter: "good: made, scrap: {BURR: bad}", made: [2]int{160, 190}, bad: [2]int{5, 7}, pause: time.Minute, good: 90, scrap: 0},
		"a total with scrap":   {counter: "total: made, scrap: {BURR: bad}", made: [2]int{160, 190}, bad: [2]int{0, 7}, pause: time.Minute, good: 90, ambiguous: true},
		"a total with no more": {counter: "total: made, scrap: {BURR: bad}", made: [2]int{150, 150}, pause: time.Minute, good: 50},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := "max_rate: 10/s, "
				if strings.Contains(c.counter, "wide") {
					limit = ""
				}
				s := &scenario{path: "m.yaml", files: map[string]string{
					"tags":   "press/made uint32\npress/wide int64\npress/bad uint32\n",
					"config": "device: press\ncounter: {" + c.counter + ", " + limit + "pieces: 50}\n",
				}}
				log, m := &memLog{}, s.model(t, "config", "tags")
				run := func(made, bad []int, kill bool) {
					w := NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
					stop := start(t, w)
					for i := range made {
						reading := func(tag plant.TagID, n int) plant.Reading {
							return plant.Reading{Tag: tag, Quality: plant.Good, Value: plant.IntValue(int64(n))}
						}
						w.Offer(plant.Scan{Device: "press", Session: 1, Snapshot: i == 0, Received: time.Now(), Readings: []plant.Reading{
							reading("made", made[i]), reading("wide", made[i]), reading("bad", bad[i]),
						}})
						time.Sleep(10 * time.Second)
						synctest.Wait()
					}
					events := len(log.Events)
					if err := stop(); err != nil {
						t.Fatal(err)
					}
					if kill { // what the orderly stop has reported was never said
						log.Events = log.Events[:events]
					}
				}
				run([]int{100, 150, c.made[0]}, []int{0, 0, c.bad[0]}, true)
				before := len(log.Events)
				log.State = nil
				time.Sleep(c.pause)
				last := c.made[1]
				run([]int{last, last, last, last, last}, []int{c.bad[1], c.bad[1], c.bad[1], c.bad[1], c.bad[1]}, false)
				validate(t, log.Events)
				var newest plant.Counter
				var ambiguous, suspect, lower, rebase bool
				alarms := ""
				for i, e := range log.Events {
					switch e.Kind {
					case plant.KindCounter:
						newest = plant.Counter{}
						if err := json.Unmarshal(e.Data, &newest); err != nil {
							t.Fatal(err)
						}
						if i >= before {
							ambiguous, suspect = ambiguous || newest.Ambiguous, suspect || newest.Suspect
							lower, rebase = lower || newest.LowerBound, rebase || newest.Rebase
						}
					case plant.KindAlarm:
						alarms += string(e.Data)
					}
				}
				scrap := int64(0)
				if len(newest.Scrap) > 0 {
					scrap = newest.Scrap[0].Quantity
				}
				if newest.Good != c.good || scrap != c.scrap || ambiguous != c.ambiguous || suspect != c.suspect || lower != c.lower {
					t.Errorf("good %d, scrap %d, ambiguous %t, suspect %t, lower %t, want %d, %d, %t, %t, %t\n%s", newest.Good, scrap, ambiguous, suspect, lower, c.good, c.scrap, c.ambiguous, c.suspect, c.lower, alarms)
				}
				if (c.alarm == "") != (alarms == "") || !strings.Contains(alarms, c.alarm) {
					t.Errorf("alarms %s, want %q", alarms, c.alarm)
				}
				if len(log.Events) > before && !rebase {
					t.Error("no count carries a rebase")
				}
			})
		})
	}
}

// TestADoseThatIsOfferedStillIsBookedOnce: the state that knew it is gone, its event
// is not.
func TestADoseThatIsOfferedStillIsBookedOnce(t *testing.T) {
	type dose struct {
		number, grams int
	}
	for name, c := range map[string]struct {
		before []dose
		after  dose
		booked int
	}{
		"the same":                 {[]dose{{7, 100}, {8, 250}}, dose{8, 250}, 2},
		"the next":                 {[]dose{{7, 100}, {8, 250}}, dose{9, 250}, 3},
		"another under its number": {[]dose{{7, 100}, {8, 250}}, dose{8, 260}, 3},
		"the one before":           {[]dose{{7, 100}, {8, 250}}, dose{7, 100}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scenario{path: "m.yaml", files: map[string]string{
					"tags":   "mix/num uint32\nmix/echo uint32\nmix/grams uint32\n",
					"config": "device: mix\ndosing: {trigger: num, ack: echo, protocol: sequence, component: FLOUR, quantity: grams, scale: S}\n",
				}}
				log, m := &memLog{}, s.model(t, "config", "tags")
				offer := func(all ...dose) {
					w := NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
					stop := start(t, w)
					for _, d := range all {
						w.Offer(plant.Scan{Device: "mix", Session: 1, Received: time.Now(), Readings: []plant.Reading{
							{Tag: "num", Quality: plant.Good, Value: plant.IntValue(int64(d.number))},
							{Tag: "echo", Quality: plant.Good, Value: plant.IntValue(0)},
						}})
						w.Offer(plant.Scan{Device: "mix", Session: 1, Record: m.Records()[0].ID, Received: time.Now(), Readings: []plant.Reading{
							{Tag: "num", Quality: plant.Good, Value: plant.IntValue(int64(d.number))},
							{Tag: "grams", Quality: plant.Good, Value: plant.IntValue(int64(d.grams))},
						}})
						time.Sleep(time.Second)
						synctest.Wait()
					}
					if err := stop(); err != nil {
						t.Fatal(err)
					}
				}
				offer(c.before...)
				log.State = nil
				offer(c.after)
				offer(c.after)
				n := 0
				for _, e := range log.Events {
					if e.Kind == plant.KindDosing {
						n++
					}
				}
				if n != c.booked {
					t.Errorf("%d doses are booked, want %d: %s", n, c.booked, fmt.Sprint(log.Events))
				}
			})
		})
	}
}

// TestARecordThatIsOfferedStillIsToldOnce: the state that knew the record is gone, its
// event is not. A record that came behind a low trigger is another one, and so is one
// that names no unit.
func TestARecordThatIsOfferedStillIsToldOnce(t *testing.T) {
	const tags = "eol/rdy uint16\neol/ack uint16\neol/sn string\neol/part string\neol/ok uint16\n"
	const shake = "trigger: rdy, ack: ack, "
	configs := map[string]string{
		"serial":      "serial: {" + shake + "serial: sn}",
		"attach":      "item_attach: {" + shake + "serial: sn, item: {sku: part, serial: part}}",
		"attach lot":  "item_attach: {" + shake + "serial: sn, item: {sku: part, lot: part}}",
		"operation":   "operation: {" + shake + "serial: sn, valid: ok}",
		"no serial":   "operation: {" + shake + "valid: ok}",
		"watched":     "serial: {serial: sn}",
		"watched sku": "serial: {serial: sn, sku: part}",
	}
	for name, c := range map[string]struct {
		config       string
		before       []string
		low          bool
		after        string
		told, forget int
		// flagged says that the event of after is: nobody can tell whether it is another.
		flagged bool
	}{
		"serial, the same":                {config: "serial", before: []string{"S1", "S2"}, after: "S2", told: 2},
		"serial, memory gone, too":        {config: "serial", before: []string{"S1", "S2"}, after: "S2", told: 2, forget: 1},
		"serial, the next":                {config: "serial", before: []string{"S1", "S2"}, after: "S3", told: 3},
		"serial, the one before":          {config: "serial", before: []string{"S1", "S2"}, after: "S1", told: 3},
		"serial, the same again":          {config: "serial", before: []string{"S1", "S2"}, low: true, after: "S2", told: 3},
		"attach, the same":                {config: "attach", before: []string{"S1", "S2"}, after: "S2", told: 2},
		"attach, memory gone, too":        {config: "attach", before: []string{"S1", "S2"}, after: "S2", told: 2, forget: 1},
		"attach, the next":                {config: "attach", before: []string{"S1", "S2"}, after: "S3", told: 3},
		"attach of a lot, nobody knows":   {config: "attach lot", before: []string{"S1", "S2"}, after: "S2", told: 3, flagged: true},
		"attach of a lot, another unit":   {config: "attach lot", before: []string{"S1", "S2"}, after: "S3", told: 3},
		"attach of a lot, the same again": {config: "attach lot", before: []string{"S1", "S2"}, low: true, after: "S2", told: 3},
		"operation, the same":             {config: "operation", before: []string{"S1", "S2"}, after: "S2", told: 2},
		"operation, the same again":       {config: "operation", before: []string{"S1", "S2"}, low: true, after: "S2", told: 3},
		"operation, nobody knows of what": {config: "no serial", before: []string{"S1", "S2"}, after: "S2", told: 3, flagged: true},
		"watched, the same":               {config: "watched", before: []string{"S1", "S2"}, after: "S2", told: 2},
		"watched, the next":               {config: "watched sku", before: []string{"S1", "S2"}, after: "S3", told: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scenario{path: "m.yaml", files: map[string]string{"tags": tags, "config": "device: eol\n" + configs[c.config] + "\n"}}
				log, m := &memLog{}, s.model(t, "config", "tags")
				offer := func(low bool, all ...string) {
					w := NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
					stop := start(t, w)
					text := func(tag plant.TagID, v string) plant.Reading {
						return plant.Reading{Tag: tag, Quality: plant.Good, Value: plant.TextValue(v)}
					}
					number := func(tag plant.TagID, v int64) plant.Reading {
						return plant.Reading{Tag: tag, Quality: plant.Good, Value: plant.IntValue(v)}
					}
					for i, unit := range all {
						if low || i > 0 {
							w.Offer(plant.Scan{Device: "eol", Session: 1, Received: time.Now(), Readings: []plant.Reading{number("rdy", 0), number("ack", 1)}})
						}
						fields := []plant.Reading{text("sn", unit), text("part", "P"+unit), number("ok", 1)}
						w.Offer(plant.Scan{Device: "eol", Session: 1, Received: time.Now(), Readings: append([]plant.Reading{number("rdy", 1), number("ack", 0)}, fields...)})
						if len(m.Records()) > 0 {
							w.Offer(plant.Scan{Device: "eol", Session: 1, Record: m.Records()[0].ID, Received: time.Now(), Readings: append(fields, number("rdy", 1))})
						}
						time.Sleep(time.Second)
						synctest.Wait()
					}
					if err := stop(); err != nil {
						t.Fatal(err)
					}
				}
				offer(false, c.before...)
				log.State = nil
				if c.forget > 0 {
					log.Keyed = nil
				}
				offer(c.low, c.after)
				if !c.low {
					offer(false, c.after) // it is known by now
				}
				validate(t, log.Events)
				n, flagged := 0, false
				for _, e := range log.Events {
					if e.Kind == plant.KindSerial || e.Kind == plant.KindItemAttach || e.Kind == plant.KindOperation {
						n++
						flagged = strings.Contains(string(e.Data), `"flagged":["repeat"]`)
					}
				}
				if flagged != c.flagged {
					t.Errorf("the last event is flagged: %v, want %v: %s", flagged, c.flagged, log.Events[len(log.Events)-1].Data)
				}
				if n != c.told {
					t.Errorf("%d events, want %d: %v", n, c.told, log.Events)
				}
			})
		})
	}
}

// TestADoseWithoutANumberThatMayBeOfferedStillIsFlagged: the state that knew it is gone,
// and nothing tells it from the next one that is equal; behind a trigger that was low
// since it is another one.
func TestADoseWithoutANumberThatMayBeOfferedStillIsFlagged(t *testing.T) {
	for name, c := range map[string]struct {
		grams   int
		low     bool
		flagged bool
	}{
		"equal":                        {grams: 250, flagged: true},
		"another":                      {grams: 260},
		"equal, but was not offered":   {grams: 250, low: true},
		"another, and was not offered": {grams: 260, low: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scenario{path: "m.yaml", files: map[string]string{
					"tags":   "mix/offer bool\nmix/ack bool\nmix/grams uint32\n",
					"config": "device: mix\ndosing: {trigger: offer, ack: ack, component: FLOUR, quantity: grams, unit: g, scale: S}\n",
				}}
				log, m := &memLog{}, s.model(t, "config", "tags")
				offer := func(low bool, grams ...int) {
					w := NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
					stop := start(t, w)
					trigger := func(on bool) {
						w.Offer(plant.Scan{Device: "mix", Session: 1, Received: time.Now(), Readings: []plant.Reading{
							{Tag: "offer", Quality: plant.Good, Value: plant.BoolValue(on)},
							{Tag: "ack", Quality: plant.Good, Value: plant.BoolValue(false)},
						}})
					}
					for i, g := range grams {
						if low || i > 0 {
							trigger(false)
						}
						trigger(true)
						w.Offer(plant.Scan{Device: "mix", Session: 1, Record: m.Records()[0].ID, Received: time.Now(), Readings: []plant.Reading{
							{Tag: "grams", Quality: plant.Good, Value: plant.IntValue(int64(g))},
						}})
						time.Sleep(time.Second)
						synctest.Wait()
					}
					if err := stop(); err != nil {
						t.Fatal(err)
					}
				}
				offer(true, 100, 250)
				log.State = nil
				offer(c.low, c.grams, c.grams)
				var doses []bool
				for _, e := range log.Events {
					if e.Kind == plant.KindDosing {
						doses = append(doses, strings.Contains(string(e.Data), `"flagged":["repeat"]`))
					}
				}
				validate(t, log.Events)
				if want := fmt.Sprint([]bool{false, false, c.flagged, false}); fmt.Sprint(doses) != want {
					t.Errorf("doses are flagged %v, want %s", doses, want)
				}
			})
		})
	}
}
