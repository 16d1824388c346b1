package prodsmart

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// Options is what a config says of a prodsmart uplink.
type Options struct {
	// URL is the base URI of the API; /api/… is put behind it.
	URL string `yaml:"url"`
	// APIKey and APISecret are those of this gateway.
	APIKey    config.Secret `yaml:"api_key,required"`
	APISecret config.Secret `yaml:"api_secret,required"`
	// TokenIn says where the token goes that stock and lists need: query or header.
	TokenIn string `yaml:"token_in"`
	// RenewOn are the statuses that mean "the token is over".
	RenewOn []int `yaml:"renew_on"`

	// RequestsPerMinute is this gateway's share of what the company may ask for, and
	// RateUse how many percent of it are used.
	RequestsPerMinute int `yaml:"requests_per_minute"`
	RateUse           int `yaml:"rate_use"`

	// Codes are Prodsmart's names of our codes.
	Codes uplink.CodeTables `yaml:"codes"`

	// LateStops says what becomes of stops that are over when Prodsmart is back:
	// current or replay.
	LateStops string `yaml:"late_stops"`
	// StartType is the downtime type of a start: that of the stop which it ends, or
	// the machine's default.
	StartType string `yaml:"start_type"`
	// DefaultType is the downtime type where no other is known, DefaultTypes that of
	// single machines.
	DefaultType  string            `yaml:"default_type"`
	DefaultTypes map[string]string `yaml:"default_types"`
	// FirstStart says whether a machine's very first start is sent, which ends no
	// stop: send or skip.
	FirstStart string `yaml:"first_start"`

	// Unchanged says what becomes of counts that did not grow: leave_out or send.
	Unchanged string `yaml:"unchanged"`
	// WasteOnly says how waste is sent without a larger count: omit_count or hold.
	WasteOnly string `yaml:"waste_only"`
	// ReworkCode is the waste code that rework is told under; empty for not at all.
	ReworkCode string `yaml:"rework_code"`
	// Offsets are what the counters of machines in Prodsmart stood at when the
	// gateway's stood at 0.
	Offsets map[string]int64 `yaml:"offsets"`
	// LearnOffset takes the offset from a refusal that names Prodsmart's number;
	// TooSmall are words by which such a refusal is told from others.
	LearnOffset bool     `yaml:"learn_offset"`
	TooSmall    []string `yaml:"too_small"`
	// LostReply says what is sent after a count that got no answer: the same body
	// (repeat), or the newest counts.
	LostReply string `yaml:"lost_reply"`
	// CounterReply says whether the counter's new value is compared: check or ignore.
	CounterReply string `yaml:"counter_reply"`

	// Parameters says with which call process values go: one of their own, or the
	// next counter.
	Parameters string `yaml:"parameters"`
	// AsParameters are the codes under which events of other kinds go as a
	// parameter.
	AsParameters map[string]string `yaml:"as_parameters"`

	// Movements books what was dosed; nil books nothing.
	Movements *Movements `yaml:"movements"`
	// Stock sets the stock of components by the gateway's books; nil sets none.
	Stock *Stock `yaml:"stock"`

	// OpenProduction is how often Prodsmart is asked which machines somebody works
	// on; 0 for never.
	OpenProduction config.Duration `yaml:"open_production"`

	httplink.Settings `yaml:",inline"`
	uplink.Options    `yaml:",inline"`
}

// The values of the settings that are words.
const (
	tokenInQuery  = "query"
	tokenInHeader = "header"

	lateCurrent = "current"
	lateReplay  = "replay"

	startOfStop  = "stop"
	startDefault = "default"

	firstSend = "send"
	firstSkip = "skip"

	unchangedLeaveOut = "leave_out"
	unchangedSend     = "send"

	wasteOmitCount = "omit_count"
	wasteHold      = "hold"

	lostRepeat = "repeat"
	lostNewest = "newest"

	replyCheck  = "check"
	replyIgnore = "ignore"

	parametersOwn     = "own"
	parametersCounter = "counter"
)

// companyLimit is what Prodsmart takes from a whole company in a minute.
const companyLimit = 120

