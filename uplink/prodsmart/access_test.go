package prodsmart

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// asks makes the Sender ask for what needs a token, and returns what was asked.
func (r *rig) asks() []string {
	r.t.Helper()
	r.wire.asked()
	r.sender.open.next = time.Time{}
	for range 10 {
		r.send(r.event("M-1", plant.KindCounter, counter(int64(r.next["M-1"])+1, 1)))
		if r.sender.open.page == 0 && !r.sender.open.next.IsZero() {
			break
		}
	}
	var lines []string
	for _, line := range r.wire.asked() {
		if !strings.Contains(line, "/counter ") {
			lines = append(lines, strings.Replace(line, "/api/", "", 1))
		}
	}
	return lines
}

// TestTokenLifeCycle: the token that there is, else a new one, renewed once when
// it is over, and never revoked.
func TestTokenLifeCycle(t *testing.T) {
	const get, post, list = "GET authorization", `POST authorization {"scopes":["productions_write"]}`, "GET productions"
	for _, test := range []struct {
		name   string
		change func(*fake.Company)
		option func(*Options)
		before func(*fake.Fake)
		want   []string
	}{
		{"there is none", nil, nil, nil, []string{get, post, list}},
		{"there is none, by another status", func(c *fake.Company) { c.NoToken = 400 }, nil, nil, []string{get, post, list}},
		{"there is one", nil, nil, func(f *fake.Fake) { f.Authorize(time.Hour) }, []string{get, list}},
		{"there is one that is over and is told all the same", func(c *fake.Company) { c.KeepsExpired = true }, nil,
			func(f *fake.Fake) { f.Authorize(3 * time.Hour) }, []string{get, list, get, post, list}},
		{"over, by 403", func(c *fake.Company) { c.KeepsExpired, c.Refused = true, 403 }, nil,
			func(f *fake.Fake) { f.Authorize(3 * time.Hour) }, []string{get, list, get, post, list}},
		{"a status that is not in renew_on", func(c *fake.Company) { c.KeepsExpired, c.Refused = true, 403 }, func(o *Options) { o.RenewOn = []int{401} },
			func(f *fake.Fake) { f.Authorize(3 * time.Hour) }, []string{get, list}},
		{"in the header", func(c *fake.Company) { c.Tokens = fake.TokenInHeader }, func(o *Options) { o.TokenIn = tokenInHeader }, nil, []string{get, post, list}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := company()
				if test.change != nil {
					test.change(&c)
				}
				r := newRig(t, c, func(o *Options) {
					o.OpenProduction = defaults().OpenProduction
					if test.option != nil {
						test.option(o)
					}
				})
				if test.before != nil {
					test.before(r.fake)
				}
				if got := r.asks(); strings.Join(got, "\n") != strings.Join(test.want, "\n") {
					t.Errorf("asked\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
				}
				if got := r.asks(); test.option == nil && strings.Join(got, "\n") != list {
					t.Errorf("with a good token asked\n\t%s", strings.Join(got, "\n\t"))
				}
				r.strict()
			})
		})
	}
}

// TestTokenIsRenewedOnce by however many need it at the same time.
func TestTokenIsRenewedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.fake.Authorize(time.Hour)
		ask := func() {
			_, o, h := r.sender.withToken(t.Context(), &call{class: classOrders, method: http.MethodGet, path: "productions", whole: true, asked: uplink.OutcomeAsked, until: time.Now().Add(time.Minute)})
			if h != nil || o != taken {
				t.Errorf("%v %+v", o, h)
			}
		}
		ask()
		r.fake.Revoke()
		r.wire.asked()
		var all sync.WaitGroup
		for range 6 {
			all.Go(ask)
		}
		all.Wait()
		posts := 0
		for _, line := range r.wire.asked() {
			if strings.HasPrefix(line, "POST ") {
				posts++
			}
		}
		if posts != 1 {
			t.Errorf("%d tokens were made", posts)
		}
		r.strict()
	})
}

// TestWrongKey is nobody's event's fault, and is tried once a minute.
func TestWrongKey(t *testing.T) {
	for _, status := range []int{401, 403} {
		bubble(t, func(t *testing.T) {
			c := company()
			c.Key, c.Refused = "another", status
			r := newRig(t, c)
			results := r.send(r.event("M-1", plant.KindCounter, counter(5, 5)))
			var link *uplink.LinkError
			if results[0].Status != plant.Retry || results[0].Wait != time.Minute || !errors.As(results[0].Cause, &link) || !strings.Contains(results[0].Cause.Error(), "api_key") {
				t.Errorf("%+v", results)
			}
			r.want(`M-1 counter {"count":5}`)
			r.strict(fake.RuleAuth)
		})
	}
}

