package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// The work of R1 to R3: an ERP over HTTP that takes its time.
const (
	rLatency  = 50 * time.Millisecond
	rMachines = 32 // sent at once, the default of the uplink
	// rSingle is enough for 25 s; each machine has its share.
	rSingle = backlogMachines * backlogBatch
	rBatch  = 200
	rLook   = 200 * time.Millisecond
)

// receiverRole is the argument of the role "receiver": an HTTP server that
// answers each request after Latency, or, with Slow, a listener that reads one
// byte a second of each connection and answers nothing.
type receiverRole struct {
	Latency time.Duration
	Slow    bool
}

// receiverCount is its answer when it is asked again: what arrived.
type receiverCount struct {
	Requests, Events int64
	// AtOnce is the most requests that were open at once.
	AtOnce int64
}

// playReceiver runs the receiver: it answers with its address, then with the
// counts to each value that it is sent.
func playReceiver(in *json.Decoder, out *json.Encoder) error {
	var argument receiverRole
	if err := in.Decode(&argument); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := out.Encode(l.Addr().String()); err != nil {
		return err
	}
	h := &slowERP{latency: argument.Latency}
	if argument.Slow {
		go readSlowly(l)
	} else {
		server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		defer func() { _ = server.Close() }() // the process ends
		go func() { _ = server.Serve(l) }()   // it ends with Close
	}
	for {
		var asked any
		if err := in.Decode(&asked); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(receiverCount{h.requests.Load(), h.events.Load(), h.most.Load()}); err != nil {
			return err
		}
	}
}

// slowERP takes what comes, and its time.
type slowERP struct {
	latency                      time.Duration
	requests, events, open, most atomic.Int64
}

// ServeHTTP implements http.Handler.
func (s *slowERP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.open.Add(1)
	defer s.open.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	time.Sleep(s.latency)
	s.requests.Add(1)
	s.events.Add(int64(bytes.Count(body, []byte(`"id"`))))
	w.WriteHeader(http.StatusNoContent)
}

// readSlowly reads a byte a second of each connection.
func readSlowly(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetReadBuffer(4 << 10) // smaller only makes it slower
		}
		go func() {
			defer func() { _ = c.Close() }() // nothing was said on it
			for one := make([]byte, 1); ; time.Sleep(time.Second) {
				if _, err := c.Read(one); err != nil {
					return
				}
			}
		}()
	}
}

// rConfig is a gateway with one idle machine and that rest uplink, which has the
// queue of the backlog.
func rConfig(plc, receiver, httpAddr, keys string) string {
	text := frameConfig("r", "", httpAddr, fmt.Sprintf("  plc: {driver: modbus, endpoint: %q, interval: 1s, tags: {made: \"holding:0\"}}\n", plc),
		"  M: {device: plc, counter: {good: made, pieces: 1, max_rate: 1000/s}}\n")
	before, _, _ := strings.Cut(text, "uplinks:")
	return before + "uplinks:\n  mqtt:\n    driver: rest\n    url: http://" + receiver + "/api\n" + keys
}

// rTemplate is a body as an ERP may want it.
const rTemplate = `    requests:
      - kinds: [counter]
        path: /machines/{{.machine}}/counts
        body: '{"id": {{.id}}, "good": {{.data.good}}, "order": {{.data.order.number}}, "at": {{.time | time "seconds"}}, "scrap": [{{range $i, $s := .data.scrap}}{{if $i}}, {{end}}{"code": {{$s.code}}, "n": {{$s.quantity}}}{{end}}]}'
`

// restSingle is R1: one event a request by a template, 50 ms an answer, 32
// machines at once.
func restSingle(ctx context.Context, b *bed) (result, error) {
	d, count, err := b.drainRest(ctx, "r1", rSingle, receiverRole{Latency: rLatency}, rTemplate+"      - {kinds: [gap], skip: true}\n", b.length(6*time.Second, 15*time.Second))
	if err != nil {
		return result{}, err
	}
	r := newResult("events_s", d.perSecond(), 500, false)
	r.add("of_the_limit", d.perSecond()/(rMachines/rLatency.Seconds()))
	r.add("cpu_s_per_1e6", d.cpuPer1e6())
	r.add("anon_mib", d.memory.anon)
	r.add("at_once", float64(count.AtOnce))
	r.Note = fmt.Sprintf("an answer after %v, one event a request by a template; the limit is %d machines at once / %v; counted at the receiver", rLatency, rMachines, rLatency)
	return r, nil
}