func defaults() Options {
	o := Options{
		URL: "https://app.prodsmart.com/", TokenIn: tokenInQuery,
		RenewOn:           []int{http.StatusUnauthorized, http.StatusForbidden},
		RequestsPerMinute: companyLimit, RateUse: 90,
		LateStops: lateCurrent, StartType: startOfStop, FirstStart: firstSend,
		Unchanged: unchangedLeaveOut, WasteOnly: wasteOmitCount, LearnOffset: true,
		TooSmall:  []string{"greater", "higher", "larger", "bigger", "increas", "increment", "maior", "superior", "crescente", "większ", "przyrost"},
		LostReply: lostRepeat, CounterReply: replyCheck, Parameters: parametersOwn,
		OpenProduction: config.Duration(10 * time.Minute),
		Settings:       httplink.DefaultSettings(),
		Options:        uplink.DefaultOptions(),
	}
	// A Send waits for its turn, so that each machine needs one of its own.
	o.Concurrent = 64
	// A machine that is held is looked at often for its starts and stops; what is
	// held itself costs a request a minute.
	o.HoldRetry = config.Duration(5 * time.Second)
	return o
}

// Validate returns the faults of o as config.FieldErrors, nil if there are none.
func (o Options) Validate() error {
	o.NeedsTime(o.LeastTime())
	errs := []error{o.Options.Validate()} // an inline struct is not visited by the decoder
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	base, err := httplink.ParseURL("url", o.URL)
	if errs = append(errs, err); err == nil {
		errs = append(errs, o.Settings.Validate(base, true, o.SendTimeout))
		if base.RawQuery != "" {
			bad("url", "it holds a query", "write the base URI alone, for example https://app.prodsmart.com/")
		}
	}
	for path, secret := range map[string]config.Secret{"api_key": o.APIKey, "api_secret": o.APISecret} {
		if strings.ContainsFunc(secret.Reveal(), func(r rune) bool { return r < ' ' || r == 0x7f }) || path == "api_key" && strings.Contains(secret.Reveal(), ":") {
			bad(path, "it holds a colon, a line break or another character that no API key has", "look at how the secret was stored")
		}
	}
	if o.RequestsPerMinute < 1 || o.RequestsPerMinute > 100*companyLimit {
		bad("requests_per_minute", "it must be from 1 to 12000", "leave it out for 120, all that Prodsmart takes from a company; with two gateways give each 60")
	} else if o.RequestsPerMinute > companyLimit {
		errs = append(errs, config.Warn("requests_per_minute", "Prodsmart takes 120 requests a minute from a whole company", "write at most 120, unless the vendor has agreed to more"))
	}
	if o.RateUse < 1 || o.RateUse > 100 {
		bad("rate_use", "it must be from 1 to 100, in percent", "leave it out for 90")
	}
	for i, status := range o.RenewOn {
		if status < 400 || status > 499 {
			bad(fmt.Sprintf("renew_on[%d]", i), "it is no status from 400 to 499", "leave it out for [401, 403]")
		}
	}
	for i, word := range o.TooSmall {
		if strings.TrimSpace(word) == "" {
			bad(fmt.Sprintf("too_small[%d]", i), "it is empty, which stands in every refusal", "write a word that stands in the refusal of a number that is too small")
		}
	}
	if o.FirstStart == firstSend && o.carries(plant.KindStartStop) && o.DefaultType == "" && len(o.DefaultTypes) == 0 {
		errs = append(errs, config.Warn("default_type", "it is left out, so the first start of a machine is not sent: Prodsmart wants a downtime type with it", "write the downtime type that a start and a stop without one go with, or first_start: skip"))
	}
	if o.OpenProduction != 0 && o.OpenProduction < config.Duration(time.Minute) {
		bad("open_production", "it must be at least 1m, or 0 for never", "leave it out for 10m")
	}
	return errors.Join(append(errs, o.validateWords(), o.validateOffsets(), o.validateAsParameters(), o.validateStock())...)
}

