package h2

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// dropped is a server's Conn whose connection window is used up by the first of three streams: 34,465 bytes of it wait for both
// windows, and 100 of each other stream for the connection's.
func dropped(t *testing.T) (p *peer, a, b, c *Stream) {
	p = newServerPeer(t, Config{})
	p.send(request(flagEndStream, 1, "/"), request(flagEndStream, 3, "/"), request(flagEndStream, 5, "/"))
	a, b, c = p.events.streams[1], p.events.streams[3], p.events.streams[5]
	for _, s := range []*Stream{a, b, c} {
		s.WriteHeaders([]*field{fieldOK}, false)
	}
	require.Equal(t, 65535, a.WriteData(make([]byte, 100_000), false))
	require.Equal(t, 0, b.WriteData(make([]byte, 100), false))
	require.Equal(t, 0, c.WriteData(make([]byte, 100), false))
	p.output()
	p.events.take()
	return p, a, b, c
}

// What waits is dropped, whether the stream's window or the connection's held it up, and a status takes its place. Its memory comes
// back, the windows are as if it had not been written, and no other stream is disturbed.
func TestStream_CutQueue(t *testing.T) {
	t.Parallel()
	p, a, b, c := dropped(t)
	held := p.memory.budget.Held()
	b.CutQueue(0)
	require.Equal(t, [3]int{34465, 0, 100}, [3]int{a.Queued(), b.Queued(), c.Queued()})
	require.EqualValues(t, held-256, p.memory.budget.Held())
	b.WriteTrailers(fieldList("grpc-status=13"))
	a.CutQueue(0)
	a.CutQueue(0) // nothing
	require.EqualValues(t, 256, p.memory.budget.Held(), "c's")
	require.Equal(t, frames("HEADERS 3 grpc-status=13 END"), p.output())
	require.Equal(t, []string{"done 3"}, p.events.take())

	p.send(update(0, 150), update(1, 10)) // nothing is left of b's share
	require.Equal(t, []string{"sent 5 100"}, p.events.take())
	require.Equal(t, 10, a.WriteData(make([]byte, 20), false), "a's window")
	p.send(update(1, 1000))
	require.Equal(t, []string{"sent 1 10"}, p.events.take())
	require.Equal(t, 30, a.WriteData(make([]byte, 40), true), "the connection's window")
	a.CutQueue(0)
	require.False(t, a.Ended(), "the end was behind the queue")
	p.output()
	a.WriteTrailers(fieldList("grpc-status=13"))
	require.Equal(t, frames("HEADERS 1 grpc-status=13 END"), p.output())
	require.Equal(t, 0, c.WriteData([]byte("hello"), true))
	p.send(update(0, 5))
	require.Equal(t, frames(`DATA 5 "hello" END`), p.output())
	require.Equal(t, []string{"done 1", "sent 5 5", "done 5"}, p.events.take())
	require.Zero(t, p.memory.budget.Held())
}

// The first bytes of what waits stay, and go in their turn; the rest's memory comes back.
func TestStream_CutQueueKeepsTheFirstBytes(t *testing.T) {
	t.Parallel()
	for _, keep := range []int{1, 16383, 16384, 16385, 32768, 34464, 34465, 40000} {
		p, a, b, c := dropped(t)
		a.CutQueue(keep)
		kept := min(keep, 34465)
		require.Equal(t, kept, a.Queued())
		n := 0
		for part := range a.Queue() {
			n += len(part)
		}
		require.Equal(t, kept, n)
		require.LessOrEqual(t, p.memory.budget.Held(), int64(2*256+(kept+16383)/16384*16384))
		b.CutQueue(0)
		c.CutQueue(0)
		a.WriteData([]byte("more"), false)
		a.WriteTrailers(fieldList("grpc-status=4"))
		p.send(update(1, 100_000), update(0, 100_000))
		sent, at := 0, 0
		for _, e := range p.events.take() {
			if _, err := fmt.Sscanf(e, "sent 1 %d", &at); err == nil {
				sent += at
			}
		}
		require.Equal(t, kept+4, sent)
		got := p.output()
		require.Equal(t, frames("HEADERS 1 grpc-status=4 END"), got[len(got)-1:])
		require.Zero(t, p.memory.budget.Held())
	}
}

// Trailers that wait go at once if they are told to, and what they wait for is dropped.
func TestStream_EndNow(t *testing.T) {
	t.Parallel()
	p, a, b, _ := dropped(t)
	a.EndNow() // there are none
	require.Equal(t, 34465, a.Queued())
	a.WriteTrailers(fieldList("grpc-status=4"))
	a.EndNow()
	a.EndNow()
	b.WriteData([]byte("the end"), true)
	b.EndNow()
	require.Equal(t, 107, b.Queued(), "there are no trailers")
	require.Equal(t, frames("HEADERS 1 grpc-status=4 END"), p.output())
	require.Equal(t, []string{"done 1"}, p.events.take())
}

