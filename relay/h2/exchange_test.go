package h2

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// exchange is what a Conn answers to frames, and what it tells its owner. WINDOW_UPDATE is left out of the frames, unless
// windows is set.
type exchange struct {
	name    string
	before  func(p *peer) // what happens before the frames; its frames and events do not count
	in      []byte
	out     []string
	events  []string
	windows bool
}

func (x *exchange) run(t *testing.T, p *peer) {
	if x.before != nil {
		x.before(p)
		p.output()
		p.events.take()
	}
	p.send(x.in)
	var out []string
	for _, f := range p.output() {
		if x.windows || !strings.HasPrefix(f, "WINDOW_UPDATE") {
			out = append(out, f)
		}
	}
	require.Equal(t, x.out, out)
	require.Equal(t, x.events, p.events.take())
	if p.conn.Failure() != nil {
		x.ended(t, p)
	} else {
		x.goesOn(t, p)
	}
}

// ended checks that a Conn that has failed does nothing any more.
func (x *exchange) ended(t *testing.T, p *peer) {
	require.True(t, strings.HasPrefix(x.out[len(x.out)-1], "GOAWAY"), "the last frame must be the GOAWAY")
	require.Zero(t, p.conn.Streams())
	p.send(request(flagEndStream, 1001, "/answer"), raw(http2.FramePing, 0, 0, make([]byte, 8)...))
	p.conn.Tick(1 << 60)
	require.Empty(t, p.output())
	require.Empty(t, p.events.take())
	require.Empty(t, p.conn.Partial())
	require.Zero(t, p.memory.budget.Held())
}

// goesOn checks that other streams are not disturbed.
func (x *exchange) goesOn(t *testing.T, p *peer) {
	if !p.conn.server {
		if p.conn.IsLeaving() {
			return
		}
		s := &Stream{}
		p.conn.Open(s, fieldList(":method=POST", ":scheme=http", ":path=/", ":authority=a"), true)
		p.output()
		id := s.ID()
		p.send(answer(0, id), data(flagEndStream, id, "x"))
		require.Equal(t, []string{"head " + itoa(id) + " 200", `data ` + itoa(id) + ` "x" END`, "done " + itoa(id)}, p.events.take())
		return
	}
	if p.conn.IsLeaving() {
		return
	}
	p.send(request(flagEndStream, 1001, "/answer"))
	require.Equal(t, []string{"HEADERS 1001 :status=200 END"}, p.output())
	require.Equal(t, []string{"head 1001 END", "done 1001"}, p.events.take())
}

func runExchanges(t *testing.T, newPeer func(testing.TB, Config) *peer, all []exchange) {
	for i := range all {
		x := &all[i]
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			x.run(t, newPeer(t, Config{}))
		})
	}
}

// first returns a step that gives the Conn frames.
func first(parts ...[]byte) func(p *peer) { return func(p *peer) { p.send(parts...) } }

// opened returns a step in which a client opens streams 1, 3 and so on, whose requests have ended.
func opened(n int) func(p *peer) {
	return func(p *peer) {
		for range n {
			p.open(true)
		}
	}
}

// open opens a stream of a client.
func (p *peer) open(end bool) *Stream {
	s := &Stream{Owner: new(plan)}
	p.conn.Open(s, fieldList(":method=POST", ":scheme=http", ":path=/", ":authority=a"), end)
	p.events.streams[s.ID()] = s
	return s
}

func frames(list ...string) []string { return list }

func fails(last, code, offence string) []string {
	return []string{"GOAWAY " + last + " " + code + " " + offence}
}
