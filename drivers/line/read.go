package line

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// again is how often the driver says once more which line waits for its answer.
const again = time.Second

// ask sends the question and waits for the answer to it. What came before it is
// thrown away: it is late, or nobody asked for it.
func (d *driver) ask(ctx context.Context) ([]plant.Scan, error) {
	l := d.link
	for waiting := true; waiting; {
		select {
		case _, ok := <-l.lines:
			if !ok {
				return nil, l.err
			}
			d.counts.refused.Add(1)
		default:
			waiting = false
		}
	}
	asked := time.Now()
	if err := d.send(nil, string(d.o.Poll)+d.o.CommandEnd.text); err != nil {
		return nil, fmt.Errorf("send %s: %w", shown(string(d.o.Poll)), err)
	}
	timer := time.NewTimer(d.o.Timeout.Std())
	defer timer.Stop()
	var other *entry
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e, ok := <-l.lines:
			if !ok {
				return nil, l.err
			}
			e.asked = asked
			if d.understands(&e) {
				return d.take(&e), nil
			}
			other = &e // the device may echo the question
		case <-timer.C:
			if other == nil {
				return nil, drivers.Away(fmt.Errorf("no answer to %s within %s", shown(string(d.o.Poll)), d.o.Timeout))
			}
			return d.take(other), nil
		}
	}
}

// next waits for a line of a device that speaks by itself.
func (d *driver) next(ctx context.Context) ([]plant.Scan, error) {
	l := d.link
	if err := d.pace.wait(ctx); err != nil {
		return nil, err
	}
	for {
		lines, repeat, silent := l.lines, stopped(), stopped()
		if d.owed() {
			lines, repeat = nil, time.NewTimer(again)
		} else if e := l.full(); e != nil {
			return d.take(e), nil
		} else if d.o.SilentAfter > 0 {
			silent = time.NewTimer(time.Until(time.Unix(0, l.heard.Load()).Add(d.o.SilentAfter.Std())))
		}
		scans, done, err := d.await(ctx, lines, repeat.C, silent.C)
		repeat.Stop()
		silent.Stop()
		if done {
			return scans, err
		}
	}
}

// waiting returns all lines that wait, in their order.
func (d *driver) waiting() (scans []plant.Scan) {
	for range cap(d.link.lines) {
		select {
		case e, ok := <-d.link.lines:
			if !ok {
				return scans
			}
			scans = append(scans, d.take(&e)...)
		default:
			return scans
		}
	}
	return scans
}

// stopped returns a timer that never fires.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// await waits for one thing to happen; done is false if it leads to nothing.
func (d *driver) await(ctx context.Context, lines <-chan entry, repeat, silent <-chan time.Time) (scans []plant.Scan, done bool, err error) {
	l := d.link
	select {
	case <-ctx.Done():
		return nil, true, ctx.Err()
	case e, ok := <-lines:
		if !ok {
			return nil, true, l.err
		}
		return d.take(&e), true, nil
	case <-l.changed:
		return d.idle(), true, nil
	case <-repeat:
		return d.idle(), true, nil
	case <-d.wrote:
		return nil, false, nil
	case <-silent:
		if time.Since(time.Unix(0, l.heard.Load())) < d.o.SilentAfter.Std() || len(lines) > 0 {
			return nil, false, nil
		}
		return nil, true, fmt.Errorf("no line came for %s (silent_after)", d.o.SilentAfter)
	}
}

// owed reports whether a rule has still to answer the line that was given last.
func (d *driver) owed() bool { return d.flow && d.given > 0 && d.taken.Load() != d.given }

// idle is what is known without a line: the driver's own numbers, and whether any
// device is there.
func (d *driver) idle() []plant.Scan {
	now := time.Now()
	scan := plant.Scan{Device: d.device, Session: d.session, Snapshot: !d.greeted, Asked: now, Received: now}
	d.greeted = true
	callers, left := d.link.callers()
	away := ""
	if d.o.Listen != "" && callers == 0 && !d.o.HangsUp {
		if away = "no device has called " + string(d.o.Listen) + " yet: let it connect to this computer's address and port"; !left.IsZero() {
			away = "no device is connected to " + string(d.o.Listen) + ": the last one left at " + left.Format("15:04:05") + "; where it hangs up behind each line, write hangs_up: true"
		}
	}
	for i := range d.points {
		p := &d.points[i]
		switch {
		case p.own:
			d.newest[i] = d.own(p, callers)
			scan.Readings = append(scan.Readings, d.newest[i])
		case away != "":
			scan.Readings = append(scan.Readings, plant.Reading{Tag: p.tag, Cause: away})
		}
	}
	return d.offer([]plant.Scan{scan}, d.newest, scan)
}

// own reads one of the driver's numbers.
func (d *driver) own(p *point, callers int) plant.Reading {
	n := uint32(0)
	switch p.field {
	case fieldSequence:
		n = d.given
	case fieldTaken:
		n = d.taken.Load()
	case fieldRefused:
		n = d.counts.refused.Load()
	case fieldDropped:
		n = d.counts.dropped.Load()
	case fieldCallers:
		n = uint32(callers)
	}
	return plant.Reading{Tag: p.tag, Quality: plant.Good, Value: plant.UintValue(uint64(n))}
}

