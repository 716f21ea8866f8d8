package h2

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// world is four Conns in a row, as a relay joins them:
//
//	origin (client) --- front (server) = calls = back (client) --- target (server)
//
// The origin's requests are relayed to the target, and its answers back. Between two ends there are pipes that take and give
// bytes in pieces.
type world struct {
	t      testing.TB
	choice chooser
	cfg    *Config
	now    int64

	origin, front, back, target *node
	nodes                       [4]*node
	budget                      *Budget // of front and back
	calls                       []*journey
	injected                    int
}

// chooser makes the choices of a run.
type chooser interface {
	upTo(n int) int // 0 to n-1
	ended() bool
}

// node is one Conn of the world.
type node struct {
	w       *world
	name    string
	conn    *Conn
	other   *node // at the other end of the pipe
	ledger  *ledger
	memory  *Memory
	inbox   []byte // on its way to conn
	wrote   int    // bytes that have left conn
	scanned int    // bytes that the ledger has seen
	scratch []byte
}

// pipeSize is how many bytes a pipe holds.
const pipeSize = 64 << 10

func newWorld(t testing.TB, cfg Config, maxBudget int64, choice chooser) *world {
	cfg = cfg.WithDefaults()
	w := &world{t: t, choice: choice, cfg: &cfg, budget: &Budget{max: maxBudget}}
	own := func() *Memory { return NewMemory(&Budget{max: 1 << 40}) }
	relay := NewMemory(w.budget)
	fields := hpack.NewInterner(1024, 512)
	w.origin = &node{name: "origin", memory: own()}
	w.origin.conn = NewClient(&cfg, &originEvents{events: events{w}}, w.origin.memory, fields, 0)
	w.front = &node{name: "front", memory: relay}
	w.front.conn = NewServer(&cfg, &frontEvents{events: events{w}}, relay, fields, 0)
	w.back = &node{name: "back", memory: relay}
	w.back.conn = NewClient(&cfg, &backEvents{events: events{w}}, relay, fields, 0)
	w.target = &node{name: "target", memory: own()}
	w.target.conn = NewServer(&cfg, &targetEvents{events: events{w}}, w.target.memory, fields, 0)
	w.nodes = [4]*node{w.origin, w.front, w.back, w.target}
	for i, n := range w.nodes {
		n.w, n.other, n.ledger = w, w.nodes[i^1], newLedger(i%2 == 0, &cfg)
	}
	return w
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf(format, args...)
}

// scan shows the ledger what the Conn has made since the last time.
func (n *node) scan() {
	out := n.conn.Output()[n.scanned-n.wrote:]
	n.scanned += len(out)
	if err := n.ledger.sent(out); err != nil {
		n.w.fail("%s sends: %v", n.name, err)
	}
	if why := n.conn.Failure(); why != nil {
		n.w.fail("%s has failed: %v", n.name, why)
	}
	if len(n.conn.Output()) > n.conn.cfg.SendLimit+frameHeaderLen+maxFrameLen+n.conn.cfg.Limits.UnreadBytes {
		n.w.fail("%s has %d bytes of output", n.name, len(n.conn.Output()))
	}
}

// write moves up to limit bytes from the Conn to the pipe.
func (n *node) write(limit int) (moved int) {
	n.scan()
	out := n.conn.Output()
	k := min(limit, len(out), pipeSize-len(n.other.inbox))
	if k <= 0 {
		return 0
	}
	n.other.inbox = append(n.other.inbox, out[:k]...)
	n.wrote += k
	n.conn.Wrote(k)
	return k
}

// read moves up to limit bytes from the pipe to the Conn, in memory that is overwritten afterwards.
func (n *node) read(limit int) (moved int) {
	k := min(limit, len(n.inbox))
	if k == 0 {
		return 0
	}
	if err := n.ledger.received(n.inbox[:k]); err != nil {
		n.w.fail("%s receives: %v", n.name, err)
	}
	n.scratch = append(append(n.scratch[:0], n.conn.Partial()...), n.inbox[:k]...)
	n.inbox = n.inbox[:copy(n.inbox, n.inbox[k:])]
	n.conn.Receive(n.scratch, n.w.now)
	spoil(n.scratch)
	return k
}

// spoil overwrites memory that its receiver must not have kept.
func spoil(b []byte) {
	for len(b) > 0 {
		b = b[copy(b, spoiled):]
	}
}

var spoiled = bytes.Repeat([]byte{0xEE}, 4096)

// inject makes the node at the other end believe that this one changes the initial window. It must be at most StreamWindow, and
// that again in the end, because the Conn does not know.
func (n *node) inject(window uint32) {
	n.conn.out = append(n.conn.out, settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})...)
	n.w.injected++
}