func (o Options) validateWords() error {
	var errs []error
	for _, w := range []struct {
		path, value string
		allowed     []string
	}{
		{"token_in", o.TokenIn, []string{tokenInQuery, tokenInHeader}},
		{"late_stops", o.LateStops, []string{lateCurrent, lateReplay}},
		{"start_type", o.StartType, []string{startOfStop, startDefault}},
		{"first_start", o.FirstStart, []string{firstSend, firstSkip}},
		{"unchanged", o.Unchanged, []string{unchangedLeaveOut, unchangedSend}},
		{"waste_only", o.WasteOnly, []string{wasteOmitCount, wasteHold}},
		{"lost_reply", o.LostReply, []string{lostRepeat, lostNewest}},
		{"counter_reply", o.CounterReply, []string{replyCheck, replyIgnore}},
		{"parameters", o.Parameters, []string{parametersOwn, parametersCounter}},
	} {
		if !slices.Contains(w.allowed, w.value) {
			errs = append(errs, config.Unknown(w.path, "value", w.value, w.allowed))
		}
	}
	if o.StartType == startDefault && o.DefaultType == "" && len(o.DefaultTypes) == 0 {
		errs = append(errs, config.Field("start_type", "starts are to have the machine's default type, and there is none", "set default_type"))
	}
	return errors.Join(errs...)
}

func (o Options) validateOffsets() error {
	var errs []error
	for _, m := range slices.Sorted(maps.Keys(o.Offsets)) {
		if o.Offsets[m] < 0 {
			errs = append(errs, config.Field("offsets."+m, "it is below 0", "write what the machine's counter in Prodsmart stood at when the gateway's stood at 0"))
		}
	}
	return errors.Join(errs...)
}

// names are the machines that the config has something of its own for, by its key.
func (o *Options) names() map[string]plant.MachineID {
	names := make(map[string]plant.MachineID)
	for m := range o.Offsets {
		names["offsets."+m] = plant.MachineID(m)
	}
	for m := range o.DefaultTypes {
		names["default_types."+m] = plant.MachineID(m)
	}
	return names
}

// parameterKinds are the kinds that may go as a parameter.
var parameterKinds = []plant.EventKind{plant.KindOrder, plant.KindMode, plant.KindCorrection, plant.KindGap, plant.KindObserved, plant.KindAlarm}

func (o Options) validateAsParameters() error {
	var errs []error
	for _, k := range slices.Sorted(maps.Keys(o.AsParameters)) {
		switch {
		case !slices.Contains(parameterKinds, plant.EventKind(k)):
			errs = append(errs, config.Field("as_parameters."+k, "events of that kind do not go as a parameter", "use order, mode, correction, gap, observed or alarm"))
		case o.AsParameters[k] == "":
			errs = append(errs, config.Field("as_parameters."+k, "it names no parameter", "write the parameter's code in Prodsmart"))
		}
	}
	return errors.Join(errs...)
}

// carries reports whether events of that kind go to Prodsmart.
func (o Options) carries(k plant.EventKind) bool {
	if !o.Kinds.Carry(k) {
		return false
	}
	switch k {
	case plant.KindCounter, plant.KindStartStop, plant.KindReason, plant.KindParameters, plant.KindGap:
		return true
	}
	_, ok := o.AsParameters[string(k)]
	return ok || o.Movements.carries(k) || o.Stock.carries(k)
}

// tooSmall reports whether Prodsmart's words say that a number was not larger than
// the one before.
func (o *Options) tooSmall(words string) bool {
	words = strings.ToLower(words)
	return slices.ContainsFunc(o.TooSmall, func(word string) bool { return strings.Contains(words, strings.ToLower(word)) })
}

// login is what HTTP Basic carries.
func (o *Options) login() string {
	return base64.StdEncoding.EncodeToString([]byte(o.APIKey.Reveal() + ":" + o.APISecret.Reveal()))
}

// secrets is what nobody may be shown.
func (o *Options) secrets() []string {
	return []string{o.APIKey.Reveal(), o.APISecret.Reveal(), o.login()}
}

// defaultType returns the downtime type of a machine where no other is known.
func (o *Options) defaultType(m plant.MachineID) string {
	if t, ok := o.DefaultTypes[string(m)]; ok {
		return t
	}
	return o.DefaultType
}

// defaultTypes are the downtime types that the config names in Prodsmart's own
// words, by the key that names them.
func (o *Options) defaultTypes() (used []uplink.UsedCode) {
	if o.DefaultType != "" {
		used = append(used, uplink.UsedCode{Kind: plant.CodeDowntimeType, Code: "default_type", Theirs: o.DefaultType, Mapped: true})
	}
	for _, m := range slices.Sorted(maps.Keys(o.DefaultTypes)) {
		used = append(used, uplink.UsedCode{
			Kind: plant.CodeDowntimeType, Code: "default_types." + m, Theirs: o.DefaultTypes[m], Mapped: true, Machines: []plant.MachineID{plant.MachineID(m)},
		})
	}
	return used
}
