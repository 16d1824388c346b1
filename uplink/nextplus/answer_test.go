package nextplus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestStatuses: below 400 is success, else the receiver's message is shown; what a
// person must mend concerns the whole system, what may pass by itself is tried
// again, and the rest is refused.
func TestStatuses(t *testing.T) {
	const said = `{"message":"the work order is closed"}`
	for _, c := range []struct {
		status int
		body   string
		want   plant.Status
		// link is set if the whole system waits, and wait is how long at least.
		link  bool
		wait  time.Duration
		words string
	}{
		{200, "", plant.Delivered, false, 0, ""},
		{201, `{"externalId":"X"}`, plant.Delivered, false, 0, ""},
		{299, "", plant.Delivered, false, 0, ""},
		{302, "", plant.Delivered, false, 0, ""},
		{399, "", plant.Delivered, false, 0, ""},
		{400, said, plant.Rejected, false, 0, "the work order is closed"},
		{401, said, plant.Retry, true, time.Minute, "check the secret of auth"},
		{403, said, plant.Retry, true, time.Minute, "the work order is closed"},
		{403, "", plant.Retry, true, time.Minute, "check what auth may do"},
		{404, said, plant.Rejected, false, 0, "the work order is closed"},
		{404, "", plant.Retry, true, time.Minute, "check the URL"},
		{405, "", plant.Retry, true, time.Minute, "does not take POST"},
		{409, said, plant.Rejected, false, 0, "the work order is closed"},
		{413, "", plant.Rejected, false, 0, "413"},
		{422, "no such sku", plant.Rejected, false, 0, "no such sku"},
		{423, said, plant.Retry, false, 0, "the work order is closed"},
		{429, "", plant.Retry, true, 7 * time.Second, "429"},
		{500, said, plant.Retry, false, 7 * time.Second, "the work order is closed"},
		{501, "", plant.Retry, true, time.Minute, "check the URL"},
		{503, said, plant.Retry, true, 7 * time.Second, "the work order is closed"},
		{599, "", plant.Retry, true, 0, "599"},
	} {
		t.Run(fmt.Sprintf("%d%s", c.status, c.body), func(t *testing.T) {
			s := newShop(t, fake.ERP{}).open()
			s.erp.Faults.Add(central.Answered(c.status, c.body, "Retry-After", "7"))
			r := s.send(s.serial("add", "SN-1", ""))[0]
			if r.Status != c.want || r.Wait < c.wait {
				t.Fatalf("it is %v, and waits %v: %v", r.Status, r.Wait, r.Cause)
			}
			if r.Cause == nil {
				return
			}
			var link *uplink.LinkError
			if errors.As(r.Cause, &link) != c.link || !strings.Contains(r.Cause.Error(), c.words) {
				t.Errorf("the cause is %T: %v", r.Cause, r.Cause)
			}
		})
	}
}

// TestRedirects are a success by the letter, and none is followed.
func TestRedirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{elsewhere(t) + "/device", "/device/elsewhere"} {
			s := newShop(t, fake.ERP{}).open()
			s.erp.Faults.Add(central.Redirected(status, to))
			s.accepted(s.serial("add", "SN-1", ""))
			if !strings.Contains(s.words(), "not followed") || s.erp.Faults.Hits() != 1 || len(s.erp.Accepted()) != 0 {
				t.Errorf("%d to %s: %q", status, to, s.words())
			}
			s.faultless()
		}
	}
	s := newShop(t, fake.ERP{})
	s.options.Redirect = asRetry
	s.open()
	s.erp.Faults.Add(central.Redirected(302, "/login"))
	same(t, statuses(s.send(s.serial("add", "SN-1", ""))), plant.Retry)
}

// TestWebPage: a login portal's page is no receiver's word, unless it is.
func TestWebPage(t *testing.T) {
	for want, setting := range map[plant.Status]string{plant.Retry: asRetry, plant.Delivered: asDelivered} {
		s := newShop(t, fake.ERP{})
		s.options.WebPage = setting
		s.open()
		s.erp.Faults.Add(central.Answered(200, "<!DOCTYPE html><p>sign in", "Content-Type", "text/html"))
		same(t, statuses(s.send(s.serial("add", "SN-1", ""))), want)

		s.erp.Faults.Add(central.Answered(200, "<!DOCTYPE html><p>sign in", "Content-Type", "text/html").Always())
		if err := s.sender.Test(t.Context()); (err != nil) != (want == plant.Retry) || err != nil && !strings.Contains(err.Error(), "login portal") {
			t.Errorf("web_page %s: the test says %v", setting, err)
		}
	}
}

