package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// Reconciler is optional for a Queue: it takes what a Watermarker's receiver
// last had of a machine, and records a rollback of the store that this shows.
// plant.ErrFull means not now.
type Reconciler interface {
	Reconcile(ctx context.Context, m plant.MachineID, last plant.EventID) error
}

// ParseLast reads what a receiver says that it last had of a machine: a JSON object
// whose member id is the event's id, empty if it has had nothing. Other members
// are nobody's business, so a whole event will do. An id of another machine is an
// error.
func ParseLast(m plant.MachineID, text []byte) (plant.EventID, error) {
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return plant.EventID{}, fmt.Errorf("it is no JSON object with an id: %w", err)
	}
	if answer.ID == "" {
		return plant.EventID{}, nil
	}
	id, err := plant.ParseEventID(answer.ID)
	if err != nil {
		return plant.EventID{}, err
	}
	if id.Sequence > plant.MostSequence {
		return plant.EventID{}, fmt.Errorf("%q has a number that no machine gets to", answer.ID)
	}
	if id.Machine != m {
		return plant.EventID{}, fmt.Errorf("%q is no event of the machine %s", answer.ID, m)
	}
	return id, nil
}

// askSoon and askAgain space the questions to a receiver that does not answer
// them, more and more: one that was away is asked soon after it is back, one that
// never answers seldom.
const askSoon, askAgain = time.Second, time.Minute

// ask asks the receiver, before the first Send of a machine in this run, what it
// last had of it. A receiver that gives no answer delays nothing: it is asked
// again later. The caller has the machine's lease; the error is the Queue's.
func (f *Forwarder) ask(ctx context.Context, m plant.MachineID, st *machine) error {
	if f.watermarker == nil || f.reconciler == nil || time.Now().Before(st.askNext) || st.asked {
		return nil
	}
	question, cancel := context.WithTimeout(ctx, f.options.SendTimeout.Std())
	defer cancel()
	last, err := f.lastOf(question, m)
	if err != nil {
		st.askWait = min(max(2*st.askWait, askSoon), askAgain)
		st.askNext = time.Now().Add(st.askWait)
		if ctx.Err() != nil || st.silent {
			return nil
		}
		st.silent = true
		if f.silent.Add(1) == 1 {
			f.log.Warn("the receiver does not say what it had last: a rollback of the gateway's store would not be noticed by it; it is asked again",
				zap.String("machine", string(m)), zap.Error(err))
		}
		return nil
	}
	if st.silent {
		st.silent = false
		if f.silent.Add(-1) == 0 {
			f.log.Info("the receiver says what it had last", zap.String("machine", string(m)))
		}
	}
	err = f.reconciler.Reconcile(context.WithoutCancel(ctx), m, last)
	if errors.Is(err, plant.ErrFull) {
		st.askNext = time.Now().Add(askAgain)
		return nil
	}
	if err != nil {
		return f.fatal("compare events of "+string(m)+" with what the receiver had", err)
	}
	st.asked = true
	return nil
}

// lastOf guards against a panic of the Sender, as call does.
func (f *Forwarder) lastOf(ctx context.Context, m plant.MachineID) (last plant.EventID, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the sender panicked: %v", p)
		}
	}()
	return f.watermarker.Last(ctx, m)
}
