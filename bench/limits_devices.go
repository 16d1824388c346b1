package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pdu "github.com/goburrow/modbus"
	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"
)

// modbusRole is the argument of the role "limit-modbus": read Registers holding
// registers of each server over and over, Count in a request.
type modbusRole struct {
	Addrs            []string
	Seconds          float64
	Registers, Count int
}

// modbusLimit reads with one connection to each server, side by side and
// without a pause. Its Events are registers.
func modbusLimit(a modbusRole) (r limitResult, err error) {
	registers := make([]int, len(a.Addrs))
	errs := make([]error, len(a.Addrs))
	var readers sync.WaitGroup
	cpuBefore, begin := ownCPU(), time.Now()
	for i, addr := range a.Addrs {
		readers.Go(func() { registers[i], errs[i] = readUntil(a, addr, begin) })
	}
	readers.Wait()
	r.Seconds, r.CPU = time.Since(begin).Seconds(), (ownCPU() - cpuBefore).Seconds()
	for _, n := range registers {
		r.Events += n
	}
	return r, errors.Join(errs...)
}

func readUntil(a modbusRole, addr string, begin time.Time) (registers int, err error) {
	handler := pdu.NewTCPClientHandler(addr)
	handler.Timeout, handler.SlaveId = time.Second, 1
	if err := handler.Connect(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, handler.Close()) }()
	client := pdu.NewClient(handler)
	for time.Since(begin).Seconds() < a.Seconds {
		for from := 0; from < a.Registers; from += a.Count {
			answer, err := client.ReadHoldingRegisters(uint16(from), uint16(a.Count))
			if err != nil {
				return registers, err
			}
			registers += len(answer) / 2
		}
	}
	return registers, nil
}

// opcuaRole is the argument of the role "limit-opcua".
type opcuaRole struct {
	Addr     string
	Seconds  float64
	Nodes    int
	Interval time.Duration
}

// opcuaLimit subscribes with the library's own subscription and counts the
// values that come. Neither the second before it begins to count nor the
// connect is in the figures.
func opcuaLimit(a opcuaRole) (r limitResult, err error) {
	ctx, stop := context.WithTimeout(context.Background(), time.Duration(a.Seconds*float64(time.Second))+20*time.Second)
	defer stop()
	client, err := opcua.NewClient("opc.tcp://"+a.Addr, opcua.SecurityMode(ua.MessageSecurityModeNone), opcua.AutoReconnect(false))
	if err != nil {
		return r, err
	}
	if err := client.Connect(ctx); err != nil {
		return r, err
	}
	defer func() { _ = client.Close(ctx) }() // the process ends
	published := make(chan *opcua.PublishNotificationData, 64)
	subscription, err := client.Subscribe(ctx, &opcua.SubscriptionParameters{Interval: a.Interval}, published)
	if err != nil {
		return r, err
	}
	var items []*ua.MonitoredItemCreateRequest
	for i := range a.Nodes {
		items = append(items, &ua.MonitoredItemCreateRequest{
			ItemToMonitor:  &ua.ReadValueID{NodeID: ua.NewStringNodeID(nodeNamespace, nodeName(i)), AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}},
			MonitoringMode: ua.MonitoringModeReporting,
			RequestedParameters: &ua.MonitoringParameters{
				ClientHandle: uint32(i), SamplingInterval: float64(a.Interval.Milliseconds()), QueueSize: 2, DiscardOldest: true,
			},
		})
	}
	answer, err := subscription.Monitor(ctx, ua.TimestampsToReturnBoth, items...)
	if err != nil {
		return r, err
	}
	for _, item := range answer.Results {
		if item.StatusCode != ua.StatusOK {
			return r, fmt.Errorf("monitor an item: %w", item.StatusCode)
		}
	}
	if _, err := countValues(ctx, published, time.Second); err != nil {
		return r, err
	}
	cpuBefore, begin := ownCPU(), time.Now()
	r.Events, err = countValues(ctx, published, time.Duration(a.Seconds*float64(time.Second)))
	r.Seconds, r.CPU = time.Since(begin).Seconds(), (ownCPU() - cpuBefore).Seconds()
	return r, err
}

// countValues takes what is published for that long.
func countValues(ctx context.Context, published <-chan *opcua.PublishNotificationData, d time.Duration) (values int, err error) {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return values, ctx.Err()
		case <-end.C:
			return values, nil
		case p := <-published:
			if p.Error != nil {
				return values, p.Error
			}
			if change, ok := p.Value.(*ua.DataChangeNotification); ok {
				values += len(change.MonitoredItems)
			}
		}
	}
}
