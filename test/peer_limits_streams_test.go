package test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/test/testbed"
)

// requestOf returns the HEADERS of a request.
func requestOf(stream uint32, fields testbed.Fields) []byte {
	return framesOf(func(fr *http2.Framer) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: testbed.HeaderBlock(fields)})
	})
}

// Streams that a client opens for nothing: each row is of one limit.
func TestPeerLimits_StreamsOfClients(t *testing.T) {
	t.Parallel()
	for reason, x := range map[string]struct {
		limit func(l *conf.Listener)
		again func(stream uint32) []byte
	}{
		"too_many_resets": {
			func(l *conf.Listener) {
				l.PeerLimits.RapidResets = h2.Resets{Within: time.Minute, Burst: few.Burst, PerSecond: few.PerSecond}
			},
			func(stream uint32) []byte {
				return append(requestOf(stream, testbed.RequestFields()), framesOf(func(fr *http2.Framer) { _ = fr.WriteRSTStream(stream, http2.ErrCodeCancel) })...)
			},
		},
		"too_many_provoked_resets": {
			func(l *conf.Listener) { l.PeerLimits.ProvokedResets = few },
			func(stream uint32) []byte { return requestOf(stream, testbed.RequestFields("connection", "close")) },
		},
		"too_many_streams": {
			func(l *conf.Listener) { l.MaxConcurrentStreams, l.PeerLimits.RefusedStreams = 1, few },
			func(stream uint32) []byte { return requestOf(stream, testbed.RequestFields()) },
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			p, proxy := limitedPair(t, func(c *conf.Config) { x.limit(&c.Listeners[0]) })
			var b []byte
			for stream := uint32(1); stream < 100; stream += 2 {
				b = append(b, x.again(stream)...)
			}
			_ = p.client.WriteBytes(b)
			wantSentAway(t, p.client, http2.ErrCodeEnhanceYourCalm, reason)
			wantCounted(t, proxy, clientsAway(reason))
		})
	}
}

// A call over max_concurrent_streams is refused, and counted as one that was.
func TestPeerLimits_RefusedStreamsAreCounted(t *testing.T) {
	t.Parallel()
	p, proxy := limitedPair(t, func(c *conf.Config) { c.Listeners[0].MaxConcurrentStreams = 1 })
	cs, ss, _ := p.open(t, testbed.RequestFields())
	code, _ := p.client.Open(t, testbed.RequestFields()).AwaitReset()
	require.Equal(t, http2.ErrCodeRefusedStream, code)
	wantMetrics(t, proxy, `framegate_listener_refused_calls_total{listener="main"} 1`)
	p.complete(t, cs, ss)
}

// PINGs that come sooner than keepalive.min_ping_interval, and more than ping allows.
func TestPeerLimits_PingsOfClients(t *testing.T) {
	t.Parallel()
	for reason, burst := range map[string]int{"too_many_pings": 4, "ping_flood": 2} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			p, proxy := limitedPair(t, func(c *conf.Config) {
				c.Listeners[0].PeerLimits.Ping, c.Listeners[0].Keepalive.MinPingInterval = h2.Rate{Burst: burst, PerSecond: 1}, time.Minute
			})
			ping := framesOf(func(fr *http2.Framer) { _ = fr.WritePing(false, [8]byte{}) })
			_ = p.client.WriteBytes(slices.Repeat(ping, 4))
			wantSentAway(t, p.client, http2.ErrCodeEnhanceYourCalm, reason)
			wantCounted(t, proxy, clientsAway(reason))
		})
	}
}

// An endpoint that ends every call: with RST_STREAM, or with an answer that is malformed.
func TestPeerLimits_StreamsOfEndpoints(t *testing.T) {
	t.Parallel()
	for reason, x := range map[string]struct {
		limit func(l *h2.Limits)
		end   func(s *testbed.H2Stream) error
	}{
		"too_many_resets": {
			func(l *h2.Limits) {
				l.RapidResets = h2.Resets{Within: time.Minute, Burst: few.Burst, PerSecond: few.PerSecond}
			},
			func(s *testbed.H2Stream) error { return s.TryReset(http2.ErrCodeInternal) },
		},
		"too_many_provoked_resets": {
			func(l *h2.Limits) { l.ProvokedResets = few },
			func(s *testbed.H2Stream) error {
				return s.TryHeaders(testbed.ResponseFields().Replace(":status", "none"))
			},
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			p, proxy := limitedPair(t, func(c *conf.Config) {
				oneUpstream(c)
				x.limit(&c.Upstream.PeerLimits)
			})
			var first *testbed.H2Conn
			testbed.Poll(t, func() error {
				cs, ss, _ := p.open(t, testbed.RequestFields())
				if first == nil {
					first = ss.Conn()
				}
				if ss.Conn() != first {
					return nil
				}
				_ = x.end(ss)
				cs.Outcome()
				return errors.New("the connection goes on")
			})
			wantSentAway(t, first, http2.ErrCodeEnhanceYourCalm, reason)
			wantCounted(t, proxy, endpointsAway(reason))
		})
	}
}

// A server may answer before the request has ended, and then resets what is left of it (RFC 9113 §8.1). That is no offence.
func TestPeerLimits_EndpointThatResetsWhatItHasAnswered(t *testing.T) {
	t.Parallel()
	p, proxy := limitedPair(t, func(c *conf.Config) {
		oneUpstream(c)
		c.Upstream.PeerLimits.RapidResets = h2.Resets{Within: time.Minute, Burst: few.Burst, PerSecond: few.PerSecond}
	})
	for range 3 * few.Burst {
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendTrailers(testbed.ResponseFields("grpc-status", "5"))
		_ = ss.TryReset(http2.ErrCodeNo)
		require.Equal(t, 5, cs.Outcome().Code())
	}
	p.finish(t)
	require.Contains(t, scraped(t, proxy), endpointsAway("too_many_resets")+" 0\n")
}
