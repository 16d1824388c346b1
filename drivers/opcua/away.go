package opcua

import (
	"errors"
	"io"
	"syscall"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/drivers"
)

// refused is a service that the server answered with a status code.
type refused ua.StatusCode

// Error says it in plain words.
func (r refused) Error() string { return cause(ua.StatusCode(r)) }

// Unwrap lets errors.Is and errors.As find the status code.
func (r refused) Unwrap() error { return ua.StatusCode(r) }

// refusal puts a status code into plain words.
func refusal(err error) error {
	var status ua.StatusCode
	if errors.As(err, &status) {
		return refused(status)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return errors.New("the server closed the connection")
	}
	return err
}

// passing are the answers of a server that starts, stops or is too busy for a
// moment, and those that only the next session can do something about: it asks
// for less.
var passing = map[ua.StatusCode]bool{
	ua.StatusBadTimeout: true, ua.StatusBadRequestTimeout: true, ua.StatusBadServerNotConnected: true, ua.StatusBadServerHalted: true, ua.StatusBadShutdown: true,
	ua.StatusBadConnectionClosed: true, ua.StatusBadConnectionRejected: true, ua.StatusBadCommunicationError: true, ua.StatusBadNoCommunication: true,
	ua.StatusBadDisconnect: true, ua.StatusBadSecureChannelClosed: true, ua.StatusBadSecureChannelIDInvalid: true, ua.StatusBadSecureChannelTokenUnknown: true,
	ua.StatusBadSessionClosed: true, ua.StatusBadSessionIDInvalid: true, ua.StatusBadSessionNotActivated: true,
	ua.StatusBadNoSubscription: true, ua.StatusBadSubscriptionIDInvalid: true, ua.StatusBadTooManyPublishRequests: true,
	ua.StatusBadTCPServerTooBusy: true, ua.StatusBadTCPNotEnoughResources: true, ua.StatusBadTCPInternalError: true,
	ua.StatusBadResourceUnavailable: true, ua.StatusBadOutOfMemory: true, ua.StatusBadInternalError: true,
}

// soon marks what passes by itself as drivers.ErrAway: nobody answered, or the
// server is about to be there. What it refuses stays refused until somebody does
// something about it.
func soon(err error) error {
	var status ua.StatusCode
	if err == nil || errors.As(err, &status) && !passing[status] {
		return err
	}
	return drivers.Away(err)
}