// TestLostReply: sent again under the same key, and marked; or put aside for a
// person, never twice.
func TestLostReply(t *testing.T) {
	t.Run("retry", func(t *testing.T) {
		s := newShop(t, fake.ERP{HonoursKeys: true, NeedsKeys: true}).open()
		for _, f := range []central.Fault{central.LostReply(), central.CutBody()} {
			s.erp.Faults.Add(f)
			add := s.serial("add", fmt.Sprintf("SN-%d", s.next), "")
			r := s.send(add)
			same(t, statuses(r), plant.Retry)
			var link *uplink.LinkError
			if !errors.As(r[0].Cause, &link) {
				t.Errorf("a lost reply is no word on the event: %v", r[0].Cause)
			}
			s.accepted(add)
			if !strings.Contains(s.words(), "the reply to the first request was lost") {
				t.Errorf("nobody is told: %q", s.words())
			}
		}
		if s.erp.Devices() != 2 {
			t.Errorf("%d units", s.erp.Devices())
		}
		s.faultless()
	})
	t.Run("park", func(t *testing.T) {
		s := newShop(t, fake.ERP{NeedsKeys: true})
		s.options.OnLostReply = lostPark
		s.open()
		s.sender.pause = func(int) time.Duration { return 0 }
		s.accepted(s.serial("add", "SN-0", "")) // so that a connection is kept, on which net/http might try again
		for i, f := range []central.Fault{central.LostReply(), central.CutBody(), central.Dropped()} {
			s.erp.Faults.Add(f.Where(posts))
			serial := fmt.Sprintf("SN-%d", i+1)
			r := s.send(s.serial("add", serial, ""))
			same(t, statuses(r), plant.Rejected)
			if !strings.Contains(r[0].Cause.Error(), "on_lost_reply is park") {
				t.Errorf("nobody is told what to do: %v", r[0].Cause)
			}
			same(t, statuses(s.send(s.attach("add", uint64(i)+1, serial, ""))), plant.Held)
		}
		// What certainly did not arrive is not parked.
		s.server.Close()
		same(t, statuses(s.send(s.serial("add", "SN-9", ""))), plant.Retry)
		s.faultless(fake.RuleRequest) // the questions
	})
	t.Run("the second request meets the effect of the first", func(t *testing.T) {
		s := newShop(t, fake.ERP{}).open()
		s.accepted(s.serial("add", "SN-1", ""))
		remove := s.serial("remove", "SN-1", "")
		s.erp.Faults.Add(central.LostReply())
		same(t, statuses(s.send(remove)), plant.Retry)
		s.accepted(remove)
		add := s.serial("add", "SN-2", "")
		s.erp.Faults.Add(central.LostReply(), central.Answered(http.StatusConflict, `{"externalId":"ERP-DEV-77"}`))
		same(t, statuses(s.send(add)), plant.Retry)
		s.accepted(add)
		var unit device
		if _, err := s.sender.view("STATION-1").get(deviceKey("PUMP", "SN-2"), &unit); err != nil || unit.ExternalID != "ERP-DEV-77" {
			t.Errorf("got %+v, %v", unit, err)
		}
		s.faultless(fake.RuleUnknown)
	})
}

// TestWhatMayHaveBeenUnderWayIsMarked: with retry nobody knows after a start which
// events the gateway had sent when it ended, so that the first of each machine from
// before are marked.
func TestWhatMayHaveBeenUnderWayIsMarked(t *testing.T) {
	marked := func(s *shop, n int, change func(e *plant.Event)) (all []bool) {
		for range n {
			e := s.operation("add", 1, 0, "")
			if change != nil {
				change(&e)
			}
			s.accepted(e)
			requests := s.erp.Accepted()
			all = append(all, requests[len(requests)-1].Repeated)
		}
		return all
	}
	count := func(all []bool) (n int) {
		for _, m := range all {
			if m {
				n++
			}
		}
		return n
	}
	s := newShop(t, fake.ERP{})
	s.opened = time.Now()
	s.open()
	if all := marked(s, maxEvents+8, nil); count(all) != maxEvents || !all[0] || all[maxEvents] {
		t.Errorf("%d are marked: %v", count(all), all)
	}
	if n := count(marked(s, 3, func(e *plant.Event) { e.Machine = "STATION-2" })); n != 3 {
		t.Errorf("%d of another machine are marked", n)
	}
	if n := count(marked(s, 3, func(e *plant.Event) { e.Machine, e.Time = "STATION-3", time.Now().Add(time.Second) })); n != 0 {
		t.Errorf("%d that happened since are marked", n)
	}
	park := newShop(t, fake.ERP{})
	park.opened, park.options.OnLostReply = time.Now(), lostPark
	if n := count(marked(park.open(), 3, nil)); n != 0 {
		t.Errorf("%d are marked where each request is noted", n)
	}
	s.faultless()
}

