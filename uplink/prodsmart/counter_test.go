package prodsmart

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

func TestCountsAreCumulativeAndGrow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(r.event("M-1", plant.KindCounter, counter(10, 10)))
		r.want(`M-1 counter {"count":10}`)
		r.deliver(r.event("M-1", plant.KindCounter, counter(15, 5, "BURR", 2, 2)))
		r.want(`M-1 counter {"count":15,"waste":[{"code":"BURR","quantity":2}]}`)
		r.deliver(r.event("M-1", plant.KindCounter, counter(15, 0, "BURR", 2, 0))) // micro-stops only
		r.want()
		r.deliver(r.event("M-1", plant.KindCounter, counter(16, 1, "BURR", 2, 0, "CRACK", 1, 1)))
		r.want(`M-1 counter {"count":16,"waste":[{"code":"CRACK","quantity":1}]}`)
		r.strict()
	})
}

// TestFirstContactCountsWhatIsNew: a machine that has long been counted is not
// credited at once with all that it ever made.
func TestFirstContactCountsWhatIsNew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(r.event("M-1", plant.KindCounter, counter(123_456, 4)), r.event("M-1", plant.KindCounter, counter(123_459, 3)))
		r.want(`M-1 counter {"count":7}`)
		r.strict()
	})
}

func TestOffsetsOfTheOperator(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := company()
		c.Machines[0].Count = 1000
		r := newRig(t, c, func(o *Options) { o.Offsets = map[string]int64{"M-1": 1000} })
		r.deliver(r.event("M-1", plant.KindCounter, counter(30, 5)))
		r.want(`M-1 counter {"count":1030}`)
		r.strict()
	})
}

func TestMergedCountsStayApartAtAnOrderChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		of := func(order string, good, delta int64) plant.Event {
			return r.event("M-1", plant.KindCounter, `{"order":{"number":"`+order+`"},`+strings.TrimPrefix(counter(good, delta), "{"))
		}
		r.deliver(of("A", 1, 1), of("A", 2, 1), of("A", 3, 1), r.event("M-1", plant.KindOrder, `{"next":{"number":"B"}}`), of("B", 4, 1), of("B", 5, 1), of("A", 6, 1))
		r.want(`M-1 counter {"count":3}`, `M-1 counter {"count":5}`, `M-1 counter {"count":6}`)
		r.strict()
	})
}

// waitsForTurn reports whether a Send ended for want of room.
func waitsForTurn(results []plant.Result) bool {
	var later *uplink.NotYet
	return errors.As(results[len(results)-1].Cause, &later)
}

// TestReconcile: what "must be greater" leads to, by what the refusal names.
func TestReconcile(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Options)
		silent bool
		want   []string
		status plant.Status
		credit float64
	}{
		{"the number is named: counted on from there", nil, false,
			[]string{`M-1 counter {"count":5}`, `M-1 counter {"count":105}`}, plant.Delivered, 105},
		{"the number is named and may not be learnt: waits", func(o *Options) { o.LearnOffset = false }, false,
			[]string{`M-1 counter {"count":5}`}, plant.Held, 100},
		{"no number is named: waits for the operator", nil, true,
			[]string{`M-1 counter {"count":5}`}, plant.Held, 100},
		{"words that are not known are a refusal", func(o *Options) { o.TooSmall = []string{"nothing like it"} }, true,
			[]string{`M-1 counter {"count":5}`}, plant.Rejected, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := company()
				c.Machines[0].Count, c.SilentRefusal = 100, test.silent
				change := test.change
				if change == nil {
					change = func(*Options) {}
				}
				r := newRig(t, c, change)
				e := r.event("M-1", plant.KindCounter, counter(5, 5))
				results := r.send(e)
				for waitsForTurn(results) {
					results = r.send(e)
				}
				last := results[len(results)-1]
				if last.Status != test.status {
					t.Errorf("%v (%v), want %v", last.Status, last.Cause, test.status)
				}
				r.want(test.want...)
				if got := r.fake.Machine("M-1").Count; got != test.credit {
					t.Errorf("Prodsmart has %v, want %v", got, test.credit)
				}
				// No loop: a minute of tries costs no further request for the same count.
				for range 10 {
					elapse(5 * time.Second)
					r.send(e)
				}
				r.want()
				r.strict(fake.RuleDecreasing)
			})
		})
	}
}

