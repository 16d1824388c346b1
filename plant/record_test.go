package plant

import "testing"

func TestUnanswered(t *testing.T) {
	for _, c := range []struct {
		record          Record
		trigger, answer Value
		want            bool
	}{
		{Record{}, BoolValue(true), BoolValue(false), true},
		{Record{}, BoolValue(true), BoolValue(true), false},
		{Record{}, UintValue(7), UintValue(6), true},
		{Record{}, TextValue("7"), UintValue(6), false},
		{Record{}, UintValue(7), Value{}, false},
		{Record{Slot: 0, Slots: 4}, UintValue(4), UintValue(4), false},
		{Record{Slot: 0, Slots: 4}, UintValue(5), UintValue(4), true},
		{Record{Slot: 1, Slots: 4}, UintValue(5), UintValue(4), false},
		{Record{Slot: 1, Slots: 4}, UintValue(8), UintValue(4), true},
		{Record{Slot: 1, Slots: 4}, UintValue(9), UintValue(6), false},
		{Record{Slot: 3, Slots: 4}, UintValue(9), UintValue(6), true},
		{Record{Slot: 0, Slots: 4}, UintValue(9), UintValue(6), true},
		// Round the end of the type the head is below the tail.
		{Record{Slot: 2, Slots: 4}, UintValue(1), UintValue(65534), true},
	} {
		if got := c.record.Unanswered(c.trigger, c.answer); got != c.want {
			t.Errorf("slot %d of %d, %v and %v: %v", c.record.Slot, c.record.Slots, c.trigger, c.answer, got)
		}
	}
}
