package line

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sluice-edge/sluice/plant"
)

// MT-SICS: "Mettler-Toledo Standard Interface Command Set", reference manuals of
// JS, AL-IC, ML and XPR. An answer is the command's name, a letter for what
// became of it, the value right-aligned in ten characters, and the unit.

// The fields of an answer.
const (
	sicsWeight = "weight"
	sicsUnit   = "unit"
	sicsStable = "stable"
	sicsStatus = "status"
)

var sicsFields = []string{sicsWeight, sicsUnit, sicsStable, sicsStatus}

func sicsType(field string) plant.TagType {
	switch field {
	case sicsWeight:
		return plant.TypeFloat64
	case sicsStable:
		return plant.TypeBool
	default:
		return plant.TypeString
	}
}

// sicsAnswer is the answer to S, SI, SIR, SU, SIU, SR and the like ("S S
// 100.00 g"), also to TA, T, TI, which have the weight at the same place.
var sicsAnswer = regexp.MustCompile(`^([A-Z]{1,4}) ([SDAIL+-])(?: +([-+]? *[0-9.]+)(?: +(\S{1,6}))?)? *$`)

// sicsErrors are answers to a command that was none.
var sicsErrors = map[string]string{
	"ES": "the scale does not know the command (ES, syntax error): check poll: and on_connect:, which are in capital letters",
	"ET": "the scale received the command damaged (ET, transmission error): check baud, parity and data_bits",
	"EL": "the scale cannot do what it was asked for (EL, logical error)",
}

// weighing is what an answer says.
type weighing struct {
	// letter is "S", "D", "I", "+", "-", "L", "A", or "ES", "ET", "EL".
	letter string
	weight string
	unit   string
	// why says that there is no weight.
	why string
}

// parseSICS reads an answer; ok is false for what is none.
func parseSICS(text string) (w weighing, ok bool) {
	text = strings.TrimSpace(text)
	if why, failed := sicsErrors[text]; failed {
		return weighing{letter: text, why: why}, true
	}
	m := sicsAnswer.FindStringSubmatch(text)
	if m == nil {
		return w, false
	}
	w = weighing{letter: m[2], weight: m[3], unit: m[4]}
	switch w.letter {
	case "+":
		w.why = "the scale is overloaded (status +)"
	case "-":
		w.why = "the scale is underloaded (status -): is the pan in its place?"
	case "I":
		w.why = "the scale is busy (status I): it is taring or zeroing, somebody is in its menu, or the weight never stood still for a command that waits for that"
	case "L":
		w.why = "the scale takes the command but not what was said with it (status L)"
	default:
		if w.weight == "" {
			w.why = "the answer has no weight"
		}
	}
	return w, true
}

// read returns one field.
func (w *weighing) read(p *point, decimal string) (v plant.Value, why string) {
	switch p.field {
	case sicsStatus:
		return p.read(w.letter, decimal)
	case sicsStable:
		switch w.letter {
		case "S", "A":
			return plant.BoolValue(true), ""
		case "D", "+", "-":
			return plant.BoolValue(false), ""
		}
		return v, w.why
	case sicsUnit:
		if w.why != "" {
			return v, w.why
		}
		return plant.TextValue(w.unit), ""
	}
	if w.why != "" {
		return v, w.why
	}
	if p.unit != "" && p.unit != w.unit {
		return v, fmt.Sprintf("the scale shows %s, and the config says %s: switch the scale back, or write its unit in the config", unitName(w.unit), p.unit)
	}
	return p.read(w.weight, decimal)
}

func unitName(unit string) string {
	if unit == "" {
		return "no unit"
	}
	return unit
}
