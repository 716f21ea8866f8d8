package differential

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// Acts that most scripts have.
var (
	ask     = sendEnd(testbed.Frame([]byte("request")))
	accept  = begin(testbed.ResponseFields())
	respond = reply(testbed.Frame([]byte("response")))
	succeed = finish(testbed.StatusFields(0, ""))
	only    = finish(testbed.ResponseFields("grpc-status", "5", "grpc-message", "only"))
	halfEnd = sendEnd(nil)
)

// frames returns n messages.
func frames(n int) (all []byte) {
	for i := range n {
		all = append(all, testbed.Frame(fmt.Appendf(nil, "message %d", i))...)
	}
	return all
}

// callScripts are who says what in which order, and where END_STREAM is.
func callScripts() []script {
	call := testbed.RequestFields()
	m := testbed.Frame([]byte("a message"))
	return []script{
		{name: "unary", request: call, acts: []act{ask, accept, respond, succeed}},
		{name: "unary at once", request: call, acts: []act{ask, atOnce(accept, respond), succeed}},
		{name: "unary with an empty END_STREAM", request: call, acts: []act{send(m), halfEnd, accept, respond, succeed}},
		{name: "unary without a message", request: call, acts: []act{halfEnd, accept, respond, succeed}},
		{name: "request of headers only", request: call, empty: true, acts: []act{accept, respond, succeed}},
		{name: "request of headers only, trailers only", request: call, empty: true, acts: []act{only}},
		{name: "nothing but headers and trailers", request: call, empty: true, acts: []act{accept, succeed}},
		{name: "client stream", request: call, acts: []act{send(m), send(m), send(m), halfEnd, accept, respond, succeed}},
		{name: "client stream at once", request: call, acts: []act{atOnce(send(m), send(m), sendEnd(m)), accept, respond, succeed}},
		{name: "client stream of nothing", request: call, acts: []act{halfEnd, accept, respond, succeed}},
		{name: "server stream", request: call, acts: []act{ask, accept, reply(m), reply(m), reply(m), succeed}},
		{name: "server stream at once", request: call, acts: []act{ask, atOnce(accept, reply(m), reply(m), reply(m)), succeed}},
		{name: "server stream of nothing", request: call, acts: []act{ask, accept, succeed}},
		{name: "bidi in turn", request: call, acts: []act{send(m), accept, reply(m), send(m), reply(m), send(m), reply(m), halfEnd, succeed}},
		{name: "bidi, the server first", request: call, acts: []act{accept, reply(m), reply(m), sendEnd(m), succeed}},
		{name: "bidi, the headers last", request: call, acts: []act{send(m), send(m), accept, send(m), halfEnd, succeed}},
		{name: "bidi at once", request: call, acts: []act{atOnce(accept, send(m), reply(m), send(m), reply(m), sendEnd(m), reply(m)), succeed}},
		{name: "messages behind the half-close", request: call, acts: []act{accept, sendEnd(m), reply(m), reply(m), succeed}},
		{name: "the answer ends first", request: call, acts: []act{send(m), accept, reply(m), succeed}},
		{name: "the answer ends first, then the request", request: call, acts: []act{send(m), accept, reply(m), succeed, send(m), halfEnd}},
		{name: "the answer ends before any request", request: call, acts: []act{accept, succeed, ask}},
		{name: "trailers only before any request", request: call, acts: []act{only}},
		{name: "trailers only before the request", request: call, acts: []act{only, ask}},
		{name: "trailers only within a message", request: call, acts: []act{send(testbed.Prefix(0, 10)), only}},
		{name: "an error within the answer's message", request: call, acts: []act{ask, accept, reply(testbed.Prefix(0, 10)), finish(testbed.StatusFields(8, "too much"))}},
		{name: "trailers of a request", request: call, acts: []act{send(m), sendTrailers(testbed.NewFields("x-late", "1", "x-late-bin", "AAE")), accept, respond, succeed}},
		{name: "trailers of a request without a message", request: call, acts: []act{sendTrailers(testbed.NewFields("x-late", "1")), accept, succeed}},
		{name: "informational answers", request: call, acts: []act{
			ask, inform(testbed.NewFields(":status", "100")), inform(testbed.NewFields(":status", "103", "link", "</a>; rel=preload")), accept, respond, succeed,
		}},
		{name: "informational answer before trailers only", request: call, acts: []act{ask, inform(testbed.NewFields(":status", "103", "x-hint", "1")), only}},
		{name: "refused, and sent again", request: call, acts: []act{send(m), refuse, send(m), halfEnd, accept, respond, succeed}, handedOver: true},
		{name: "refused, and sent again whole", request: call, acts: []act{send(m), sendEnd(m), refuse, accept, respond, succeed}, handedOver: true},
		{name: "request cut within a message", request: call, acts: []act{send(testbed.Prefix(0, 10)), halfEnd, only}},
		{name: "request cut by trailers", request: call, acts: []act{send(testbed.Prefix(0, 10)), sendTrailers(testbed.NewFields("x-late", "1")), only}},
		{name: "answer cut within a message", request: call, acts: []act{ask, accept, reply(testbed.Prefix(0, 10)), succeed}},
		{name: "answer without trailers", request: call, acts: []act{ask, accept, respond, replyEnd(nil)}},
		{name: "answer without trailers, with its last message", request: call, acts: []act{ask, accept, replyEnd(m)}},
		{name: "answer cut without trailers", request: call, acts: []act{ask, accept, replyEnd(testbed.Prefix(0, 10))}},
		{name: "request of a flag that is none", request: call, acts: []act{send(m), send([]byte{2, 0, 0, 0, 0}), only}},
		{name: "answer of a flag that is none", request: call, acts: []act{ask, accept, respond, reply([]byte{2, 0, 0, 0, 0}), succeed}},
	}
}

