package derive

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// parseInputs reads lines of
//
//	+1s scan DEVICE tag=value[?bad|?uncertain][@-200ms] …   a scan 1 s later
//	+1s scan DEVICE tag=5..8                                four of them
//	+1s scan DEVICE asked=2s tag=value …                    2 s after it was asked for
//	+1s scan DEVICE more tag=value …                        others of the same poll follow
//	+1s record DEVICE RULE tag=value …                      a handshake record
//	+1s final DEVICE RULE tag=value …                       one that is not read again
//	+1s snapshot DEVICE …                                   after a reconnect
//	+1s lost DEVICE [unsteady=WORDS] [cause] | back DEVICE [unsteady=WORDS] | gap DEVICE 7
//	+1s clock +1h | clock uncertain | clock certain
//	+1s order NUMBER|none [from=api] [sku=X] [planned=N] [completed] [by] | stop | tick
//	+1s correct good=-2 scrap=2 code=BURR by=anna from=-1m [to=-1s] [pieces] [reason=…]
//	+1s mode MODE|none [until=+2h] [by]
//	+1s material|refill|removal|receipt LOCATION COMPONENT LOT [QUANTITY UNIT]
//	+1h restart [FILE…] | crash
func parseInputs(t *testing.T, text string, types Catalog) (all []action) {
	t.Helper()
	now := base
	uncertain := false
	session := uint64(1)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(" "+line, " #")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var step time.Duration
		if f[0][0] == '+' {
			var err error
			if step, err = time.ParseDuration(f[0][1:]); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			f = f[1:]
		}
		now = now.Add(step)
		a := action{at: now}
		switch f[0] {
		case "scan", "snapshot", "overflow", "record", "final":
			var record plant.RecordID
			if f[0] == "record" || f[0] == "final" {
				record = plant.RecordID("PRESS-01/" + f[2])
				f = slices.Delete(f, 2, 3)
			}
			var late time.Duration
			if text, ok := strings.CutPrefix(f[2], "asked="); ok {
				late, _ = time.ParseDuration(text)
				f = slices.Delete(f, 2, 3)
			}
			more := f[2] == "more"
			if more {
				f = slices.Delete(f, 2, 3)
			}
			for i, readings := range expand(t, types, f[1], f[2:], now) {
				if i > 0 {
					now = now.Add(step)
				}
				scan := plant.Scan{Device: plant.DeviceID(f[1]), Session: session, Record: record, Snapshot: f[0] == "snapshot", Overflow: f[0] == "overflow", Final: f[0] == "final", More: more, Received: now, Readings: readings}
				if late > 0 {
					scan.Asked = now.Add(-late)
				}
				all = append(all, action{at: now, in: scan})
			}
			continue
		case "lost", "back":
			if f[0] == "lost" {
				session++
			}
			var unsteady string
			if len(f) > 2 && strings.HasPrefix(f[2], "unsteady=") {
				unsteady = strings.ReplaceAll(f[2][len("unsteady="):], "_", " ")
				f = slices.Delete(f, 2, 3)
			}
			a.in = plant.DeviceState{At: now, Device: plant.DeviceID(f[1]), Connected: f[0] == "back", Cause: strings.Join(f[2:], " "), Unsteady: unsteady}
		case "gap":
			n, _ := strconv.ParseUint(f[2], 10, 64)
			a.in = plant.Gap{At: now, Device: plant.DeviceID(f[1]), Count: n, Reason: "the machine's mailbox was full"}
		case "store_gap":
			// "unheard": found at a start, before the rules have run.
			a.stored, a.in = true, plant.Gap{At: now, Stored: true}
			if len(f) > 1 && f[1] == "unheard" {
				a.in = nil
			}
		case "clock":
			c := plant.Clock{Uncertain: uncertain}
			switch f[1] {
			case "uncertain", "certain":
				c.Uncertain = f[1] == "uncertain"
				uncertain = c.Uncertain
			default:
				c.Step, _ = time.ParseDuration(strings.TrimPrefix(f[1], "+"))
				now = now.Add(c.Step)
			}
			c.At = now
			a.in = c
			// The clock says so before anything else is due by the new time.
			all = append(all, action{at: time.Time{}, in: a.in})
			continue
		case "order":
			o := orderChange(t, now, f[1:])
			a.in = o
		case "mode":
			a.in = modeChange(t, now, f[1:])
		case "correct":
			a.in = correction(t, now, f[1:])
		case "scanned":
			a.in = plant.Scanned{At: now, Scanner: f[1], Text: strings.ReplaceAll(f[2], "_", " ")}
		case "material", "refill", "removal", "receipt":
			// KIND LOCATION COMPONENT LOT [QUANTITY UNIT]; - is nothing
			e := plant.MaterialEntry{At: now, Kind: plant.EventKind(f[0]), By: "anna"}
			for i, into := range []*string{&e.Location, &e.Component, &e.Lot} {
				if f[i+1] != "-" {
					*into = f[i+1]
				}
			}
			if len(f) > 5 {
				d, err := plant.ParseDecimal(f[4])
				if err != nil {
					t.Fatal(err)
				}
				e.Quantity, e.Unit = d, f[5]
			}
			a.in = e
		case "stop":
			a.in = plant.Stop{At: now}
		case "tick":
			a.in = plant.Tick{At: now}
		case "restart":
			session++
			a.restart, a.configFile, a.tagFile = true, "config.yaml", "tags"
			for _, name := range f[1:] {
				if strings.HasPrefix(name, "tags") {
					a.tagFile = name
				} else {
					a.configFile = name
				}
			}
		case "crash":
			session++
			a.crash = true
		default:
			t.Fatalf("unknown input %q", line)
		}
		all = append(all, a)
	}
	return all
}

