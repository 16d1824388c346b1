package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/mqttsession"
)

var _ uplink.Tester = (*Sender)(nil)

// testStream is the stream of test messages; no machine is named like that.
const testStream = "_test"

// testKind stands in a topic in the place of the kind of an event.
const testKind plant.EventKind = "test"

// Test implements uplink.Tester: it publishes a message that is marked as a test
// to the topic at which an event of kind "test" of the gateway itself would be,
// and waits for its PUBACK. It connects if there is no session.
func (s *Sender) Test(ctx context.Context) error {
	s.testing.Lock() // a session takes one call a stream
	defer s.testing.Unlock()
	began := time.Now()
	payload, err := json.Marshal(struct {
		Test    bool      `json:"test"`
		Gateway string    `json:"gateway"`
		Time    time.Time `json:"time"`
	}{true, s.env.Gateway, began.UTC().Truncate(time.Millisecond)})
	if err != nil {
		return err
	}
	s.tests++
	topic := s.topics.of(plant.GatewayStream, testKind)
	// Who tests has perhaps just cured what the broker refused.
	if err = s.session.Connect(ctx, true); err == nil {
		_, err = s.session.Publish(ctx, testStream, []mqttsession.Message{{ID: s.tests, Topic: topic, Payload: payload}})
	}
	x := uplink.Exchange{Method: "PUBLISH", Where: topic, Duration: time.Since(began), Outcome: uplink.OutcomeTest, Words: "the broker has acknowledged it"}
	if err != nil {
		err = testFailure(ctx, err)
		x.Words = err.Error()
	}
	s.env.Journal.Note(x)
	return err
}

// testFailure gives a failed test plain words and what to do.
func testFailure(ctx context.Context, err error) error {
	var suspect *mqttsession.SuspectError
	var wait *mqttsession.WaitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("mqtt: the broker did not answer in time: %w: look whether url names the broker and whether a firewall stands between", err)
	case errors.As(err, &suspect):
		return fmt.Errorf("mqtt: the broker ended the session at the message: %w: let this user publish there in the broker's access rules", err)
	case errors.As(err, &wait) && wait.Taken:
		return fmt.Errorf("mqtt: %w: give each gateway its own site: gateway:, or its own client_id; the next try is in %v at the earliest, so that the other one can deliver", err, wait.For.Round(time.Second))
	case errors.As(err, &wait):
		return fmt.Errorf("mqtt: %w", err) // which says what to do
	default:
		return fmt.Errorf("mqtt: %w: look at url, user and password, and the broker's own log", err)
	}
}
