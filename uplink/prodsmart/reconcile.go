package prodsmart

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// reconcile learns from a refusal that says "too small" what Prodsmart has, and
// reports whether the event is settled: if nothing could be learnt it waits.
// repeated says that the body was sent before and got no answer, so that
// Prodsmart has it. x is what the journal will say of the request.
func (w *work) reconcile(i int, b *body, a *httplink.Answer, repeated bool, x *uplink.Exchange) (settled bool) {
	said := x.Words
	x.Outcome, x.Words = w.learn(b, lessonIn(a.Words(), b), repeated)
	if said != "" {
		x.Words += "; Prodsmart said: " + said
	}
	if x.Outcome == uplink.OutcomeHeld {
		w.keepHeld(i, b, a)
		return true
	}
	return false
}

// lesson is what a refusal says of one number of a body.
type lesson struct {
	// of is the waste code whose number it is, empty for the count.
	of   string
	sent told
	// theirs is Prodsmart's number if known is set. Of a lesson that is none nothing
	// is set: nobody can tell which number is meant.
	theirs int64
	known  bool
}

// lessonIn reads the words of a refusal of b.
func lessonIn(words string, b *body) (l lesson) {
	code, named := wasteNamed(words, b.Waste)
	switch {
	case named:
		l.of, l.sent = code, b.Waste[code]
		words = strings.ReplaceAll(words, code, " ")
	case b.Count != nil:
		l.sent = *b.Count
	case len(b.Waste) == 1:
		l.of = slices.Collect(maps.Keys(b.Waste))[0]
		l.sent = b.Waste[l.of]
	default:
		return lesson{}
	}
	l.theirs, l.known = numberIn(words, l.sent.Theirs)
	return l
}

// learn takes over what a lesson teaches, and says what the request has come to.
func (w *work) learn(b *body, l lesson, repeated bool) (o uplink.Outcome, words string) {
	switch {
	case repeated && (!l.known || l.theirs >= l.sent.Theirs):
		w.accept(b)
		if l.known {
			w.theirs(l.of, told{Ours: l.sent.Ours, Theirs: l.theirs})
		}
		return uplink.OutcomeDelivered, "it was booked by the request before, whose answer was lost"
	case l.known && l.theirs == l.sent.Theirs, l.known && l.theirs > l.sent.Theirs && w.m.Lost:
		// The gateway was killed before it could note that, or has forgotten that it
		// told it. Nothing is counted twice.
		w.theirs(l.of, l.sent)
		if b.Count != nil && len(b.Waste) > 0 || len(b.Waste) > 1 {
			return uplink.OutcomeRetry, "Prodsmart has one of its numbers already; the rest is sent next"
		}
		return uplink.OutcomeDelivered, "Prodsmart has that number already"
	case l.known && l.theirs > l.sent.Theirs && w.options.LearnOffset:
		before := w.m.Count.Ours
		if l.of != "" {
			before = w.m.Waste[l.of].Ours
		}
		w.theirs(l.of, told{Ours: before, Theirs: l.theirs})
		w.log.Warn("Prodsmart has a larger number for this machine than the gateway: it is counted on from there. Did somebody else count it, or was it counted before the gateway? Set offsets: if the number is wrong",
			zap.String("machine", string(w.m.id)), zap.String("waste", l.of), zap.Int64("gateway", l.sent.Theirs), zap.Int64("prodsmart", l.theirs))
		return uplink.OutcomeRetry, "it is counted on from " + strconv.FormatInt(l.theirs, 10)
	}
	return uplink.OutcomeHeld, "the machine's counts wait"
}

// theirs notes what Prodsmart has of a waste code, or of the count if there is none.
func (w *work) theirs(of string, t told) {
	if of != "" {
		w.waste(of, t)
	} else {
		w.m.Count = &t
	}
}

// keepHeld lets the counts of a machine wait until they have grown.
func (w *work) keepHeld(i int, b *body, a *httplink.Answer) {
	name := string(w.m.id)
	w.hold(i, classCounter, problem("count", "Prodsmart has a larger number than the gateway sends, and says: %s; starts and stops go on. Write what the machine's counter in Prodsmart stood at when the gateway began: offsets: {%s: …}",
		w.redactor.Clean(a.Words()), name))
	h := w.m.held[classCounter]
	if b.Count != nil {
		h.count = b.Count.Theirs
	}
	w.m.held[classCounter] = h
}

// wasteNamed finds the one waste code of a body that a refusal names.
func wasteNamed(words string, waste map[string]told) (code string, ok bool) {
	for c := range waste {
		if strings.Contains(words, c) && len(c) > len(code) {
			code, ok = c, true
		}
	}
	return code, ok
}

// numbers are whole ones, also with a fraction of zeros; a sign or a letter before
// makes it something else.
var numbers = regexp.MustCompile(`(?:^|[^\w.,-])(\d{1,18})(?:\.0+)?(?:$|[^\w])`)

// numberIn finds the number that a refusal names: the only one, or the only one
// that is not what was sent. ok is false if there is none, or nobody can tell which.
func numberIn(words string, sent int64) (n int64, ok bool) {
	found := make(map[int64]bool)
	for rest := words; ; {
		at := numbers.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		if v, err := strconv.ParseInt(rest[at[2]:at[3]], 10, 64); err == nil {
			found[v] = true
		}
		rest = rest[at[3]:]
	}
	if len(found) > 1 {
		delete(found, sent)
	}
	for v := range found {
		if v >= sent {
			n = v
		}
	}
	return n, len(found) == 1 && n > 0
}
