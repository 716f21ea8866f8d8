package relay

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// slowEndpoint is an HTTP/2 server that greets when it is told to, and tells of the frames that it gets afterwards, without their payload.
type slowEndpoint struct {
	address string
	wake    func() // makes it greet
	greet   chan struct{}
	frames  chan http2.FrameHeader
}

func newSlowEndpoint(t *testing.T) *slowEndpoint {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &slowEndpoint{address: ln.Addr().String(), greet: make(chan struct{}), frames: make(chan http2.FrameHeader, 1000)}
	e.wake = sync.OnceFunc(func() { close(e.greet) })
	var running sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); e.wake(); running.Wait() })
	running.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := nc.Read(preface); err != nil {
			return
		}
		<-e.greet
		greetClient(nc)
		f := http2.NewFramer(nc, nc)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			e.frames <- frame.Header()
		}
	})
	return e
}

func requestBlock(more ...string) []byte {
	return hpack.NewEncoder().Append(nil, fieldsOf(append([]string{":method", "POST", ":scheme", "http", ":path", "/echo.Echo/Chat", ":authority", "a:1",
		"content-type", "application/grpc", "te", "trailers"}, more...)...))
}

// A call that comes before there is a connection waits for it, and is relayed then like others: a stream that lasts does not cost a
// goroutine for all of its life because it was the first.
func TestWaiting_CallsAreRelayedOnceThereIsAConnection(t *testing.T) {
	e := newSlowEndpoint(t)
	x := newEngineTo(t, e.address, "")
	block := requestBlock()
	x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, block))
	for range 6 { // more than package handler would keep for another attempt
		x.receive(x.client.socket, rawFrame(http2.FrameData, 0, 1, message(0, 16000)))
	}
	x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 3, block))
	x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 5, block), rawFrame(http2.FrameData, 0, 5, message(0, 10)),
		rawFrame(http2.FrameData, http2.FlagDataEndStream, 5, nil))
	x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 7, block), rawFrame(http2.FrameData, 0, 7, message(0, 10)),
		rawFrame(http2.FrameRSTStream, 0, 7, []byte{0, 0, 0, 8})) // nothing of it is seen
	e.wake()

	bytes, ended := map[uint32]int{}, map[uint32]bool{}
	for bytes[1]+bytes[3]+bytes[5] < 6*16005+15 || len(ended) < 2 {
		var f http2.FrameHeader
		select {
		case f = <-e.frames:
		case <-time.After(patience):
			t.Fatalf("after %s: %v bytes, %v ended", patience, bytes, ended)
		}
		switch f.Type {
		case http2.FrameData, http2.FrameHeaders:
			if f.Type == http2.FrameData {
				bytes[f.StreamID] += int(f.Length)
			}
			if f.Flags.Has(http2.FlagDataEndStream) {
				ended[f.StreamID] = true
			}
		}
	}
	var lengths []int
	for id, n := range bytes {
		lengths = append(lengths, n)
		require.Equal(t, n == 15, ended[id])
	}
	require.ElementsMatch(t, []int{6 * 16005, 15}, lengths)
	x.shard.lock()
	defer x.shard.unlock()
	n := 0
	for c := x.shard.active; c != nil; c = c.next {
		require.Nil(t, c.down, "it is relayed")
		require.Nil(t, c.waiting)
		n++
	}
	require.Equal(t, 3, n)
}
