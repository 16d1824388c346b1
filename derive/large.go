package derive

import (
	"context"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// shownText is what is kept of a text, and shownCause of a cause, in an input
	// that led to more than the buffer accepts. All rules together with texts of
	// this length stay far below it.
	shownText  = 64
	shownCause = 512
	// maxState is how large state may become by texts; the buffer takes 256 KiB,
	// and what is between is for all that grows without texts.
	maxState = 192 << 10
)

// largeInput is the text that stands for an input whose texts were left out.
type largeInput struct {
	Device plant.DeviceID `json:"d"`
	Tag    plant.TagID    `json:"t"`
	// Bytes is how long the text was.
	Bytes int `json:"n"`
}

// overgrown reports whether long texts made more state than can be committed.
// It is asked before such state is kept for a later commit as well, which would
// be refused without an input that could be left out.
func (w *Worker) overgrown(items []item) error {
	for i := range items {
		// What a record leaves in the state is small, and it must be the same record
		// each time that it is read.
		if _, long := items[i].longest(); !long || items[i].scan.Record != "" {
			continue
		}
		state, err := w.m.Encode(w.work)
		if err != nil {
			return err
		}
		if len(state) > maxState {
			return fmt.Errorf("derive: state of %d bytes: %w", len(state), plant.ErrTooBig)
		}
		return nil
	}
	return nil
}

// tooBig commits items of which the buffer did not accept what they led to
// together: in halves; a single one without its long texts, which makes a record
// that holds them unreadable; and not at all if even that is too much. No input
// ends the process, since a PLC gives the same one again after each start.
func (w *Worker) tooBig(ctx, commits context.Context, items []item, cause error) error {
	switch n := len(items); {
	case n > 1:
		if err := w.process(ctx, commits, items[:n/2]); err != nil {
			return err
		}
		return w.process(ctx, commits, items[n/2:])
	case n == 1 && items[0].shorten():
		return w.process(ctx, commits, items)
	}
	now := w.o.Clock.Now()
	w.committed = now // what is dirty is tried again later, not at once
	if !w.wake.IsZero() && w.wake.Before(now.Add(fullWaitMost)) {
		w.wake = now.Add(fullWaitMost)
	}
	w.mu.Lock()
	w.stats.LeftOut++
	first := w.stats.LeftOut == 1
	w.mu.Unlock()
	if first {
		w.zl.Error("an input led to more than the buffer accepts and was left out; the page counts those that follow", zap.Error(cause))
	}
	answer(items, cause)
	for i := range items {
		items[i].done = nil
	}
	return nil
}

// longest returns the longest text of an item, and whether it is one that
// shorten would make bad.
func (it *item) longest() (text largeInput, long bool) {
	if it.in != nil {
		return largeInput{}, false
	}
	text.Bytes = shownText
	for i := range it.scan.Readings {
		v := &it.scan.Readings[i]
		if v.Value.Type() != plant.Text {
			continue // to write a number as one would cost more than its rule
		}
		if n := len(v.Value.Text()); n > text.Bytes {
			text, long = largeInput{Device: it.scan.Device, Tag: v.Tag, Bytes: n}, true
		}
	}
	return text, long
}

// like reports whether a scan still has a text that was left out before: it is
// left out again at once, so that a record is the same each time it is read.
func (it *item) like(l *largeInput) bool {
	if l == nil || it.in != nil || it.scan.Device != l.Device {
		return false
	}
	for i := range it.scan.Readings {
		if v := &it.scan.Readings[i]; v.Tag == l.Tag {
			return v.Value.Type() == plant.Text && len(v.Value.Text()) >= l.Bytes
		}
	}
	return false
}

// shorten takes long texts out of an item and reports whether there were any.
func (it *item) shorten() (shorter bool) {
	cut := func(text string, most int) string {
		if len(text) <= most {
			return text
		}
		shorter = true
		return strings.ToValidUTF8(text[:most], "")
	}
	switch in := it.in.(type) {
	case nil:
		it.large, shorter = it.longest()
		for i := range it.scan.Readings {
			v := &it.scan.Readings[i]
			if v.Cause = cut(v.Cause, shownCause); v.Value.Type() != plant.Text || len(v.Value.Text()) <= shownText {
				continue
			}
			v.Quality = plant.Bad
			v.Cause = fmt.Sprintf("the text is %d bytes long, and all texts together are more than one event can hold", len(v.Value.Text()))
			v.Value = plant.TextValue(cut(v.Value.Text(), shownText))
		}
	case plant.DeviceState:
		in.Cause = cut(in.Cause, shownCause)
		it.in = in
	case plant.Gap:
		in.Reason = cut(in.Reason, shownCause)
		it.in = in
	}
	return shorter
}

// large raises the alarm of an input without its long texts, once, and clears it
// when the text that stood for it is read again as it is.
func (r *run) large(it *item) {
	g := &r.s.gateway
	switch {
	case it.large.Bytes > 0 && g.Large == nil:
		large := it.large
		g.Large, r.changed = &large, true
		r.Alarm(rule.Alarm{Name: largeAlarm, Raised: true, Text: large.text(), Remedy: largeRemedy})
	case it.large.Bytes > 0 || g.Large == nil || it.in != nil || it.scan.Device != g.Large.Device:
	default:
		for i := range it.scan.Readings {
			if v := &it.scan.Readings[i]; v.Tag == g.Large.Tag && v.Quality == plant.Good {
				g.Large, r.changed = nil, true
				r.Alarm(rule.Alarm{Name: largeAlarm, Text: "the texts can be recorded again"})
				return
			}
		}
	}
}

const (
	largeAlarm  = "texts_too_large"
	largeRemedy = "look at this tag's address and at what the PLC writes there; let it offer shorter texts, or give the machine fewer of them"
)

func (l *largeInput) text() string {
	return fmt.Sprintf("what %s gave at once is more than one event can hold, so its texts above %d bytes were left out; the longest is %s with %d bytes", l.Device, shownText, l.Tag, l.Bytes)
}