// TestAnswers: what each status means for the event, the machine and the link.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  central.Fault
		status plant.Status
		link   bool
		wait   time.Duration
		words  string
	}{
		{"a refusal", central.Answered(400, `{"message":"no such waste"}`), plant.Rejected, false, 0, "no such waste"},
		{"a conflict", central.Answered(409, "not now"), plant.Rejected, false, 0, "409 Conflict: not now"},
		{"too many", central.TooMany(17), plant.Retry, true, 17 * time.Second, "429"},
		{"away", central.Answered(503, "", "Retry-After", "90"), plant.Retry, true, 90 * time.Second, "503"},
		{"a gateway of theirs", central.Answered(502, "<html>oh</html>"), plant.Retry, true, 0, "502"},
		{"it stumbled", central.Answered(500, "oops"), plant.Retry, false, 0, "oops"},
		{"cut", central.Dropped(), plant.Retry, true, 0, "cut"},
		{"silent", central.Silent(), plant.Retry, true, 0, "cut"},
		{"elsewhere", central.Redirected(302, "https://evil.example/"), plant.Retry, true, time.Minute, "302"},
		{"no such method", central.Answered(405, ""), plant.Retry, true, time.Minute, "check url"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, company())
				r.fake.Faults.Add(test.fault)
				e := r.event("M-1", plant.KindCounter, counter(5, 5))
				results := r.send(e)
				got := results[len(results)-1]
				var link *uplink.LinkError
				if got.Status != test.status || got.Wait != test.wait || errors.As(got.Cause, &link) != test.link || !strings.Contains(got.Cause.Error(), test.words) {
					t.Errorf("%+v: %v", got, got.Cause)
				}
				outcomes := map[plant.Status]uplink.Outcome{plant.Retry: uplink.OutcomeRetry, plant.Rejected: uplink.OutcomeRefused}
				if x := r.journal[len(r.journal)-1]; x.Outcome != outcomes[test.status] || x.First != e.Sequence || x.Machine != "M-1" || x.Words == "" {
					t.Errorf("journal: %+v", x)
				}
				if test.status == plant.Retry {
					elapse(2 * time.Minute)
					r.deliver(e)
				}
				r.strict(fake.RuleEqual)
			})
		})
	}
}

// TestARefusalCostsARequestAMinute while the Forwarder holds the stream for it.
func TestARefusalCostsARequestAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		stop := r.event("M-1", plant.KindStartStop, `{"running":0,"stop_id":1,"type":"Unassigned"}`)
		for range 24 {
			if results := r.send(stop); results[0].Status != plant.Rejected {
				t.Fatalf("%+v", results)
			}
			elapse(5 * time.Second)
		}
		if n := len(r.wire.asked()); n != 2 {
			t.Errorf("%d requests in two minutes", n)
		}
	})
}

// TestNoOpenProductionIsTold once, and again when somebody has begun one.
func TestNoOpenProductionIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company(), func(o *Options) { o.OpenProduction = defaults().OpenProduction })
		for range 30 { // two pages
			r.fake.CheckIn("M-2", "PO", "P")
		}
		r.asks()
		r.asks()
		named := func() bool {
			var st uplink.Stats
			r.sender.Inform(&st)
			return len(st.Notices) == 1 && strings.Contains(st.Notices[0].Text, "no open production on M-1:") && !st.Notices[0].Since.IsZero()
		}
		if !named() {
			t.Error("the page does not say so")
		}
		if n := r.logs.FilterMessageSnippet("no open production").Len(); n != 1 {
			t.Errorf("told %d times", n)
		}
		r.fake.CheckIn("M-1", "PO1", "P1")
		r.asks()
		if n := r.logs.FilterMessageSnippet("a production is open").Len(); n != 1 {
			t.Errorf("its end was told %d times", n)
		}
		if named() {
			t.Error("the page says still so")
		}
		r.strict()
	})
}

// TestDamagedMemory is as good as new: refusals bring the counts back.
func TestDamagedMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(r.event("M-1", plant.KindCounter, counter(100, 100)))
		r.memory[machineKey+"M-1"] = []byte(`{"count":`)
		r.open()
		r.deliver(r.event("M-1", plant.KindCounter, counter(103, 3)))
		if got := r.fake.Machine("M-1").Count; got != 103 {
			t.Errorf("Prodsmart has %v", got)
		}
		if r.logs.FilterMessageSnippet("cannot be read").Len() != 1 {
			t.Error("nobody was told")
		}
		r.strict(fake.RuleDecreasing)
	})
}

// TestNoSecretIsRepeated: what Prodsmart repeats of the key and the secret, in
// whatever form, stands nowhere.
func TestNoSecretIsRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		login := base64.StdEncoding.EncodeToString([]byte(apiKey + ":" + apiSecret))
		r.fake.Faults.Add(central.Answered(400, fmt.Sprintf("the key %s with the secret %s (Basic %s) may not", apiKey, apiSecret, login)).Times(2))
		results := r.send(r.stop(1, "Jam"))
		words := results[0].Cause.Error()
		if !strings.Contains(words, "(secret)") {
			t.Errorf("the words are %q", words)
		}
		for _, s := range []string{apiKey, apiSecret, login} {
			if strings.Contains(words, s) {
				t.Errorf("a secret in %q", words)
			}
			for _, x := range r.journal {
				if strings.Contains(x.Words, s) {
					t.Errorf("a secret in the integration log: %q", x.Words)
				}
			}
		}
	})
}

// TestACodeThatNothingWasSentUnderIsNotListed: a machine that only doses has no
// code in a movement.
func TestACodeThatNothingWasSentUnderIsNotListed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		r.codes = uplink.NewCodes(uplink.CodeTables{Machine: config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: "PRESS", Value: uplink.Code{Theirs: "P1"}}}}}, nil)
		r.open()
		r.deliver(r.dose("SUGAR", "2", "kg"))
		if codes, _ := r.codes.Unmapped(); len(codes) != 0 {
			t.Errorf("listed as sent: %+v", codes)
		}
	})
}
