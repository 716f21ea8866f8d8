package test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

// brokenBodies are what a peer sends before it ends the stream within a message.
var brokenBodies = map[string][]byte{
	"within the prefix":         {0, 0, 0},
	"after the prefix":          testbed.Prefix(0, 100),
	"within the payload":        append(testbed.Prefix(0, 100), 1, 2, 3),
	"one byte short":            append(testbed.Prefix(0, 100), make([]byte, 99)...),
	"after a whole message":     append(testbed.Frame(text("whole")), testbed.Prefix(1, 1)...),
	"far into a larger payload": append(testbed.Prefix(0, 1<<20), pattern(200<<10, 1)...),
}

// A half-close would make the cut message look like an end that the client wanted.
func TestFraming_CutRequestIsAnErrorOnBothSides(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		for name, body := range brokenBodies {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields())
				cs.SendEnd(body)
				wantLocal(t, cs.Outcome(), 13, "bad_request_framing")
				request := ss.Outcome()
				require.False(t, request.Ended, "END_STREAM at the upstream; got %s", request)
				require.NotNil(t, request.Reset, "RST_STREAM at the upstream; got %s", request)
			})
		}
	})
}

func TestFraming_CutResponseIsAnErrorOnBothSides(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		for name, body := range brokenBodies {
			for endName, end := range map[string]func(ss *testbed.H2Stream){
				"trailers":                 func(ss *testbed.H2Stream) { ss.SendTrailers(testbed.StatusFields(0, "")) },
				"END_STREAM without them":  func(ss *testbed.H2Stream) { ss.SendEnd(nil) },
				"END_STREAM with the data": nil,
			} {
				t.Run(name+"/"+endName, func(t *testing.T) {
					p := newRawPair(t, to)
					cs, ss, _ := p.open(t, testbed.RequestFields())
					ss.SendHeaders(testbed.ResponseFields())
					if end == nil {
						ss.SendEnd(body)
					} else {
						ss.Send(body)
						end(ss)
					}
					wantLocal(t, cs.Outcome(), 13, "bad_response_framing")
				})
			}
		}
	})
}

// Whole messages without a status are no answer either.
func TestFraming_ResponseWithoutTrailersIsAnError(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields())
		ss.SendEnd(testbed.Frame(text("whole")))
		o := cs.Outcome()
		wantLocal(t, o, 13, "bad_response_framing")
		require.Equal(t, testbed.Frame(text("whole")), o.Body)
	})
}

// A peer's word for a message's size is checked before anything is done for it.
func TestFraming_MessageOverTheLimit(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		bodies := map[string][]byte{
			"the largest prefix":    testbed.Prefix(0, 0xFFFFFFFF),
			"compressed":            testbed.Prefix(1, 0xFFFFFFFF),
			"one byte over":         testbed.Prefix(0, largeMessage+1),
			"after a whole message": append(testbed.Frame(text("whole")), testbed.Prefix(0, 0x80000000)...),
			"with some payload":     append(testbed.Prefix(0, 0xFFFFFFFF), bytes.Repeat([]byte{7}, 10000)...),
		}
		for name, body := range bodies {
			t.Run("request/"+name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields())
				cs.Send(body)
				wantLocal(t, cs.Outcome(), 8, "message_too_large")
				request := ss.Outcome()
				require.False(t, request.Ended, "END_STREAM at the upstream; got %s", request)
				require.NotNil(t, request.Reset, "RST_STREAM at the upstream; got %s", request)
			})
			t.Run("response/"+name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields())
				ss.SendHeaders(testbed.ResponseFields())
				ss.Send(body)
				wantLocal(t, cs.Outcome(), 8, "message_too_large")
				ss.AwaitReset()
			})
		}
	})
}

func TestFraming_LimitIsConfigured(t *testing.T) {
	t.Parallel()
	const limit = 1000
	server := testbed.NewH2Server(t)
	for name, c := range map[string]struct {
		limit   int64
		length  uint32
		refused bool
	}{
		"at the limit":   {limit, limit, false},
		"over the limit": {limit, limit + 1, true},
		"no limit":       {0, 0xFFFFFFFF, false},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.MaxMessageBytes(c.limit))
			p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
			cs, ss, _ := p.open(t, testbed.RequestFields())
			cs.Send(append(testbed.Prefix(0, c.length), make([]byte, min(c.length, 60<<10))...))
			if c.refused {
				wantLocal(t, cs.Outcome(), 8, "message_too_large")
				return
			}
			ss.AwaitBytes(min(int(c.length), 10<<10))
			ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
			wantUpstream(t, cs.Outcome(), 0, "")
		})
	}
}

// Many peers that announce much and send little cost little.
func TestFraming_AnnouncedSizeAllocatesNothing(t *testing.T) {
	const (
		calls     = 100
		sent      = 60 << 10 // enough that framegate forwards a piece: then it has begun with the message
		forwarded = 10 << 10
	)
	discard := testbed.OnData(func([]byte) {})
	server := testbed.NewH2Server(t, discard)
	p := rawPair{client: testbed.DialH2(t, proxied(t, server.Addr), discard), server: server}
	begin := append(testbed.Prefix(0, largeMessage), make([]byte, sent)...)
	base := heapBytes()
	for range calls {
		cs, ss, _ := p.open(t, testbed.RequestFields())
		cs.Send(begin)
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(begin)
		cs.AwaitBytes(forwarded)
		ss.AwaitBytes(forwarded)
	}
	if grown := int64(heapBytes()) - int64(base); grown > heapLimit {
		t.Errorf("got %d MiB more heap for %d calls, want at most %d MiB", grown>>20, calls, heapLimit>>20)
	}
}

// An upstream that answers with something that is not gRPC, or with a status that is not one, is never taken for OK.
func TestFraming_ResponseThatIsNotGRPC(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		for name, respond := range map[string]func(ss *testbed.H2Stream){
			"HTTP 503": func(ss *testbed.H2Stream) {
				ss.SendHeaders(testbed.NewFields(":status", "503", "content-type", "text/html"))
				_ = ss.TrySendEnd(text("<html>")) // the headers alone may have ended the stream
			},
			"HTTP 200 with a page": func(ss *testbed.H2Stream) {
				ss.SendHeaders(testbed.NewFields(":status", "200", "content-type", "text/html"))
				_ = ss.TrySendEnd(text("<html>")) // the headers alone may have ended the stream
			},
			"status that is no number": func(ss *testbed.H2Stream) {
				ss.SendTrailers(testbed.ResponseFields("grpc-status", "fine"))
			},
			"no status": func(ss *testbed.H2Stream) {
				ss.SendHeaders(testbed.ResponseFields())
				ss.SendTrailers(testbed.NewFields("x-other", "1"))
			},
			// Kitex's reader does not survive it: the deadline ends the call.
			"status that overflows": func(ss *testbed.H2Stream) {
				ss.SendTrailers(testbed.ResponseFields("grpc-status", "99999999999"))
			},
		} {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields("grpc-timeout", "1S"))
				cs.SendEnd(testbed.Frame(text("request")))
				ss.WantMessage(string(text("request")))
				respond(ss)
				if o := cs.Outcome(); o.Ended && o.Code() <= 0 {
					t.Errorf("got status %d, want an error; %s", o.Code(), o)
				}
			})
		}
	})
}