// TestHeldCountsGoOnWhenTheyHaveGrown: the machine's own counting takes it past
// what Prodsmart has, or the operator's setting does; starts and stops go on.
func TestHeldCountsGoOnWhenTheyHaveGrown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := company()
		c.Machines[0].Count, c.SilentRefusal = 100, true
		r := newRig(t, c)
		first := r.event("M-1", plant.KindCounter, counter(99, 99))
		r.send(first)
		stop := r.event("M-1", plant.KindStartStop, `{"running":0,"stop_id":1,"type":"Jam"}`)
		if results := r.send(first, stop); results[0].Status != plant.Held || !strings.Contains(results[0].Cause.Error(), "offsets: {M-1: …}") {
			t.Errorf("%+v", results)
		}
		r.want(`M-1 counter {"count":99}`, `M-1 startstop {"type":"Jam","running":0}`)
		elapse(2 * time.Minute)
		r.deliver(first, stop, r.event("M-1", plant.KindCounter, counter(101, 2)))
		r.want(`M-1 counter {"count":101}`)
		r.strict(fake.RuleDecreasing)

		r.options.Offsets = map[string]int64{"M-1": 5000}
		r.open()
		r.deliver(r.event("M-1", plant.KindCounter, counter(102, 1)))
		r.want(`M-1 counter {"count":5102}`)
	})
}