// bodyScripts are messages of all sizes, each in both directions.
func bodyScripts() []script {
	var all []script
	add := func(name string, body []byte) {
		all = append(all, script{name: "messages/" + name, request: testbed.RequestFields(), acts: []act{send(body), halfEnd, accept, reply(body), succeed}})
	}
	add("empty", testbed.Frame(nil))
	add("three empty ones", slices.Concat(testbed.Frame(nil), testbed.Frame(nil), testbed.Frame(nil)))
	add("empty, not empty, empty", slices.Concat(testbed.Frame(nil), frames(1), testbed.Frame(nil)))
	add("empty, compressed", testbed.Message{Flag: 1}.Bytes())
	add("of both flags", slices.Concat(testbed.Message{Flag: 1, Payload: []byte("x")}.Bytes(), frames(1), testbed.Message{Flag: 1, Payload: []byte("y")}.Bytes()))
	sizes := []int{1, 255, 16384 - 5, 16384, 16385, 32768 - 13, 32768, 65535 - 5, 65535, 65536, 1 << 20}
	for _, n := range append(sizes, race.Choose([]int{256<<10 + 1, 1<<20 + 1, 3 << 20}, nil)...) {
		add(fmt.Sprintf("%d bytes", n), testbed.Frame(pattern(n, n)))
	}
	add("1000 small ones", frames(1000))
	add("many of one byte", bytes.Repeat(testbed.Frame([]byte("x")), race.Choose(10000, 2000)))
	add("large and small by turns", slices.Concat(testbed.Frame(pattern(100000, 1)), frames(10), testbed.Frame(pattern(70000, 2)), frames(3)))
	for _, encoding := range []string{"gzip", "identity", "nobody-registered"} { // the payloads are no output of any compressor
		compressed := slices.Concat(testbed.Message{Flag: 1, Payload: pattern(3000, 1)}.Bytes(), frames(1), testbed.Message{Flag: 1, Payload: pattern(70, 2)}.Bytes())
		fields := []string{"grpc-encoding", encoding, "grpc-accept-encoding", "gzip,identity"}
		all = append(all, script{name: "messages/compressed by " + encoding, request: testbed.RequestFields(fields...), acts: []act{
			send(compressed), halfEnd, begin(testbed.ResponseFields(fields[:2]...)), reply(compressed), succeed,
		}})
	}
	return append(all, pieceScripts()...)
}

// pieceScripts are messages in odd DATA frames.
func pieceScripts() []script {
	body := slices.Concat(frames(2), testbed.Frame(pattern(300, 1)))
	var up, down []act
	for i := range body {
		up, down = append(up, send(body[i:i+1])), append(down, reply(body[i:i+1]))
	}
	bytewise := slices.Concat([]act{atOnce(up...), halfEnd, accept, atOnce(down...), succeed})
	var empties []act
	for range 5 {
		empties = append(empties, send(nil), send(frames(1)), reply(nil), reply(frames(1)))
	}
	return []script{
		{name: "messages/byte by byte", request: testbed.RequestFields(), acts: bytewise},
		{name: "messages/empty DATA between", request: testbed.RequestFields(), acts: slices.Concat([]act{accept}, empties, []act{send(nil), halfEnd, reply(nil), succeed})},
		{name: "messages/padded DATA", request: testbed.RequestFields(), acts: []act{
			padded(true, frames(1), 0), padded(true, frames(2), 255), padded(true, nil, 7), halfEnd,
			accept, padded(false, frames(1), 1), padded(false, frames(2), 200), padded(false, nil, 255), succeed,
		}},
	}
}

// padded sends a DATA frame with padding, of the request or of the answer.
func padded(request bool, b []byte, padding int) act {
	write := func(s *testbed.H2Stream) {
		_ = s.Conn().Write(func(fr *http2.Framer) error { return fr.WriteDataPadded(s.ID, false, b, make([]byte, padding)) })
	}
	if request {
		return func(p *play) { p.body = append(p.body, b...); write(p.cs); p.serverHas() }
	}
	return func(p *play) {
		p.server(func(s *testbed.H2Stream) { write(s); p.replies = append(p.replies, b...) })
		p.clientHas()
	}
}

// pattern returns size bytes.
func pattern(size, seed int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b) // never fails
	return b
}
