package h2

import (
	"bytes"
	"fmt"

	"golang.org/x/net/http2"
)

// ledger knows what one end of a connection may send, from the bytes that go in and come out alone, which it reads with
// golang.org/x/net/http2. A change of SETTINGS_INITIAL_WINDOW_SIZE counts from its acknowledgement on.
type ledger struct {
	in, out   wire
	client    bool
	late      bool // the peer sends frames of streams after it has reset them, each of which is answered with RST_STREAM
	initial   int64
	pending   []int64 // initial windows whose SETTINGS have come, but are not acknowledged
	conn      int64
	streams   map[uint32]*account
	maxStream int64 // the most that a window may be: what the other end announces
	maxConn   int64
}

// account is one stream in the ledger.
type account struct {
	window       int64
	ended, reset bool
}

func newLedger(client bool, other *Config) *ledger {
	l := &ledger{client: client, initial: 65535, conn: 65535, streams: map[uint32]*account{}, maxStream: int64(other.StreamWindow), maxConn: int64(other.ConnWindow)}
	l.in.init()
	l.out.init()
	if client {
		l.out.skip = len(http2.ClientPreface)
	} else {
		l.in.skip = len(http2.ClientPreface)
	}
	return l
}

// wire makes frames of bytes that come in pieces.
type wire struct {
	skip    int
	partial []byte
	whole   bytes.Buffer
	framer  *http2.Framer
}

func (w *wire) init() {
	w.framer = http2.NewFramer(nil, &w.whole)
	w.framer.SetMaxReadFrameSize(maxFrameLen)
	w.framer.SetReuseFrames()
}

func (w *wire) each(b []byte, do func(f http2.Frame) error) error {
	n := min(w.skip, len(b))
	w.skip -= n
	w.partial = append(w.partial, b[n:]...)
	p := w.partial
	for len(p) >= frameHeaderLen && len(p) >= frameHeaderLen+payloadLen(p) {
		n := frameHeaderLen + payloadLen(p)
		w.whole.Write(p[:n])
		f, err := w.framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := do(f); err != nil {
			return err
		}
		p = p[n:]
	}
	w.partial = w.partial[:copy(w.partial, p)]
	return nil
}

// received takes bytes that have gone in.
func (l *ledger) received(b []byte) error {
	return l.in.each(b, func(f http2.Frame) error {
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
				l.pending = append(l.pending, int64(v))
			} else if !f.IsAck() {
				l.pending = append(l.pending, -1)
			}
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				if l.conn += int64(f.Increment); l.conn > l.maxConn {
					return fmt.Errorf("the connection's window is %d, over %d", l.conn, l.maxConn)
				}
			} else if a := l.streams[f.StreamID]; a != nil {
				if a.window += int64(f.Increment); a.window > l.maxStream {
					return fmt.Errorf("the window of stream %d is %d, over %d", f.StreamID, a.window, l.maxStream)
				}
			}
		case *http2.HeadersFrame:
			l.open(f.StreamID)
		}
		return nil
	})
}

func (l *ledger) open(id uint32) *account {
	a := l.streams[id]
	if a == nil {
		a = &account{window: l.initial}
		l.streams[id] = a
	}
	return a
}

// sent takes bytes that have come out.
func (l *ledger) sent(b []byte) error {
	return l.out.each(b, func(f http2.Frame) error {
		h := f.Header()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				l.acknowledge()
			}
		case *http2.DataFrame:
			a := l.streams[h.StreamID]
			if a == nil || a.ended || a.reset {
				return fmt.Errorf("DATA on stream %d, which is not open", h.StreamID)
			}
			a.window -= int64(h.Length)
			l.conn -= int64(h.Length)
			if h.Length > 0 && (a.window < 0 || l.conn < 0) {
				return fmt.Errorf("DATA of %d bytes on stream %d leaves the windows at %d and, of the connection, %d", h.Length, h.StreamID, a.window, l.conn)
			}
			a.ended = f.StreamEnded()
		case *http2.HeadersFrame:
			if !l.client && l.streams[h.StreamID] == nil {
				return fmt.Errorf("HEADERS on stream %d, which was not opened", h.StreamID)
			}
			a := l.open(h.StreamID)
			if a.ended || a.reset {
				return fmt.Errorf("HEADERS on stream %d, which is not open", h.StreamID)
			}
			a.ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			a := l.streams[h.StreamID]
			if a == nil || a.reset && !l.late {
				return fmt.Errorf("RST_STREAM on stream %d, which was not opened, or was reset", h.StreamID)
			}
			a.reset = true
		}
		return nil
	})
}

// acknowledge applies the oldest SETTINGS.
func (l *ledger) acknowledge() {
	v := l.pending[0]
	l.pending = l.pending[1:]
	if v < 0 {
		return
	}
	for _, a := range l.streams {
		a.window += v - l.initial
	}
	l.initial = v
}