// posts are the requests that carry events.
func posts(q *http.Request) bool { return q.Method == http.MethodPost }

// TestNoFloodOfLostReplies: with park a receiver that has lost a reply is asked
// whether it is there before the next event goes out, and nothing is sent twice.
func TestNoFloodOfLostReplies(t *testing.T) {
	s := newShop(t, fake.ERP{NeedsKeys: true})
	s.options.OnLostReply = lostPark
	s.open()
	var pauses []int
	s.sender.pause = func(lost int) time.Duration { pauses = append(pauses, lost); return 0 }

	// It is away behind its proxy: one event is parked, the next waits.
	s.erp.Faults.Add(central.BookedBut(504, "upstream").Where(posts), central.Answered(502, "upstream").Times(3))
	first, second := s.serial("add", "SN-1", ""), s.serial("add", "SN-2", "")
	same(t, statuses(s.send(first)), plant.Rejected)
	for range 3 {
		r := s.send(second)
		same(t, statuses(r), plant.Retry)
		var link *uplink.LinkError
		if !errors.As(r[0].Cause, &link) || !strings.Contains(r[0].Cause.Error(), "502") {
			t.Errorf("the cause is %v", r[0].Cause)
		}
	}
	s.accepted(second)
	// It answers the question, and loses replies all the same: one by one, never one
	// of them again.
	s.erp.Faults.Add(central.LostReply().Where(posts).Times(7))
	for n := range 7 {
		r := s.send(s.serial("add", fmt.Sprintf("SN-1%d", n), ""))
		same(t, statuses(r), plant.Rejected)
		var f uplink.Final
		if !errors.As(r[0].Cause, &f) || !f.Final() {
			t.Errorf("it may be sent again: %v", r[0].Cause)
		}
	}
	if fmt.Sprint(pauses) != "[1 1 2 3 4 5 6 7]" {
		t.Errorf("pauses after %v lost replies", pauses)
	}
	// And it is left alone for longer and longer.
	s.sender.pause = pauseAfter
	s.erp.Faults.Add(central.LostReply().Where(posts))
	same(t, statuses(s.send(s.serial("add", "SN-20", ""))), plant.Rejected)
	r := s.send(s.serial("add", "SN-21", ""))
	if same(t, statuses(r), plant.Retry); r[0].Wait < 30*time.Second {
		t.Errorf("after eight lost replies it is asked again in %v", r[0].Wait)
	}
	for _, lost := range []struct {
		n    int
		want time.Duration
	}{{1, 0}, {2, time.Second}, {3, 2 * time.Second}, {8, longestLull}, {1000, longestLull}} {
		if got := pauseAfter(lost.n); got != lost.want {
			t.Errorf("after %d lost replies a pause of %v, want %v", lost.n, got, lost.want)
		}
	}
	s.faultless(fake.RuleRequest) // the questions
}

// TestAnswersNobodyCanUse: the status has said that the receiver has it; an id that
// cannot be read is none.
func TestAnswersNobodyCanUse(t *testing.T) {
	for name, f := range map[string]central.Fault{"malformed": central.Malformed(), "huge": central.HugeBody(1 << 20)} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, fake.ERP{}).open()
			s.erp.Faults.Add(f)
			s.accepted(s.serial("add", "SN-1", ""))
			if !strings.Contains(s.words(), "names no externalId") {
				t.Errorf("nobody is told: %q", s.words())
			}
		})
	}
	s := newShop(t, fake.ERP{}).open()
	s.erp.Faults.Add(central.Answered(200, `{"externalId":4711}`, "Content-Type", "application/json"))
	s.accepted(s.serial("add", "SN-1", ""))
	if !strings.Contains(s.words(), "externalId 4711") {
		t.Errorf("a number is an id as well: %q", s.words())
	}
}

