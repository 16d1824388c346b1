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
	port  *Port // from the first Start on
	l     net.Listener
	conns []net.Conn
}

// NewServer returns a server that hands each connection to serve, in a goroutine
// of its own. It listens nowhere before Start.
func NewServer(serve func(net.Conn)) *Server {
	return &Server{serve: serve}
}

// Addr returns host and port, which the first Start has chosen; "" before.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.port == nil {
		return ""
	}
	return s.port.Addr()
}

// Start listens.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.port == nil {
		port, err := KeepPort("127.0.0.1")
		if err != nil {
			return err
		}
		s.port = port
	}
	l, err := net.Listen("tcp", s.port.Addr())
	if err != nil {
		return err
	}
	s.l = l
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