// TestLostReply: after an answer was lost the same body comes again, and what was
// booked is not booked twice; also over a restart of the gateway.
func TestLostReply(t *testing.T) {
	for _, test := range []struct {
		name    string
		lost    string
		restart bool
		silent  bool
		want    []string
	}{
		{"repeat", lostRepeat, false, false, []string{`M-1 counter {"count":5,"waste":[{"code":"BURR","quantity":1}]}`, `M-1 counter {"count":9}`}},
		{"repeat, nothing named", lostRepeat, false, true, []string{`M-1 counter {"count":5,"waste":[{"code":"BURR","quantity":1}]}`, `M-1 counter {"count":9}`}},
		{"repeat after a restart", lostRepeat, true, false, []string{`M-1 counter {"count":5,"waste":[{"code":"BURR","quantity":1}]}`, `M-1 counter {"count":9}`}},
		{"newest", lostNewest, false, false, []string{`M-1 counter {"count":9,"waste":[{"code":"BURR","quantity":1}]}`, `M-1 counter {"count":9}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := company()
				c.SilentRefusal = test.silent
				r := newRig(t, c, func(o *Options) { o.LostReply = test.lost })
				r.fake.CheckIn("M-1", "PO1", "P1")
				r.fake.Faults.Add(central.LostReply())
				e := r.event("M-1", plant.KindCounter, counter(5, 5, "BURR", 1, 1))
				if results := r.send(e); results[0].Status != plant.Retry {
					t.Fatalf("%+v", results)
				}
				r.want(`M-1 counter {"count":5,"waste":[{"code":"BURR","quantity":1}]}`)
				if test.restart {
					r.open()
				}
				later := r.event("M-1", plant.KindCounter, counter(9, 4, "BURR", 1, 0))
				r.deliver(e, later)
				r.want(test.want...)
				b := r.fake.Machine("M-1")
				if b.Credited["PO1"] != 9 || b.CreditedWaste["PO1"] != 1 {
					t.Errorf("credited %v and %v of waste, want 9 and 1", b.Credited, b.CreditedWaste)
				}
				r.strict(fake.RuleEqual, fake.RuleDecreasing)
			})
		})
	}
}

// TestEqualAndWasteOnly are the settings for what the document leaves open.
// TestLostReplyInAnotherLanguage: nobody can tell what the refusal of the repeat
// means, so it is shown by the newer count, which holds the older one: that one is
// taken if only the numbers were too small, and refused if it is something else.
func TestLostReplyInAnotherLanguage(t *testing.T) {
	for words, fails := range map[string]bool{"数が小さすぎます": false, "": false, "unbekannter Ausschuss": true} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, company())
			first, second := r.event("M-1", plant.KindCounter, counter(5, 5)), r.event("M-1", plant.KindCounter, counter(9, 4))
			r.fake.Faults.Add(central.LostReply())
			r.send(first)
			elapse(5 * time.Second)
			r.fake.Faults.Add(central.Answered(400, words))
			if fails {
				r.fake.Faults.Add(central.Answered(400, words))
			}
			var last plant.Result
			for range 20 {
				results := r.send(first, second)
				if last = results[len(results)-1]; last.Status != plant.Retry {
					break
				}
				elapse(time.Second)
			}
			if want := map[bool]plant.Status{false: plant.Delivered, true: plant.Rejected}[fails]; last.Status != want {
				t.Errorf("%q: %+v", words, last)
			}
			if got := r.fake.Machine("M-1").Count; !fails && got != 9 {
				t.Errorf("%q: the count is %v", words, got)
			}
		})
	}
}

func TestEqualAndWasteOnly(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   []string
		wait   bool
	}{
		{"only what grew", func(*Options) {}, []string{`M-1 counter {"waste":[{"code":"BURR","quantity":2}]}`}, false},
		{"all", func(o *Options) { o.Unchanged = unchangedSend }, []string{`M-1 counter {"count":10,"waste":[{"code":"BURR","quantity":2}]}`}, false},
		{"waste waits", func(o *Options) { o.WasteOnly = wasteHold }, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := company()
				c.EqualIsFine = true
				r := newRig(t, c, test.change)
				r.deliver(r.event("M-1", plant.KindCounter, counter(10, 10)))
				r.wire.asked()
				e := r.event("M-1", plant.KindCounter, counter(10, 0, "BURR", 2, 2))
				results := r.send(e)
				if waits := results[0].Status == plant.Retry; waits != test.wait {
					t.Errorf("%+v", results)
				}
				r.want(test.want...)
				if test.wait {
					r.deliver(e, r.event("M-1", plant.KindCounter, counter(11, 1, "BURR", 2, 0)))
					r.want(`M-1 counter {"count":11,"waste":[{"code":"BURR","quantity":2}]}`)
				}
				r.strict()
			})
		})
	}
}

// TestHeldWasteGoesWithTheNextOrdersCount: where no count of its own order can
// come any more.
func TestHeldWasteGoesWithTheNextOrdersCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company(), func(o *Options) { o.WasteOnly = wasteHold })
		r.deliver(r.event("M-1", plant.KindCounter, counter(10, 10)))
		r.wire.asked()
		other := `{"order":{"number":"B"},` + strings.TrimPrefix(counter(12, 2, "BURR", 3, 0), "{")
		r.deliver(r.event("M-1", plant.KindCounter, counter(10, 0, "BURR", 3, 3)), r.event("M-1", plant.KindCounter, other))
		r.want(`M-1 counter {"count":12,"waste":[{"code":"BURR","quantity":3}]}`)
		r.strict()
	})
}

// TestCounterReplies: a number, a numeric text, an object, nothing.
func TestCounterReplies(t *testing.T) {
	for _, test := range []struct {
		text string
		want int64
		ok   bool
	}{
		{"700", 700, true}, {`"700"`, 700, true}, {" 700.0\n", 700, true}, {`{"counter":700}`, 700, true}, {`{"value":"700","machine":"M"}`, 700, true},
		{"", 0, false}, {"OK", 0, false}, {`{"a":1,"b":2}`, 0, false}, {"{}", 0, false}, {"700.5", 0, false}, {"[7]", 0, false}, {"null", 0, false},
	} {
		if got, ok := counterValue([]byte(test.text)); got != test.want || ok != test.ok {
			t.Errorf("%q: %d %v, want %d %v", test.text, got, ok, test.want, test.ok)
		}
	}
	for _, reply := range []fake.Reply{fake.ReplyNumber, fake.ReplyText, fake.ReplyObject, fake.ReplyNothing} {
		for _, setting := range []string{replyCheck, replyIgnore} {
			bubble(t, func(t *testing.T) {
				c := company()
				c.CountReply = reply
				r := newRig(t, c, func(o *Options) { o.CounterReply = setting })
				r.deliver(r.event("M-1", plant.KindCounter, counter(5, 5)))
				r.deliver(r.event("M-1", plant.KindCounter, counter(6, 1)))
				r.want(`M-1 counter {"count":5}`, `M-1 counter {"count":6}`)
				r.strict()
			})
		}
	}
}

// TestOddReplyIsTold once: a count that came back as another.
func TestOddReplyIsTold(t *testing.T) {
	for setting, want := range map[string]int{replyCheck: 1, replyIgnore: 0} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, company(), func(o *Options) { o.CounterReply = setting })
			r.fake.Faults.Add(central.Answered(200, "4000").Times(2))
			r.deliver(r.event("M-1", plant.KindCounter, counter(5, 5)))
			r.deliver(r.event("M-1", plant.KindCounter, counter(6, 1)))
			if got := r.logs.FilterMessageSnippet("somebody else").Len(); got != want {
				t.Errorf("%s: told %d times, want %d", setting, got, want)
			}
		})
	}
}

// TestStateThatWasLost: what the cumulative counts mean after the gateway lost
// some of what it knew.
func TestStateThatWasLost(t *testing.T) {
	t.Run("the rules count from less", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, company())
			r.deliver(r.event("M-1", plant.KindCounter, counter(500, 500)))
			r.deliver(r.event("M-1", plant.KindGap, `{"cause":"damaged","count":3,"reason":"the disk rots"}`),
				r.event("M-1", plant.KindCounter, `{"rebase":true,`+strings.TrimPrefix(counter(302, 2), "{")))
			r.deliver(r.event("M-1", plant.KindCounter, counter(310, 8)))
			r.want(`M-1 counter {"count":500}`, `M-1 counter {"count":502}`, `M-1 counter {"count":510}`)
			r.strict()
		})
	})
	t.Run("the store is an older copy", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, company())
			r.deliver(r.event("M-1", plant.KindCounter, counter(300, 300)))
			copied := map[string][]byte{}
			for k, v := range r.memory {
				copied[k] = v
			}
			r.deliver(r.event("M-1", plant.KindCounter, counter(500, 200)))
			r.wire.asked()
			r.memory, r.next["M-1"] = copied, 1
			r.open()
			// The PLC's total brings the pieces back, in two steps.
			r.deliver(r.event("M-1", plant.KindGap, `{"cause":"restored_copy","count":1,"reason":"an older copy"}`),
				r.event("M-1", plant.KindCounter, `{"rebase":true,`+strings.TrimPrefix(counter(310, 10), "{")))
			r.deliver(r.event("M-1", plant.KindCounter, counter(520, 210)))
			r.want(`M-1 counter {"count":310}`, `M-1 counter {"count":520}`)
			if got := r.fake.Machine("M-1").Count; got != 520 {
				t.Errorf("Prodsmart has %v, want 520", got)
			}
			r.strict(fake.RuleDecreasing)
		})
	})
}

func TestReworkCodeAndMappedWaste(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company(), func(o *Options) { o.ReworkCode = "REWORK" })
		r.deliver(r.event("M-1", plant.KindCounter, `{"rework":2,"rework_delta":2,`+strings.TrimPrefix(counter(5, 5), "{")))
		r.want(`M-1 counter {"count":5,"waste":[{"code":"REWORK","quantity":2}]}`)
		r.strict()
	})
}
