package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// cursorMachine stands for the machine's code in cursor_url.
const cursorMachine = "{machine}"

// maxLast bounds the answer to that question, in bytes.
const maxLast = 8 << 10

var _ uplink.Watermarker = (*Sender)(nil)

// Last implements uplink.Watermarker: it asks cursor_url which event of the
// machine the receiver has that has the highest sequence. The answer is a JSON
// object whose member id is the event's id; 204, 404 and an empty id say that it
// has none. Without a cursor_url it has nothing to say.
func (s *Sender) Last(ctx context.Context, m plant.MachineID) (plant.EventID, error) {
	if s.options.CursorURL == "" {
		return plant.EventID{}, nil
	}
	target, err := cursorURL(s.options.CursorURL, m)
	if err != nil {
		return plant.EventID{}, err // Validate has seen it, so this does not happen
	}
	header := s.headers.Clone()
	header.Del("Content-Type")
	a, err := s.client.Do(ctx, &httplink.Request{
		Method: http.MethodGet, URL: target, Header: header, Most: maxLast,
		Whole: func(status int, _ http.Header) bool { return status == http.StatusOK },
	})
	switch {
	case err != nil:
		return plant.EventID{}, err
	case a.Status == http.StatusNotFound || a.Status == http.StatusNoContent:
		return plant.EventID{}, nil
	case a.Status != http.StatusOK:
		return plant.EventID{}, fmt.Errorf("GET %s: the receiver answers with status %d: see cursor_url", httplink.Show(target), a.Status)
	case a.BodyErr != nil:
		return plant.EventID{}, fmt.Errorf("GET %s: the answer ends early: %w", httplink.Show(target), a.BodyErr)
	}
	id, err := uplink.ParseLast(m, a.Body)
	if err != nil {
		return plant.EventID{}, fmt.Errorf("GET %s: the answer cannot be used: %w", httplink.Show(target), err)
	}
	return id, nil
}

// cursorURL puts the machine's code into the template.
func cursorURL(template string, m plant.MachineID) (*url.URL, error) {
	return httplink.ParseURL("cursor_url", strings.ReplaceAll(template, cursorMachine, url.PathEscape(string(m))))
}

// validateCursor checks cursor_url: secrets go where the events go, to nobody
// else.
func (o Options) validateCursor() error {
	if o.CursorURL == "" {
		return nil
	}
	cursor, err := cursorURL(o.CursorURL, "MACHINE-01")
	if err != nil {
		return err
	}
	var errs []error
	bad := func(problem, remedy string) { errs = append(errs, config.Field("cursor_url", problem, remedy)) }
	if target, err := httplink.ParseURL("url", o.URL); err == nil && (!httplink.SameOrigin(cursor, target)) {
		bad("it is of another scheme, host or port than url", "write the place on the same server that says what it last had")
	}
	if !strings.Contains(o.CursorURL, cursorMachine) {
		bad("it does not say where the machine's code goes", "write {machine} there, for example https://mes.example/cursors/{machine}")
	}
	return errors.Join(errs...)
}
