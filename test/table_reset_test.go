package test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// resetStates bring a call to where the upstream breaks it.
var resetStates = map[string]func(cs, ss *testbed.H2Stream){
	"after the request": func(cs, ss *testbed.H2Stream) {
		cs.SendEnd(testbed.Frame(text("request")))
		ss.WantMessage(string(text("request")))
		ss.WantEnd()
	},
	"after headers": func(cs, ss *testbed.H2Stream) {
		ss.SendHeaders(testbed.ResponseFields())
		cs.ReadHeaders()
	},
	"after a message": func(cs, ss *testbed.H2Stream) {
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(testbed.Frame(text("response")))
		cs.ReadHeaders()
		cs.WantMessage(string(text("response")))
	},
	"within a message": func(cs, ss *testbed.H2Stream) {
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(testbed.Prefix(0, 100))
		cs.ReadHeaders()
	},
}

// Whatever code the upstream resets with, even NO_ERROR: the call was not completed, so it is not OK. The error is
// framegate's, because the upstream gave no status.
func TestReset_ByTheUpstreamIsNeverOK(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		for name, enter := range resetStates {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				for code := http2.ErrCodeNo; code <= http2.ErrCodeHTTP11Required; code++ {
					if code == http2.ErrCodeRefusedStream && name == "after the request" {
						continue // nothing of an answer has come, so the call waits for room: TestRetry_RefusedStream...
					}
					t.Run(code.String(), func(t *testing.T) {
						cs, ss, _ := p.open(t, testbed.RequestFields())
						enter(cs, ss)
						ss.Reset(code)
						o := cs.Outcome()
						wantLocal(t, o, codeOfReset(code), "upstream_reset")
					})
				}
			})
		}
	})
}

// Numbers that are no code of HTTP/2's are as INTERNAL_ERROR, whatever they are.
func TestReset_OfUnknownCodesIsNeverOK(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		for name, enter := range resetStates {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				for _, code := range []http2.ErrCode{0xff, 1 << 31, 0xfffffffd, 0xfffffffe, 0xffffffff} {
					cs, ss, _ := p.open(t, testbed.RequestFields())
					enter(cs, ss)
					ss.Reset(code)
					wantLocal(t, cs.Outcome(), 13, "upstream_reset")
				}
			})
		}
	})
}

// A stream of which something of an answer has come was processed, whatever its code says: it is not sent again.
func TestReset_AnAnswerThatHasBegunIsNotRefused(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for range 30 {
			cs, ss, _ := p.open(t, testbed.RequestFields("grpc-timeout", "5S"))
			cs.SendEnd(testbed.Frame(text("request")))
			ss.WantMessage(string(text("request")))
			ss.WantEnd()
			ss.SendHeaders(testbed.ResponseFields())
			ss.Reset(http2.ErrCodeRefusedStream) // both may be here before either is looked at
			wantLocal(t, cs.Outcome(), 14, "upstream_reset")
		}
		require.Zero(t, p.server.Unaccepted(), "further attempts")
	})
}

// codeOfReset is the status that gRPC over HTTP/2 ("Errors") gives to a call that its server reset with code.
func codeOfReset(code http2.ErrCode) int {
	switch code {
	case http2.ErrCodeRefusedStream:
		return 14
	case http2.ErrCodeCancel:
		return 1
	case http2.ErrCodeEnhanceYourCalm:
		return 8
	case http2.ErrCodeInadequateSecurity:
		return 7
	}
	return 13
}

func TestReset_UpstreamConnectionLost(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		for name, enter := range resetStates {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields())
				enter(cs, ss)
				ss.Conn().Close()
				wantLocal(t, cs.Outcome(), 14, "upstream_reset")

				// The next call goes over a new connection.
				cs, ss, _ = p.open(t, testbed.RequestFields())
				ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
				wantUpstream(t, cs.Outcome(), 0, "")
			})
		}
	})
}

