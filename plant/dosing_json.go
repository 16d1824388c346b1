package plant

import "time"

// AppendJSON appends d as JSON, byte for byte as encoding/json writes it (but for
// <, > and &, which are not escaped). It
// allocates only if dst grows, or for what is rare: a text that must be escaped, a
// time finer than a millisecond.
func (d *Dosing) AppendJSON(dst []byte) []byte {
	dst = d.Head.append(dst)
	dst = AppendJSONString(append(dst, `,"component":`...), d.Component)
	dst = d.Quantity.Append(append(dst, `,"quantity":`...))
	dst = appendText(dst, `,"unit":`, d.Unit)
	dst = appendAmount(dst, `,"target":`, d.Target)
	dst = appendAmount(dst, `,"deviation":`, d.Deviation)
	if t := d.Tolerance; t != nil {
		dst = t.Minus.Append(append(dst, `,"tolerance":{"minus":`...))
		dst = t.Plus.Append(append(dst, `,"plus":`...))
		dst = append(appendText(dst, `,"unit":`, t.Unit), '}')
	}
	if d.InTolerance != nil {
		dst = appendFlag(dst, `,"in_tolerance":true`, *d.InTolerance)
		dst = appendFlag(dst, `,"in_tolerance":false`, !*d.InTolerance)
	}
	dst = AppendJSONString(append(dst, `,"status":`...), d.Status)
	dst = AppendJSONString(append(dst, `,"purpose":`...), d.Purpose)
	dst = appendMoment(dst, `,"started":`, d.Started)
	dst = appendMoment(dst, `,"ended":`, d.Ended)
	for i := range d.Lots {
		dst = append(dst, [...]string{`,"lots":[`, `,`}[min(i, 1)]...)
		dst = AppendJSONString(append(dst, `{"lot":`...), d.Lots[i].Lot)
		dst = append(d.Lots[i].Quantity.Append(append(dst, `,"quantity":`...)), '}')
	}
	dst = appendFlag(dst, `]`, len(d.Lots) > 0)
	dst = appendText(dst, `,"recipe":`, d.Recipe)
	dst = appendText(dst, `,"batch":`, d.Batch)
	dst = appendText(dst, `,"process_unit":`, d.ProcessUnit)
	dst = appendText(dst, `,"phase":`, d.Phase)
	dst = appendText(dst, `,"scale":`, d.Scale)
	dst = AppendJSONString(append(dst, `,"method":`...), d.Method)
	dst = appendText(dst, `,"dose":`, d.Dose)
	if w := d.Weights; w != nil {
		dst = w.Before.Append(append(dst, `,"weights":{"before":`...))
		dst = append(w.After.Append(append(dst, `,"after":`...)), '}')
	}
	dst = appendFlag(dst, `,"estimated":true`, d.Estimated)
	dst = appendFlag(dst, `,"drift":true`, d.Drift)
	dst = appendFlagged(dst, d.Flagged)
	dst = appendText(dst, `,"location":`, d.Location)
	dst = appendSeconds(dst, `,"gap":`, d.Gap)
	dst = appendFlag(dst, `,"reset":true`, d.Reset)
	dst = appendFlag(dst, `,"rollover":true`, d.Rollover)
	dst = appendFlag(dst, `,"lower_bound":true`, d.LowerBound)
	dst = appendFlag(dst, `,"ambiguous":true`, d.Ambiguous)
	dst = appendFlag(dst, `,"suspect":true`, d.Suspect)
	return append(dst, '}')
}

func appendAmount(dst []byte, key string, v *Decimal) []byte {
	if v == nil {
		return dst
	}
	return v.Append(append(dst, key...))
}

// appendMoment appends a time as encoding/json does, without trailing zeros; never
// is left out.
func appendMoment(dst []byte, key string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	dst = append(append(dst, key...), '"')
	if t.Location() != time.UTC || t.Nanosecond()%1e6 != 0 || t.Year() < 0 || t.Year() > 9999 {
		return append(t.AppendFormat(dst, time.RFC3339Nano), '"')
	}
	dst = AppendTime(dst, t)
	last := len(dst) - 1 // of the Z
	for dst[last-1] == '0' && t.Nanosecond() != 0 {
		last--
	}
	if t.Nanosecond() == 0 {
		last -= len(".000")
	}
	return append(dst[:last], 'Z', '"')
}
