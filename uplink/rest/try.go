package rest

import (
	"context"
	"fmt"
	"net/http"

	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

var _ uplink.Tester = (*Sender)(nil)

// Test implements uplink.Tester: a GET of test_path, which must succeed, or, where
// there is none, an OPTIONS of url: then a refusal of OPTIONS itself will do as well,
// which is neither one of who we are nor from something in between.
func (s *Sender) Test(ctx context.Context) error {
	ctx, cancel := s.client.Context(ctx)
	defer cancel()
	r := &httplink.Request{
		Method: http.MethodOptions, URL: s.target, Header: s.headers.Clone(), Most: maxAnswer,
		Whole: func(int, http.Header) bool { return true },
	}
	r.Header.Del("Content-Type")
	strict := s.options.TestPath != ""
	if strict {
		target, err := behind(s.target, s.options.TestPath)
		if err != nil {
			return fmt.Errorf("rest: test: %w", err) // Validate has seen it, so this does not happen
		}
		r.Method, r.URL = http.MethodGet, target
	}
	return s.client.Ask(ctx, s.journal, r, uplink.OutcomeTest, func(a *httplink.Answer) (string, error) { return s.tested(r, a, strict) })
}

// tested returns what the receiver said, or why that is not good.
func (s *Sender) tested(r *httplink.Request, a *httplink.Answer, strict bool) (words string, err error) {
	o := s.outcome(a)
	switch {
	case o == taken:
		return s.client.Clean(a.Words()), nil
	case strict, s.portal(a), s.plainToTLS(a), a.Status < 400, a.Status >= 500 && a.Status != http.StatusNotImplemented:
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden, a.Status == http.StatusProxyAuthRequired, a.Status == http.StatusTooManyRequests:
	default:
		return "it answers, and does not refuse who we are; whether it takes events the first one shows", nil
	}
	return "", s.cause(&message{method: r.Method, target: r.URL}, a)
}
