package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// playRole is main of another process: it reads its argument from stdin,
// answers on stdout, and ends when stdin does.
func playRole(role string) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	switch role {
	case "plant":
		return playPlant(in, out)
	case "plant3":
		return playRegisters(in, out)
	case "plant4":
		return playNodes(in, out)
	case "plant9":
		return playTrouble(in, out)
	case "broker":
		return playBroker(in, out)
	case "receiver":
		return playReceiver(in, out)
	case "backlog":
		return answerOnce(in, out, writeBacklog)
	case "outage":
		return answerOnce(in, out, writeOutage)
	case "limit-open":
		return answerOnce(in, out, openLimit)
	case "pieces":
		return answerOnce(in, out, writePieces)
	case "commit-backlog":
		return answerOnce(in, out, commitBeside)
	case "limit-badger":
		return answerOnce(in, out, badgerLimit)
	case "limit-paho":
		return answerOnce(in, out, pahoLimit)
	case "limit-modbus":
		return answerOnce(in, out, modbusLimit)
	case "limit-opcua":
		return answerOnce(in, out, opcuaLimit)
	default:
		return fmt.Errorf("there is no role %q", role)
	}
}

func answerOnce[A, R any](in *json.Decoder, out *json.Encoder, work func(A) (R, error)) error {
	var argument A
	if err := in.Decode(&argument); err != nil {
		return err
	}
	r, err := work(argument)
	if err != nil {
		return err
	}
	return out.Encode(r)
}

// askRole runs a role that answers once.
func askRole[R any](role string, argument any) (r R, err error) {
	p, err := startRole(role, argument)
	if err != nil {
		return r, err
	}
	if err := p.answer(&r); err != nil {
		_ = p.end()
		return r, err
	}
	return r, p.end()
}

// plantRole is the argument of the role "plant": that many Modbus servers with
// that many counters each.
type plantRole struct{ Servers, Counters int }

// playPlant runs the servers; each counter (two holding registers, low word
// first) grows by one at each read, so that every poll sees a change. It does
// so without a clock of its own, which would fall behind where the processors
// are busy and leave polls without work.
func playPlant(in *json.Decoder, out *json.Encoder) error {
	var argument plantRole
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
		m.OnRead(counter(argument.Counters))
	}
	if err := out.Encode(addrs); err != nil {
		return err
	}
	return untilEOF(in)
}

// counter returns a hook that lets each counter grow by one.
func counter(counters int) func(*plantsim.Bank) {
	registers := make([]uint16, 2*counters)
	n := uint32(0)
	return func(b *plantsim.Bank) {
		n++
		for i := range counters {
			registers[2*i], registers[2*i+1] = uint16(n), uint16(n>>16)
		}
		b.SetHolding(0, registers...)
	}
}

func playBroker(in *json.Decoder, out *json.Encoder) error {
	b := plantsim.NewBroker(func(string, []byte) {})
	if err := b.Start(); err != nil {
		return err
	}
	defer func() { _ = b.Stop() }()
	if err := out.Encode(b.Addr()); err != nil {
		return err
	}
	var nothing struct{}
	if err := in.Decode(&nothing); err != nil {
		return err
	}
	return untilEOF(in)
}

// untilEOF waits until the process that started this one closes its stdin.
func untilEOF(in *json.Decoder) error {
	var v any
	if err := in.Decode(&v); err != io.EOF {
		return err
	}
	return nil
}
