package plantsim

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/simonvetter/modbus"
)

func start(t *testing.T) *Modbus {
	t.Helper()
	m, err := NewModbus("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func client(t *testing.T, m *Modbus) *modbus.ModbusClient {
	t.Helper()
	c, err := modbus.NewClient(&modbus.ClientConfiguration{URL: "tcp://" + m.Addr(), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestModbusTables(t *testing.T) {
	m := start(t)
	m.Update(func(b *Bank) {
		b.SetHolding(100, 1, 2, 3)
		b.SetInput(65535, 9)
		b.SetCoil(3, true, false, true)
		b.SetDiscrete(0, true)
		b.Of(7).SetHolding(100, 70)
	})
	c := client(t, m)
	if got, err := c.ReadRegisters(99, 6, modbus.HOLDING_REGISTER); err != nil || !slices.Equal(got, []uint16{0, 1, 2, 3, 0, 0}) {
		t.Errorf("holding 99…104 = %v, %v", got, err)
	}
	if got, err := c.ReadRegister(65535, modbus.INPUT_REGISTER); err != nil || got != 9 {
		t.Errorf("input 65535 = %v, %v; want 9", got, err)
	}
	if got, err := c.ReadCoils(2, 4); err != nil || !slices.Equal(got, []bool{false, true, false, true}) {
		t.Errorf("coils 2…5 = %v, %v", got, err)
	}
	if got, err := c.ReadDiscreteInput(0); err != nil || !got {
		t.Errorf("discrete 0 = %v, %v; want true", got, err)
	}
	if err := c.SetUnitId(7); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadRegisters(100, 2, modbus.HOLDING_REGISTER); err != nil || !slices.Equal(got, []uint16{70, 0}) {
		t.Errorf("unit 7 holding 100 = %v, %v; want [70 0]", got, err)
	}
	if n := m.Counts(); n != (ModbusCounts{Reads: 5}) {
		t.Errorf("Counts = %+v, want 5 reads", n)
	}
}

func TestModbusWritesAndHook(t *testing.T) {
	m := start(t)
	var seen []ModbusWrite
	m.OnWrite(func(b *Bank, w ModbusWrite) {
		seen = append(seen, w)
		b.SetHolding(200, b.Holding(200)+1) // an answer of the PLC to a handshake
	})
	c := client(t, m)
	if err := c.WriteRegister(10, 5); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteRegisters(11, []uint16{6, 7}); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteCoil(4, true); err != nil {
		t.Fatal(err)
	}
	m.Update(func(b *Bank) {
		if b.Holding(10) != 5 || b.Holding(11) != 6 || b.Holding(12) != 7 || !b.Coil(4) || b.Holding(200) != 3 {
			t.Error("the memory does not hold what was written")
		}
		if len(seen) != 3 || !slices.Equal(seen[1].Registers, []uint16{6, 7}) || seen[2].Table != Coil || !slices.Equal(seen[2].Bits, []bool{true}) {
			t.Errorf("the hook saw %+v", seen)
		}
	})
}

func TestModbusExceptions(t *testing.T) {
	for exception, want := range exceptionErrors {
		m := start(t)
		m.Update(func(b *Bank) { b.Fail(Holding, 10, 12, exception) })
		c := client(t, m)
		if _, err := c.ReadRegisters(8, 3, modbus.HOLDING_REGISTER); !errors.Is(err, want) {
			t.Errorf("exception %d: %v, want %v", exception, err, want)
		}
		if _, err := c.ReadRegisters(13, 1, modbus.HOLDING_REGISTER); err != nil {
			t.Errorf("beside the range: %v", err)
		}
		if _, err := c.ReadRegisters(10, 1, modbus.INPUT_REGISTER); err != nil {
			t.Errorf("other table: %v", err)
		}
		m.Update(func(b *Bank) { b.Heal() })
		if _, err := c.ReadRegisters(10, 1, modbus.HOLDING_REGISTER); err != nil {
			t.Errorf("healed: %v", err)
		}
		if n := m.Counts().Exceptions; n != 1 {
			t.Errorf("%d exceptions counted, want 1", n)
		}
	}
}

func TestModbusUpdateIsAtomic(t *testing.T) {
	m := start(t)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := uint16(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				m.Update(func(b *Bank) {
					for a := range uint16(100) {
						b.SetHolding(a, i)
					}
				})
			}
		}
	})
	c := client(t, m)
	for range 200 {
		got, err := c.ReadRegisters(0, 100, modbus.HOLDING_REGISTER)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Min(got) != slices.Max(got) {
			t.Fatalf("torn read: %v", got)
		}
	}
	close(stop)
	writer.Wait()
}

func TestModbusGoesAwayAndComesBack(t *testing.T) {
	m := start(t)
	m.Update(func(b *Bank) { b.SetHolding(1, 42) })
	for range 5 {
		c := client(t, m)
		if _, err := c.ReadRegister(1, modbus.HOLDING_REGISTER); err != nil {
			t.Fatal(err)
		}
		if err := m.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadRegister(1, modbus.HOLDING_REGISTER); err == nil {
			t.Fatal("a stopped device answered")
		}
		if conn, err := net.Dial("tcp", m.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			if err == nil {
				conn.Close()
			}
			t.Fatalf("dial a stopped device: %v, want connection refused", err)
		}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		if got, err := client(t, m).ReadRegister(1, modbus.HOLDING_REGISTER); err != nil || got != 42 {
			t.Fatalf("after the restart: %v, %v; want 42", got, err)
		}
	}
}

func TestModbusNamesAPortThatIsTaken(t *testing.T) {
	if _, err := NewModbus("127.0.0.1"); err == nil {
		t.Error("an address without a port was accepted")
	}
	m := start(t)
	if second, err := NewModbus(m.Addr()); err == nil || second != nil {
		t.Errorf("a second server on %s: %v, %v", m.Addr(), second, err)
	}
}
