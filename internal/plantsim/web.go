package plantsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Web is an ERP that receives events by HTTP POST, one CloudEvent or a batch of
// them a body, and counts them for itself. It is strict: another method or
// content type, or a body that is no JSON, is refused. Its methods may be called
// from any goroutine.
type Web struct {
	mes    *MES
	addr   string
	server *http.Server
	ended  chan struct{}
}

// maxWebBody is the largest body that a Web takes.
const maxWebBody = 1 << 20

// NewWeb starts a receiver on a free loopback port; mes counts.
func NewWeb(mes *MES) (*Web, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("plantsim: start web: %w", err)
	}
	w := &Web{mes: mes, addr: listener.Addr().String(), ended: make(chan struct{})}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(w.ended)
		_ = w.server.Serve(listener) // it ends by Close only
	}()
	return w, nil
}

// Addr returns host:port.
func (w *Web) Addr() string { return w.addr }

// Close ends the receiver.
func (w *Web) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := errors.Join(w.server.Shutdown(ctx), w.server.Close())
	<-w.ended
	return err
}

// ServeHTTP implements http.Handler.
func (w *Web) ServeHTTP(answer http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(answer, r.Body, maxWebBody))
	switch {
	case r.Method != http.MethodPost:
		http.Error(answer, "POST events here", http.StatusMethodNotAllowed)
		return
	case err != nil:
		http.Error(answer, "the body is too large or was cut", http.StatusBadRequest)
		return
	}
	var events []json.RawMessage
	switch r.Header.Get("Content-Type") {
	case "application/cloudevents+json", "application/cloudevents+json; charset=utf-8":
		events = []json.RawMessage{body}
	case "application/cloudevents-batch+json", "application/cloudevents-batch+json; charset=utf-8":
		if err := json.Unmarshal(body, &events); err != nil {
			http.Error(answer, "the body is no JSON array", http.StatusBadRequest)
			return
		}
	default:
		http.Error(answer, "the content type is not that of CloudEvents", http.StatusUnsupportedMediaType)
		return
	}
	for _, e := range events {
		if !json.Valid(e) {
			http.Error(answer, "an event is no JSON", http.StatusBadRequest)
			return
		}
	}
	for _, e := range events {
		w.mes.Publish("", e)
	}
	answer.WriteHeader(http.StatusNoContent)
}