// Trailers that wait behind the queue are dropped with it.
func TestStream_CutQueueWithTrailers(t *testing.T) {
	t.Parallel()
	p, a, _, _ := dropped(t)
	a.WriteTrailers(fieldList("grpc-status=0"))
	a.CutQueue(0)
	require.Equal(t, 0, a.WriteData([]byte("why"), true))
	p.send(update(0, 1000), update(1, 1000))
	require.Equal(t, frames("DATA 3 100", "DATA 5 100", `DATA 1 "why" END`), p.output())
	require.Equal(t, []string{"sent 3 100", "sent 5 100", "sent 1 3", "done 1"}, p.events.take())
}

// The streams that stay send in their order, whichever is dropped.
func TestStream_CutQueueKeepsTheOrder(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ drop, first, second uint32 }{{1, 3, 5}, {3, 5, 1}, {5, 3, 1}} {
		p, _, _, _ := dropped(t)
		p.send(update(1, 100)) // so that it waits for the connection's window alone, behind the others
		p.events.streams[x.drop].CutQueue(0)
		p.send(update(0, 200))
		require.Equal(t, []string{"sent " + itoa(x.first) + " 100", "sent " + itoa(x.second) + " 100"}, p.events.take(), "%d was dropped", x.drop)
	}
}

// An owner may drop the queue in Sent, and end the stream.
func TestStream_CutQueueInSent(t *testing.T) {
	t.Parallel()
	p, a, _, _ := dropped(t)
	p.conn.events = &onSent{p.events, func(s *Stream) {
		if s == a {
			s.CutQueue(0)
			s.WriteTrailers(fieldList("grpc-status=13"))
		}
	}}
	p.send(update(0, 1000), update(1, 100))
	require.Equal(t, []string{"sent 3 100", "sent 5 100", "sent 1 100", "done 1"}, p.events.take())
	require.Zero(t, p.memory.budget.Held())
}

// A stream that is not open has no queue.
func TestStream_CutQueueOfNone(t *testing.T) {
	t.Parallel()
	new(Stream).CutQueue(0)
	p, a, _, _ := dropped(t)
	a.Reset(http2.ErrCodeCancel)
	held := p.memory.budget.Held()
	a.CutQueue(0)
	require.Equal(t, held, p.memory.budget.Held())
	p.conn.Close(&ConnError{})
	a.CutQueue(0)
	require.Zero(t, p.memory.budget.Held())
}

// Pending gives back what was added, in pieces of any size, and all of its memory.
func TestPending(t *testing.T) {
	t.Parallel()
	m := NewMemory(NewBudget(0))
	var d Pending
	var got []byte
	piece := make([]byte, 7000)
	for i, at := 0, 0; at < len(mib) || d.Len() > 0; i++ {
		n := min([...]int{0, 1, 1024, 20_000, 5000}[i%5], len(mib)-at)
		d.Add(m, mib[at:at+n])
		at += n
		want := min(d.Len(), i%len(piece))
		k := d.Read(m, piece[:i%len(piece)])
		require.Equal(t, want, k)
		got = append(got, piece[:k]...)
		require.Equal(t, at-len(got), d.Len())
	}
	require.True(t, bytes.Equal(mib, got))
	require.Zero(t, d.Read(m, piece))
	require.Zero(t, m.budget.Held())

	d.Add(m, piece)
	require.Equal(t, 3, d.Read(m, piece[:3]))
	require.GreaterOrEqual(t, m.budget.Held(), int64(6997))
	require.Equal(t, 6997, d.Clear(m))
	require.Zero(t, d.Clear(m))
	require.Zero(t, d.Len())
	require.Zero(t, m.budget.Held())
}

// Memory keeps what is in use again and again, and drops what was not since the last Trim.
func TestMemory_Trim(t *testing.T) {
	t.Parallel()
	m := NewMemory(NewBudget(0))
	var d Pending
	d.Add(m, mib)
	d.Clear(m)
	free := func() (bytes int) {
		for class := range m.free {
			n := 0
			for c := m.free[class]; c != nil; c = c.next {
				n++
			}
			require.Equal(t, m.kept[class], n)
			bytes += n * chunkSizes[class]
		}
		return bytes
	}
	all := free()
	require.GreaterOrEqual(t, all, len(mib))
	m.Trim()
	require.Equal(t, all, free(), "it was in use")
	d.Add(m, mib[:100<<10])
	require.Equal(t, 100<<10, d.Clear(m))
	m.Trim()
	require.Less(t, free(), 150<<10)
	require.GreaterOrEqual(t, free(), 100<<10)
	m.Trim()
	require.Zero(t, free())
	d.Add(m, mib)
	d.Clear(m)
	require.Equal(t, all, free())
}
