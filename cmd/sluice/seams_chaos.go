//go:build chaos

package main

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// earlyDelay is how long the commit lags behind what was already forwarded.
const earlyDelay = 300 * time.Millisecond

// seamLog is where commits pass: by the failpoints around them, the control that
// acknowledges and forwards events before their commit, the mistake that the
// end-to-end oracle must catch, and the tap that tells the rig what was accepted.
func (g *gateway) seamLog(log derive.Log) derive.Log {
	g.followClock()
	log = &killingLog{log}
	if fault.Enabled("commit.early") {
		log = g.early(log)
	}
	if fault.Enabled("tap.fd3") {
		log = &tapLog{Log: log, tap: acceptTap(), epoch: g.buffer.Epoch()}
	}
	return log
}

func (g *gateway) early(log derive.Log) derive.Log {
	g.log.Warn("CHAOS: events are acknowledged before they are durable")
	return &earlyLog{Log: log, gateway: g, next: map[plant.MachineID]plant.Sequence{}, lag: map[plant.MachineID]chan plant.Batch{}}
}

// earlyLog answers a Commit at once, with the numbers that the buffer will give
// later, and forwards past the buffer.
type earlyLog struct {
	derive.Log
	gateway *gateway

	mu   sync.Mutex
	next map[plant.MachineID]plant.Sequence
	lag  map[plant.MachineID]chan plant.Batch
}

// Commit acknowledges and forwards b; the commit follows earlyDelay later.
func (l *earlyLog) Commit(ctx context.Context, m plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	l.mu.Lock()
	next, known := l.next[m]
	l.mu.Unlock()
	if !known { // the first commit is honest, to learn where the stream stands
		first, err := l.Log.Commit(ctx, m, b)
		if err == nil && first > 0 {
			lag := make(chan plant.Batch, 1<<16)
			l.mu.Lock()
			l.next[m] = first + plant.Sequence(len(b.Events))
			l.lag[m] = lag
			l.mu.Unlock()
			go l.follow(m, lag)
		}
		return first, err
	}
	b.State = append([]byte(nil), b.State...)
	b.Events = append([]plant.Event(nil), b.Events...)
	l.mu.Lock()
	l.next[m] = next + plant.Sequence(len(b.Events))
	lag := l.lag[m]
	l.mu.Unlock()
	lag <- b
	l.forward(ctx, m, next, b.Events)
	if len(b.Events) == 0 {
		return 0, nil
	}
	return next, nil
}

// forward sends events that nobody has committed.
func (l *earlyLog) forward(ctx context.Context, m plant.MachineID, first plant.Sequence, events []plant.Event) {
	site := l.gateway.plan.Config.Site
	sent := make([]plant.Event, len(events))
	for i, e := range events {
		e.Gateway, e.Machine, e.Epoch = site.Gateway, m, l.gateway.buffer.Stats().Epoch
		e.Source = site.Path() + "/" + string(m)
		e.Sequence = first + plant.Sequence(i)
		e.Previous = e.Sequence - 1
		sent[i] = e
	}
	for _, s := range l.gateway.senders {
		s.Send(ctx, m, sent)
	}
}

// follow commits late, in order.
func (l *earlyLog) follow(m plant.MachineID, lag <-chan plant.Batch) {
	for b := range lag {
		<-time.After(earlyDelay)
		if _, err := l.Log.Commit(context.Background(), m, b); err != nil {
			l.gateway.log.Error("CHAOS: the late commit failed", zap.Error(err))
			return
		}
	}
}
