package uplink

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/sluice-edge/sluice/plant"
)

// ContentType is the media type of what AppendCloudEvent appends (CloudEvents
// JSON format 1.0, section 3).
const ContentType = "application/cloudevents+json; charset=utf-8"

// AppendCloudEvent appends e to dst as one CloudEvents 1.0 event in structured
// JSON and returns the longer slice. It is the default form of an event for
// every receiver without a dialect of its own, and a pure function of e: the
// same event has the same bytes on each retry. It allocates nothing but room in
// dst, and may be called from any goroutine.
//
// Durations are whole milliseconds as CloudEvents Integers (32 bits, so capped
// at ±24 days). The extension attribute sequencetype is left out: its only
// value of CloudEvents 1.0.2, "Integer", means a signed 32-bit counter, and
// later texts of the sequence extension have dropped it.
func AppendCloudEvent(dst []byte, e *plant.Event) []byte {
	dst = appendAttributes(dst, e)
	if len(e.Data) > 0 {
		dst = append(dst, `,"data":`...)
		dst = append(dst, e.Data...)
	}
	return append(dst, '}')
}

// appendAttributes begins the object, with all but the data.
func appendAttributes(dst []byte, e *plant.Event) []byte {
	dst = append(dst, `{"specversion":"1.0","id":"`...)
	dst = appendEscaped(dst, e.Gateway)
	dst = append(dst, '/')
	dst = appendEscaped(dst, string(e.Machine))
	dst = append(dst, '/')
	dst = appendHex(dst, uint64(e.Epoch))
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, uint64(e.Sequence), 10)
	dst = append(dst, `","source":"`...)
	dst = appendURIReference(dst, e.Source)
	dst = append(dst, `","type":"dev.sluice.`...)
	dst = appendEscaped(dst, string(e.Kind))
	dst = append(dst, ".v"...)
	dst = strconv.AppendUint(dst, uint64(e.Version), 10)
	dst = append(dst, `","time":"`...)
	dst = appendTime(dst, e.Time)
	dst = append(dst, `","subject":"`...)
	dst = appendEscaped(dst, string(e.Machine))
	dst = append(dst, `","datacontenttype":"application/json","dataschema":"urn:sluice:schema:`...)
	dst = appendURIReference(dst, string(e.Kind))
	dst = append(dst, ":v"...)
	dst = strconv.AppendUint(dst, uint64(e.Version), 10)
	dst = append(dst, `","sequence":"`...)
	dst = appendPadded(dst, uint64(e.Sequence))
	dst = append(dst, `","epoch":"`...)
	dst = appendHex(dst, uint64(e.Epoch))
	if e.Previous != 0 {
		dst = append(dst, `","previous":"`...)
		dst = appendPadded(dst, uint64(e.Previous))
	}
	return appendClock(append(dst, '"'), e)
}

// appendClock appends what is known about the clock that e.Time is from.
func appendClock(dst []byte, e *plant.Event) []byte {
	if e.TimeSource != "" {
		dst = append(dst, `,"timesource":"`...)
		dst = appendEscaped(dst, string(e.TimeSource))
		dst = append(dst, '"')
	}
	if e.TimeSource == plant.DeviceTime {
		dst = append(dst, `,"clockoffset":`...)
		dst = appendMillis(dst, e.ClockOffset)
	}
	if e.ClockStep != 0 {
		dst = append(dst, `,"clockstep":`...)
		dst = appendMillis(dst, e.ClockStep)
	}
	if e.TimeUncertain {
		dst = append(dst, `,"timeuncertain":true`...)
	}
	return dst
}

// appendMillis appends d as a CloudEvents Integer. A part of a millisecond is
// rounded away from zero: a clock step never reads as none.
func appendMillis(dst []byte, d time.Duration) []byte {
	ms := d / time.Millisecond
	switch rest := d % time.Millisecond; {
	case rest > 0:
		ms++
	case rest < 0:
		ms--
	}
	return strconv.AppendInt(dst, int64(min(max(ms, math.MinInt32), math.MaxInt32)), 10)
}

// appendTime appends t in RFC 3339, UTC, always with three digits of
// milliseconds, so that all times have one width. RFC 3339 has years of four
// digits only; a time outside becomes the nearest one inside.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	switch year := t.Year(); {
	case year < 0:
		t = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case year > 9999:
		t = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
	}
	return t.AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}

// appendPadded appends n as plant.Sequence.String writes it.
func appendPadded(dst []byte, n uint64) []byte {
	const width = 20
	at := len(dst)
	dst = append(dst, "00000000000000000000"...)
	for i := at + width - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendHex appends n as plant.Epoch.String writes it.
func appendHex(dst []byte, n uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[n>>shift&0xf])
	}
	return dst
}

// appendEscaped appends s as the inside of a JSON string. Bytes that are no
// UTF-8 become U+FFFD, as encoding/json writes them.
func appendEscaped(dst []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
		} else {
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			}
		}
		i++
		start = i
	}
	return append(dst, s[start:]...)
}

// appendURIReference appends the path s as a URI-reference, which is the type
// that CloudEvents gives source: what RFC 3986 does not allow in a path is
// percent-encoded, so "line 1" is "line%201" and two names never become one.
func appendURIReference(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; inPath(c) {
			dst = append(dst, c)
		} else {
			const digits = "0123456789ABCDEF"
			dst = append(dst, '%', digits[c>>4], digits[c&0xf])
		}
	}
	return dst
}

// inPath reports whether RFC 3986 allows c in a path as it is: pchar and "/".
// None of these needs an escape in JSON.
func inPath(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '-', '.', '_', '~', '!', '$', '&', '\'', '(', ')', '*', '+', ',', ';', '=', ':', '@', '/':
		return true
	}
	return false
}