// restBatched is R2: the same in lists, by a template and as CloudEvents.
func restBatched(ctx context.Context, b *bed) (r result, err error) {
	length := b.length(4*time.Second, 15*time.Second)
	list := fmt.Sprintf("    batch: %d\n", rBatch)
	templates, count, err := b.drainRest(ctx, "r2", p6Short, receiverRole{Latency: rLatency}, list+rTemplate+"        list: {}\n      - {kinds: [gap], skip: true}\n", length)
	if err != nil {
		return r, err
	}
	events, _, err := b.drainRest(ctx, "r2b", p6Short, receiverRole{Latency: rLatency}, list, length)
	if err != nil {
		return r, err
	}
	r = newResult("events_s", templates.perSecond(), 20_000, false)
	r.also("cloudevents_s", events.perSecond(), 20_000, false)
	r.add("cpu_s_per_1e6", templates.cpuPer1e6())
	r.add("cloudevents_cpu_s_per_1e6", events.cpuPer1e6())
	r.add("anon_mib", templates.memory.anon)
	r.add("events_a_request", float64(count.Events)/float64(max(count.Requests, 1)))
	r.Note += fmt.Sprintf(" an answer after %v, up to %d events a request", rLatency, rBatch)
	return r, nil
}

// drainRest starts a gateway with such a backlog before such a receiver and
// measures for that long.
func (b *bed) drainRest(ctx context.Context, area string, events int, role receiverRole, keys string, length time.Duration) (d drained, count receiverCount, err error) {
	err = b.beforeReceiver(ctx, area, events, role, keys, func(g *gateway, p *process) error {
		var first, last load
		if err := await(ctx, 20*time.Second, "nothing is delivered", func() bool {
			first, err = g.look()
			return err == nil && first.delivered > 0
		}); err != nil {
			return err
		}
		var before receiverCount
		if err := p.ask(&before); err != nil {
			return err
		}
		begin := time.Now()
		end := begin.Add(length)
		done := make(chan struct{})
		var watch sync.WaitGroup
		var watched error
		watch.Go(func() { d.memory, watched = g.watchMemory(ctx, done) })
		looked := time.Now() // seldom, since a look costs the gateway a page of metrics
		err := await(ctx, length+20*time.Second, "the time is not over", func() bool {
			if time.Since(looked) < rLook {
				return false
			}
			looked = time.Now()
			var err error
			last, err = g.look()
			return err == nil && (looked.After(end) || last.backlog < p6Left)
		})
		counted := p.ask(&count)
		seconds := time.Since(begin).Seconds()
		close(done)
		watch.Wait()
		if err := errors.Join(err, watched, counted); err != nil {
			return err
		}
		d.Events, d.Seconds, d.CPU = int(count.Events-before.Events), seconds, last.cpu-first.cpu
		if float64(count.Events) < last.delivered {
			return fmt.Errorf("%d events arrived of %.0f that are said to be delivered", count.Events, last.delivered)
		}
		return nil
	})
	return d, count, err
}

// ask sends a process something and reads its answer.
func (p *process) ask(into any) error {
	if err := json.NewEncoder(p.in).Encode(true); err != nil {
		return err
	}
	return p.answer(into)
}

// beforeReceiver runs a gateway with such a backlog before such a receiver.
func (b *bed) beforeReceiver(ctx context.Context, area string, events int, role receiverRole, keys string, measure func(*gateway, *process) error) (err error) {
	dir, err := b.withBacklog(area, events)
	if err != nil {
		return err
	}
	p, err := startRole("receiver", role)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	var addr string
	if err := p.answer(&addr); err != nil {
		return err
	}
	plc, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plc.Stop()) }()
	httpAddr, err := freeAddress()
	if err != nil {
		return err
	}
	g, err := b.startGateway(ctx, atStore(rConfig(plc.Addr(), addr, httpAddr, keys), dir), httpAddr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	return measure(g, p)
}

// restByteASecond is R3: what the gateway takes while every connection of the
// receiver reads one byte a second, all lists of a backlog wait, and requests
// time out and are made again.
func restByteASecond(ctx context.Context, b *bed) (r result, err error) {
	length := b.length(8*time.Second, 30*time.Second)
	keys := "    batch: 500\n    timeout: 3s\n"
	var begin, end memory
	err = b.beforeReceiver(ctx, "r3", p6Short, receiverRole{Slow: true}, keys, func(g *gateway, _ *process) error {
		if begin, err = g.memoryFor(ctx, length); err != nil {
			return err
		}
		end, err = g.memoryFor(ctx, length)
		return err
	})
	if err != nil {
		return r, err
	}
	r = newResult("growth_mib", end.anon-begin.anon, 8, true)
	r.also("anon_mib", end.anon, 96, true)
	r.add("begin_anon_mib", begin.anon)
	r.add("rss_mib", end.rss)
	r.Note += fmt.Sprintf(" the highest of samples every 100 ms in the first and the second %v; %d events wait, requests of up to 500 events time out after 3 s", length, p6Short)
	return r, nil
}
