package main

import (
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
)

// linePlan is a wire that devices share.
type linePlan struct {
	Name string
	Plan drivers.LinePlan
}

// line checks one entry of lines.
func (k *checker) line(s *config.Section) {
	p, faults := lineKind.Check(s)
	k.faults = append(k.faults, faults...)
	if len(faults.Errors()) > 0 {
		k.brokenLines = append(k.brokenLines, s.Name)
		return
	}
	k.plan.Lines = append(k.plan.Lines, linePlan{Name: s.Name, Plan: p})
}

// onLine finds the line that a device is on, and checks the device's place there.
// A device that is opened alone, to be looked at, gets the line for itself.
func (k *checker) onLine(s *config.Section, p *drivers.Plan) config.Faults {
	if p.Line == "" || slices.Contains(k.brokenLines, p.Line) {
		return nil
	}
	at := slices.IndexFunc(k.plan.Lines, func(l linePlan) bool { return l.Name == p.Line })
	if at < 0 {
		names := make([]string, len(k.plan.Lines))
		for i, l := range k.plan.Lines {
			names[i] = l.Name
		}
		return s.Faults(config.Unknown("line", "line", p.Line, names))
	}
	line := k.plan.Lines[at].Plan
	if open := p.Open; open != nil {
		p.Open = func(env drivers.Env) drivers.Driver {
			if env.Line == nil {
				env.Line = line.Open(env.Log)
			}
			return open(env)
		}
	}
	p.Once = p.Once || line.Exclusive
	p.Endpoint = strings.Replace(p.Endpoint, p.Line, p.Line+" ("+line.Endpoint+")", 1)
	if line.RTU && p.Unit == 0 {
		return s.Faults(config.Field("unit", "unit 0 is all units of a line at once, and none of them answers", "write the device's own number, 1 to 247"))
	}
	for _, other := range k.plan.Devices {
		if other.Plan.Line == p.Line && other.Plan.Unit == p.Unit {
			return s.Faults(config.Field("unit", fmt.Sprintf("unit %d of line %s is the device %s already", p.Unit, p.Line, other.Name),
				"write this device's own number, or put its tags below "+string(other.Name)))
		}
	}
	return nil
}

// wired says which devices take more connections than they have, and which lines
// nobody uses.
func (k *checker) wired() {
	for i, d := range k.plan.Devices {
		if d.Plan.Line != "" || d.Plan.MaxConnections == 0 {
			continue
		}
		var others []string
		for _, other := range k.plan.Devices {
			if other.Plan.Line == "" && other.Plan.Endpoint == d.Plan.Endpoint && other.Plan.Bind == d.Plan.Bind && other.Name != d.Name {
				others = append(others, string(other.Name))
			}
		}
		if len(others) >= d.Plan.MaxConnections {
			way := d.Plan.Endpoint
			if d.Plan.Bind != "" {
				way += ", bind: " + d.Plan.Bind
			}
			k.faults = append(k.faults, k.plan.Config.Devices[i].Faults(config.Field("max_connections",
				fmt.Sprintf("%s takes %s, and %s connects there, too", d.Plan.Endpoint, count(d.Plan.MaxConnections, "connection"), strings.Join(others, ", ")),
				"put them on one line: lines: {box: {endpoint: "+way+", framing: tcp}}, and line: box in each"))...)
		}
	}
	for i, l := range k.plan.Lines {
		if !slices.ContainsFunc(k.plan.Devices, func(d devicePlan) bool { return d.Plan.Line == l.Name }) {
			k.faults = append(k.faults, k.plan.Config.Lines[i].Faults(config.Warn("", "no device is on this line", "write line: "+l.Name+" in its devices, or remove the line"))...)
		}
	}
}

// openLines makes the lines, without any I/O.
func (p *plan) openLines(log *zap.Logger) map[string]drivers.Line {
	lines := make(map[string]drivers.Line, len(p.Lines))
	for _, l := range p.Lines {
		lines[l.Name] = l.Plan.Open(log.With(zap.String("line", l.Name)))
	}
	return lines
}
