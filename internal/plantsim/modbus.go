// Package plantsim is a simulated plant: real servers on loopback for the demo,
// for tests and for benches. What a PLC or scale would say is set from outside;
// how it says it is the real protocol over a real socket.
package plantsim

import (
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/sluice-edge/sluice/internal/faultnet"
)

// Table is one of the four address spaces of a Modbus device, each with
// addresses 0…65535.
type Table uint8

// The tables, with the function codes that read and write them.
const (
	// Holding registers: FC 3; written by FC 6 and 16.
	Holding Table = iota
	// Input registers: FC 4.
	Input
	// Coil bits: FC 1; written by FC 5 and 15.
	Coil
	// Discrete inputs: FC 2.
	Discrete
)

// Exception is a Modbus exception code (Modbus Application Protocol
// Specification V1.1b3, chapter 7).
type Exception uint8

// The exceptions that a device can be told to answer with.
const (
	IllegalFunction      Exception = 1
	IllegalDataAddress   Exception = 2
	IllegalDataValue     Exception = 3
	DeviceFailure        Exception = 4
	Acknowledge          Exception = 5
	DeviceBusy           Exception = 6
	MemoryParityError    Exception = 8
	GatewayPathMissing   Exception = 10
	GatewayTargetMissing Exception = 11
)

var exceptionErrors = map[Exception]error{
	IllegalFunction:      modbus.ErrIllegalFunction,
	IllegalDataAddress:   modbus.ErrIllegalDataAddress,
	IllegalDataValue:     modbus.ErrIllegalDataValue,
	DeviceFailure:        modbus.ErrServerDeviceFailure,
	Acknowledge:          modbus.ErrAcknowledge,
	DeviceBusy:           modbus.ErrServerDeviceBusy,
	MemoryParityError:    modbus.ErrMemoryParityError,
	GatewayPathMissing:   modbus.ErrGWPathUnavailable,
	GatewayTargetMissing: modbus.ErrGWTargetFailedToRespond,
}

// Unit is the memory of one unit id. Addresses that were never set read as 0.
// It is used only inside Modbus.Update.
type Unit struct {
	registers [2][]uint16 // by Table: Holding, Input
	bits      [2][]bool   // by Table - Coil: Coil, Discrete
	faults    []fault
}

type fault struct {
	table     Table
	from, to  uint16
	exception Exception
}

// Bank is the memory of a device. The embedded Unit answers for every unit id
// that has none of its own. It is used only inside Modbus.Update.
type Bank struct {
	*Unit
	units map[uint8]*Unit
}

// Of returns the memory of one unit id, which from then on has its own.
func (b *Bank) Of(id uint8) *Unit {
	u := b.units[id]
	if u == nil {
		u = new(Unit)
		b.units[id] = u
	}
	return u
}

// SetHolding sets holding registers from address on.
func (u *Unit) SetHolding(address uint16, values ...uint16) { put(&u.registers[0], address, values) }

// SetInput sets input registers from address on.
func (u *Unit) SetInput(address uint16, values ...uint16) { put(&u.registers[1], address, values) }

// SetCoil sets coils from address on.
func (u *Unit) SetCoil(address uint16, values ...bool) { put(&u.bits[0], address, values) }

// SetDiscrete sets discrete inputs from address on.
func (u *Unit) SetDiscrete(address uint16, values ...bool) { put(&u.bits[1], address, values) }

// Holding returns one holding register.
func (u *Unit) Holding(address uint16) uint16 { return get(u.registers[0], address, 1)[0] }

// Input returns one input register.
func (u *Unit) Input(address uint16) uint16 { return get(u.registers[1], address, 1)[0] }

// Coil returns one coil.
func (u *Unit) Coil(address uint16) bool { return get(u.bits[0], address, 1)[0] }

// Discrete returns one discrete input.
func (u *Unit) Discrete(address uint16) bool { return get(u.bits[1], address, 1)[0] }

// Fail makes every request that touches table from…to answer with exception,
// reads and writes alike, until Heal.
func (u *Unit) Fail(table Table, from, to uint16, exception Exception) {
	u.faults = append(u.faults, fault{table, from, to, exception})
}

// Heal forgets what Fail did to this unit.
func (u *Unit) Heal() { u.faults = nil }

func (u *Unit) check(table Table, address, count uint16) error {
	last := int(address) + int(count) - 1
	for _, f := range u.faults {
		if f.table == table && int(address) <= int(f.to) && last >= int(f.from) {
			return exceptionErrors[f.exception]
		}
	}
	return nil
}

func put[T any](all *[]T, address uint16, values []T) {
	end := int(address) + len(values)
	if end > 1<<16 {
		panic(fmt.Sprintf("plantsim: set %d values from address %d: beyond address 65535", len(values), address))
	}
	if len(*all) < end {
		*all = append(*all, make([]T, end-len(*all))...)
	}
	copy((*all)[address:], values)
}

func get[T any](all []T, address uint16, count int) []T {
	out := make([]T, count)
	if int(address) < len(all) {
		copy(out, all[address:])
	}
	return out
}

// ModbusWrite is a write by a client.
type ModbusWrite struct {
	Unit    uint8
	Table   Table
	Address uint16
	// Registers is set for Holding, Bits for Coil.
	Registers []uint16
	Bits      []bool
}

// ModbusCounts counts requests since the start.
type ModbusCounts struct {
	Reads, Writes uint64
	// Exceptions counts requests, also in Reads or Writes, that were refused.
	Exceptions uint64
}

// Modbus is a Modbus TCP server over a Bank. Its methods may be called from any
// goroutine.
type Modbus struct {
	addr string
	kept *faultnet.Port // nil where the address was given

	mu      sync.Mutex // one request or one Update at a time
	bank    Bank
	onWrite func(*Bank, ModbusWrite)
	onRead  func(*Bank)

	reads, writes, exceptions atomic.Uint64

	running sync.Mutex
	server  *modbus.ModbusServer
}

