package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	paho "github.com/eclipse/paho.mqtt.golang"
)

// limitResult is what a bare library reached.
type limitResult struct {
	Events  int
	Seconds float64
	CPU     float64 // seconds
	P99     float64 // milliseconds of one call; 0 where calls are not timed
}

func (l limitResult) perSecond() float64 { return float64(l.Events) / l.Seconds }
func (l limitResult) cpuPer1e6() float64 { return l.CPU / float64(l.Events) * 1e6 }

// badgerRole is the argument of the role "limit-badger": groups of entries as
// the gateway's store holds them, written for that long.
type badgerRole struct {
	Dir     string
	Seconds float64
	// Events and States are the entries of one group, fractions carried over;
	// an event is a new key each time, a state overwrites its own.
	Events, States       float64
	Machines             int
	EventKey, EventValue int
	StateKey, StateValue int
}

// bareBadger opens Badger with the options that the gateway's store uses too.
func bareBadger(dir string) (*badger.DB, error) {
	o := badger.DefaultOptions(dir).WithLogger(nil).WithSyncWrites(true).WithDetectConflicts(false).
		WithMetricsEnabled(false).WithMemTableSize(4 << 20).WithNumMemtables(1).WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(4).WithBaseTableSize(2 << 20).WithBaseLevelSize(8 << 20).
		WithValueLogFileSize(4 << 20).WithValueThreshold(512 << 10).WithNumCompactors(2).WithNumGoroutines(1).
		WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0)
	o.TableSizeMultiplier = 1
	return badger.Open(o)
}

// badgerLimit writes groups one after the other, each one transaction and one
// sync: nobody can be faster with this library and this group size.
func badgerLimit(a badgerRole) (r limitResult, err error) {
	if err := os.RemoveAll(a.Dir); err != nil {
		return r, err
	}
	db, err := bareBadger(a.Dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Close(), os.RemoveAll(a.Dir)) }()
	eventValue, stateValue := bytes.Repeat([]byte{'e'}, a.EventValue), bytes.Repeat([]byte{'s'}, a.StateValue)
	var took []float64
	events, states := 0.0, 0.0
	sequence, state := 0, 0
	cpuBefore, begin := ownCPU(), time.Now()
	for time.Since(begin).Seconds() < a.Seconds {
		events, states = events+a.Events, states+a.States
		start := time.Now()
		txn := db.NewTransaction(true)
		for ; events >= 1; events-- {
			key := fmt.Appendf(make([]byte, 0, a.EventKey), "e%0*d", a.EventKey-9, sequence%a.Machines)
			key = fmt.Appendf(key, "%08x", sequence)
			if err := txn.Set(key, bytes.Clone(eventValue)); err != nil {
				return r, err
			}
			sequence++
		}
		for ; states >= 1; states-- {
			key := fmt.Appendf(make([]byte, 0, a.StateKey), "s%0*d", a.StateKey-1, state%a.Machines)
			if err := txn.Set(key, bytes.Clone(stateValue)); err != nil {
				return r, err
			}
			state++
		}
		if err := txn.Commit(); err != nil {
			return r, err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	r.Events, r.Seconds, r.CPU = sequence, time.Since(begin).Seconds(), (ownCPU() - cpuBefore).Seconds()
	r.P99 = quantile(took, 0.99)
	return r, nil
}

// pahoRole is the argument of the role "limit-paho".
type pahoRole struct {
	Broker        string
	Seconds       float64
	Window, Bytes int
}

// pahoLimit publishes with QoS 1 and that many in flight, waiting on the head.
func pahoLimit(a pahoRole) (r limitResult, err error) {
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + a.Broker).SetClientID("bench-limit").
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetOrderMatters(false))
	if t := client.Connect(); t.Wait() && t.Error() != nil {
		return r, t.Error()
	}
	defer client.Disconnect(100)
	payload := bytes.Repeat([]byte{'x'}, a.Bytes)
	flight := make([]paho.Token, 0, a.Window)
	cpuBefore, begin := ownCPU(), time.Now()
	for time.Since(begin).Seconds() < a.Seconds {
		for len(flight) < a.Window {
			flight = append(flight, client.Publish("bench/limit", 1, false, payload))
		}
		<-flight[0].Done()
		if err := flight[0].Error(); err != nil {
			return r, err
		}
		r.Events++
		flight = append(flight[:0], flight[1:]...)
	}
	r.Seconds, r.CPU = time.Since(begin).Seconds(), (ownCPU() - cpuBefore).Seconds()
	return r, nil
}

// storeShape is how large the entries of a gateway's store are on average.
type storeShape struct {
	EventKey, EventValue, StateKey, StateValue int
}

// shapeOf reads the closed store of a buffer: Badger is in its folder "store",
// keys begin with the layout's number and the class, 'e' for events and 'm' for
// states (docs/formats.md).
func shapeOf(dir string) (s storeShape, err error) {
	db, err := bareBadger(filepath.Join(dir, "store"))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	average := func(class byte) (key, value int, err error) {
		n := 0
		err = db.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{1, class}, PrefetchValues: false})
			defer it.Close()
			for it.Rewind(); it.Valid() && n < 10_000; it.Next() {
				key += len(it.Item().Key())
				value += int(it.Item().ValueSize())
				n++
			}
			return nil
		})
		if err == nil && n == 0 {
			err = fmt.Errorf("the store at %s holds no record of class %q", dir, class)
		}
		return key / max(n, 1), value / max(n, 1), err
	}
	var err1, err2 error
	s.EventKey, s.EventValue, err1 = average('e')
	s.StateKey, s.StateValue, err2 = average('m')
	return s, errors.Join(err1, err2)
}
