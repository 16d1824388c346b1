package rule

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

func TestWhoseClockAStampIsFrom(t *testing.T) {
	at := time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		source time.Time
		want   time.Time
		device bool
		offset time.Duration
	}{
		{time.Time{}, at, false, 0},
		{at.Add(-2 * time.Second), at.Add(-2 * time.Second), true, -2 * time.Second},
		{at.Add(5 * time.Second), at.Add(5 * time.Second), true, 5 * time.Second},
		{at.Add(5*time.Second + 1), at, false, 5*time.Second + 1},
		{at.Add(-time.Hour), at, false, -time.Hour},
	} {
		s := NewStamp(at, c.source, 5*time.Second)
		if !s.Time().Equal(c.want) || s.Device != c.device || time.Duration(s.Offset) != c.offset {
			t.Errorf("source %s: %+v is %s", c.source, s, s.Time())
		}
	}
}

func TestABindingIsTheAddressNotTheName(t *testing.T) {
	in := func(tag plant.TagID, typ plant.TagType, address string) string {
		return Input{Ref: plant.TagRef{Device: "d", Tag: tag}, Tag: plant.Tag{ID: tag, Type: typ, Address: address}}.Binding()
	}
	made := in("made", plant.TypeUint16, "4:100")
	if made != in("count", plant.TypeUint16, "4:100") {
		t.Error("a renamed tag is another one")
	}
	for _, other := range []string{in("made", plant.TypeUint16, "4:101"), in("made", plant.TypeUint32, "4:100"), in("made", plant.TypeUint16, "")} {
		if other == made {
			t.Errorf("%s is bound to %s", other, made)
		}
	}
	if in("made", plant.TypeUint16, "") == in("count", plant.TypeUint16, "") {
		t.Error("tags without an address are told apart by their names")
	}
}
