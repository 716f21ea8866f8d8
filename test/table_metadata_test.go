package test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// metadataCases are fields that must come out as they went in, as request metadata, response headers and trailers.
var metadataCases = []struct {
	name   string
	fields testbed.Fields
}{
	{"one value", testbed.NewFields("x-one", "value")},
	{"several values in order", testbed.NewFields("x-many", "b", "x-many", "a", "x-many", "b", "x-many", "")},
	{"several keys between each other", testbed.NewFields("x-a", "1", "x-b", "1", "x-a", "2", "x-b", "2")},
	{"empty value", testbed.NewFields("x-empty", "")},
	{"punctuation", testbed.NewFields("x-punctuation", `a, b;c="d" %20 100% {~} \`)},
	{"key of every kind of character", testbed.NewFields("x_1.a-b", "value")},
	{"names that look like gRPC's", testbed.NewFields("grpc-previous-rpc-attempts", "2", "grpc-other", "value")},
	{"credentials", testbed.NewFields("authorization", "Bearer abc", "cookie", "a=b", "cookie", "c=d")},
	{"long value", testbed.NewFields("x-long", strings.Repeat("0123456789", 700))},
	{"binary with zero and 0xff", testbed.NewFields("x-some-bin", encode("\x00"), "x-some-bin", encode("\xff\x00\xfe"))},
	{"binary of every byte", testbed.NewFields("x-all-bin", encode(string(everyByte())))},
	{"binary empty", testbed.NewFields("x-none-bin", "")},
	{"binary padded", testbed.NewFields("x-padded-bin", base64.StdEncoding.EncodeToString([]byte("\xff")))},
	{"binary traces", testbed.NewFields("grpc-trace-bin", encode("\x00trace"), "grpc-tags-bin", encode("\x00tags"))},
	{"beyond one HTTP/2 frame", manyFields(48, 1000)},
}

func encode(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }

func everyByte() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func manyFields(n, size int) testbed.Fields {
	var f testbed.Fields
	for i := range n {
		f = f.With(fmt.Sprintf("x-field-%d", i), strings.Repeat("v", size))
	}
	return f
}

// wantFields checks that got has each of want's keys with the same values in the same order. The values of -bin keys are
// compared decoded: whether base64 is padded means nothing.
func wantFields(t testing.TB, got, want testbed.Fields) {
	t.Helper()
	for _, f := range want {
		values := testbed.Fields.Values
		if strings.HasSuffix(f.Name, "-bin") {
			values = testbed.Fields.Binary
		}
		require.Equal(t, values(want, f.Name), values(got, f.Name), f.Name)
	}
}

func TestMetadata_OfRequestReachesUpstream(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, c := range metadataCases {
			t.Run(c.name, func(t *testing.T) {
				_, ss, request := p.open(t, append(testbed.RequestFields(), c.fields...))
				wantFields(t, request, c.fields)
				ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
			})
		}
	})
}

func TestMetadata_OfResponseHeadersReachesClient(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, c := range metadataCases {
			t.Run(c.name, func(t *testing.T) {
				cs, ss, _ := p.open(t, testbed.RequestFields())
				ss.SendHeaders(append(testbed.ResponseFields(), c.fields...))
				ss.SendTrailers(testbed.StatusFields(0, ""))
				o := cs.Outcome()
				wantFields(t, o.Headers, c.fields)
				wantUpstream(t, o, 0, "")
			})
		}
	})
}

func TestMetadata_OfTrailersReachesClient(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, code := range []int{0, 5} {
			for _, c := range metadataCases {
				t.Run(fmt.Sprintf("status %d/%s", code, c.name), func(t *testing.T) {
					cs, ss, _ := p.open(t, testbed.RequestFields())
					ss.SendHeaders(testbed.ResponseFields())
					ss.SendTrailers(append(testbed.StatusFields(code, "m"), c.fields...))
					o := cs.Outcome()
					wantFields(t, o.Trailers, c.fields)
					wantUpstream(t, o, code, "m")
				})
			}
		}
	})
}

func TestMetadata_OfTrailersOnlyReachesClient(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, c := range metadataCases {
			t.Run(c.name, func(t *testing.T) {
				cs, ss, _ := p.open(t, testbed.RequestFields())
				ss.SendTrailers(append(append(testbed.ResponseFields(), testbed.StatusFields(5, "m")...), c.fields...))
				o := cs.Outcome()
				wantFields(t, o.Trailers, c.fields)
				wantUpstream(t, o, 5, "m")
			})
		}
	})
}

// Beyond the limits (64 KiB by default) a call fails, and only that call.
func TestMetadata_OverTheLimitFailsTheCall(t *testing.T) {
	t.Parallel()
	tooMuch := manyFields(100, 1000)
	server := testbed.NewH2Server(t)
	target := proxied(t, server.Addr)
	t.Run("request", func(t *testing.T) {
		p := rawPair{client: testbed.DialH2(t, target), server: server}
		o := p.client.OpenEnd(t, append(testbed.RequestFields(), tooMuch...)).Outcome()
		require.False(t, o.Ended && o.Code() == 0, "OK; got %s", o)
		wantStillServing(t, target, server)
	})
	for name, respond := range map[string]func(ss *testbed.H2Stream){
		"response headers": func(ss *testbed.H2Stream) { ss.SendHeaders(append(testbed.ResponseFields(), tooMuch...)) },
		"trailers": func(ss *testbed.H2Stream) {
			ss.SendHeaders(testbed.ResponseFields())
			ss.SendTrailers(append(testbed.StatusFields(0, ""), tooMuch...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := rawPair{client: testbed.DialH2(t, target), server: server}
			cs, ss, _ := p.open(t, testbed.RequestFields())
			respond(ss)
			o := cs.Outcome()
			require.False(t, o.Ended && o.Code() == 0, "OK; got %s", o)
			wantStillServing(t, target, server)
		})
	}
}

// hopByHop are the fields that belong to one connection (RFC 9110 §7.6.1), and host, which HTTP/2 says with :authority.
var hopByHop = testbed.NewFields(
	"connection", "keep-alive",
	"keep-alive", "timeout=5",
	"proxy-connection", "keep-alive",
	"transfer-encoding", "chunked",
	"upgrade", "h2c",
	"host", "elsewhere.example.com",
)

// hopByHopIsRefused checks that the relay takes a message with a connection-specific field for malformed (RFC 9113 §8.2.2).
func hopByHopIsRefused(t *testing.T) {
	p := newRawPair(t, proxied)
	check := neighbours(t, p, 2)
	for i := range len(hopByHop) - 1 { // the last is host
		field := hopByHop[i]
		o := p.client.OpenEnd(t, testbed.RequestFields(field.Name, field.Value)).Outcome()
		wantLocal(t, o, 13, "bad_request")
		require.Contains(t, o.Message(), field.Name)

		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields(field.Name, field.Value))
		o = cs.Outcome()
		wantLocal(t, o, 13, "bad_response_framing")
		require.Contains(t, o.Message(), field.Name)
		code, _ := ss.AwaitReset()
		require.Equal(t, http2.ErrCodeProtocol, code)
	}
	_, _, request := p.open(t, testbed.RequestFields("host", "elsewhere.example.com"))
	wantNoHopByHop(t, request)
	check()
}

func TestMetadata_HopByHopIsNotForwarded(t *testing.T) {
	t.Parallel()
	// What the test relies on: a raw peer sends such fields and a raw peer sees them.
	t.Run("direct", func(t *testing.T) {
		p := newRawPair(t, direct)
		_, _, request := p.open(t, append(testbed.RequestFields(), hopByHop...))
		wantFields(t, request, hopByHop)
	})
	if !onKitex() {
		hopByHopIsRefused(t)
		return
	}
	t.Run("request", func(t *testing.T) {
		p := newRawPair(t, proxied)
		_, _, request := p.open(t, append(testbed.RequestFields("x-kept", "1"), hopByHop...))
		wantNoHopByHop(t, request)
		require.Equal(t, []string{"1"}, request.Values("x-kept"))
		require.Equal(t, []string{"trailers"}, request.Values("te"))
	})
	t.Run("response", func(t *testing.T) {
		p := newRawPair(t, proxied)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(append(testbed.ResponseFields("x-kept", "1"), hopByHop...))
		ss.SendTrailers(append(testbed.StatusFields(0, "", "x-kept", "2"), hopByHop...))
		o := cs.Outcome()
		wantNoHopByHop(t, o.Headers)
		wantNoHopByHop(t, o.Trailers)
		require.Equal(t, []string{"1"}, o.Headers.Values("x-kept"))
		require.Equal(t, []string{"2"}, o.Trailers.Values("x-kept"))
	})
}

func wantNoHopByHop(t testing.TB, got testbed.Fields) {
	t.Helper()
	for _, f := range hopByHop {
		require.Empty(t, got.Values(f.Name), f.Name)
	}
}

// framegate's clients do not see what framegate and its upstreams say to each other, and the other way round.
func TestMetadata_NothingIsAdded(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)
	cs, ss, request := p.open(t, testbed.RequestFields())
	allowed := testbed.RequestFields("user-agent", "", "via", "") // see TestDifferences and TestVia
	for _, f := range request {
		require.True(t, allowed.Has(f.Name), "field %s: %q that the client did not send", f.Name, f.Value)
	}
	ss.SendHeaders(testbed.ResponseFields())
	ss.SendTrailers(testbed.StatusFields(0, ""))
	o := cs.Outcome()
	for _, f := range o.Headers {
		require.True(t, testbed.ResponseFields().Has(f.Name), "header %s: %q that the upstream did not send", f.Name, f.Value)
	}
	for _, f := range o.Trailers {
		require.True(t, testbed.StatusFields(0, "").Has(f.Name), "trailer %s: %q that the upstream did not send", f.Name, f.Value)
	}
}
