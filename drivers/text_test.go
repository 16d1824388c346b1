package drivers

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

func TestATextTooLongForAnEventIsBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.read = func(context.Context) ([]plant.Scan, error) {
			return []plant.Scan{{Session: 1, Readings: []plant.Reading{
				{Tag: "lot", Value: plant.TextValue(strings.Repeat("ä", maxText)), Quality: plant.Good},
				{Tag: "serial", Value: plant.TextValue(strings.Repeat("s", maxText)), Quality: plant.Good},
				{Tag: "noise", Value: plant.TextValue(strings.Repeat("\x01", maxText/2)), Quality: plant.Good},
			}}}, nil
		}
		b := run(t, s, PollerOptions{Interval: time.Second})
		synctest.Wait()
		st := b.Stats()
		if want := "the text is 2048 bytes long, and 1024 are taken"; !strings.HasPrefix(st.BadTags["lot"], want) || len(st.BadTags) != 2 {
			t.Errorf("bad tags %q, want lot: %s", st.BadTags, want)
		}
		if want := "the text has so many control characters that it takes 3072 bytes"; !strings.HasPrefix(st.BadTags["noise"], want) {
			t.Errorf("noise: %q, want %s", st.BadTags["noise"], want)
		}
		b.stop()
		var lot, serial plant.Reading
		for _, in := range b.tape.scans {
			lot, serial = in.Readings[0], in.Readings[1]
		}
		if lot.Quality != plant.Bad || lot.Value.Text() != strings.Repeat("ä", shownText/2) {
			t.Errorf("the sink got %q of quality %v, want its beginning, bad", lot.Value.Text(), lot.Quality)
		}
		if serial.Quality != plant.Good || len(serial.Value.Text()) != maxText {
			t.Errorf("a text of just that length: %v, %d bytes", serial.Quality, len(serial.Value.Text()))
		}
	})
}
