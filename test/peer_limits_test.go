package test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/test/testbed"
	"github.com/framegate/framegate/test/testlog"
)

// excess is what a peer does beyond one of its limits, on a connection that has an open call.
type excess struct {
	limit  func(l *h2.Limits) // makes the limit small
	within []byte             // what the limit allows; nil if that has a test of its own
	beyond func(stream uint32) []byte
	code   http2.ErrCode // of the GOAWAY
}

// few is a Rate that is soon used up. HEADERS and DATA may give ten times its burst back.
var few = h2.Rate{Burst: 5, PerSecond: 1}

// excesses are by the reason that is given and counted.
func excesses() map[string]excess {
	const many, calm = 100, http2.ErrCodeEnhanceYourCalm
	flood := func(limit func(l *h2.Limits) *h2.Rate, write func(fr *http2.Framer, stream uint32)) excess {
		frame := func(stream uint32) []byte { return framesOf(func(fr *http2.Framer) { write(fr, stream) }) }
		return excess{
			limit: func(l *h2.Limits) { *limit(l) = few }, code: calm,
			within: frame(1), beyond: func(stream uint32) []byte { return slices.Repeat(frame(stream), many) },
		}
	}
	begin := func(write func(fr *http2.Framer, stream uint32)) func(uint32) []byte { // a header block that does not end
		return func(stream uint32) []byte {
			return framesOf(func(fr *http2.Framer) {
				_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: testbed.HeaderBlock(testbed.NewFields("x", "y"))})
				write(fr, stream)
			})
		}
	}
	return map[string]excess{
		"settings_flood": flood(func(l *h2.Limits) *h2.Rate { return &l.Settings }, func(fr *http2.Framer, _ uint32) {
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16384})
		}),
		"ping_flood": flood(func(l *h2.Limits) *h2.Rate { return &l.Ping }, func(fr *http2.Framer, _ uint32) { _ = fr.WritePing(true, [8]byte{}) }),
		"empty_data_flood": flood(func(l *h2.Limits) *h2.Rate { return &l.EmptyData }, func(fr *http2.Framer, stream uint32) {
			_ = fr.WriteData(stream, false, nil)
		}),
		"window_update_flood": flood(func(l *h2.Limits) *h2.Rate { return &l.WindowUpdate }, func(fr *http2.Framer, _ uint32) { _ = fr.WriteWindowUpdate(0, 1) }),
		"priority_flood": flood(func(l *h2.Limits) *h2.Rate { return &l.Priority }, func(fr *http2.Framer, stream uint32) {
			_ = fr.WritePriority(stream, http2.PriorityParam{Weight: 1})
		}),
		"unknown_frame_flood": flood(func(l *h2.Limits) *h2.Rate { return &l.UnknownFrames }, func(fr *http2.Framer, _ uint32) { _ = fr.WriteRawFrame(0xbe, 0, 0, nil) }),
		"too_many_control_frames": {
			limit: func(l *h2.Limits) { l.OtherFrames = few }, code: calm, beyond: func(stream uint32) []byte {
				return slices.Repeat(framesOf(func(fr *http2.Framer) { _ = fr.WriteRSTStream(stream, http2.ErrCodeCancel) }), many)
			},
		},
		"too_many_continuations": {
			limit: func(l *h2.Limits) { l.ContinuationFrames = 4 }, code: calm, beyond: begin(func(fr *http2.Framer, stream uint32) {
				for range 5 {
					_ = fr.WriteContinuation(stream, false, nil)
				}
			}),
		},
		"header_block_too_long": {
			limit: func(l *h2.Limits) { l.HeaderBlockBytes = leastHeaderBytes }, code: calm, beyond: begin(func(fr *http2.Framer, stream uint32) {
				_ = fr.WriteContinuation(stream, false, make([]byte, leastHeaderBytes))
			}),
		},
		"header_timeout": {
			limit: func(l *h2.Limits) { l.HeaderTimeout = time.Millisecond }, code: calm, beyond: begin(func(*http2.Framer, uint32) {}),
		},
		"protocol": {
			limit: func(*h2.Limits) {}, code: http2.ErrCodeProtocol,
			beyond: func(uint32) []byte { return framesOf(func(fr *http2.Framer) { _ = fr.WriteData(0, false, nil) }) },
		},
		"window_overflow": {
			limit: func(*h2.Limits) {}, code: http2.ErrCodeFlowControl,
			beyond: func(uint32) []byte { return framesOf(func(fr *http2.Framer) { _ = fr.WriteWindowUpdate(0, 1<<31-1) }) },
		},
		"bad_header_block": {
			limit: func(*h2.Limits) {}, code: http2.ErrCodeCompression, beyond: func(stream uint32) []byte {
				return framesOf(func(fr *http2.Framer) {
					_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x80}})
				})
			},
		},
	}
}

