package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

// notReallyCompressed is no output of any compressor: a proxy that looks into it fails.
func notReallyCompressed(seed int) []byte {
	return testbed.Message{Flag: 1, Payload: pattern(3000, seed)}.Bytes()
}

func TestCompression_FlagAndPayloadAreUntouched(t *testing.T) {
	t.Parallel()
	eachFramePath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, name := range []string{"gzip", "deflate", "snappy", "zstd", "identity"} {
			t.Run(name, func(t *testing.T) {
				cs, ss, request := p.open(t, testbed.RequestFields("grpc-encoding", name))
				require.Equal(t, []string{name}, request.Values("grpc-encoding"), "grpc-encoding at the upstream")
				// Both kinds of message may follow each other on a stream.
				up := append(notReallyCompressed(1), testbed.Frame(text("plain"))...)
				cs.SendEnd(up)
				require.Equal(t, up, ss.Outcome().Body)

				down := append(testbed.Frame(text("plain")), notReallyCompressed(2)...)
				ss.SendHeaders(testbed.ResponseFields("grpc-encoding", name))
				ss.Send(down)
				ss.SendTrailers(testbed.StatusFields(0, ""))
				o := cs.Outcome()
				require.Equal(t, []string{name}, o.Headers.Values("grpc-encoding"), "grpc-encoding at the client")
				require.Equal(t, down, o.Body)
				wantUpstream(t, o, 0, "")
			})
		}
	})
}

// Each direction has its own compression.
func TestCompression_DirectionsAreIndependent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, up, down string }{
		{"both, different", "gzip", "zstd"},
		{"request only", "snappy", ""},
		{"response only", "", "deflate"},
		{"none", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachPath(t, func(t *testing.T, to via) {
				p := newRawPair(t, to)
				cs, ss, request := p.open(t, withEncoding(testbed.RequestFields("grpc-accept-encoding", "gzip,zstd"), c.up))
				require.Equal(t, valuesOf(c.up), request.Values("grpc-encoding"), "grpc-encoding at the upstream")
				ss.SendHeaders(withEncoding(testbed.ResponseFields(), c.down))
				ss.SendTrailers(testbed.StatusFields(0, ""))
				o := cs.Outcome()
				require.Equal(t, valuesOf(c.down), o.Headers.Values("grpc-encoding"), "grpc-encoding at the client")
			})
		})
	}
}

func withEncoding(f testbed.Fields, name string) testbed.Fields {
	if name == "" {
		return f
	}
	return f.With("grpc-encoding", name)
}

func valuesOf(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// The upstream must not believe that the client can read what it cannot: no more, no fewer, and once.
func TestCompression_AcceptEncodingIsTheClients(t *testing.T) {
	t.Parallel()
	eachFramePath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, c := range []struct{ name, encoding, accept string }{
			{"one", "", "gzip"},
			{"list", "", "identity,deflate,gzip,zstd,snappy"},
			{"unknown to framegate", "", "gzip,some-other"},
			{"none", "", ""},
			{"with a compressed request", "gzip", "identity,deflate,gzip"},
			{"without the request's own", "gzip", "identity"},
			{"none with a compressed request", "gzip", ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				fields := withEncoding(testbed.RequestFields(), c.encoding)
				if c.accept != "" {
					fields = fields.With("grpc-accept-encoding", c.accept)
				}
				_, _, request := p.open(t, fields)
				require.Equal(t, valuesOf(c.accept), request.Values("grpc-accept-encoding"))
			})
		}
	})
}