// A stream above GOAWAY's last one was not processed (RFC 9113 §6.8), nor was one that was refused (§8.7): framegate
// tries it again, on another connection. Nothing of the request is lost by that: here there is no message yet.
func TestReset_UnprocessedCallIsTriedAgain(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		for name, refuse := range map[string]func(ss *testbed.H2Stream) error{
			"refused stream": func(ss *testbed.H2Stream) error {
				ss.Reset(http2.ErrCodeRefusedStream)
				return nil
			},
			"GOAWAY below the stream": func(ss *testbed.H2Stream) error {
				return ss.Conn().Write(func(fr *http2.Framer) error { return fr.WriteGoAway(0, http2.ErrCodeNo, nil) })
			},
		} {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, first := p.open(t, testbed.RequestFields("x-id", "1"))
				require.NoError(t, refuse(ss))
				again := p.server.Accept(t)
				second := again.ReadHeaders()
				require.Equal(t, first.Values("x-id"), second.Values("x-id"), "x-id of the second attempt")
				require.NotSame(t, ss.Conn(), again.Conn(), "connection of the second attempt")
				cs.SendEnd(testbed.Frame(text("request")))
				again.WantMessage(string(text("request")))
				again.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
				wantUpstream(t, cs.Outcome(), 0, "")
			})
		}
		t.Run("with the request that was sent before", func(t *testing.T) {
			p := newRawPair(t, to)
			cs, ss, _ := p.open(t, testbed.RequestFields())
			body := append(testbed.Frame(text("one")), testbed.Frame(pattern(20000, 1))...)
			cs.SendEnd(body)
			require.Equal(t, body, ss.Outcome().Body)
			ss.Reset(http2.ErrCodeRefusedStream)
			again := p.server.Accept(t)
			request := again.Outcome()
			require.True(t, request.Ended, "END_STREAM of the second attempt; got %s", request)
			require.Equal(t, body, request.Body)
			again.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
			wantUpstream(t, cs.Outcome(), 0, "")
		})
		t.Run("not when the request is too long to keep", func(t *testing.T) {
			p := newRawPair(t, to)
			cs, ss, _ := p.open(t, testbed.RequestFields())
			body := testbed.Frame(pattern(1<<20, 1))
			cs.SendEnd(body)
			require.Equal(t, body, ss.Outcome().Body)
			ss.Reset(http2.ErrCodeRefusedStream)
			wantLocal(t, cs.Outcome(), 14, "upstream_reset")
		})
		t.Run("not after headers", func(t *testing.T) {
			p := newRawPair(t, to)
			cs, ss, _ := p.open(t, testbed.RequestFields())
			ss.SendHeaders(testbed.ResponseFields())
			cs.ReadHeaders()
			ss.Reset(http2.ErrCodeRefusedStream)
			wantLocal(t, cs.Outcome(), 14, "upstream_reset")
		})
	})
}

// GOAWAY takes the connection out of use; the calls on it that the upstream does process go on.
func TestReset_GoAwayLetsRunningCallsFinish(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		goAway := func(fr *http2.Framer) error { return fr.WriteGoAway(ss.ID, http2.ErrCodeNo, nil) }
		require.NoError(t, ss.Conn().Write(goAway))
		ss.SendHeaders(testbed.ResponseFields())
		cs.ReadHeaders() // they came after GOAWAY, so that has been read

		cs2, ss2, _ := p.open(t, testbed.RequestFields())
		require.NotSame(t, ss.Conn(), ss2.Conn(), "connection of a call after GOAWAY")
		ss2.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "new")...))
		wantUpstream(t, cs2.Outcome(), 0, "new")

		cs.SendEnd(testbed.Frame(text("request")))
		ss.WantMessage(string(text("request")))
		ss.SendTrailers(testbed.StatusFields(0, "old"))
		wantUpstream(t, cs.Outcome(), 0, "old")
	})
}