// TestHeaders: the key, the time of the event and who we are go with each request;
// no secret comes back in words.
func TestHeaders(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"message":"no: %s"}`, r.Header.Get("Authorization"))
	}))
	defer server.Close()
	s := newShop(t, fake.ERP{})
	s.options = testOptions(server.URL)
	s.options.Auth.Bearer = config.NewSecret("hunter2")
	s.open()
	r := s.send(s.serial("add", "SN-1", ""))
	if got.Get("Idempotency-Key") != "gw/STATION-1/0000000000000007-1" || got.Get("Event-Time") != "2026-02-02T02:40:01.000Z" ||
		got.Get("Authorization") != "Bearer hunter2" || got.Get("Content-Type") != "application/json" || got.Get("Sluice-Repeated") != "" {
		t.Errorf("got %v", got)
	}
	if text := r[0].Cause.Error() + s.words(); strings.Contains(text, "hunter2") || !strings.Contains(text, "no: Bearer (secret)") {
		t.Errorf("the words are %q", text)
	}
}

// TestTheTestAction tells what is there from what is not, and books nothing.
func TestTheTestAction(t *testing.T) {
	s := newShop(t, fake.ERP{}).open()
	if err := s.sender.Test(t.Context()); err != nil {
		t.Errorf("a receiver of POST alone is there as well: %v", err)
	}
	if len(s.notes) != 3 || s.notes[0].Outcome != uplink.OutcomeTest || s.notes[0].Method != http.MethodOptions || len(s.erp.Accepted()) != 0 {
		t.Errorf("the journal has %+v", s.notes)
	}
	s.erp.Faults.Add(central.Answered(401, `{"message":"who are you"}`).Times(1))
	if err := s.sender.Test(t.Context()); err == nil || !strings.Contains(err.Error(), "who are you") || !strings.Contains(err.Error(), "device") {
		t.Errorf("got %v", err)
	}
	s.server.Close()
	if err := s.sender.Test(t.Context()); err == nil || strings.Count(err.Error(), "nextplus") < 3 {
		t.Errorf("each URL that is away is named: %v", err)
	}
}

// TestTheBatchEnds at what is not accepted, and in time.
func TestTheBatchEnds(t *testing.T) {
	s := newShop(t, fake.ERP{}).open()
	s.erp.Faults.Add(central.Answered(400, "").After(1), central.Answered(503, "").After(2))
	events := []plant.Event{s.operation("add", 1, 0, ""), s.operation("add", 2, 0, ""), s.operation("add", 3, 0, ""), s.operation("add", 4, 0, "")}
	same(t, statuses(s.send(events...)), plant.Delivered, plant.Rejected)
	same(t, statuses(s.send(events[2:]...)), plant.Delivered, plant.Retry)
	ctx, cancel := context.WithTimeout(t.Context(), s.options.Timeout.Std()/2)
	defer cancel()
	r := s.sender.Send(ctx, "STATION-1", events[2:])
	same(t, statuses(r), plant.Delivered, plant.Retry)
	if !errors.Is(r[1].Cause, errLate) {
		t.Errorf("got %v", r[1].Cause)
	}
}

// TestAProxyThatLostTheReceiver says nothing of whether that has booked.
func TestAProxyThatLostTheReceiver(t *testing.T) {
	for _, c := range []struct {
		fault central.Fault
		lost  bool
	}{
		{central.Answered(502, "<h1>Bad Gateway"), true},
		{central.Answered(504, ""), true},
		{central.Answered(503, "upstream connect error"), true},
		{central.Answered(503, "", "Retry-After", "7"), false},
		{central.Answered(503, `{"message":"closed for stock-taking"}`), false},
	} {
		s := newShop(t, fake.ERP{}).open()
		s.erp.Faults.Add(c.fault)
		add := s.serial("add", "SN-1", "")
		r := s.send(add)
		same(t, statuses(r), plant.Retry)
		var link *uplink.LinkError
		if !errors.As(r[0].Cause, &link) {
			t.Errorf("%v is no word on the event", r[0].Cause)
		}
		s.accepted(add)
		if got := strings.Contains(s.words(), "sent again"); got != c.lost {
			t.Errorf("%v: sent again with the words %q", r[0].Cause, s.words())
		}

		s = newShop(t, fake.ERP{})
		s.options.OnLostReply = lostPark
		s.open()
		s.erp.Faults.Add(c.fault)
		want := plant.Retry
		if c.lost {
			want = plant.Rejected
		}
		same(t, statuses(s.send(s.serial("add", "SN-1", ""))), want)
	}
}
