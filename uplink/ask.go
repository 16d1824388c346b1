package uplink

import (
	"context"
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