// journey is one call, from the origin to the target and back.
type journey struct {
	w    *world
	key  int
	a    Stream  // the origin's
	b, c *Stream // the relay's; nil before they are opened
	d    *Stream // the target's
	up   cargo
	down cargo

	kept kept // of the request, for some calls

	answered bool   // the target has sent headers
	headed   bool   // the origin has got them
	over     [4]int // how often a node was told, or has itself said, that its stream is over
	reset    bool   // somebody has reset it
	cut      bool   // the relay has ended the answer with a status of its own
}

// cargo is what goes in one direction of a call.
type cargo struct {
	size, sent, got int
	trailers, ended bool // ended: the end has arrived
	ending          bool // the end was written
	held            int  // bytes that have arrived, and were not reported to Consumed
}

// pattern is what bodies are made of. It has a period of 251 bytes.
var pattern = func() []byte {
	b := make([]byte, 1<<17)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}()

func (j *journey) bytes(at, n int) []byte { return pattern[(at+j.key*17)%251:][:n] }

// arrive takes DATA at its destination.
func (j *journey) arrive(at string, g *cargo, p []byte, end bool) {
	if g.ended {
		j.w.fail("call %d: DATA at the %s after the end", j.key, at)
	}
	if !bytes.Equal(p, j.bytes(g.got, len(p))) {
		j.w.fail("call %d: wrong bytes at the %s behind %d", j.key, at, g.got)
	}
	g.got += len(p)
	g.held += len(p)
	if end {
		j.end(at, g, false)
	}
}

// end takes the end of a direction at its destination.
func (j *journey) end(at string, g *cargo, trailers bool) {
	short := g == &j.down && j.cut
	if g.ended || !short && (g.got != g.size || g.trailers != trailers && !(g == &j.down && g.size == 0)) {
		j.w.fail("call %d: end at the %s with %d of %d bytes, ended %t, trailers %t", j.key, at, g.got, g.size, g.ended, trailers)
	}
	g.ended = true
}

// closed notes that the stream of node i is over.
func (j *journey) closed(i int, reset bool) {
	if j == nil {
		return
	}
	if j.over[i]++; j.over[i] > 1 {
		j.w.fail("call %d: the stream of %s is over twice", j.key, j.w.nodes[i].name)
	}
	j.reset = j.reset || reset
	if reset && (i == 1 || i == 2) {
		j.kept.clear(j.w.front.memory)
	}
}

// resetBy resets the stream of a node.
func (j *journey) resetBy(i int, s *Stream) {
	if s != nil && s.IsOpen() {
		j.closed(i, true)
		s.Reset(http2.ErrCodeCancel)
	}
}

// begin opens a call of some size.
func (w *world) begin() {
	sizes := [...]int{0, 1, 100, 5000, 16384, 16385, 70_000, 300_000}
	up := cargo{size: sizes[w.choice.upTo(len(sizes))], trailers: w.choice.upTo(4) == 0}
	w.open(up, cargo{size: sizes[w.choice.upTo(len(sizes))], trailers: w.choice.upTo(4) > 0})
}

// open opens a call.
func (w *world) open(up, down cargo) {
	j := &journey{w: w, key: len(w.calls), up: up, down: down}
	j.a.Owner = j
	w.calls = append(w.calls, j)
	end := j.up.size == 0 && !j.up.trailers
	j.up.ending = end
	w.origin.conn.Open(&j.a, fieldList(":method=POST", ":scheme=http", ":path=/"+strconv.Itoa(j.key), "x=y"), end)
}

// produce writes up to n bytes of a body, and the end.
func (j *journey) produce(s *Stream, g *cargo, n int) (moved int) {
	if s == nil || !s.IsOpen() || g.ending || s.Queued() > 0 {
		return 0
	}
	n = min(n, g.size-g.sent)
	last := g.sent+n == g.size
	if n > 0 || last && !g.trailers {
		s.WriteData(j.bytes(g.sent, n), last && !g.trailers)
	}
	g.sent += n
	if last && g.trailers {
		s.WriteTrailers(fieldList("grpc-status=0"))
	}
	g.ending = last
	return n + 1
}

// answer writes the target's headers.
func (j *journey) answer() {
	if j.d == nil || !j.d.IsOpen() || j.answered {
		return
	}
	j.answered = true
	end := j.down.size == 0 && !j.down.trailers
	j.down.ending = end
	j.d.WriteHeaders([]*hpack.Field{fieldOK}, end)
}

// consume gives credit for up to n bytes.
func (j *journey) consume(s *Stream, g *cargo, n int) (moved int) {
	n = min(n, g.held)
	if s == nil || n == 0 {
		return 0
	}
	g.held -= n
	s.Consumed(n)
	return n
}

func (j *journey) String() string {
	return fmt.Sprintf("call %d: up %+v, down %+v, over %v, reset %t", j.key, j.up, j.down, j.over, j.reset)
}
