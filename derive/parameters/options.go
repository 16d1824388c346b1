package parameters

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Deadband is how far a value must move to be reported: an amount in the
// value's own unit ("0.5"), or a part of the value reported last ("2%").
type Deadband struct {
	Amount  float64
	Percent bool
}

// UnmarshalText reads "0.5" or "2%".
func (d *Deadband) UnmarshalText(b []byte) error {
	number, percent := strings.CutSuffix(strings.TrimSpace(string(b)), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || f < 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return config.Field("", fmt.Sprintf("`%s` is no deadband", b), "write an amount such as 0.5, or a part such as 2%")
	}
	d.Amount, d.Percent = f, percent
	return nil
}

// inside reports whether v is as good as last. Decimals such as 33.2 and 31.2 lie a
// rounding error more than 2 apart.
func (d Deadband) inside(v, last float64) bool {
	limit := d.Amount
	if d.Percent {
		limit = math.Abs(last) * d.Amount / 100
	}
	return math.Abs(v-last) <= limit+(math.Abs(v)+math.Abs(last))*0x1p-52
}

// Parameter is one process value. A config writes the tag alone, or a mapping.
type Parameter struct {
	Tag string `yaml:"tag,required"`
	// Unit is the tag's if it is not set.
	Unit     string   `yaml:"unit"`
	Deadband Deadband `yaml:"deadband"`
	// MinInterval is the least time between two reports, MaxInterval the most;
	// 0 means no limit.
	MinInterval config.Duration `yaml:"min_interval"`
	MaxInterval config.Duration `yaml:"max_interval"`
	// Over asks for Report once in each such interval instead of for each change.
	Over config.Duration `yaml:"over"`
	// Report says what is told of an interval: "min", "max", "mean"; all if it is
	// empty.
	Report []string `yaml:"report"`
	// Snapshot says when the value is told besides: "startstop" (the default) at
	// every start and stop, or "none".
	Snapshot string `yaml:"snapshot"`
}

// UnmarshalText reads the short form.
func (p *Parameter) UnmarshalText(b []byte) error {
	p.Tag = string(b)
	return nil
}

// Validate checks what can be checked without the tags.
func (p *Parameter) Validate() error {
	var errs []error
	add := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if p.MaxInterval > 0 && p.MaxInterval < p.MinInterval {
		add("max_interval", "is shorter than min_interval", "write at least "+p.MinInterval.String())
	}
	if p.Snapshot != "" && p.Snapshot != snapshotStartStop && p.Snapshot != "none" {
		errs = append(errs, config.Unknown("snapshot", "setting", p.Snapshot, []string{snapshotStartStop, "none"}))
	}
	for i, what := range p.Report {
		if !slices.Contains(reports, what) {
			errs = append(errs, config.Unknown(fmt.Sprintf("report[%d]", i), "figure", what, reports))
		}
	}
	switch {
	case p.Over == 0 && len(p.Report) > 0:
		add("over", "is missing, but report: is given", "write the interval, for example over: 1m")
	case p.Over > 0 && p.Over.Std() < time.Second:
		add("over", "is shorter than a second", "write at least 1s")
	case p.Over > 0 && (p.Deadband.Amount > 0 || p.MinInterval > 0 || p.MaxInterval > 0):
		add("over", "with it the value is told once in each interval, so deadband, min_interval and max_interval say nothing", "remove them, or give the tag a second code for its changes")
	}
	return errors.Join(errs...)
}

const snapshotStartStop = "startstop"

// reports are the figures of an interval.
var reports = []string{"min", "max", "mean"}

// Options are the process values under their codes.
type Options = config.Table[Parameter]

type input struct {
	rule.Input
	code, unit, binding string
	deadband            Deadband
	least, most         time.Duration
	// over is the interval of figures, 0 for none; report says which.
	over     time.Duration
	report   []string
	snapshot bool
}

// Rule is one machine's process values. It is immutable.
type Rule struct{ inputs []input }

// New makes a Rule. Its errors are config.FieldErrors, joined.
func New(o Options, resolve rule.Resolver) (*Rule, error) {
	r := &Rule{}
	var errs []error
	for _, row := range o.Rows {
		p := row.Value
		found, err := resolve(row.Name, p.Tag)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if p.Deadband.Amount > 0 && !found.Tag.Type.Numeric() {
			errs = append(errs, config.Field(row.Name+".deadband", fmt.Sprintf("tag %s is of type %s, which has no distance", found.Ref, found.Tag.Type), "remove the deadband"))
		}
		if t := found.Tag.Type; p.Over > 0 && (t == plant.TypeBool || t == plant.TypeString) {
			errs = append(errs, config.Field(row.Name+".over", fmt.Sprintf("tag %s is of type %s, which has no mean", found.Ref, t), "remove over:"))
		}
		in := input{Input: found, code: row.Name, unit: p.Unit, binding: row.Name + " " + found.Binding(),
			deadband: p.Deadband, least: p.MinInterval.Std(), most: p.MaxInterval.Std(),
			over: p.Over.Std(), report: p.Report, snapshot: p.Snapshot != "none"}
		if len(in.report) == 0 {
			in.report = reports
		}
		if in.unit == "" {
			in.unit = found.Tag.Unit
		}
		r.inputs = append(r.inputs, in)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}
