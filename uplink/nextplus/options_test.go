package nextplus

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestOptionFaults are named where they are, with what to do.
func TestOptionFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		want   []string
	}{
		"good":              {func(*Options) {}, nil},
		"no url":            {func(o *Options) { o.Device, o.ItemAttach, o.Operation = "", "", "" }, []string{""}},
		"no scheme":         {func(o *Options) { o.ItemAttach = "erp.example/item" }, []string{"item_attach"}},
		"words":             {func(o *Options) { o.OnLostReply, o.Redirect, o.WebPage, o.UnknownParent = "a", "b", "c", "d" }, []string{"on_lost_reply", "redirect", "web_page", "unknown_parent"}},
		"remember":          {func(o *Options) { o.Remember = 0 }, []string{"remember"}},
		"secret in a query": {func(o *Options) { o.Device += "?api_key=1" }, []string{"device"}},
		"secret in clear":   {func(o *Options) { o.Device = "http://erp.example/d"; o.Auth.Bearer = config.NewSecret("x") }, []string{"device"}},
		"inline":            {func(o *Options) { o.HoldAfter = 0; o.Timeout = 0 }, []string{"hold_after", "timeout"}},
		"a table for nothing": {func(o *Options) {
			o.Codes.Machine.Rows = []config.Row[uplink.Code]{{Name: "M", Value: uplink.Code{Theirs: "1"}}}
		}, []string{"codes.machine"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions("http://127.0.0.1:1")
			c.change(&o)
			var got []string
			for _, err := range flat(o.Validate()) {
				var f *config.FieldError
				if !errors.As(err, &f) || f.Remedy == "" {
					t.Fatalf("no remedy: %v", err)
				}
				got = append(got, f.Path)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got faults at %q, want %q", got, c.want)
			}
		})
	}
}

func flat(err error) (all []error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, inner := range many.Unwrap() {
			all = append(all, flat(inner)...)
		}
		return all
	}
	if err != nil {
		all = append(all, err)
	}
	return all
}

// TestKeys holds the plan against its options.
func TestPlan(t *testing.T) {
	o := testOptions("https://erp.example:8443")
	o.Operation = ""
	p, err := plan("erp", o)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Carries(plant.KindSerial) || !p.Carries(plant.KindItemAttach) || p.Carries(plant.KindOperation) || p.Carries(plant.KindGap) || p.Carries(plant.KindCounter) {
		t.Error("the kinds are not those of the URLs")
	}
	if p.Options.Deduplicates || p.Options.BatchEvents != maxEvents || !strings.Contains(p.Endpoint, net.JoinHostPort("erp.example", "8443")) {
		t.Errorf("got %+v", p)
	}
}
