package plantsim

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/firmware-notes/blocks"
)

// answerLevel and the others are a gateway that knows only the page
// firmware-notes/handshakes.md, working on the memory itself.
var answers = map[string]func(b *Bank, seen *[]uint16, take func() uint16){
	"SluiceLevel": func(b *Bank, seen *[]uint16, take func() uint16) {
		switch offer, ack := b.Coil(HandoverOffer), b.Coil(HandoverAck); {
		case offer && !ack:
			*seen = append(*seen, take())
			b.SetCoil(HandoverAck, true)
		case !offer && ack:
			b.SetCoil(HandoverAck, false)
		}
	},
	"SluiceSequence": func(b *Bank, seen *[]uint16, take func() uint16) {
		if n := b.Holding(HandoverNumber); n != 0 && n != b.Holding(HandoverEcho) {
			*seen = append(*seen, take())
			b.SetHolding(HandoverEcho, n)
		}
	},
	"SluiceCounter": func(b *Bank, seen *[]uint16, take func() uint16) {
		if n := b.Holding(HandoverNumber); n != b.Holding(HandoverEcho) {
			*seen = append(*seen, take())
			b.SetHolding(HandoverEcho, n)
		}
	},
	"SluiceToggle": func(b *Bank, seen *[]uint16, take func() uint16) {
		if offer := b.Coil(HandoverOffer); offer != b.Coil(HandoverAck) {
			*seen = append(*seen, take())
			b.SetCoil(HandoverAck, offer)
		}
	},
	"SluiceRing": func(b *Bank, seen *[]uint16, _ func() uint16) {
		for tail := b.Holding(HandoverEcho); tail != b.Holding(HandoverNumber); tail++ {
			*seen = append(*seen, b.Holding(HandoverRing+16*(tail%32)))
			b.SetHolding(HandoverEcho, tail+1)
		}
	},
}

// TestHandover runs each block in both dialects against the book: records come
// once and in their order over a power cut, and what the queue had no room for
// is counted.
func TestHandover(t *testing.T) {
	for name, answer := range answers {
		for _, dialect := range []blocks.Dialect{blocks.S7, blocks.CODESYS} {
			t.Run(name+"."+string(dialect), func(t *testing.T) {
				h, plc, err := NewModbusHandover("127.0.0.1:0", HandoverOptions{Block: name, Dialect: dialect, Hold: time.Hour, Wired: true})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = plc.Stop() })
				var seen, want []uint16
				step := func() {
					plc.Update(func(b *Bank) { answer(b, &seen, func() uint16 { return b.Holding(HandoverRecord) }) })
					h.Cycle()
				}
				for n := uint16(1); n <= 40; n++ { // more than the 32 that it has room for
					if accepted := h.Put(n, 7); accepted != (n <= 32) {
						t.Errorf("record %d was taken: %v", n, accepted)
					}
					if n <= 32 {
						want = append(want, n)
					}
				}
				for range 30 {
					step()
				}
				if err := h.Restart(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
				for range 200 {
					step()
				}
				for n := uint16(41); n <= 43; n++ {
					h.Put(n, 7)
					want = append(want, n)
					step()
					step()
					step()
				}
				if got := h.Handed(); got != (Handed{Accepted: 35, Lost: 8}) {
					t.Errorf("%+v", got)
				}
				if !slices.Equal(seen, want) {
					t.Errorf("handed over %v, want %v", seen, want)
				}
				plc.Update(func(b *Bank) {
					if b.Holding(HandoverLost) != 0 || b.Holding(HandoverLost+1) != 8 {
						t.Errorf("lost reads %d %d", b.Holding(HandoverLost), b.Holding(HandoverLost+1))
					}
				})
				if err := h.Err(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestTheCounterBlockWaitsForNobody: each record stands for hold, answered or
// not.
func TestTheCounterBlockWaitsForNobody(t *testing.T) {
	h, plc, err := NewModbusHandover("127.0.0.1:0", HandoverOptions{Block: "SluiceCounter", Dialect: blocks.S7, Hold: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plc.Stop() })
	h.Put(1)
	h.Put(2)
	shown := func() (number uint16) {
		h.Cycle()
		plc.Update(func(b *Bank) { number = b.Holding(HandoverNumber) })
		return number
	}
	began := time.Now()
	if n := shown(); n != 1 {
		t.Fatalf("number %d at once", n)
	}
	for shown() == 1 {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the second record never came")
		}
		time.Sleep(time.Millisecond)
	}
	if stood := time.Since(began); stood < 25*time.Millisecond {
		t.Errorf("the first record stood for %s", stood)
	}
}
