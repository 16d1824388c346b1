package modbus

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

const benchRegisters = 1000

func benchSection() string {
	var b strings.Builder
	b.WriteString("driver: modbus\nendpoint: ENDPOINT\ntags:\n")
	for i := range benchRegisters {
		fmt.Fprintf(&b, "  t%d: holding:%d\n", i, i)
	}
	return b.String()
}

// BenchmarkRead reads 1000 registers in 8 requests over loopback from a server
// that copies ready answers, so that nearly all the cost is the driver's and the
// kernel's.
func BenchmarkRead(b *testing.B) {
	answers := map[int][]byte{}
	for _, count := range []int{125} {
		answers[count] = append([]byte{1, 3, byte(2 * count)}, make([]byte, 2*count)...)
	}
	address := peer(b, func(r []byte) [][]byte {
		return [][]byte{frame(r, answers[int(r[10])<<8|int(r[11])]...)}
	})
	d := openPlan(b, benchSection(), address).Open(drivers.Env{Name: "bench", Log: zap.NewNop()})
	defer d.Close()
	if err := d.Connect(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		scans, err := d.Read(b.Context())
		if err != nil || len(scans) != benchRegisters/125 {
			b.Fatal(len(scans), err)
		}
	}
	b.ReportMetric(float64(b.N)*benchRegisters/b.Elapsed().Seconds(), "values/s")
}

// BenchmarkDecode is the part of a Read without the network: one request's
// answer of 125 registers to readings.
func BenchmarkDecode(b *testing.B) {
	var all []*point
	for i := range 125 {
		tag := Tag{Address: Address{Table: Holding, Number: uint16(i)}}
		if i%4 == 0 {
			tag.Scale = number("0.1")
		}
		all = append(all, newPoint(fmt.Sprint("t", i), tag, ABCD))
	}
	block := join(all, 125, 0)[0]
	answer := make([]byte, 250)
	b.ReportAllocs()
	for b.Loop() {
		block.decode(answer)
	}
	if block.readings[0].Quality != plant.Good {
		b.Fatal(block.readings[0].Cause)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/125, "ns/value")
}
