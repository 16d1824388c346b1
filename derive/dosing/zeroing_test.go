package dosing

import "testing"

// A damaged state whose new zero cannot be followed is followed no further.
func TestFitForgetsADamagedZero(t *testing.T) {
	for name, z := range map[string]zeroing{
		"a step below 0 unseen": {Left: 1, Bits: 1, Count: 2, Unseen: -1},
		"weights below 0":       {Left: -1, Bits: 1, Count: 2, Idle: true},
		"steps below 0":         {Left: 1, Bits: 1, Count: -1},
		"too many steps":        {Left: 1, Bits: 1, Count: zeroSteps},
	} {
		t.Run(name, func(t *testing.T) {
			s := LiveState{Zero: z}
			(&Live{}).Fit(&s)
			if s.Zero != (zeroing{}) {
				t.Errorf("it goes on with %+v", s.Zero)
			}
			if _, ok := s.Zero.fresh(1, 1); ok {
				t.Error("a weight behind nothing")
			}
		})
	}
	s := LiveState{Zero: zeroing{Left: 1, Bits: 1, Count: 2, Unseen: 1}}
	if (&Live{}).Fit(&s); s.Zero.Left == 0 {
		t.Error("a sound state is forgotten")
	}
}
