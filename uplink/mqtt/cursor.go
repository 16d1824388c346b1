package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

var _ uplink.Watermarker = (*Sender)(nil)

const (
	// maxCursor bounds what a receiver may say at its cursor topic.
	maxCursor = 64 << 10
	// cursorWait is how long the broker has for a retained message after it has
	// taken the subscription. It sends one at once; MQTT has no word for "there is
	// none".
	cursorWait = time.Second
)

// Last implements uplink.Watermarker: it asks the broker which event of the machine
// is retained at cursor_topic. Where nothing is retained nothing is known. Without a
// cursor_topic it has nothing to say.
func (s *Sender) Last(ctx context.Context, m plant.MachineID) (plant.EventID, error) {
	if s.cursors == nil {
		return plant.EventID{}, nil
	}
	topic := s.cursors.of(m, "")
	text, err := s.session.Ask(ctx, topic, maxCursor, cursorWait)
	if err != nil {
		return plant.EventID{}, fmt.Errorf("mqtt: cursor_topic: %w", err)
	}
	if text == nil {
		return plant.EventID{}, nil
	}
	last, err := uplink.ParseLast(m, text)
	if err != nil {
		return plant.EventID{}, fmt.Errorf("mqtt: what is retained at %q cannot be used: %w", topic, err)
	}
	return last, nil
}

// validateCursor checks cursor_topic.
func (o Options) validateCursor() error {
	if o.CursorTopic == "" {
		return nil
	}
	if err := checkTemplate("cursor_topic", o.CursorTopic, cursorPlaceholders); err != nil {
		return err
	}
	var errs []error
	bad := func(problem, remedy string) { errs = append(errs, config.Field("cursor_topic", problem, remedy)) }
	if !strings.Contains(o.CursorTopic, "{"+inMachine+"}") {
		bad("it does not say where the machine's code goes", "write {machine} there, for example sluice/{site}/{machine}/cursor")
	}
	if o.CursorTopic == o.Topic {
		bad("events go to that topic", "write a topic that only the receiver publishes to, for example sluice/{site}/{machine}/cursor")
	}
	return errors.Join(errs...)
}
