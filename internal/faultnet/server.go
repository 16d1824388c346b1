package faultnet

import (
	"net"
	"sync"
)

// Server is a TCP server for a test's counterpart: it can be stopped, as by a
// switch, and started again at the same address. Its methods may be called from
// any goroutine.
type Server struct {
	serve func(net.Conn)

	mu    sync.Mutex
	addr  string
	l     net.Listener
	conns []net.Conn
}

// NewServer returns a server that hands each connection to serve, in a goroutine
// of its own. It listens nowhere before Start.
func NewServer(serve func(net.Conn)) *Server {
	return &Server{serve: serve, addr: "127.0.0.1:0"}
}

// Addr returns host and port, which the first Start has chosen.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Start listens. It fails if another program has taken the address meanwhile.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.l, s.addr = l, l.Addr().String()
	go s.accept(l)
	return nil
}

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		stopped := s.l != l
		if !stopped {
			s.conns = append(s.conns, c)
		}
		s.mu.Unlock()
		if stopped {
			c.Close()
			return
		}
		go s.serve(c)
	}
}

// Stop closes the listener and all connections. Stopping twice does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l == nil {
		return nil
	}
	err := s.l.Close()
	s.l = nil
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
	return err
}

// FreePort returns a port of 127.0.0.1 that nobody has just now, for what must
// be told its port ahead. Somebody may take it before it is used.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
