package h2

import (
	"testing"

	"golang.org/x/net/http2"
)

// What a client answers to frames on streams in each state (RFC 9113 §5.1 and §6). The request of stream 1 has ended.
func TestClient_StatesOfStreams(t *testing.T) {
	t.Parallel()
	var (
		ended = func(p *peer) { p.open(true); p.send(answer(flagEndStream, 1)) }
		reset = func(p *peer) { p.open(true).Reset(http2.ErrCodeCancel) }
		gone  = func(p *peer) { p.open(true); p.send(rst(1, http2.ErrCodeCancel)) }
		half  = func(p *peer) { p.open(false); p.send(answer(flagEndStream, 1)) }
	)
	runExchanges(t, newClientPeer, []exchange{
		{name: "an answer with trailers", before: opened(1), in: cat(answer(0, 1), data(0, 1, "a"), heads(flagEndStream, 1, "grpc-status=0")),
			events: []string{"head 1 200", `data 1 "a"`, "trailers 1 END", "done 1"}},
		{name: "an answer of trailers only", before: opened(1), in: answer(flagEndStream, 1), events: []string{"head 1 200 END", "done 1"}},
		{name: "an answer to a request that goes on", before: func(p *peer) { p.open(false) }, in: answer(flagEndStream, 1), events: []string{"head 1 200 END"}},
		{name: "informational answers", before: opened(1), in: cat(heads(0, 1, ":status=100"), heads(0, 1, ":status=103"), answer(flagEndStream, 1)),
			events: []string{"head 1 100", "head 1 103", "head 1 200 END", "done 1"}},
		{name: "REFUSED_STREAM", before: opened(1), in: rst(1, http2.ErrCodeRefusedStream), events: []string{"reset 1 REFUSED_STREAM peer unprocessed"}},
		{name: "REFUSED_STREAM after headers", before: opened(1), in: cat(answer(0, 1), rst(1, http2.ErrCodeRefusedStream)),
			events: []string{"head 1 200", "reset 1 REFUSED_STREAM peer"}},
		{name: "RST_STREAM", before: opened(1), in: rst(1, http2.ErrCodeInternal), events: []string{"reset 1 INTERNAL_ERROR peer"}},

		// idle
		{name: "DATA on idle", in: data(0, 1, "x"), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "HEADERS on idle", in: answer(0, 1), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "RST_STREAM on idle", in: rst(1, 0), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "WINDOW_UPDATE on idle", in: update(1, 1), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "PRIORITY on idle", in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1)},
		{name: "DATA on an even stream", in: data(0, 2, "x"), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "HEADERS on an even stream", in: answer(0, 2), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "HEADERS above the last stream", before: opened(1), in: answer(0, 3), out: fails("0", "PROTOCOL_ERROR", "protocol"), events: []string{"reset 1 PROTOCOL_ERROR conn"}},

		// half-closed (remote): the answer has ended, the request goes on
		{name: "DATA after END_STREAM", before: half, in: data(0, 1, "x"), out: frames("RST_STREAM 1 STREAM_CLOSED"), events: []string{"reset 1 STREAM_CLOSED"}},
		{name: "HEADERS after END_STREAM", before: half, in: answer(0, 1), out: frames("RST_STREAM 1 STREAM_CLOSED"), events: []string{"reset 1 STREAM_CLOSED"}},
		{name: "WINDOW_UPDATE after END_STREAM", before: half, in: update(1, 1)},
		{name: "RST_STREAM after END_STREAM", before: half, in: rst(1, 0), events: []string{"reset 1 NO_ERROR peer"}},

		// closed
		{name: "DATA on ended", before: ended, in: data(0, 1, "x"), out: fails("0", "STREAM_CLOSED", "protocol")},
		{name: "HEADERS on ended", before: ended, in: answer(0, 1), out: fails("0", "STREAM_CLOSED", "protocol")},
		{name: "WINDOW_UPDATE on ended", before: ended, in: update(1, 1)},
		{name: "RST_STREAM on ended", before: ended, in: rst(1, 0)},
		{name: "an answer on reset", before: reset, in: cat(answer(0, 1), data(0, 1, "x"), heads(flagEndStream, 1, "grpc-status=0"))},
		{name: "WINDOW_UPDATE on reset", before: reset, in: update(1, 1)},
		{name: "RST_STREAM on reset", before: reset, in: rst(1, 0)},
		{name: "DATA after RST_STREAM", before: gone, in: data(0, 1, "x"), out: frames("RST_STREAM 1 STREAM_CLOSED")},
		{name: "HEADERS after RST_STREAM", before: gone, in: answer(0, 1), out: frames("RST_STREAM 1 STREAM_CLOSED")},

		// GOAWAY
		{name: "GOAWAY", before: opened(3), in: cat(goAway(1, http2.ErrCodeNo), answer(flagEndStream, 1)),
			events: []string{"reset 3 NO_ERROR peer unprocessed", "reset 5 NO_ERROR peer unprocessed", `goaway NO_ERROR "bye"`, "head 1 200 END", "done 1"}},
		{name: "GOAWAY for all", before: opened(1), in: cat(goAway(maxWindow, http2.ErrCodeNo), goAway(1, http2.ErrCodeNo), answer(flagEndStream, 1)),
			events: []string{`goaway NO_ERROR "bye"`, `goaway NO_ERROR "bye"`, "head 1 200 END", "done 1"}},
		{name: "an answer above the last stream of a GOAWAY", before: opened(1), in: cat(goAway(0, http2.ErrCodeEnhanceYourCalm), answer(flagEndStream, 1), data(0, 1, "x")),
			events: []string{"reset 1 ENHANCE_YOUR_CALM peer unprocessed", `goaway ENHANCE_YOUR_CALM "bye"`}},
	})
}

