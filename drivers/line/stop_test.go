package line

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Lines that wait when the gateway stops are given to the rules, however slowly
// they are taken else. Where a rule answers each line the scanner still has it.
func TestLinesThatWaitAreGivenAtTheEnd(t *testing.T) {
	const sent = 50
	for _, c := range []struct {
		name   string
		record plant.Record
		want   int // records behind the first
	}{{"taken", units, sent - 1}, {"answered", answered, 0}} {
		t.Run(c.name, func(t *testing.T) {
			d, addr := listening(t, "max_rate: 2/s", c.record)
			scanner := call(t, addr)
			for i := range sent {
				send(t, scanner, fmt.Sprintf("UNIT%04d\r", i))
			}
			got := records(t, d, 1)
			l := d.(*driver).link
			for deadline := time.Now().Add(patience); len(l.lines) < sent-1; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d lines wait, want %d", len(l.lines), sent-1)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var err error
			for err == nil { // what is no line may come first
				var scans []plant.Scan
				scans, err = d.Read(ctx)
				for _, s := range scans {
					if s.Record != "" && s.Readings[0].Value != got[len(got)-1].Readings[0].Value {
						got = append(got, s)
					}
				}
			}
			if !errors.Is(err, context.Canceled) || len(got) != 1+c.want {
				t.Fatalf("%d records, then %v; want %d", len(got), err, 1+c.want)
			}
			for i, text := range texts(got) {
				if want := fmt.Sprintf("%d UNIT%04d", i+1, i); text != want {
					t.Errorf("%s, want %s", text, want)
				}
			}
			if lost := d.(*driver).counts.dropped.Load(); d.Close() != nil || c.want > 0 && lost != 0 {
				t.Errorf("%d lines are lost", lost)
			}
		})
	}
}
