package rest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// BenchmarkSend compares a Sender with bare POSTs of the same bodies by
// net/http, to a server in this process that reads them and answers 204.
func BenchmarkSend(b *testing.B) {
	for _, machines := range []int{1, 8} {
		for _, batch := range []int{1, 100} {
			name := fmt.Sprintf("machines=%d/batch=%d", machines, batch)
			b.Run("bare/"+name, func(b *testing.B) { benchBare(b, machines, batch) })
			b.Run("sender/"+name, func(b *testing.B) { benchSender(b, machines, batch) })
		}
	}
}

func benchServer(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(listener) // it ends with Close
		close(ended)
	}()
	b.Cleanup(func() { server.Close(); <-ended })
	return listener.Addr().String()
}

// spread has send deliver b.N events in parts of size, one goroutine a machine.
func spread(b *testing.B, machines, size int, send func(machine, n int)) {
	work := make(chan int)
	var senders sync.WaitGroup
	for i := range machines {
		senders.Go(func() {
			for n := range work {
				send(i, n)
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= size {
		work <- min(left, size)
	}
	close(work)
	senders.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func benchSender(b *testing.B, machines, batch int) {
	o := testOptions(benchServer(b))
	o.Batch, o.Timeout, o.MaxBody = batch, config.Duration(10*time.Second), 1<<20
	s := openWith(b, o)
	events := make([][]plant.Event, machines)
	for i := range events {
		events[i] = uplinktest.Events(plant.MachineID(fmt.Sprint("M", i)), 1, max(batch, maxRequests))
	}
	spread(b, machines, len(events[0]), func(machine, n int) {
		if r := s.Send(b.Context(), events[machine][0].Machine, events[machine][:n]); delivered(r, 1) != n {
			b.Errorf("results %+v", r)
		}
	})
}

func benchBare(b *testing.B, machines, batch int) {
	url := "http://" + benchServer(b) + "/events"
	transport := &http.Transport{MaxIdleConnsPerHost: machines}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	events := uplinktest.Events("M", 1, batch)
	var body []byte
	for i := range events {
		body = append(uplink.AppendCloudEvent(append(body, ','), &events[i]), ' ')
	}
	spread(b, machines, batch, func(int, int) {
		answer, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	})
}
