package opcua

import (
	"bytes"
	"context"
	"testing"
	"time"

	client "github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// BenchmarkChannel measures what a request of 100 values costs over our own
// channel and over the library's, against the same server, and what skim takes of
// that. docs/adr/0023 has the figures.
func BenchmarkChannel(b *testing.B) {
	certificate, err := plantsim.NewCertificate("urn:sluice:plantsim", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	ask := func() *ua.ReadRequest {
		r := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth}
		for range 100 {
			r.NodesToRead = append(r.NodesToRead, value(ua.NewStringNodeID(2, "Line.Made")))
		}
		return r
	}
	for _, c := range []struct {
		name    string
		options plantsim.OPCUAOptions
		channel Channel
	}{
		{"None", plantsim.OPCUAOptions{MaxNodesPerRead: 1000}, Channel{}},
		{"SignAndEncrypt", plantsim.OPCUAOptions{Certificate: certificate}, Channel{Policy: Basic256Sha256}},
	} {
		s := newPLC(b, c.options)
		o := defaults()
		o.Endpoint, o.Channel, o.Timeout = Endpoint("opc.tcp://"+s.Addr()), c.channel, o.Timeout*4
		d := &driver{o: o, lifetime: time.Hour, identity: identity{cert: certificate.DER, key: certificate.Key}}
		d.o.Trust = TrustAny
		b.Run(c.name+"/ours", func(b *testing.B) {
			se := &session{d: d, lost: make(chan struct{})}
			l, err := se.dial(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer hangUp(l)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Send(b.Context(), ask(), func(ua.Response) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/library", func(b *testing.B) {
			options := []client.Option{client.AutoReconnect(false)}
			if !c.channel.none() {
				se := &session{d: d, lost: make(chan struct{})}
				offered, err := se.endpoints(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				chosen, err := choose(offered, c.channel, ua.UserTokenTypeAnonymous)
				if err != nil {
					b.Fatal(err)
				}
				options = append(options, client.Certificate(certificate.DER), client.PrivateKey(certificate.Key), client.SecurityFromEndpoint(chosen, ua.UserTokenTypeAnonymous))
			}
			l, err := client.NewClient("opc.tcp://"+s.Addr(), options...)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			if err := l.Connect(ctx); err != nil {
				b.Fatal(err)
			}
			defer leave(l)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Send(b.Context(), ask(), func(ua.Response) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	answer := &ua.ReadResponse{ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}}
	for range 100 {
		answer.Results = append(answer.Results, &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp,
			Value: ua.MustVariant(uint32(7)), SourceTimestamp: time.Now(), ServerTimestamp: time.Now()})
	}
	message, err := encode(answer)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("skim", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := skim(message); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := ua.DecodeService(bytes.Clone(message)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