// orderChange reads what follows "order".
func orderChange(t *testing.T, now time.Time, f []string) plant.OrderChange {
	t.Helper()
	c := plant.OrderChange{At: now}
	if len(f) > 0 && f[0] != "none" {
		c.Order.Number = f[0]
	}
	for _, extra := range f[min(1, len(f)):] {
		key, value, _ := strings.Cut(extra, "=")
		switch key {
		case "from":
			c.From = strings.ReplaceAll(value, "_", " ")
		case "sku":
			c.Order.SKU = value
		case "planned":
			d, err := plant.ParseDecimal(value)
			if err != nil {
				t.Fatal(err)
			}
			c.Planned = d
		case "completed":
			c.Completed = true
		default:
			c.By = extra
		}
	}
	return c
}

// modeChange reads what follows "mode".
func modeChange(t *testing.T, now time.Time, f []string) plant.ModeChange {
	t.Helper()
	c := plant.ModeChange{At: now}
	if f[0] != "none" {
		c.Mode = plant.Mode(f[0])
	}
	for _, extra := range f[1:] {
		text, ok := strings.CutPrefix(extra, "until=")
		if !ok {
			c.By = extra
			continue
		}
		d, err := time.ParseDuration(strings.TrimPrefix(text, "+"))
		if err != nil {
			t.Fatal(err)
		}
		c.Until = now.Add(d)
	}
	return c
}

// correction reads the fields of a correction; times are before now, and to is
// now unless it is said.
func correction(t *testing.T, now time.Time, fields []string) plant.Correction {
	t.Helper()
	c := plant.Correction{At: now, To: now}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		n, _ := strconv.ParseInt(value, 10, 64)
		ago, _ := time.ParseDuration(value)
		switch name {
		case "good":
			c.Good = n
		case "scrap":
			c.Scrap = n
		case "rework":
			c.Rework = n
		case "pieces":
			c.Pieces = true
		case "code":
			c.Code = value
		case "by":
			c.By = value
		case "reason":
			c.Reason = strings.ReplaceAll(value, "_", " ")
		case "order":
			c.Order = &plant.Order{Number: value}
		case "material": // component:lot:location:quantity:unit
			part := strings.Split(value, ":")
			quantity, err := plant.ParseDecimal(part[3])
			if err != nil {
				t.Fatal(err)
			}
			c.Material = &plant.MaterialCorrection{Component: part[0], Lot: part[1], Location: part[2], Quantity: quantity, Unit: part[4]}
		case "from":
			c.From = now.Add(ago)
		case "to":
			c.To = now.Add(ago)
		default:
			t.Fatalf("unknown field %q of a correction", f)
		}
	}
	return c
}

// expand returns the readings of one or, for a range, several scans.
func expand(t *testing.T, types Catalog, device string, fields []string, now time.Time) [][]plant.Reading {
	t.Helper()
	n := 1
	for _, f := range fields {
		_, value, _ := strings.Cut(f, "=")
		if lo, hi, ok := strings.Cut(value, ".."); ok {
			a, _ := strconv.Atoi(lo)
			b, _ := strconv.Atoi(hi)
			n = max(n, b-a+1)
		}
	}
	scans := make([][]plant.Reading, n)
	for i := range scans {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, "=")
			if lo, hi, ok := strings.Cut(value, ".."); ok {
				a, _ := strconv.Atoi(lo)
				b, _ := strconv.Atoi(hi)
				value = strconv.Itoa(min(a+i, b))
			}
			scans[i] = append(scans[i], reading(t, types, device, name, value, now))
		}
	}
	return scans
}

func reading(t *testing.T, types Catalog, device, name, value string, now time.Time) plant.Reading {
	t.Helper()
	r := plant.Reading{Tag: plant.TagID(name), Quality: plant.Good}
	if v, offset, ok := strings.Cut(value, "@"); ok {
		d, err := time.ParseDuration(offset)
		if err != nil {
			t.Fatal(err)
		}
		value, r.Source = v, now.Add(d)
	}
	if v, quality, ok := strings.Cut(value, "?"); ok {
		value = v
		r.Quality, r.Cause = plant.Bad, "illegal data address"
		if quality == "uncertain" {
			r.Quality, r.Cause = plant.Uncertain, "sensor not calibrated"
		}
		if r.Quality == plant.Bad && value == "" {
			return r
		}
	}
	i := slices.IndexFunc(types[plant.DeviceID(device)], func(tag plant.Tag) bool { return tag.ID == r.Tag })
	if i < 0 {
		t.Fatalf("no tag %s/%s", device, name)
	}
	switch tag := types[plant.DeviceID(device)][i]; {
	case tag.Type == plant.TypeBool:
		r.Value = plant.BoolValue(value == "true" || value == "1")
	case tag.Type == plant.TypeString:
		r.Value = plant.TextValue(strings.ReplaceAll(value, "_", " "))
	case tag.Scaled:
		d, err := plant.ParseDecimal(value)
		if err != nil {
			t.Fatal(err)
		}
		r.Value = plant.ExactValue(d)
	case tag.Type == plant.TypeFloat32 || tag.Type == plant.TypeFloat64:
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		r.Value = plant.FloatValue(f)
	default:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		r.Value = plant.IntValue(n)
	}
	return r
}
