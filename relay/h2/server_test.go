package h2

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// What a server answers to frames on streams in each state (RFC 9113 §5.1 and §6).
func TestServer_StatesOfStreams(t *testing.T) {
	t.Parallel()
	var (
		openOne   = first(request(0, 1, "/"))
		halfOne   = first(request(flagEndStream, 1, "/"))
		endedOne  = first(request(flagEndStream, 1, "/answer"))
		resetOne  = first(request(0, 1, "/reset"))
		peerReset = first(request(0, 1, "/"), rst(1, http2.ErrCodeCancel))
		skipped   = first(request(flagEndStream, 5, "/answer"))
	)
	runExchanges(t, newServerPeer, []exchange{
		{name: "a request and its end", in: cat(request(0, 1, "/"), data(0, 1, "a"), data(flagEndStream, 1, "b")),
			events: []string{"head 1", `data 1 "a"`, `data 1 "b" END`}},
		{name: "a request with trailers", in: cat(request(0, 1, "/"), data(0, 1, "a"), heads(flagEndStream, 1, "x=y")),
			events: []string{"head 1", `data 1 "a"`, "trailers 1 END"}},
		{name: "trailers without DATA", in: cat(request(0, 1, "/"), heads(flagEndStream, 1, "x=y")),
			events: []string{"head 1", "trailers 1 END"}},
		{name: "empty END_STREAM", in: cat(request(0, 1, "/"), data(flagEndStream, 1, "")), events: []string{"head 1", `data 1 "" END`}},
		{name: "answer before the request's end", in: cat(request(0, 1, "/answer"), data(flagEndStream, 1, "x")),
			out: frames("HEADERS 1 :status=200 END"), events: []string{"head 1", `data 1 "x" END`, "done 1"}},
		{name: "padding is taken off", in: cat(raw(http2.FrameHeaders, flagEndHeaders|flagPadded|flagPriority, 1,
			cat([]byte{2}, be(0), []byte{7}, encode(":method=POST", ":scheme=http", ":path=/"), []byte{0, 0})...),
			raw(http2.FrameData, flagPadded|flagEndStream, 1, 3, 'h', 'i', 0, 0, 0)),
			events: []string{"head 1", `data 1 "hi" END`}},
		{name: "padding gives credit", before: openOne, in: times(600, raw(http2.FrameData, flagPadded, 1, cat([]byte{254, 'x'}, make([]byte, 254))...)),
			windows: true, out: frames("WINDOW_UPDATE 1 130560"), events: strings.Split(strings.Repeat(`data 1 "x"|`, 599)+`data 1 "x"`, "|")},

		// idle
		{name: "DATA on idle", in: data(0, 1, "x"), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "RST_STREAM on idle", in: rst(1, 0), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "WINDOW_UPDATE on idle", in: update(1, 1), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "PRIORITY on idle", in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1)},
		{name: "CONTINUATION on idle", in: raw(http2.FrameContinuation, flagEndHeaders, 1), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "DATA on an even stream", in: data(0, 2, "x"), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "HEADERS on an even stream", in: request(0, 2, "/"), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "RST_STREAM on an even stream", in: rst(2, 0), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "WINDOW_UPDATE on an even stream", in: update(2, 1), out: fails("0", "PROTOCOL_ERROR", "protocol")},

		// half-closed (remote)
		{name: "DATA after END_STREAM", before: halfOne, in: data(0, 1, "x"), out: frames("RST_STREAM 1 STREAM_CLOSED"), events: []string{"reset 1 STREAM_CLOSED"}},
		{name: "HEADERS after END_STREAM", before: halfOne, in: heads(flagEndStream, 1, "x=y"), out: frames("RST_STREAM 1 STREAM_CLOSED"), events: []string{"reset 1 STREAM_CLOSED"}},
		{name: "WINDOW_UPDATE after END_STREAM", before: halfOne, in: update(1, 1)},
		{name: "RST_STREAM after END_STREAM", before: halfOne, in: rst(1, http2.ErrCodeCancel), events: []string{"reset 1 CANCEL peer"}},
		{name: "PRIORITY after END_STREAM", before: halfOne, in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1)},

		// closed: both directions have ended
		{name: "DATA on ended", before: endedOne, in: data(0, 1, "x"), out: fails("1", "STREAM_CLOSED", "protocol")},
		{name: "HEADERS on ended", before: endedOne, in: request(0, 1, "/"), out: fails("1", "STREAM_CLOSED", "protocol")},
		{name: "WINDOW_UPDATE on ended", before: endedOne, in: update(1, 1)},
		{name: "WINDOW_UPDATE of 0 on ended", before: endedOne, in: update(1, 0)},
		{name: "RST_STREAM on ended", before: endedOne, in: rst(1, 0)},
		{name: "PRIORITY on ended", before: endedOne, in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1)},

		// closed: reset by this end; frames may have been under way
		{name: "DATA on reset", before: resetOne, in: data(0, 1, "x")},
		{name: "DATA with END_STREAM on reset", before: resetOne, in: data(flagEndStream, 1, "x")},
		{name: "trailers on reset", before: resetOne, in: heads(flagEndStream, 1, "x=y")},
		{name: "WINDOW_UPDATE on reset", before: resetOne, in: update(1, 1)},
		{name: "RST_STREAM on reset", before: resetOne, in: rst(1, 0)},
		{name: "PRIORITY on reset", before: resetOne, in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1)},

		// closed: reset by the peer
		{name: "DATA after RST_STREAM", before: peerReset, in: data(0, 1, "x"), out: frames("RST_STREAM 1 STREAM_CLOSED")},
		{name: "HEADERS after RST_STREAM", before: peerReset, in: heads(flagEndStream, 1, "x=y"), out: frames("RST_STREAM 1 STREAM_CLOSED")},
		{name: "WINDOW_UPDATE after RST_STREAM", before: peerReset, in: update(1, 1)},
		{name: "RST_STREAM twice", before: peerReset, in: rst(1, 0)},
		{name: "PRIORITY after RST_STREAM", before: peerReset, in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1)},

		// closed: left out
		{name: "HEADERS on a lower stream", before: skipped, in: request(0, 3, "/"), out: fails("5", "PROTOCOL_ERROR", "protocol")},
		{name: "DATA on a lower stream", before: skipped, in: data(0, 3, "x"), out: fails("5", "STREAM_CLOSED", "protocol")},
		{name: "WINDOW_UPDATE on a lower stream", before: skipped, in: update(3, 1)},
		{name: "RST_STREAM on a lower stream", before: skipped, in: rst(3, 0)},
	})
}