// NewModbus starts a server on addr, for example "127.0.0.1:0" for a free port.
func NewModbus(addr string) (*Modbus, error) {
	m := &Modbus{addr: addr, bank: Bank{Unit: new(Unit), units: map[uint8]*Unit{}}}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("plantsim: start modbus server: %w", err)
	}
	// The server library does not tell which port it was given, so a free one is
	// chosen here.
	if port == "0" {
		if m.kept, err = faultnet.KeepPort(host); err != nil {
			return nil, fmt.Errorf("plantsim: start modbus server: %w", err)
		}
		m.addr = m.kept.Addr()
	}
	if err := m.listen(); err != nil {
		return nil, fmt.Errorf("plantsim: start modbus server: %w", err)
	}
	return m, nil
}

// Addr returns host:port, the same after Stop and Start.
func (m *Modbus) Addr() string { return m.addr }

// Start brings the device back on its port, with its memory as it is now. It
// waits up to 5 s for the port, which somebody may have taken meanwhile.
func (m *Modbus) Start() error {
	var err error
	for range 100 {
		if err = m.listen(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("plantsim: start modbus server on %s: %w", m.addr, err)
}

// listen uses a new server each time: a stopped one still reads the field that
// its next Start would write.
func (m *Modbus) listen() error {
	m.running.Lock()
	defer m.running.Unlock()
	if m.server != nil {
		return nil
	}
	server, err := modbus.NewServer(&modbus.ServerConfiguration{
		URL:        "tcp://" + m.addr,
		Timeout:    time.Hour,
		MaxClients: 1000,
		Logger:     log.New(io.Discard, "", 0),
	}, (*modbusHandler)(m))
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	m.server = server
	return nil
}

// Stop closes the port and all connections: the device goes away. Start brings
// it back.
func (m *Modbus) Stop() error {
	m.running.Lock()
	defer m.running.Unlock()
	if m.server == nil {
		return nil
	}
	err := m.server.Stop()
	m.server = nil
	return err
}

// Update changes the memory. A request sees all of one Update or nothing of it.
func (m *Modbus) Update(change func(*Bank)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.bank)
}

// OnWrite sets what is called for each accepted write, after it changed the
// memory and before the client has its answer, as part of the same atomic
// change. It must not call Update.
func (m *Modbus) OnWrite(hook func(*Bank, ModbusWrite)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onWrite = hook
}

// OnRead sets what is called before each read, as part of the same atomic
// request: for a device that has something new at each poll, however often it
// is polled. It must not call Update.
func (m *Modbus) OnRead(hook func(*Bank)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onRead = hook
}

// Counts returns the counts since NewModbus.
func (m *Modbus) Counts() ModbusCounts {
	return ModbusCounts{Reads: m.reads.Load(), Writes: m.writes.Load(), Exceptions: m.exceptions.Load()}
}

// modbusHandler keeps the server library's methods out of Modbus.
type modbusHandler Modbus

var _ modbus.RequestHandler = (*modbusHandler)(nil)

// HandleCoils implements modbus.RequestHandler.
func (h *modbusHandler) HandleCoils(r *modbus.CoilsRequest) ([]bool, error) {
	w := ModbusWrite{Unit: r.UnitId, Table: Coil, Address: r.Addr, Bits: r.Args}
	return serve(h, w, r.Quantity, r.IsWrite, func(u *Unit) *[]bool { return &u.bits[0] }, r.Args)
}

// HandleDiscreteInputs implements modbus.RequestHandler.
func (h *modbusHandler) HandleDiscreteInputs(r *modbus.DiscreteInputsRequest) ([]bool, error) {
	w := ModbusWrite{Unit: r.UnitId, Table: Discrete, Address: r.Addr}
	return serve(h, w, r.Quantity, false, func(u *Unit) *[]bool { return &u.bits[1] }, nil)
}

// HandleHoldingRegisters implements modbus.RequestHandler.
func (h *modbusHandler) HandleHoldingRegisters(r *modbus.HoldingRegistersRequest) ([]uint16, error) {
	w := ModbusWrite{Unit: r.UnitId, Table: Holding, Address: r.Addr, Registers: r.Args}
	return serve(h, w, r.Quantity, r.IsWrite, func(u *Unit) *[]uint16 { return &u.registers[0] }, r.Args)
}

// HandleInputRegisters implements modbus.RequestHandler.
func (h *modbusHandler) HandleInputRegisters(r *modbus.InputRegistersRequest) ([]uint16, error) {
	w := ModbusWrite{Unit: r.UnitId, Table: Input, Address: r.Addr}
	return serve(h, w, r.Quantity, false, func(u *Unit) *[]uint16 { return &u.registers[1] }, nil)
}

func serve[T any](h *modbusHandler, w ModbusWrite, count uint16, write bool, cells func(*Unit) *[]T, args []T) ([]T, error) {
	if write {
		h.writes.Add(1)
	} else {
		h.reads.Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	unit := h.bank.units[w.Unit]
	if unit == nil {
		unit = h.bank.Unit
	}
	if err := unit.check(w.Table, w.Address, count); err != nil {
		h.exceptions.Add(1)
		return nil, err
	}
	if !write {
		if h.onRead != nil {
			h.onRead(&h.bank)
		}
		return get(*cells(unit), w.Address, int(count)), nil
	}
	put(cells(unit), w.Address, args)
	if h.onWrite != nil {
		w.Registers, w.Bits = slices.Clone(w.Registers), slices.Clone(w.Bits)
		h.onWrite(&h.bank, w)
	}
	return nil, nil
}
