package drivers

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// tagScript is a device whose tags are bad when bad says so.
func tagScript(start time.Time, bad func(at time.Duration, tag int) bool) *script {
	return &script{start: start, read: func(context.Context) ([]plant.Scan, error) {
		scan := plant.Scan{Device: "plc", Received: time.Now()}
		for i := range 40 {
			r := plant.Reading{Tag: plant.TagID(fmt.Sprintf("t%02d", i)), Quality: plant.Good, Value: plant.IntValue(1)}
			if bad(time.Since(start), i) {
				r = plant.Reading{Tag: r.Tag, Cause: "the server has no such node (BadNodeIdUnknown 0x80340000)"}
			}
			scan.Readings = append(scan.Readings, r)
		}
		return []plant.Scan{scan}, nil
	}}
}

// badTagLines runs a device for a time and returns what the log said of tags.
func badTagLines(t *testing.T, lasts time.Duration, bad func(at time.Duration, tag int) bool) (lines []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		o := PollerOptions{Device: "plc", Interval: time.Second, Timeout: time.Second}
		for i := range 40 {
			o.Tags = append(o.Tags, plant.Tag{ID: plant.TagID(fmt.Sprintf("t%02d", i)), Address: fmt.Sprintf("ns=2;i=%d", i)})
		}
		p := NewPoller(o, tagScript(time.Now(), bad), nil, zap.New(core))
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		for _, e := range logs.All() {
			if strings.Contains(e.Message, "tags are") {
				lines = append(lines, fmt.Sprintf("%v %s %v", e.Time.Sub(start).Round(time.Second), e.Message, e.ContextMap()["tags"]))
			}
		}
	})
	return lines
}

func TestBadTagsAreToldAtTheirEdges(t *testing.T) {
	lines := badTagLines(t, time.Hour, func(at time.Duration, tag int) bool {
		return tag < 7 && at > 30*time.Second && at < 5*time.Minute || at < 5*time.Second // a PLC that boots
	})
	if len(lines) != 2 || !strings.Contains(lines[0], "7 of 40 tags are bad [t00 (ns=2;i=0): the server has no such node") ||
		!strings.Contains(lines[0], "and 2 more]") || !strings.HasPrefix(lines[1], "5m1") || !strings.Contains(lines[1], "all tags are good again") {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
}

func TestATagThatFlapsFillsNoLog(t *testing.T) {
	for _, period := range []time.Duration{2 * time.Second, 30 * time.Second, 5 * time.Minute} {
		lines := badTagLines(t, 4*time.Hour, func(at time.Duration, tag int) bool {
			return tag < 3 && at/period%2 == 1
		})
		if len(lines) > 2*4*6 || period > badTagsSettle && len(lines) < 2 {
			t.Errorf("flapping each %v: %d lines in four hours", period, len(lines))
		}
	}
}

// One more bad tag is news, an old one that comes and goes beside it is not.
func TestAnotherBadTagIsNews(t *testing.T) {
	lines := badTagLines(t, time.Hour, func(at time.Duration, tag int) bool {
		switch tag {
		case 1:
			return true
		case 2:
			return int(at/time.Minute)%2 == 1
		case 3:
			return at > 30*time.Minute
		default:
			return false
		}
	})
	if len(lines) != 3 || !strings.Contains(lines[2], "t03") {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
}

// A device that is away says nothing of its tags.
func TestBadTagsOfALostDeviceAreNotTold(t *testing.T) {
	var b badTagLog
	bad := map[plant.TagID]string{"a": "no"}
	now := time.Unix(1e9, 0)
	for range 100 {
		now = now.Add(badTagsSettle / 2)
		if got := b.look(now, bad); got != nothing {
			t.Fatal(got)
		}
		b.away()
	}
}