// What makes a header block malformed costs its stream only (RFC 9113 §8.1.1).
func TestServer_MalformedRequests(t *testing.T) {
	t.Parallel()
	var all []exchange
	for name, fields := range map[string][]string{
		"no :method":            {":scheme=http", ":path=/"},
		"no :scheme":            {":method=POST", ":path=/"},
		"no :path":              {":method=POST", ":scheme=http"},
		"empty :path":           {":method=POST", ":scheme=http", ":path="},
		"nothing":               {},
		":method twice":         {":method=POST", ":method=POST", ":scheme=http", ":path=/"},
		":path twice":           {":method=POST", ":scheme=http", ":path=/", ":path=/"},
		":scheme twice":         {":method=POST", ":scheme=http", ":scheme=http", ":path=/"},
		":authority twice":      {":method=POST", ":scheme=http", ":path=/", ":authority=a", ":authority=a"},
		":status":               {":method=POST", ":scheme=http", ":path=/", ":status=200"},
		"unknown pseudo":        {":method=POST", ":scheme=http", ":path=/", ":x=y"},
		":protocol":             {":method=CONNECT", ":scheme=http", ":path=/", ":authority=a", ":protocol=websocket"},
		"pseudo after regular":  {":method=POST", ":scheme=http", "x=y", ":path=/"},
		"upper case":            {":method=POST", ":scheme=http", ":path=/", "Xy=z"},
		"space in name":         {":method=POST", ":scheme=http", ":path=/", "x y=z"},
		"empty name":            {":method=POST", ":scheme=http", ":path=/", "=z"},
		"NUL in value":          {":method=POST", ":scheme=http", ":path=/", "x=a\x00b"},
		"LF in value":           {":method=POST", ":scheme=http", ":path=/", "x=a\nb"},
		"CR in :path":           {":method=POST", ":scheme=http", ":path=/\r", "x=a"},
		"blank before a method": {":method= POST", ":scheme=http", ":path=/"},
		"tab behind a path":     {":method=POST", ":scheme=http", ":path=/\t"},
		"connection":            {":method=POST", ":scheme=http", ":path=/", "connection=close"},
		"proxy-connection":      {":method=POST", ":scheme=http", ":path=/", "proxy-connection=close"},
		"keep-alive":            {":method=POST", ":scheme=http", ":path=/", "keep-alive=1"},
		"transfer-encoding":     {":method=POST", ":scheme=http", ":path=/", "transfer-encoding=chunked"},
		"upgrade":               {":method=POST", ":scheme=http", ":path=/", "upgrade=h2c"},
		"te":                    {":method=POST", ":scheme=http", ":path=/", "te=gzip"},
		"content-length empty":  {":method=POST", ":scheme=http", ":path=/", "content-length="},
		"content-length signed": {":method=POST", ":scheme=http", ":path=/", "content-length=+1"},
		"content-length huge":   {":method=POST", ":scheme=http", ":path=/", "content-length=9223372036854775808"},
		"content-length list":   {":method=POST", ":scheme=http", ":path=/", "content-length=1, 1"},
		"content-length differ": {":method=POST", ":scheme=http", ":path=/", "content-length=1", "content-length=2"},
		"CONNECT with :path":    {":method=CONNECT", ":path=/", ":authority=a"},
		"CONNECT with :scheme":  {":method=CONNECT", ":scheme=http", ":authority=a"},
		"CONNECT of nothing":    {":method=CONNECT"},
	} {
		all = append(all, exchange{name: name, in: heads(0, 1, fields...), out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"malformed 1", "reset 1 PROTOCOL_ERROR"}})
	}
	for name, in := range map[string][]byte{
		"less DATA than content-length":     cat(request(0, 1, "/", "content-length=3"), data(flagEndStream, 1, "ab")),
		"no DATA with content-length":       request(flagEndStream, 1, "/", "content-length=3"),
		"trailers with content-length left": cat(request(0, 1, "/", "content-length=3"), heads(flagEndStream, 1, "x=y")),
		"more DATA than content-length":     cat(request(0, 1, "/", "content-length=1"), data(0, 1, "ab")),
		"DATA and content-length 0":         cat(request(0, 1, "/", "content-length=0"), data(0, 1, "a")),
		"trailers without END_STREAM":       cat(request(0, 1, "/"), heads(0, 1, "x=y")),
		"pseudo-header field in trailers":   cat(request(0, 1, "/"), heads(flagEndStream, 1, ":path=/")),
		"unknown pseudo in trailers":        cat(request(0, 1, "/"), heads(flagEndStream, 1, ":x=/")),
		":status in trailers":               cat(request(0, 1, "/"), heads(flagEndStream, 1, ":status=200")),
		"upper case in trailers":            cat(request(0, 1, "/"), heads(flagEndStream, 1, "X=y")),
		"connection in trailers":            cat(request(0, 1, "/"), heads(flagEndStream, 1, "connection=x")),
	} {
		all = append(all, exchange{name: name, in: in, out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"head 1", "reset 1 PROTOCOL_ERROR"}})
		if name == "no DATA with content-length" {
			all[len(all)-1].events = []string{"malformed 1 END", "reset 1 PROTOCOL_ERROR"}
		}
	}
	runExchanges(t, newServerPeer, append(all,
		exchange{name: "te: trailers", in: request(0, 1, "/", "te=trailers"), events: []string{"head 1"}},
		exchange{name: "CONNECT", in: heads(0, 1, ":method=CONNECT", ":authority=a"), events: []string{"head 1"}},
		exchange{name: "content-length twice and equal", in: cat(request(0, 1, "/", "content-length=1", "content-length=1"), data(flagEndStream, 1, "x")),
			events: []string{"head 1", `data 1 "x" END`}},
		exchange{name: "control characters in a value", in: request(0, 1, "/", "x=a\x01\x7f"), events: []string{"head 1"}},
	))
}

