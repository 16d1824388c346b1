// Package status is the gateway's local HTTP server: the page for maintenance
// people, health and readiness, Prometheus metrics and the status as JSON. It
// only looks: it asks a Source for a Snapshot by value, changes nothing, and no
// other package but cmd knows it.
package status

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Limits of the server. A page for a handful of people needs no more, and what
// is refused here cannot disturb polling.
const (
	maxConnections = 64
	maxHeaderBytes = 64 << 10
	maxBodyBytes   = 64 << 10

	headerTimeout   = 3 * time.Second
	readTimeout     = 10 * time.Second
	writeTimeout    = 15 * time.Second
	idleTimeout     = 10 * time.Second
	shutdownTimeout = 2 * time.Second
)

// Source says how the gateway is. Snapshot is called from the goroutine of each
// request, several at once; it must not block on devices, disk or network, and
// what it returns is the caller's.
type Source interface {
	Snapshot() Snapshot
}

// Snapshot is the gateway at one moment.
type Snapshot struct {
	// At is the moment; ages are counted back from it.
	At time.Time
	// Gateway is the gateway's name as it stands in event ids; Version the
	// program's version.
	Gateway, Version string
	// Started is when the process began.
	Started time.Time
	// Ready is set once every stage has started; until then Waiting says in
	// plain words what is missing. A device that is away is not a reason.
	Ready   bool
	Waiting []string
	// ClockUncertain is set while nothing keeps the PC's clock right: the events
	// of this time say so, too.
	ClockUncertain bool

	Devices  []drivers.Stats
	Machines []derive.Stats
	Uplinks  []uplink.Stats
	Buffer   buffer.Stats
	// Notices are problems that the composition root has found itself.
	Notices []Problem
	// Feeds names the devices that each machine's tags come from, so that the
	// page can show a lost device before the machines that miss it.
	Feeds map[plant.MachineID][]plant.DeviceID
	// Kinds are the kinds of events that each machine's rules make, so that the
	// page leaves out what a machine does not have.
	Kinds map[plant.MachineID][]plant.EventKind
}

// Options are the settings of the server.
type Options struct {
	// Listen is the address, "host:port"; port 0 takes a free one. The server has
	// neither a login nor TLS: config.HTTP keeps the address on loopback.
	Listen string
	// Hosts are further names under which browsers may ask, besides the loopback
	// names and the host of Listen; everything else is refused, since a page
	// whose name was rebound to this address must not read the plant's state.
	Hosts []string
	// Desk is asked for the pages about the central systems; nil leaves them out.
	Desk Desk
	// Stops lists the stops that central systems were not told of; nil leaves their
	// page out.
	Stops Stops
	// Location is the time zone of the page; nil means UTC. The API is always
	// UTC.
	Location *time.Location
}

// Server is the local HTTP server. Call Listen, then Run.
type Server struct {
	options Options
	source  Source
	log     *zap.Logger
	http    *http.Server

	mu       sync.Mutex
	listener net.Listener
	closed   bool
	// tested is when each uplink was tried from the page.
	tested map[string]time.Time
}

// New returns a Server over source. It does no I/O.
func New(options Options, source Source, log *zap.Logger) *Server {
	if options.Location == nil {
		options.Location = time.UTC
	}
	s := &Server{options: options, source: source, log: log, tested: map[string]time.Time{}}
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Clients that hang up in the middle are no news for the gateway.
		ErrorLog: quietLog(log),
	}
	return s
}

// Handler returns the routes with their guard: what Run serves.
func (s *Server) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(s.source))
	registerRuntime(registry)

	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", s.serveHealth)
	mux.HandleFunc("/readyz", s.serveReady)
	mux.Handle("/metrics", metricsHandler(registry, s.log))
	mux.HandleFunc("/api/v1/status", s.serveStatus)
	mux.HandleFunc("/api/v1/schemas", s.serveSchemas)
	mux.HandleFunc("/api/v1/schemas/{file}", serveSchema)
	mux.HandleFunc("/api/v1/schemas/{kind}/{version}", serveSchema)
	mux.HandleFunc("/ui/style.css", serveStyle)
	mux.HandleFunc("/{$}", s.servePage)
	s.route(mux)
	return guard(s.allowedHosts(), s.log, mux)
}

// Listen opens the socket and returns its address, with the port that the
// system chose where the config asks for port 0. It fails where the address is
// taken. Call it once, before Run.
func (s *Server) Listen() (addr string, err error) {
	l, err := net.Listen("tcp", s.options.Listen)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return "", fmt.Errorf("status: listen on %s: the address is taken: does a gateway run here already (systemctl status sluice)? Otherwise give http: listen: another port: %w", s.options.Listen, err)
		}
		return "", fmt.Errorf("status: listen on %s: %w", s.options.Listen, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", errors.Join(fmt.Errorf("status: listen on %s: %w", s.options.Listen, net.ErrClosed), l.Close())
	}
	s.listener = limit(l, maxConnections)
	return l.Addr().String(), nil
}

// Run serves until ctx ends, then lets requests in flight finish for a moment,
// and returns when all of its goroutines have. It returns nil after ctx ended or
// Close was called, and the error that stopped the server otherwise.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return errors.New("status: serve: Listen was not called")
	}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(l) }()
	select {
	case err := <-served:
		if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		return fmt.Errorf("status: serve: %w", err)
	case <-ctx.Done():
	}
	// ctx is over; the farewell needs a deadline of its own.
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(bye)
	if err != nil {
		err = s.http.Close()
	}
	<-served
	if err != nil {
		return fmt.Errorf("status: stop: %w", err)
	}
	return nil
}

// Close closes the socket and every connection at once; Run then returns. It may
// be called at any time, from any goroutine, also twice.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.http.Close()
	if s.listener != nil {
		// Serve may never have taken the listener over; a second close is harmless.
		if cerr := s.listener.Close(); err == nil && cerr != nil && !errors.Is(cerr, net.ErrClosed) {
			err = cerr
		}
	}
	if err != nil {
		return fmt.Errorf("status: close: %w", err)
	}
	return nil
}
