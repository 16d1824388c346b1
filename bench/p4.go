package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The work of P4.
const (
	p4Nodes       = 1000
	p4Machines    = 10
	p4Interval    = 100 * time.Millisecond
	nodeNamespace = 2 // of plantsim's nodes
)

func nodeName(i int) string { return fmt.Sprintf("N%04d", i) }

// opcuaSubscription is P4: a server in another process with 1000 values that
// change every 100 ms, subscribed to and through the rules; against the bare
// library's subscription to the same.
func opcuaSubscription(ctx context.Context, b *bed) (r result, err error) {
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ignoreExit(broker.stop())) }()
	plant, err := startRole("plant4", nodesRole{Nodes: p4Nodes, Every: p4Interval})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, plant.end()) }()
	var addr string
	if err := plant.answer(&addr); err != nil {
		return r, err
	}
	length := b.length(9*time.Second, 60*time.Second)
	run := func(machines int) (s span, err error) {
		err = b.withGateway(ctx, func(httpAddr string) string {
			return p4Config(addr, broker.addr, httpAddr, machines)
		}, func(g *gateway) error {
			s, err = g.measure(ctx, 5*p4Nodes, length)
			return errors.Join(err, s.check())
		})
		return s, err
	}
	ours, err := run(p4Machines)
	if err != nil {
		return r, err
	}
	one, err := run(1)
	if err != nil {
		return r, err
	}
	limit, err := askRole[limitResult]("limit-opcua", opcuaRole{Addr: addr, Seconds: length.Seconds(), Nodes: p4Nodes, Interval: p4Interval})
	if err != nil {
		return r, err
	}
	if limit.Events == 0 {
		return r, errors.New("the bare subscription got no value")
	}
	r = newResult("cpu_s_per_1e6", ours.cpuPer1e6(), 3, true)
	r.add("values_s", ours.valuesPerSecond())
	r.add("limit_cpu_s_per_1e6", limit.cpuPer1e6())
	r.add("limit_values_s", limit.perSecond())
	r.add("cpu_ratio", ours.cpuPer1e6()/limit.cpuPer1e6())
	r.add("rule_inputs_s", ours.inputs/ours.seconds)
	r.add("overflows", ours.overflows)
	r.add("events", ours.events)
	r.add("one_machine_cpu_s_per_1e6", one.cpuPer1e6())
	r.Note = fmt.Sprintf("%d machines with %d values each as parameters, with a deadband that none leaves (one_machine: all in one); no security; %v each", p4Machines, p4Nodes/p4Machines, length)
	return r, nil
}

// p4Config is a plant whose machines share the values of the one server.
func p4Config(addr, broker, httpAddr string, count int) string {
	var devices, machines strings.Builder
	fmt.Fprintf(&devices, "  plc:\n    driver: opcua\n    endpoint: opc.tcp://%s\n    publishing: %s\n    tags:\n", addr, p4Interval)
	for i := range p4Nodes {
		fmt.Fprintf(&devices, "      t%d: {node: \"ns=%d;s=%s\", type: uint32}\n", i, nodeNamespace, nodeName(i))
		if i%(p4Nodes/count) == 0 {
			fmt.Fprintf(&machines, "  M-%d:\n    device: plc\n    parameters:\n", i/(p4Nodes/count))
		}
		fmt.Fprintf(&machines, "      p%d: {tag: t%d, deadband: 1000000000}\n", i, i)
	}
	return frameConfig("p4", broker, httpAddr, devices.String(), machines.String())
}