// What ends a connection, whatever its streams do.
func TestServer_Frames(t *testing.T) {
	t.Parallel()
	open := first(request(0, 1, "/"))
	lost := []string{"reset 1 PROTOCOL_ERROR conn"}
	size := []string{"reset 1 FRAME_SIZE_ERROR conn"}
	part := raw(http2.FrameHeaders, 0, 3, encode(":method=POST")...)
	runExchanges(t, newServerPeer, []exchange{
		{name: "DATA on stream 0", before: open, in: data(0, 0, "x"), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "HEADERS on stream 0", before: open, in: request(0, 0, "/"), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "PRIORITY on stream 0", before: open, in: raw(http2.FramePriority, 0, 0, 0, 0, 0, 1, 1), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "RST_STREAM on stream 0", before: open, in: rst(0, 0), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "CONTINUATION on stream 0", before: open, in: raw(http2.FrameContinuation, 0, 0), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "SETTINGS on a stream", before: open, in: raw(http2.FrameSettings, 0, 1), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "PING on a stream", before: open, in: raw(http2.FramePing, 0, 1, make([]byte, 8)...), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "GOAWAY on a stream", before: open, in: raw(http2.FrameGoAway, 0, 1, make([]byte, 8)...), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "PUSH_PROMISE", before: open, in: raw(http2.FramePushPromise, flagEndHeaders, 1, 0, 0, 0, 2), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},

		{name: "PRIORITY of 4 bytes", before: open, in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0), out: frames("RST_STREAM 1 FRAME_SIZE_ERROR"), events: []string{"reset 1 FRAME_SIZE_ERROR"}},
		{name: "PRIORITY of 6 bytes", before: open, in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0, 1, 2), out: frames("RST_STREAM 1 FRAME_SIZE_ERROR"), events: []string{"reset 1 FRAME_SIZE_ERROR"}},
		{name: "PRIORITY of 4 bytes on idle", in: raw(http2.FramePriority, 0, 9, 0, 0, 0, 0), out: fails("0", "FRAME_SIZE_ERROR", "protocol")},
		{name: "PRIORITY of 4 bytes on reset", before: first(request(0, 1, "/reset")), in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 0), out: frames("RST_STREAM 1 FRAME_SIZE_ERROR")},
		{name: "PRIORITY on itself", before: open, in: raw(http2.FramePriority, 0, 1, 0, 0, 0, 1, 1), out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"reset 1 PROTOCOL_ERROR"}},
		{name: "PRIORITY of idle on itself", in: raw(http2.FramePriority, 0, 9, 0, 0, 0, 9, 1), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "HEADERS on itself", in: raw(http2.FrameHeaders, flagEndHeaders|flagPriority, 1, cat(be(1), []byte{1}, encode(":method=POST", ":scheme=http", ":path=/"))...),
			out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"malformed 1", "reset 1 PROTOCOL_ERROR"}},
		{name: "RST_STREAM of 3 bytes", before: open, in: raw(http2.FrameRSTStream, 0, 1, 0, 0, 0), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "RST_STREAM of 5 bytes", before: open, in: raw(http2.FrameRSTStream, 0, 1, 0, 0, 0, 0, 0), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "WINDOW_UPDATE of 3 bytes", before: open, in: raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 1), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "SETTINGS of 5 bytes", before: open, in: raw(http2.FrameSettings, 0, 0, 0, 0, 0, 0, 1), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "SETTINGS ACK of 6 bytes", before: open, in: raw(http2.FrameSettings, flagAck, 0, 0, 0, 0, 0, 0, 1), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "PING of 7 bytes", before: open, in: raw(http2.FramePing, 0, 0, make([]byte, 7)...), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "PING of 9 bytes", before: open, in: raw(http2.FramePing, 0, 0, make([]byte, 9)...), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "GOAWAY of 7 bytes", before: open, in: raw(http2.FrameGoAway, 0, 0, make([]byte, 7)...), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "HEADERS too short for its priority", before: open, in: raw(http2.FrameHeaders, flagEndHeaders|flagPriority, 3, 0, 0, 0, 0), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "a frame of 16385 bytes", before: open, in: appendHeader(nil, 16385, http2.FrameData, 0, 1), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "an unknown frame of 16385 bytes", before: open, in: appendHeader(nil, 16385, 99, 0, 1), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},

		{name: "DATA with all padding", before: open, in: raw(http2.FrameData, flagPadded, 1, 2, 0, 0), events: []string{`data 1 ""`}},
		{name: "DATA with too much padding", before: open, in: raw(http2.FrameData, flagPadded, 1, 3, 0, 0), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "padded DATA of no bytes", before: open, in: raw(http2.FrameData, flagPadded, 1), out: fails("1", "FRAME_SIZE_ERROR", "protocol"), events: size},
		{name: "HEADERS with too much padding", before: open, in: raw(http2.FrameHeaders, flagEndHeaders|flagPadded, 3, 3, 0, 0), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},

		{name: "HEADERS in three frames", in: cat(raw(http2.FrameHeaders, flagEndStream, 1, encode(":method=POST", ":scheme=http")...),
			raw(http2.FrameContinuation, 0, 1), raw(http2.FrameContinuation, flagEndHeaders, 1, encode(":path=/")...)), events: []string{"head 1 END"}},
		{name: "HEADERS, then DATA", before: open, in: cat(part, data(0, 1, "x")), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "HEADERS, then HEADERS", before: open, in: cat(part, part), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "HEADERS, then PING", before: open, in: cat(part, raw(http2.FramePing, 0, 0, make([]byte, 8)...)), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "HEADERS, then an unknown frame", before: open, in: cat(part, raw(99, 0, 3)), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "HEADERS, then CONTINUATION of another", before: open, in: cat(part, raw(http2.FrameContinuation, 0, 1)), out: fails("1", "PROTOCOL_ERROR", "protocol"), events: lost},
		{name: "CONTINUATION behind a block", in: cat(request(0, 3, "/"), raw(http2.FrameContinuation, flagEndHeaders, 3)),
			out: fails("3", "PROTOCOL_ERROR", "protocol"), events: []string{"head 3", "reset 3 PROTOCOL_ERROR conn"}},
		{name: "a block that cannot be decoded", before: open, in: raw(http2.FrameHeaders, flagEndHeaders, 3, 0xff, 0xff, 0xff),
			out: fails("1", "COMPRESSION_ERROR", "bad_header_block"), events: []string{"reset 1 COMPRESSION_ERROR conn"}},
		{name: "a block of a reset stream that cannot be decoded", before: first(request(0, 1, "/reset")), in: raw(http2.FrameHeaders, flagEndHeaders, 1, 0xff, 0xff, 0xff),
			out: fails("1", "COMPRESSION_ERROR", "bad_header_block")},

		{name: "an unknown frame", before: open, in: cat(raw(99, 0xff, 0, 1), raw(99, 0, 1), raw(99, 0, 77))},
		{name: "unknown flags", before: open, in: raw(http2.FramePing, 0xfe, 0, make([]byte, 8)...), out: frames(`PING "\x00\x00\x00\x00\x00\x00\x00\x00" ACK`)},
		{name: "PING", in: raw(http2.FramePing, 0, 0, []byte("abcdefgh")...), out: frames(`PING "abcdefgh" ACK`)},
		{name: "PING ACK that was not asked for", before: open, in: raw(http2.FramePing, flagAck, 0, make([]byte, 8)...)},
		{name: "PING ACK", before: func(p *peer) { p.conn.Ping([8]byte{}) }, in: raw(http2.FramePing, flagAck, 0, make([]byte, 8)...), events: []string{"pong"}},
		{name: "GOAWAY", before: open, in: cat(goAway(0, http2.ErrCodeNo), data(0, 1, "x"), request(0, 3, "/")),
			events: []string{`goaway NO_ERROR "bye"`, `data 1 "x"`, "head 3"}},
	})
}
