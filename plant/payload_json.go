package plant

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// The kinds that a busy plant makes thousands of a second are written by hand;
// the others go through encoding/json. A property test holds both alike.

// AppendJSON appends c as JSON. It allocates only if dst grows.
func (c *Counter) AppendJSON(dst []byte) []byte {
	dst = c.Head.append(dst)
	dst = appendInt(dst, `,"good":`, c.Good)
	dst = appendInt(dst, `,"good_delta":`, c.GoodDelta)
	if len(c.Scrap) > 0 {
		dst = append(dst, `,"scrap":[`...)
		for i := range c.Scrap {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSONString(append(dst, `{"code":`...), c.Scrap[i].Code)
			dst = appendInt(dst, `,"quantity":`, c.Scrap[i].Quantity)
			dst = appendInt(dst, `,"delta":`, c.Scrap[i].Delta)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	if c.Rework != 0 {
		dst = appendInt(dst, `,"rework":`, c.Rework)
	}
	if c.ReworkDelta != 0 {
		dst = appendInt(dst, `,"rework_delta":`, c.ReworkDelta)
	}
	if c.Cycles != 0 {
		dst = appendInt(dst, `,"cycles":`, c.Cycles)
	}
	if c.CyclesDelta != 0 {
		dst = appendInt(dst, `,"cycles_delta":`, c.CyclesDelta)
	}
	dst = AppendJSONTime(append(dst, `,"from":`...), c.From)
	dst = AppendJSONTime(append(dst, `,"to":`...), c.To)
	dst = appendInt(dst, `,"raw":`, c.Raw)
	dst = appendFlag(dst, `,"reset":true`, c.Reset)
	dst = appendFlag(dst, `,"rollover":true`, c.Rollover)
	dst = appendSeconds(dst, `,"gap":`, c.Gap)
	dst = appendFlag(dst, `,"lower_bound":true`, c.LowerBound)
	dst = appendFlag(dst, `,"saturated":true`, c.Saturated)
	dst = appendFlag(dst, `,"ambiguous":true`, c.Ambiguous)
	dst = appendFlag(dst, `,"unattributed":true`, c.Unattributed)
	dst = appendText(dst, `,"shift":`, c.Shift)
	dst = appendFlag(dst, `,"across_shifts":true`, c.AcrossShifts)
	dst = appendFlag(dst, `,"suspect":true`, c.Suspect)
	dst = appendFlag(dst, `,"rebase":true`, c.Rebase)
	return append(appendMicroStops(dst, c.MicroStops, c.MicroSeconds), '}')
}

// AppendJSON appends s as JSON. It allocates only if dst grows.
func (s *StartStop) AppendJSON(dst []byte) []byte {
	dst = s.Head.append(dst)
	dst = appendInt(dst, `,"running":`, int64(s.Running))
	if s.StopID != 0 {
		dst = strconv.AppendUint(append(dst, `,"stop_id":`...), s.StopID, 10)
	}
	dst = appendText(dst, `,"type":`, s.Type)
	dst = appendText(dst, `,"reason":`, s.Reason)
	dst = appendText(dst, `,"reason_name":`, s.ReasonName)
	dst = appendText(dst, `,"state":`, s.State)
	dst = appendText(dst, `,"unit_mode":`, s.UnitMode)
	if !s.Since.IsZero() {
		dst = AppendJSONTime(append(dst, `,"since":`...), s.Since)
	}
	dst = appendSeconds(dst, `,"duration":`, s.Duration)
	dst = appendSeconds(dst, `,"gap":`, s.Gap)
	dst = appendMicroStops(dst, s.MicroStops, s.MicroSeconds)
	if s.MissedStops != 0 {
		dst = appendInt(dst, `,"missed_stops":`, s.MissedStops)
	}
	dst = appendSeconds(dst, `,"missed_seconds":`, s.MissedSeconds)
	dst = appendFlag(dst, `,"lower_bound":true`, s.LowerBound)
	return append(dst, '}')
}

// append begins the object of any kind.
func (h *Head) append(dst []byte) []byte {
	dst = AppendJSONString(append(dst, `{"machine":`...), string(h.Machine))
	dst = AppendJSONString(append(dst, `,"mode":`...), string(h.Mode))
	if h.Order == nil {
		return dst
	}
	o := h.Order
	dst = AppendJSONString(append(dst, `,"order":{"number":`...), o.Number)
	dst = appendText(dst, `,"source":`, o.Source)
	dst = appendText(dst, `,"sku":`, o.SKU)
	dst = appendText(dst, `,"external_id":`, o.ExternalID)
	dst = appendText(dst, `,"operation":`, o.Operation)
	dst = appendText(dst, `,"operation_external_id":`, o.OperationExternalID)
	dst = appendText(dst, `,"work_center":`, o.WorkCenter)
	dst = appendText(dst, `,"position":`, o.Position)
	return append(dst, '}')
}

func appendMicroStops(dst []byte, n int64, length Seconds) []byte {
	if n != 0 {
		dst = appendInt(dst, `,"micro_stops":`, n)
	}
	return appendSeconds(dst, `,"micro_seconds":`, length)
}

func appendInt(dst []byte, key string, v int64) []byte {
	return strconv.AppendInt(append(dst, key...), v, 10)
}

func appendFlag(dst []byte, text string, set bool) []byte {
	if !set {
		return dst
	}
	return append(dst, text...)
}

func appendText(dst []byte, key, v string) []byte {
	if v == "" {
		return dst
	}
	return AppendJSONString(append(dst, key...), v)
}

func appendSeconds(dst []byte, key string, v Seconds) []byte {
	if v == 0 {
		return dst
	}
	return v.append(append(dst, key...))
}

// AppendJSONString appends s as a JSON string.
func AppendJSONString(dst []byte, s string) []byte {
	parted := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0: // what parts the keys of rules
			parted = true
		case c < 0x20 || c >= 0x7f || c == '"' || c == '\\':
			quoted, err := json.Marshal(s)
			if err != nil { // no string fails to encode
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	for parted {
		var before string
		before, s, parted = strings.Cut(s, "\x00")
		dst = append(dst, before...)
		if parted {
			dst = append(dst, `\u0000`...)
		} else {
			s = ""
		}
	}
	dst = append(dst, s...)
	return append(dst, '"')
}

// AppendJSONTime appends t as a JSON string: RFC 3339, UTC, milliseconds.
func AppendJSONTime(dst []byte, t time.Time) []byte {
	dst = AppendTime(append(dst, '"'), t)
	return append(dst, '"')
}

// AppendTime appends t as RFC 3339 in UTC with milliseconds, a quarter of the
// cost of time.AppendFormat.
func AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return append(dst, "0001-01-01T00:00:00.000Z"...)
	}
	hour, minute, second := t.Clock()
	ms := t.Nanosecond() / 1e6
	return append(dst,
		byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10), '-',
		byte('0'+month/10), byte('0'+month%10), '-', byte('0'+day/10), byte('0'+day%10), 'T',
		byte('0'+hour/10), byte('0'+hour%10), ':', byte('0'+minute/10), byte('0'+minute%10), ':',
		byte('0'+second/10), byte('0'+second%10), '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}
