package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// result is the result of one rate.
type result struct {
	due, sent, good, refused float64         // calls a second
	refusals                 []time.Duration // from when a call was due until it was refused; sorted
}

// client is one connection, and the calls on it.
type client struct {
	nc net.Conn

	writing sync.Mutex // held while frames are written

	mu       sync.Mutex  // guards what follows
	due      []time.Time // when the call on stream 2*i+1 was due
	good     int
	refused  int
	refusals []time.Duration
	counting bool
}

// dial connects. Nothing is written after until.
func dial(addr string, until time.Time) (*client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{nc: nc}
	if err := errors.Join(nc.SetWriteDeadline(until), c.write(append([]byte(http2.ClientPreface), greeting()...))); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.nc.Write(b)
	return err
}

// tell is write of what the peer need not know any more when nothing is written any more.
func (c *client) tell(b []byte) error {
	if err := c.write(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// read counts answers until the connection ends. A call is refused if its answer has no message, or if it gets
// REFUSED_STREAM.
func (c *client) read() error {
	r := bufio.NewReaderSize(c.nc, 64<<10)
	answered := map[uint32]bool{}
	untold := 0
	for {
		h, payload, err := next(r)
		switch {
		case err == io.EOF || errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		case h.kind == http2.FrameGoAway:
			return fmt.Errorf("GOAWAY: %q", payload)
		}
		if ack := h.ack(payload); ack != nil {
			if err := c.tell(ack); err != nil {
				return err
			}
		}
		if h.kind == http2.FrameData {
			answered[h.stream] = true
			if untold += h.length; untold > 32<<10 {
				if err := c.tell(appendFrame(nil, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(untold)))); err != nil {
					return err
				}
				untold = 0
			}
		}
		if h.ended() || h.kind == http2.FrameRSTStream && http2.ErrCode(binary.BigEndian.Uint32(payload)) == http2.ErrCodeRefusedStream {
			c.count(h.stream, answered[h.stream])
			delete(answered, h.stream)
		}
	}
}

func (c *client) count(stream uint32, good bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.counting:
	case good:
		c.good++
	default:
		c.refused++
		c.refusals = append(c.refusals, time.Since(c.due[stream/2]))
	}
}

// open appends the frames of a call on the next stream to b.
func (c *client) open(b []byte, due time.Time, fields, body []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	stream := uint32(2*len(c.due) + 1)
	c.due = append(c.due, due)
	b = appendFrame(b, http2.FrameHeaders, http2.FlagHeadersEndHeaders, stream, fields)
	return appendFrame(b, http2.FrameData, http2.FlagDataEndStream, stream, body)
}

// setCounting sets whether calls are counted.
func setCounting(clients []*client, on bool) {
	for _, c := range clients {
		c.mu.Lock()
		c.counting = on
		c.mu.Unlock()
	}
}

// hold makes calls at a rate for step, on new connections, and counts those that end after settle. What a connection does not take
// until then is not sent.
func hold(addr string, perSecond float64) (result, error) {
	fields := block(":method", "POST", ":scheme", "http", ":path", "/overload.Echo/Unary", ":authority", "x", "content-type", "application/grpc", "te", "trailers")
	body := message()
	begun := time.Now()
	var clients []*client
	var readers sync.WaitGroup
	failed := make(chan error, connections)
	defer readers.Wait()
	for range connections {
		c, err := dial(addr, begun.Add(step))
		if err != nil {
			return result{}, err
		}
		defer c.nc.Close()
		clients = append(clients, c)
		readers.Go(func() {
			if err := c.read(); err != nil {
				failed <- err
			}
		})
	}
	var sent, settled atomic.Int64
	timer := time.AfterFunc(time.Until(begun.Add(settle)), func() {
		settled.Store(sent.Load())
		setCounting(clients, true)
	})
	defer timer.Stop()
	for turn := 0; ; turn++ {
		now := time.Since(begun)
		if now >= step {
			break
		}
		due := int64(now.Seconds() * perSecond)
		if float64(due-sent.Load()) < perSecond/2000 { // write the calls of some half a millisecond at a time
			time.Sleep(200 * time.Microsecond) // paces the load
			continue
		}
		c := clients[turn%connections]
		var b []byte
		n := sent.Load()
		for ; n < due && len(b) < 60<<10; n++ {
			b = c.open(b, begun.Add(time.Duration(float64(n)/perSecond*float64(time.Second))), fields, body)
		}
		if err := c.write(b); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			return result{}, err
		}
		sent.Store(n)
		select {
		case err := <-failed:
			return result{}, err
		default:
		}
	}
	setCounting(clients, false)
	took := (step - settle).Seconds()
	r := result{due: perSecond, sent: float64(sent.Load()-settled.Load()) / took}
	for _, c := range clients {
		c.mu.Lock()
		r.good += float64(c.good) / took
		r.refused += float64(c.refused) / took
		r.refusals = append(r.refusals, c.refusals...)
		c.mu.Unlock()
	}
	slices.Sort(r.refusals)
	return r, nil
}
