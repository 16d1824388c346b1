package status

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/uplink"
)

// toldStops is a Stops that knows these.
type toldStops struct {
	all []uplink.MissedStop
	err error
}

func (t *toldStops) MissedStops() ([]uplink.MissedStop, error) { return t.all, t.err }

// quietPlant is a Source of a plant without anything.
type quietPlant struct{}

func (quietPlant) Snapshot() Snapshot { return Snapshot{Gateway: "gw-1"} }

func TestStopsThatWereNotTold(t *testing.T) {
	stops := &toldStops{all: []uplink.MissedStop{
		{Uplink: "mes", Machine: "PRESS-01", StopID: 4, Type: "=1+1", Reason: "<7>", From: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 22, 6, 5, 0, 0, time.UTC)},
		{Uplink: "mes", Machine: "PRESS-02", StopID: 5, Type: "Jam", From: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC), Doubtful: true},
	}}
	s := New(Options{Listen: "127.0.0.1:0", Stops: stops, Location: time.FixedZone("CET", 3600)}, quietPlant{}, zap.NewNop())
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "localhost"
		s.Handler().ServeHTTP(w, r)
		return w
	}
	page := ask("/stops").Body.String()
	for _, want := range []string{"PRESS-01", "2026-11-22 07:00:00 CET to 2026-11-22 07:05:00 CET", "5m0s", "(&lt;7&gt;)", "nobody knows whether it was told", "/api/v1/stops?format=csv"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	if strings.Index(page, "PRESS-02") > strings.Index(page, "PRESS-01") {
		t.Error("the newest is not the first")
	}
	stops.all = append([]uplink.MissedStop{}, stops.all[1], stops.all[0]) // the page turns them
	want := "uplink,machine,stop_id,type,reason,from,to,seconds,doubtful\nmes,PRESS-01,4,'=1+1,<7>,2026-11-22T06:00:00Z,2026-11-22T06:05:00Z,300,false\nmes,PRESS-02,5,Jam,,2026-11-22T07:00:00Z,,,true\n"
	if got := ask("/api/v1/stops?format=csv"); got.Body.String() != want || got.Header().Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("%s\nwant\n%s", got.Body, want)
	}
	if got := ask("/api/v1/stops").Body.String(); !strings.Contains(got, `"stop_id":5,"type":"Jam","from":"2026-11-22T07:00:00Z","doubtful":true}`) {
		t.Errorf("%s", got)
	}
	if got := ask("/api/v1/stops?format=xml"); got.Code != 400 {
		t.Errorf("%d", got.Code)
	}
	if got := ask("/api/v1/stops?from=1"); got.Code != 400 {
		t.Errorf("%d", got.Code)
	}
	stops.all = nil
	if got := ask("/stops").Body.String(); !strings.Contains(got, "Every stop was told") {
		t.Error(got)
	}
	if got := ask("/api/v1/stops").Body.String(); got != `{"stops":[]}`+"\n" {
		t.Error(got)
	}
	stops.err = errors.New("the gateway is starting")
	if got := ask("/stops"); got.Code != 503 || !strings.Contains(got.Body.String(), "is starting") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}
