package plantsim

import (
	"context"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"
)

// Service is a service of an OPC UA server that Refuse can make fail.
type Service uint16

// The services.
const (
	ServiceActivateSession      Service = id.ActivateSessionRequest_Encoding_DefaultBinary
	ServiceRead                 Service = id.ReadRequest_Encoding_DefaultBinary
	ServiceCreateSubscription   Service = id.CreateSubscriptionRequest_Encoding_DefaultBinary
	ServiceCreateMonitoredItems Service = id.CreateMonitoredItemsRequest_Encoding_DefaultBinary
	ServiceDeleteMonitoredItems Service = id.DeleteMonitoredItemsRequest_Encoding_DefaultBinary
	ServicePublish              Service = id.PublishRequest_Encoding_DefaultBinary
)

// Refuse makes the server answer the next request of a service with a service
// fault of that status code.
func (s *OPCUA) Refuse(service Service, status uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse == nil {
		s.refuse = make(map[Service]ua.StatusCode)
	}
	s.refuse[service] = ua.StatusCode(status)
}

// unlessRefused asks h, unless Refuse wants otherwise.
func (s *OPCUA) unlessRefused(service Service, h server.Handler) server.Handler {
	return func(channel *uasc.SecureChannel, r ua.Request, number uint32) (ua.Response, error) {
		s.mu.Lock()
		status, refused := s.refuse[service]
		delete(s.refuse, service)
		s.mu.Unlock()
		if refused {
			return nil, status
		}
		return h(channel, r, number)
	}
}

// Mute takes the monitored items of a node out of all subscriptions and tells
// nobody, as some servers do when a program is loaded while they run.
func (s *OPCUA) Mute(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		for _, it := range sub.items {
			if it.node == name {
				sub.remove(it.number)
			}
		}
	}
}

// LoseSubscriptions forgets all subscriptions while the sessions live. Their
// publish requests are answered with BadNoSubscription, or with nothing at all if
// silently.
func (s *OPCUA) LoseSubscriptions(silently bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silently
	for number, sub := range s.subs {
		for _, waiting := range s.requests[sub.token] {
			if silently {
				break
			}
			fault := &ua.ServiceFault{ResponseHeader: &ua.ResponseHeader{
				RequestHandle: waiting.handle.RequestHandle, ServiceResult: ua.StatusBadNoSubscription,
				ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil),
			}}
			_ = sub.channel.SendResponseWithContext(context.Background(), waiting.id, fault) // a client that is gone
		}
		delete(s.requests, sub.token)
		s.forget(number)
	}
}
