//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// Names of the machines.
const (
	press = "PRESS" // a 16-bit totalizer that rolls over
	line  = "LINE"  // a 32-bit totalizer with scrap
	mixer = "MIXER" // doses by a level handshake
	oven  = "OVEN"  // long texts as parameters: events of several pages
)

// The oven's texts: so many tags of so many registers.
const (
	ovenTags      = 48
	ovenRegisters = 120
)

// workshop is the plant of the rig: PLCs that journal what they serve, and so
// know what is true. Its methods may be called from any goroutine.
type workshop struct {
	press, line, oven *plantsim.Modbus
	// reads are when the press was read.
	reads pulse
	mixer *plantsim.Scale

	mu      sync.Mutex
	frozen  bool
	left    int // reads that still count while frozen
	pressed int64
	lined   int64
	scrap   int64
	heat    int64
	lots    map[string]int64
	order   []string
	journal *bufio.Writer
	file    *os.File
	end     context.CancelFunc
	running sync.WaitGroup
}

var _ oracle.Truth = (*workshop)(nil)

// newWorkshop starts the PLCs, standing still, with their journal in dir.
func newWorkshop(dir string) (w *workshop, err error) {
	w = &workshop{frozen: true, lots: map[string]int64{}}
	if w.file, err = os.Create(filepath.Join(dir, "plc.journal")); err != nil {
		return nil, err
	}
	w.journal = bufio.NewWriter(w.file)
	for _, plc := range []**plantsim.Modbus{&w.press, &w.line, &w.oven} {
		if *plc, err = plantsim.NewModbus("127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	if w.mixer, err = plantsim.NewScale("127.0.0.1:0", plantsim.ScaleOptions{}); err != nil {
		return nil, err
	}
	w.press.OnRead(func(b *plantsim.Bank) {
		w.reads.beat(press)
		w.count(&w.pressed, press)
		b.SetHolding(0, uint16(w.pressedNow()+pressStart))
	})
	w.line.OnRead(func(b *plantsim.Bank) {
		w.count(&w.lined, line)
		made, scrap := w.linedNow()
		b.SetHolding(0, uint16(made), uint16(made>>16), uint16(scrap), uint16(scrap>>16))
	})
	w.bake()
	ctx, end := context.WithCancel(context.Background())
	w.end = end
	w.running.Go(func() { w.mixer.Serve(ctx) })
	return w, nil
}

// pressStart lets the 16-bit counter roll over early.
const pressStart = 64_000

// count counts a read, as a totalizer that makes one piece at each.
func (w *workshop) count(n *int64, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.frozen {
		if w.left == 0 {
			return
		}
		w.left--
	}
	*n++
	if n == &w.lined && *n%7 == 0 {
		w.scrap++
	}
	fmt.Fprintf(w.journal, "%d %s %d\n", time.Now().UnixMilli(), name, *n)
}

func (w *workshop) pressedNow() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pressed
}

func (w *workshop) linedNow() (made, scrap int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lined, w.scrap
}

// thaw lets the totalizers count.
func (w *workshop) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = false
}

// freeze stops everything; n more reads count.
func (w *workshop) freeze(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen, w.left = true, n
}

// dose weighs one dose and offers it.
func (w *workshop) dose() {
	w.mu.Lock()
	n := len(w.order)
	lot := fmt.Sprintf("L%09d", n+1)
	grams := 1000 + int64(n%977)
	w.lots[lot] = grams
	w.order = append(w.order, lot)
	fmt.Fprintf(w.journal, "%d %s %s %d\n", time.Now().UnixMilli(), mixer, lot, grams)
	w.mu.Unlock()
	w.mixer.Dose(plantsim.Dose{Component: "SUGAR", Lot: lot, Order: "ORD-1", Grams: int32(grams), Target: int32(grams)})
}

// bake puts new texts into the oven's registers.
func (w *workshop) bake() {
	w.mu.Lock()
	w.heat++
	n := w.heat
	fmt.Fprintf(w.journal, "%d %s %d\n", time.Now().UnixMilli(), oven, n)
	w.mu.Unlock()
	w.oven.Update(func(b *plantsim.Bank) {
		for i := range ovenTags {
			text := ovenText(i, n)
			for j := range ovenRegisters {
				b.SetHolding(uint16(i*ovenRegisters+j), uint16(text[2*j])<<8|uint16(text[2*j+1]))
			}
		}
	})
}

// ovenText is the n-th text of a tag: no two are the same, none compresses well.
func ovenText(tag int, n int64) string {
	head := fmt.Sprintf("%d.%d.", tag, n)
	var s strings.Builder
	s.WriteString(head)
	x := uint64(n)*2_654_435_761 + uint64(tag)
	for s.Len() < 2*ovenRegisters {
		x = x*6364136223846793005 + 1442695040888963407
		s.WriteByte("0123456789abcdefghijklmnopqrstuv"[x>>59])
	}
	return s.String()
}

// Said implements oracle.Truth.
func (w *workshop) Said(_, text string) bool {
	tag, rest, _ := strings.Cut(text, ".")
	number, _, _ := strings.Cut(rest, ".")
	t, err := strconv.Atoi(tag)
	n, err2 := strconv.ParseInt(number, 10, 64)
	w.mu.Lock()
	last := w.heat
	w.mu.Unlock()
	return err == nil && err2 == nil && n <= last && text == ovenText(t, n)
}

// Pieces implements oracle.Truth.
func (w *workshop) Pieces(machine string) (int64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch machine {
	case press:
		return w.pressed + pressStart, true // baseline: zero counts what the PLC had
	case line:
		return w.lined, true
	}
	return 0, false
}

// Dose implements oracle.Truth.
func (w *workshop) Dose(lot string) (int64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	grams, ok := w.lots[lot]
	return grams, ok
}

// Acknowledged implements oracle.Truth: the PLC hands its doses over in order.
func (w *workshop) Acknowledged() []string {
	n := w.mixer.Dosed().Acknowledged
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.order[:n]
}

// waiting reports how many doses still wait for their acknowledgement.
func (w *workshop) waiting() int64 { return w.mixer.Dosed().Waiting }

// stands reports whether nothing is made any more and every dose has its
// acknowledgement.
func (w *workshop) stands() bool {
	w.mu.Lock()
	left := w.left
	w.mu.Unlock()
	return left == 0 && w.waiting() == 0
}

// violations is what the PLC's program saw a gateway do that it must not.
func (w *workshop) violations() (wrong []string) {
	if n := w.mixer.Dosed().Violations; n > 0 {
		wrong = append(wrong, fmt.Sprintf("the scale was acknowledged %d times with nothing offered", n))
	}
	return wrong
}

// load runs the plant until ctx ends: doses and, with an interval, new texts.
func (w *workshop) load(ctx context.Context, texts time.Duration) {
	w.thaw()
	doses := time.NewTicker(20 * time.Millisecond)
	defer doses.Stop()
	heat := time.NewTicker(max(texts, time.Millisecond))
	defer heat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-doses.C:
			if w.waiting() < 4 {
				w.dose()
			}
		case <-heat.C:
			if texts > 0 {
				w.bake()
			}
		}
	}
}

// close stops the PLCs and writes the journal.
func (w *workshop) close() {
	w.end()
	w.running.Wait()
	for _, plc := range []*plantsim.Modbus{w.press, w.line, w.oven, w.mixer.PLC()} {
		_ = plc.Stop() // nobody needs it any more
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.journal.Flush()
	_ = w.file.Close()
}
