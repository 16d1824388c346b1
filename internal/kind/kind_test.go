package kind_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/kind"
)

type options struct {
	Endpoint string `yaml:"endpoint,required"`
	Unit     int    `yaml:"unit"`
}

func (o *options) Validate() error {
	if o.Unit > 247 {
		return config.Field("unit", "there is no such unit", "write 1 to 247")
	}
	return nil
}

// plan is what a contract package would describe.
type plan struct{ where string }

func fieldbus(name string) kind.Kind[plan] {
	return kind.NewKind(name, func() options { return options{Unit: 1} }, func(section string, o options) (plan, error) {
		var err error
		if o.Endpoint == "odd" {
			err = config.Warn("endpoint", "is odd", "look again")
		}
		if o.Endpoint == "impossible" {
			err = errors.Join(config.Field("endpoint", "cannot be planned", "write another"), errors.New("at all"))
		}
		return plan{where: section + "@" + o.Endpoint + "#" + string(rune('0'+o.Unit))}, err
	})
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ text, where, want string }{
		{"driver: bus\nendpoint: here", "press@here#1", ""},
		{"{endpoint: here, unit: 5}", "press@here#5", ""},
		{"endpoint: odd", "press@odd#1", "f.yaml:1:11: warning: press.endpoint: is odd — look again"},
		{"endpoint: impossible", "press@impossible#1", "f.yaml:1:1: press: at all\nf.yaml:1:11: press.endpoint: cannot be planned — write another"},
		{"endpoint: here\nunit: 300", "press@here#Ŝ", "f.yaml:2:7: press.unit: there is no such unit — write 1 to 247"},
		{"unti: 5", "press@#1", "f.yaml:1:1: press: unknown key `unti` — did you mean `unit`?\nf.yaml:1:1: press: required key `endpoint` is missing — add `endpoint:`"},
	} {
		t.Run(c.text, func(t *testing.T) {
			s, faults := config.ParseSection("press", "f.yaml", c.text)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			got, faults := fieldbus("bus").Check(s)
			var messages []string
			for _, f := range faults {
				messages = append(messages, f.String())
			}
			if strings.Join(messages, "\n") != c.want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(messages, "\n"), c.want)
			}
			if got.where != c.where {
				t.Errorf("got the plan %q, want %q", got.where, c.where)
			}
		})
	}
}

// Defaults are made anew for each section.
func TestCheckDefaultsAreFresh(t *testing.T) {
	shared := kind.NewKind("bus", func() struct {
		Words []string `yaml:"words"`
		Unit  int      `yaml:"unit"`
	} {
		return struct {
			Words []string `yaml:"words"`
			Unit  int      `yaml:"unit"`
		}{Words: []string{"default"}, Unit: 1}
	}, func(_ string, o struct {
		Words []string `yaml:"words"`
		Unit  int      `yaml:"unit"`
	}) (plan, error) {
		return plan{where: strings.Join(o.Words, ",")}, nil
	})
	for _, c := range []struct{ text, want string }{{"words: [a, b]", "a,b"}, {"unit: 2", "default"}} {
		s, _ := config.ParseSection("x", "f.yaml", c.text)
		if got, faults := shared.Check(s); len(faults) > 0 || got.where != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.text, got.where, faults, c.want)
		}
	}
}

func TestRegistry(t *testing.T) {
	r := kind.NewRegistry(fieldbus("bus"), fieldbus("ring"))
	if names := r.Names(); !slices.Equal(names, []string{"bus", "ring"}) {
		t.Errorf("names %v", names)
	}
	if _, ok := r.Lookup("ring"); !ok {
		t.Error("no ring")
	}
	if _, ok := r.Lookup("star"); ok {
		t.Error("a star, which nobody registered")
	}
	defer func() {
		if p := recover(); p == nil || !strings.Contains(p.(string), "bus is registered twice") {
			t.Errorf("panic %v", p)
		}
	}()
	kind.NewRegistry(fieldbus("bus"), fieldbus("ring"), fieldbus("bus"))
}

func TestDefaultsAreFresh(t *testing.T) {
	k := fieldbus("x")
	if got := k.Defaults(); got != (options{Unit: 1}) {
		t.Errorf("got %+v", got)
	}
}
