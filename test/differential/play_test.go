package differential

import (
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// script is one call, and what its two ends do.
type script struct {
	name    string
	request testbed.Fields // the header block of the request
	empty   bool           // the request ends with its headers
	acts    []act
	raw     bool // what every proxy changes of a request is not put back, because it is what the script is about
	headers bool // only the request's headers are compared

	handedOver bool   // the relay gives the call to package handler, because its attempt has failed
	malformed  string // what of the call HTTP/2 does not allow: "request", "headers", "body", "trailers"
}

// act is what one end of a call does. Unless it is one of several that are done together, it returns when the other end has seen
// it, so that what both ends see does not depend on who is faster. An act does nothing once its stream has been reset.
type act func(p *play)

// play is a script that is being played.
type play struct {
	script *script
	stage  *stage
	cs, ss *testbed.H2Stream // ss is nil if the request does not reach the server

	body     []byte // what the client has sent
	ended    bool   // the client has sent END_STREAM
	blocks   int    // header blocks that the server has sent, without informational ones
	replies  []byte // what the server has sent
	together bool   // acts do not wait for the other end

	// Of what came to one end, only what it saw before it ended the call itself is compared: what is under way then may come or
	// not.
	request, answer  []testbed.Event
	answered, gaveUp bool     // request, answer is set
	stuck            []string // what did not come
}

// send sends DATA of the request.
func send(b []byte) act {
	return func(p *play) {
		p.body = append(p.body, b...)
		_ = p.cs.TrySend(b) // fails if the call has ended
		p.serverHas()
	}
}

// sendEnd sends DATA of the request with END_STREAM.
func sendEnd(b []byte) act {
	return func(p *play) {
		p.body, p.ended = append(p.body, b...), true
		_ = p.cs.TrySendEnd(b)
		p.serverHas()
	}
}

// sendTrailers ends the request with trailers.
func sendTrailers(fields testbed.Fields) act {
	return func(p *play) {
		p.ended = true
		_ = p.cs.TryTrailers(fields)
		p.serverHas()
	}
}

// giveUp resets the call from the client's end.
func giveUp(code http2.ErrCode) act {
	return func(p *play) {
		p.sync()
		p.answer, p.gaveUp = p.cs.Events(), true
		_ = p.cs.TryReset(code)
		p.await(p.ss, seenReset, "the client's reset at the server")
	}
}

// inform sends an informational answer. Nobody waits for it: a proxy drops it.
func inform(fields testbed.Fields) act {
	return func(p *play) { p.server(func(s *testbed.H2Stream) { _ = s.TryHeaders(fields) }) }
}

// begin sends the answer's headers, or headers that do not end it.
func begin(fields testbed.Fields) act {
	return func(p *play) {
		p.server(func(s *testbed.H2Stream) { _ = s.TryHeaders(fields); p.blocks++ })
		p.clientHas()
	}
}

// reply sends DATA of the answer.
func reply(b []byte) act {
	return func(p *play) {
		p.server(func(s *testbed.H2Stream) { _ = s.TrySend(b); p.replies = append(p.replies, b...) })
		p.clientHas()
	}
}

// finish ends the answer with a header block: its trailers, or all of it.
func finish(fields testbed.Fields) act {
	return ending(func(s *testbed.H2Stream) { _ = s.TryTrailers(fields) })
}

// replyEnd ends the answer with DATA.
func replyEnd(b []byte) act {
	return ending(func(s *testbed.H2Stream) { _ = s.TrySendEnd(b) })
}

// breakOff resets the call from the server's end.
func breakOff(code http2.ErrCode) act {
	end := ending(func(s *testbed.H2Stream) { _ = s.TryReset(code) })
	return func(p *play) {
		p.sync() // a reset may overtake DATA
		end(p)
	}
}

// ending returns an act that ends the call at the server, which has seen all of the request then.
func ending(end func(s *testbed.H2Stream)) act {
	return func(p *play) {
		together := p.together
		p.together = false
		p.serverHas()
		if !p.stage.isDirect() && isClosed(p.cs.Over()) { // framegate has ended the call
			p.await(p.ss, seenReset, "framegate's reset at the server")
		}
		p.server(func(s *testbed.H2Stream) { p.request, p.answered = s.Events(), true; end(s) })
		p.await(p.cs, seenOver, "the end of the answer")
		p.together = together
	}
}

// refuse resets the call as not processed. Who speaks to the server, a client or a proxy, sends it again.
func refuse(p *play) {
	p.sync()
	p.server(func(s *testbed.H2Stream) { _ = s.TryReset(http2.ErrCodeRefusedStream) })
	if p.stage.isDirect() {
		p.await(p.cs, seenOver, "the refusal at the client")
		p.cs = p.stage.open(p.script.request, p.script.empty)
		_ = p.cs.TrySend(p.body)
		if p.ended && !p.script.empty {
			_ = p.cs.TrySendEnd(nil)
		}
	}
	p.arrive()
	p.serverHas()
}

// atOnce returns an act that does all of acts before it waits for the other end.
func atOnce(acts ...act) act {
	return func(p *play) {
		outer := p.together
		p.together = true
		for _, a := range acts {
			a(p)
		}
		if p.together = outer; !outer {
			p.sync()
		}
	}
}

func (p *play) server(f func(s *testbed.H2Stream)) {
	if p.ss != nil {
		f(p.ss)
	}
}

// arrive waits for the request's headers at the server, or for the end of the call.
func (p *play) arrive() {
	late := time.NewTimer(testbed.Patience)
	defer late.Stop()
	p.ss = nil
	arrivals := p.stage.arrivals(p.script.request.Get(callID))
	select {
	case p.ss = <-arrivals:
	case <-p.cs.Over():
		select {
		case p.ss = <-arrivals: // it came first
		default:
		}
	case <-late.C:
		p.stuck = append(p.stuck, "the request at the server")
	}
}

// passing returns how many bytes of what one end has sent come to the other while more may follow.
func (p *play) passing(body []byte) int {
	if !p.stage.plane.holdsParts {
		return len(body)
	}
	messages, _ := testbed.Messages(body)
	n := 0
	for _, m := range messages {
		n += prefixLen + len(m.Payload)
	}
	return n
}

// serverHas waits until the server has seen what the client has sent.
func (p *play) serverHas() {
	if p.together || p.ss == nil {
		return
	}
	if err := p.ss.AwaitSeen(func(s testbed.Seen) bool { return s.Over || !p.ended && s.Bytes >= p.passing(p.body) }); err != nil {
		p.stuck = append(p.stuck, "what the client has sent")
	}
}

// clientHas waits until the client has seen what the server has sent.
func (p *play) clientHas() {
	if p.together || p.ss == nil {
		return
	}
	if err := p.cs.AwaitSeen(func(s testbed.Seen) bool { return s.Over || s.Heads >= p.blocks && s.Bytes >= p.passing(p.replies) }); err != nil {
		p.stuck = append(p.stuck, "what the server has sent")
	}
}

// sync waits until both ends have seen what the other has sent.
func (p *play) sync() {
	before := p.together
	p.together = false
	p.serverHas()
	p.clientHas()
	p.together = before
}

func seenOver(s testbed.Seen) bool  { return s.Over }
func seenReset(s testbed.Seen) bool { return s.Reset }

// await waits for what has come on a stream.
func (p *play) await(s *testbed.H2Stream, ready func(testbed.Seen) bool, what string) {
	if s == nil {
		return
	}
	if err := s.AwaitSeen(ready); err != nil {
		p.stuck = append(p.stuck, what)
	}
}

// run plays the script to its end.
func (p *play) run() transcript {
	p.cs = p.stage.open(p.script.request, p.script.empty)
	p.ended = p.script.empty
	p.arrive()
	for _, a := range p.script.acts {
		a(p)
	}
	if !p.script.headers && !p.gaveUp {
		p.await(p.cs, seenOver, "an end of the answer")
		p.answer = p.cs.Events()
	}
	if !p.ended && !p.gaveUp {
		_ = p.cs.TryReset(http2.ErrCodeCancel) // what the script leaves open
	}
	if p.ss != nil && !p.answered {
		p.await(p.ss, seenOver, "an end of the request")
		p.request = p.ss.Events()
	}
	return p.transcript()
}

// serverAddress stands for the address of the server, as an authority.
const serverAddress = "the server's address"

func (p *play) transcript() transcript {
	var t transcript
	if p.ss == nil {
		t.add(inRequest, "none")
	} else {
		if p.script.headers {
			p.request = p.request[:1]
		}
		if !p.script.raw {
			p.request[0].Fields = p.stage.plane.asSent(p.request[0].Fields, p.script.request)
		}
		t.addRequest(p.request)
	}
	t.addAnswer(p.answer)
	t = t.each(func(l *line) { // each stage has another server
		if l.name == ":authority" && l.value == p.stage.server.Addr {
			l.value = serverAddress
		}
	})
	for _, what := range p.stuck {
		t.add(inAnswer, "%s %s", missing, what)
	}
	return t
}
