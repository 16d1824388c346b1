package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Rules is the way to the rules of the machines. Its methods may be called from
// any goroutine.
type Rules interface {
	plant.Inbox
	// Modes returns what each machine is used for, in the order of the config.
	Modes() []MachineMode
	// Now is the time by the clock that the rules go by.
	Now() time.Time
}

// MachineMode is what a machine is used for.
type MachineMode struct {
	Machine plant.MachineID `json:"machine"`
	Mode    plant.Mode      `json:"mode"`
	// Since is when the mode began, nil if it was there from the first; By who said
	// so, empty for the config.
	Since *time.Time `json:"since"`
	By    string     `json:"by,omitempty"`
	// Until is when it ends by itself, nil for not at all.
	Until *time.Time `json:"until"`
	// Configured is what the config says.
	Configured plant.Mode `json:"configured"`
}

// ConfiguredMode is the word for the mode that the config says.
const ConfiguredMode = "config"

// recordFor bounds how long a change may wait until it is durable.
const recordFor = 10 * time.Second

// modeQuery says what a machine is to be used for.
type modeQuery struct {
	Machine plant.MachineID `json:"machine"`
	Mode    string          `json:"mode"`
	Until   *time.Time      `json:"until"`
}

func (s *Server) modes(w http.ResponseWriter, _ *http.Request) error {
	if s.Rules == nil {
		return errNoRules
	}
	return answer(w, s.Rules.Modes())
}

var errNoRules = &requestError{http.StatusConflict, "the gateway is stopped, and only its rules know what a machine is used for: start it first"}

// setMode hands a change of the mode to the rules and answers when it is durable.
func (s *Server) setMode(w http.ResponseWriter, r *http.Request) error {
	var q modeQuery
	if err := read(r, &q); err != nil {
		return err
	}
	if s.Rules == nil {
		return errNoRules
	}
	all := s.Rules.Modes()
	i := slices.IndexFunc(all, func(m MachineMode) bool { return m.Machine == q.Machine })
	if i < 0 {
		return badRequest("%s", unknown("machine", string(q.Machine), machines(all)))
	}
	in := plant.ModeChange{At: s.Rules.Now(), Mode: plant.Mode(q.Mode), By: peer(r)}
	switch names := ModeNames(); {
	case !slices.Contains(names, q.Mode):
		return badRequest("%s", unknown("mode", q.Mode, names))
	case q.Mode == ConfiguredMode && q.Until != nil:
		return badRequest("the mode of the config has no end: leave it out")
	case q.Until != nil && !q.Until.After(in.At):
		return badRequest("%s is over already: write a time to come", q.Until.Format(time.RFC3339))
	}
	detail := fmt.Sprintf("%s, before: %s", q.Mode, all[i].Mode)
	if q.Until != nil {
		in.Until = *q.Until
		detail = fmt.Sprintf("%s until %s, before: %s", q.Mode, q.Until.UTC().Format(time.RFC3339), all[i].Mode)
	}
	if q.Mode == ConfiguredMode {
		in.Mode = ""
	}
	err := s.change(in.By, "mode.set", string(q.Machine), detail, func() error { return s.submit(r.Context(), q.Machine, in) })
	if err != nil {
		return err
	}
	return answer(w, s.Rules.Modes()[i])
}

// submit hands an input to the rules and waits until it is durable, but not for
// ever.
func (s *Server) submit(ctx context.Context, m plant.MachineID, in plant.Input) error {
	bounded, cancel := context.WithTimeout(ctx, recordFor)
	defer cancel()
	err := s.Rules.Submit(bounded, m, in)
	if err != nil && errors.Is(bounded.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		return &requestError{http.StatusServiceUnavailable, fmt.Sprintf("it was handed over and is not recorded after %s, perhaps because the disk is full: see the status page; it may still be done", recordFor)}
	}
	return err
}

// ModeNames are the words that a mode is set by.
func ModeNames() []string {
	var names []string
	for _, m := range plant.Modes() {
		names = append(names, string(m))
	}
	return append(names, ConfiguredMode)
}

func machines(all []MachineMode) []string {
	names := make([]string, len(all))
	for i := range all {
		names[i] = string(all[i].Machine)
	}
	return names
}

// unknown says that there is no such thing, and what was meant or what there is.
func unknown(what, name string, names []string) string {
	return config.Unknown("", what, name, names).Error()
}