// leastHeaderBytes is the least max_header_bytes, which bounds header_block_bytes.
const leastHeaderBytes = 4096

// framesOf returns frames, which may be illegal.
func framesOf(write func(fr *http2.Framer)) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	write(fr)
	return b.Bytes()
}

// sendAtOnce connects, and writes the preface, SETTINGS and other frames in one write. The Framer is of the connection.
func sendAtOnce(t *testing.T, addr string, frames func(fr *http2.Framer)) (net.Conn, *http2.Framer) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	_, err = nc.Write(append([]byte(http2.ClientPreface), framesOf(func(fr *http2.Framer) {
		require.NoError(t, fr.WriteSettings())
		frames(fr)
	})...))
	require.NoError(t, err)
	return nc, http2.NewFramer(nc, nc)
}

// limitedPair is a raw client and a raw endpoint with a framegate between them that has small limits.
func limitedPair(t *testing.T, change func(c *conf.Config)) (rawPair, *testbed.Proxy) {
	t.Helper()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), testbed.On(conf.DataPlaneRelay), func(c *conf.Config) {
		c.Listeners[0].MaxHeaderBytes, c.Upstream.MaxHeaderBytes = leastHeaderBytes, leastHeaderBytes
		change(c)
	})
	return rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}, proxy
}

// clientsAway and endpointsAway are the metrics of connections that were ended for what their peer did.
func clientsAway(reason string) string {
	return fmt.Sprintf(`framegate_listener_sent_away_total{listener="main",reason=%q}`, reason)
}

func endpointsAway(reason string) string {
	return fmt.Sprintf(`framegate_upstream_sent_away_total{reason=%q}`, reason)
}

// wantCounted waits until a metric has counted (peers may come again), and wants no other of its name to have.
func wantCounted(t *testing.T, proxy *testbed.Proxy, metric string) {
	t.Helper()
	name, _, _ := strings.Cut(metric, "{")
	testbed.Poll(t, func() error {
		var counted []string
		for line := range strings.Lines(scraped(t, proxy)) {
			if strings.HasPrefix(line, name+"{") && !strings.HasSuffix(line, " 0\n") {
				counted = append(counted, strings.TrimSpace(line))
			}
		}
		if len(counted) != 1 || !strings.HasPrefix(counted[0], metric+" ") {
			return fmt.Errorf("counted are %q, want %s alone", counted, metric)
		}
		return nil
	})
}

// wantSentAway wants the connection to end with a GOAWAY that says why.
func wantSentAway(t *testing.T, c *testbed.H2Conn, code http2.ErrCode, reason string) {
	t.Helper()
	g := c.AwaitGoAway(t)
	require.Equal(t, []any{code, reason}, []any{g.Code, g.Debug})
	c.AwaitClosed(t)
}

// Every reason is in the metrics from the start, for peers of both sides.
func TestPeerLimits_ReasonsAreCountedFromZero(t *testing.T) {
	t.Parallel()
	_, proxy := limitedPair(t, func(*conf.Config) {})
	metrics := scraped(t, proxy)
	for _, reason := range h2.OffenceNames() {
		require.Contains(t, metrics, clientsAway(reason)+" 0\n")
		require.Contains(t, metrics, endpointsAway(reason)+" 0\n")
	}
}