// What makes an answer malformed costs its stream only (RFC 9113 §8.1.1).
func TestClient_MalformedAnswers(t *testing.T) {
	t.Parallel()
	var all []exchange
	for name, in := range map[string][]byte{
		"no :status":                           heads(0, 1, "x=y"),
		"nothing":                              heads(0, 1),
		":status twice":                        heads(0, 1, ":status=200", ":status=200"),
		":status of letters":                   heads(0, 1, ":status=abc"),
		":status of 2 digits":                  heads(0, 1, ":status=20"),
		":status of 4 digits":                  heads(0, 1, ":status=2000"),
		":status under 100":                    heads(0, 1, ":status=099"),
		":status empty":                        heads(0, 1, ":status="),
		":path in an answer":                   heads(0, 1, ":status=200", ":path=/"),
		"unknown pseudo":                       heads(0, 1, ":status=200", ":x=y"),
		":status after a regular field":        heads(0, 1, "x=y", ":status=200"),
		"upper case":                           answer(0, 1, "X=y"),
		"connection":                           answer(0, 1, "connection=close"),
		"transfer-encoding":                    answer(0, 1, "transfer-encoding=chunked"),
		"LF in a value":                        answer(0, 1, "x=a\nb"),
		"content-length of letters":            answer(0, 1, "content-length=x"),
		"content-length, two that differ":      answer(0, 1, "content-length=1", "content-length=2"),
		"content-length and no DATA":           answer(flagEndStream, 1, "content-length=1"),
		"informational answer with END_STREAM": heads(flagEndStream, 1, ":status=103"),
		"101":                                  heads(0, 1, ":status=101"),
		"DATA before HEADERS":                  data(0, 1, "x"),
		"END_STREAM before HEADERS":            data(flagEndStream, 1, ""),
	} {
		all = append(all, exchange{name: name, before: opened(1), in: in, out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"reset 1 PROTOCOL_ERROR"}})
	}
	for name, in := range map[string][]byte{
		"trailers without END_STREAM":                  heads(0, 1, "grpc-status=0"),
		"a second answer":                              answer(0, 1),
		":status in trailers":                          answer(flagEndStream, 1),
		"connection in trailers":                       heads(flagEndStream, 1, "connection=close"),
		"more DATA than content-length":                data(0, 1, "abcd"),
		"less DATA than content-length":                data(flagEndStream, 1, "ab"),
		"END_STREAM in trailers before content-length": heads(flagEndStream, 1, "grpc-status=0"),
	} {
		all = append(all, exchange{name: name, before: func(p *peer) { p.open(true); p.send(answer(0, 1, "content-length=3")) }, in: in,
			out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"reset 1 PROTOCOL_ERROR"}})
	}
	all = append(all, exchange{name: "DATA behind an informational answer", before: func(p *peer) { p.open(true); p.send(heads(0, 1, ":status=103")) },
		in: data(0, 1, "x"), out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"reset 1 PROTOCOL_ERROR"}})
	runExchanges(t, newClientPeer, all)
}

// The frames that a client takes in another way than a server.
func TestClient_Frames(t *testing.T) {
	t.Parallel()
	lost := []string{"reset 1 PROTOCOL_ERROR conn"}
	runExchanges(t, newClientPeer, []exchange{
		{name: "PUSH_PROMISE", before: opened(1), in: raw(http2.FramePushPromise, flagEndHeaders, 1, 0, 0, 0, 2), out: fails("0", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "SETTINGS_ENABLE_PUSH 1", before: opened(1), in: settings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}), out: fails("0", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "SETTINGS_ENABLE_PUSH 0", in: settings(http2.Setting{ID: http2.SettingEnablePush}), out: frames("SETTINGS ACK"), events: []string{"settings"}},
		{name: "PING ACK that was not asked for", before: opened(1), in: raw(http2.FramePing, flagAck, 0, make([]byte, 8)...)},
		{name: "HEADERS, then DATA", before: opened(1), in: cat(raw(http2.FrameHeaders, 0, 1, encode(":status=200")...), data(0, 1, "x")), out: fails("0", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "HEADERS and CONTINUATION", before: opened(1), in: cat(raw(http2.FrameHeaders, flagEndStream, 1), raw(http2.FrameContinuation, flagEndHeaders, 1, encode(":status=200")...)),
			events: []string{"head 1 200 END", "done 1"}},
		{name: "HEADERS on itself", before: opened(1), in: raw(http2.FrameHeaders, flagEndHeaders|flagPriority, 1, cat(be(1), []byte{1}, encode(":status=200"))...),
			out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"reset 1 PROTOCOL_ERROR"}},
	})
}