// take makes readings of a line.
func (d *driver) take(e *entry) []plant.Scan {
	if d.o.Poll != "" {
		e.number = d.counts.sequence.Add(1)
	}
	d.given = e.number
	s := d.parse(e)
	d.mu.Lock()
	d.from, d.refused = e.from, s.problem != ""
	d.mu.Unlock()
	if s.problem != "" {
		d.counts.refused.Add(1)
	}
	if e.full {
		d.log.Warn("lines had no place in the queue: they are lost", zap.Uint32("dropped_since_start", d.counts.dropped.Load()))
	} else {
		d.edge.note(s.problem)
	}
	callers, _ := d.link.callers()
	scan := plant.Scan{
		Device: d.device, Session: d.session, Snapshot: d.o.streams() && !d.greeted,
		Asked: e.asked, Received: e.at, Readings: make([]plant.Reading, len(d.points)),
	}
	d.greeted = true
	for i := range d.points {
		p := &d.points[i]
		r := &scan.Readings[i]
		if p.own {
			*r = d.own(p, callers)
			continue
		}
		r.Tag = p.tag
		if r.Value, r.Cause = s.read(p, d.o.Decimal); r.Cause == "" {
			r.Quality = plant.Good
		}
	}
	copy(d.newest, scan.Readings)
	return d.offer([]plant.Scan{scan}, scan.Readings, scan)
}

// said is a line taken apart.
type said struct {
	text string
	// problem says why it is no line as the config describes it.
	problem string
	// groups are the places of the pattern's groups, weighing an answer in MT-SICS.
	groups   []int
	weighing *weighing
}

func (d *driver) understands(e *entry) bool {
	s := d.parse(e)
	return s.problem == ""
}

func (d *driver) parse(e *entry) said {
	if e.full {
		return said{problem: "the line " + shown(e.raw) + " had no place in the queue (queue, max_rate), like those whose numbers are missing before it"}
	}
	if e.problem != "" {
		return said{problem: "the line " + shown(e.raw) + " is none: " + e.problem}
	}
	if d.o.Port != "" && strings.Contains(e.raw, "\x00") {
		return said{problem: "the line " + shown(e.raw) + " was damaged on its way: check baud, parity and data_bits, and the cable"}
	}
	text, ok := decode(e.raw, d.o.Encoding)
	if !ok {
		return said{problem: "the line " + shown(e.raw) + " is no UTF-8: write encoding: latin-1 if it has umlauts, else check baud and parity"}
	}
	s := said{text: text}
	switch {
	case d.o.Pattern.re != nil:
		if s.groups = d.o.Pattern.re.FindStringSubmatchIndex(text); s.groups == nil {
			s.problem = "the line " + shown(text) + " does not match the pattern"
		}
	case d.o.Format == sics:
		if w, ok := parseSICS(text); ok {
			s.weighing = &w
		} else {
			s.problem = "the line " + shown(text) + " is no answer in MT-SICS, such as `S S     100.00 g`"
		}
	}
	return s
}

// read returns the value of a tag; why is empty if there is one.
func (s *said) read(p *point, decimal string) (v plant.Value, why string) {
	switch {
	case s.problem != "":
		return v, s.problem
	case p.field == fieldLine:
		return p.read(s.text, decimal)
	case s.weighing != nil:
		return s.weighing.read(p, decimal)
	}
	from, to := s.groups[2*p.group], s.groups[2*p.group+1]
	if from < 0 {
		return v, "the line " + shown(s.text) + " has no " + p.field
	}
	return p.read(s.text[from:to], decimal)
}

// pace gives lines at no more than a rate, after a second's worth at once.
type pace struct {
	perSecond, credit float64
	at                time.Time
}

func newPace(perSecond float64) pace { return pace{perSecond: perSecond, credit: max(perSecond, 1)} }

// wait blocks until one more line may be given.
func (p *pace) wait(ctx context.Context) error {
	now := time.Now()
	if !p.at.IsZero() {
		p.credit = min(p.credit+now.Sub(p.at).Seconds()*p.perSecond, max(p.perSecond, 1))
	}
	p.at = now
	if p.credit--; p.credit >= 0 {
		return nil
	}
	timer := time.NewTimer(time.Duration(-p.credit / p.perSecond * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		p.credit++
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// edge logs that lines cannot be understood, and that they can again, at most
// once a minute each. What the line says is not logged: it may be a badge.
type edge struct {
	log     *zap.Logger
	refused uint64
	said    time.Time
	told    bool
}

func (e *edge) note(problem string) {
	switch {
	case problem != "":
		e.refused++
		if !e.told && time.Since(e.said) > time.Minute {
			e.told, e.said = true, time.Now()
			e.log.Warn("a line is not what the config says: the tags on the page say why")
		}
	case e.told:
		e.told = false
		e.log.Info("lines are understood again", zap.Uint64("refused", e.refused))
		e.refused = 0
	}
}