func TestPeerLimits_OfClients(t *testing.T) {
	t.Parallel()
	for reason, x := range excesses() {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			p, proxy := limitedPair(t, func(c *conf.Config) { x.limit(&c.Listeners[0].PeerLimits.Limits) })
			cs, ss, _ := p.open(t, testbed.RequestFields())
			if x.within != nil {
				require.NoError(t, p.client.WriteBytes(x.within))
			}
			p.finish(t) // the client has acknowledged SETTINGS by then, and does not do so within a header block
			_ = p.client.WriteBytes(x.beyond(cs.ID))
			wantSentAway(t, p.client, x.code, reason)
			ss.AwaitReset() // the endpoint is told
			wantCounted(t, proxy, clientsAway(reason))
			rawPair{client: testbed.DialH2(t, proxy.Addr), server: p.server}.finish(t)
		})
	}
}

func TestPeerLimits_OfEndpoints(t *testing.T) {
	t.Parallel()
	for reason, x := range excesses() {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			p, proxy := limitedPair(t, func(c *conf.Config) { x.limit(&c.Upstream.PeerLimits) })
			cs, ss, _ := p.open(t, testbed.RequestFields())
			if x.within != nil {
				require.NoError(t, ss.Conn().WriteBytes(x.within))
			}
			ss.SendHeaders(testbed.ResponseFields())
			cs.ReadHeaders()
			_ = ss.Conn().WriteBytes(x.beyond(ss.ID))
			wantSentAway(t, ss.Conn(), x.code, reason)
			require.NotZero(t, cs.Outcome().Code())
			wantCounted(t, proxy, endpointsAway(reason))
			p.finish(t) // on a new connection
		})
	}
}

// A header block of as many CONTINUATION frames as there may be is served, whoever sends it.
func TestPeerLimits_ContinuationsWithinTheLimit(t *testing.T) {
	t.Parallel()
	p, _ := limitedPair(t, func(c *conf.Config) {
		c.Listeners[0].PeerLimits.ContinuationFrames, c.Upstream.PeerLimits.ContinuationFrames = 4, 4
	})
	split := func(stream uint32, fields testbed.Fields) []byte {
		return framesOf(func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: testbed.HeaderBlock(fields)})
			for i := range 4 {
				_ = fr.WriteContinuation(stream, i == 3, nil)
			}
		})
	}
	cs := p.client.NewStream(t)
	require.NoError(t, p.client.WriteBytes(split(cs.ID, testbed.RequestFields())))
	ss := p.server.Accept(t)
	require.NoError(t, ss.Conn().WriteBytes(split(ss.ID, testbed.ResponseFields())))
	cs.ReadHeaders()
	p.finish(t)
}

// What an endpoint did is logged with its address.
func TestPeerLimits_OffencesOfEndpointsAreLogged(t *testing.T) {
	t.Parallel()
	server, log := testbed.NewH2Server(t), &testlog.Buffer{}
	proxy := testbed.NewProxyLogging(t, log, testbed.RouteTo(server.Addr), testbed.On(conf.DataPlaneRelay))
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	cs, ss, _ := p.open(t, testbed.RequestFields())
	require.NoError(t, ss.Conn().WriteBytes(framesOf(func(fr *http2.Framer) { _ = fr.WriteData(0, false, nil) })))
	cs.Outcome()
	ss.Conn().AwaitClosed(t)
	testbed.Poll(t, func() error {
		if want := fmt.Sprintf(`level=WARN msg="endpoint sent away" endpoint=%s reason=protocol`, server.Addr); !strings.Contains(log.String(), want) {
			return fmt.Errorf("the log has no %s:\n%s", want, log)
		}
		return nil
	})
}
