package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// registersRole is the argument of the role "plant3": that many Modbus servers
// with that many holding registers each, of which the first Moving grow by one
// at each request and the others never change.
type registersRole struct{ Servers, Registers, Moving int }

// registersPlant is the beginning of P3 and P7: a broker, and Modbus servers in
// another process.
type registersPlant struct {
	broker  *broker
	servers *process
	addrs   []string
}

func startRegisters(ctx context.Context, dir string) (p registersPlant, err error) {
	if p.broker, err = startBroker(ctx, dir); err != nil {
		return p, err
	}
	p.servers, err = startRole("plant3", registersRole{Servers: p3Servers, Registers: p3Registers, Moving: p3Moving})
	if err == nil {
		err = p.servers.answer(&p.addrs)
	}
	if err != nil {
		err = errors.Join(err, p.end())
	}
	return p, err
}

// end stops what was started.
func (p *registersPlant) end() (err error) {
	if p.servers != nil {
		err = p.servers.end()
	}
	return errors.Join(err, ignoreExit(p.broker.stop()))
}

// playRegisters runs the servers and answers with their addresses.
func playRegisters(in *json.Decoder, out *json.Encoder) error {
	var argument registersRole
	if err := in.Decode(&argument); err != nil {
		return err
	}
	var addrs []string
	for range argument.Servers {
		m, err := plantsim.NewModbus("127.0.0.1:0")
		if err != nil {
			return err
		}
		addrs = append(addrs, m.Addr())
		still := make([]uint16, argument.Registers)
		for i := range still {
			still[i] = uint16(i)
		}
		m.Update(func(b *plantsim.Bank) { b.SetHolding(0, still...) })
		moving := make([]uint16, argument.Moving)
		m.OnRead(func(b *plantsim.Bank) {
			for i := range moving {
				moving[i]++
			}
			b.SetHolding(0, moving...)
		})
	}
	if err := out.Encode(addrs); err != nil {
		return err
	}
	return untilEOF(in)
}

// nodesRole is the argument of the role "plant4": an OPC UA server with that
// many UInt32 nodes, all of which change once per Every.
type nodesRole struct {
	Nodes int
	Every time.Duration
}

// playNodes runs the server and answers with its address.
func playNodes(in *json.Decoder, out *json.Encoder) error {
	var argument nodesRole
	if err := in.Decode(&argument); err != nil {
		return err
	}
	log.SetOutput(io.Discard) // the server library tells of its address space
	s, err := plantsim.NewOPCUA(plantsim.OPCUAOptions{Addr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // the process ends
	names := make([]string, argument.Nodes)
	for i := range names {
		names[i] = nodeName(i)
	}
	count := uint32(0)
	step := func() {
		count++
		s.Update(func(n *plantsim.Nodes) {
			for _, name := range names {
				n.Set(name, count)
			}
		})
	}
	step()
	if err := out.Encode(s.Addr()); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- untilEOF(in) }()
	tick := time.NewTicker(argument.Every)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			step()
		}
	}
}

// troubleRole is the argument of the role "plant9", troubleAddrs its answer: a
// Modbus server that takes Delay for each answer, and one that accepts
// connections and never answers.
type (
	troubleRole  struct{ Delay time.Duration }
	troubleAddrs struct{ Slow, Mute string }
)

// playTrouble runs the two servers and answers with their addresses.
func playTrouble(in *json.Decoder, out *json.Encoder) error {
	var argument troubleRole
	if err := in.Decode(&argument); err != nil {
		return err
	}
	slow, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		return err
	}
	slow.OnRead(func(*plantsim.Bank) { time.Sleep(argument.Delay) })
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go swallow(mute)
	if err := out.Encode(troubleAddrs{slow.Addr(), mute.Addr().String()}); err != nil {
		return err
	}
	return errors.Join(untilEOF(in), mute.Close())
}

// swallow reads what comes, and says nothing, until l is closed.
func swallow(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(io.Discard, c) // until the client gives up
			_ = c.Close()
		}()
	}
}
