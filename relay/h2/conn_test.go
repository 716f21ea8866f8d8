package h2

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

func TestErrors_Text(t *testing.T) {
	t.Parallel()
	ours := &ConnError{Code: http2.ErrCodeProtocol, Text: "x"}
	require.EqualError(t, ours, "connection ended: PROTOCOL_ERROR: x")
	require.EqualError(t, &ConnError{Code: http2.ErrCodeNo, Text: "closed", Peer: true}, "connection ended by the peer: NO_ERROR: closed")
	require.EqualError(t, &Reset{Code: http2.ErrCodeCancel, Peer: true}, "stream reset by the peer: CANCEL")
	require.EqualError(t, &Reset{Code: http2.ErrCodeProtocol, Text: "x"}, "stream reset: PROTOCOL_ERROR: x")
	require.EqualError(t, &Reset{Conn: ours}, ours.Error())
}

// Offences has every constant of its type: metrics are made of it.
func TestOffences(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	var want []Offence
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if v, ok := spec.Values[0].(*ast.BasicLit); ok {
				text, err := strconv.Unquote(v.Value)
				require.NoError(t, err)
				want = append(want, Offence(text))
			}
		}
		return true
	})
	require.NotEmpty(t, want)
	require.Equal(t, want, Offences[:])
}

// Identifiers are used once, and there are 2^30 of a client's.
func TestClient_IDsLeft(t *testing.T) {
	t.Parallel()
	p := newClientPeer(t, Config{})
	p.open(true)
	require.Equal(t, 1<<30-1, p.conn.IDsLeft())
	p.conn.lastID = maxWindow - 2
	require.Equal(t, 1, p.conn.IDsLeft())
	require.EqualValues(t, maxWindow, p.open(true).ID())
	require.Zero(t, p.conn.IDsLeft())
	p.send(answer(flagEndStream, maxWindow))
	require.Equal(t, []string{"head 2147483647 200 END", "done 2147483647"}, p.events.take())
}

func TestConn_Heard(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	ping := raw(http2.FramePing, 0, 0, make([]byte, 8)...)
	p.now = time.Second
	p.send(ping)
	p.now = 2 * time.Second
	p.send(ping[:1]) // no frame is whole yet
	p.conn.Tick(int64(2 * time.Second))
	require.EqualValues(t, time.Second, p.conn.Heard())
}

// Wake is called once until Flushed.
func TestConn_Wake(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	woken := 0
	p.conn.events = &hooks{wake: func() { woken++ }}
	p.conn.Flushed()
	p.conn.Ping([8]byte{})
	p.conn.Ping([8]byte{})
	require.Equal(t, 1, woken)
	p.conn.Flushed()
	p.send(raw(http2.FramePing, 0, 0, make([]byte, 8)...))
	require.Equal(t, 2, woken)
	p.conn.Flushed()
	p.send(data(0, 0, ""))
	require.Equal(t, 3, woken, "it has failed")
}

// Memory that an idle connection does not need is given back, and it goes on.
func TestConn_Shrink(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	long := []string{":method=POST", ":scheme=http", ":path=/answer", "x=" + strings.Repeat("y", 20_000)}
	for id := uint32(1); id < 41; id += 2 {
		b := encode(long...)
		p.send(raw(http2.FrameHeaders, flagEndStream, id, b[:16000]...), raw(http2.FrameContinuation, flagEndHeaders, id, b[16000:]...))
	}
	p.output()
	p.events.take()
	p.send(data(0, 41, strings.Repeat("x", 1000))[:500])
	require.NotEmpty(t, p.conn.Partial())
	p.conn.Shrink()
	require.NotEmpty(t, p.conn.Partial())
	p.conn.partial = p.conn.partial[:0]
	p.conn.Shrink()
	require.Nil(t, p.conn.out)
	require.Nil(t, p.conn.partial)
	require.Nil(t, p.conn.block.bytes)
	require.Nil(t, p.conn.streams.slots)
	p.send(request(flagEndStream, 41, "/answer"))
	require.Equal(t, []string{"head 41 END", "done 41"}, p.events.take())
}

// An owner that closes the connection in the Reset of a stream gets no second end of it.
func TestConn_ClosedInReset(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{Limits: Limits{ProvokedResets: Rate{Burst: 1}}})
	p.conn.events = &onReset{p.events, func() { p.conn.Close(&ConnError{}) }}
	p.send(request(0, 1, "/"), update(1, 0), request(0, 3, "/"))
	require.Equal(t, []string{"head 1", "reset 1 PROTOCOL_ERROR"}, p.events.take())
	require.Equal(t, frames("RST_STREAM 1 PROTOCOL_ERROR"), p.output())
}

// The table finds the streams that are in it, whatever their identifiers are.
func TestTable(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	tab := table{seed: rand.Uint64() | 1}
	in := map[uint32]*Stream{}
	for range 20_000 {
		id := random.Uint32N(1<<12) << random.UintN(18) & maxWindow
		switch s := in[id]; {
		case s != nil:
			tab.remove(s)
			delete(in, id)
		case len(in) < 300:
			s = &Stream{id: id}
			tab.put(s)
			in[id] = s
		}
		require.Equal(t, len(in), tab.n)
		require.Same(t, in[id], tab.get(id))
	}
	last := uint32(0)
	for i, s := range tab.all() {
		require.Same(t, in[s.id], s)
		require.True(t, i == 0 || s.id > last)
		last = s.id
	}
	require.LessOrEqual(t, len(tab.slots), 1024)
	for _, s := range in {
		require.Same(t, s, tab.get(s.id))
		tab.remove(s)
	}
	tab.shrink()
	require.Nil(t, tab.get(1))
}

// The last streams are remembered by how they ended; of those before, only that some were reset by this end.
func TestRecentIDs(t *testing.T) {
	t.Parallel()
	var r recentIDs
	for id := uint32(1); id < 201; id += 2 {
		r.add(id, [...]outcome{wasEnded, wasReset, peerReset}[id/2%3])
	}
	require.Equal(t, []outcome{wasEnded, wasReset, peerReset}, []outcome{r.get(199), r.get(195), r.get(197)})
	require.Equal(t, unknown, r.get(201))
	require.Equal(t, wasReset, r.get(3))
	require.EqualValues(t, 135, r.forgotten)
	require.Len(t, r.ids, manyRecent)
}
