package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// peer is the other end of a Conn: it gives it raw frames, and reads what comes out with golang.org/x/net/http2.
type peer struct {
	t      testing.TB
	conn   *Conn
	events *recorder
	memory *Memory
	now    time.Duration

	wire   bytes.Buffer // what the Conn has sent
	framer *http2.Framer
}

func newPeer(t testing.TB, cfg Config, client bool) *peer {
	p := &peer{t: t, events: &recorder{streams: map[uint32]*Stream{}}, memory: NewMemory(NewBudget(64 << 20))}
	cfg = cfg.WithDefaults()
	fields := hpack.NewInterner(1024, 512)
	if client {
		p.conn = NewClient(&cfg, p.events, p.memory, fields, 0)
		p.conn.Wrote(len(http2.ClientPreface))
	} else {
		p.conn = NewServer(&cfg, p.events, p.memory, fields, 0)
	}
	p.events.conn = p.conn
	p.framer = http2.NewFramer(nil, &p.wire)
	p.framer.SetMaxReadFrameSize(maxFrameLen)
	p.framer.ReadMetaHeaders = xhpack.NewDecoder(4096, nil)
	p.framer.MaxHeaderListSize = 1 << 20
	return p
}

// newServerPeer returns the client of a server's Conn, with the handshake done.
func newServerPeer(t testing.TB, cfg Config) *peer {
	p := newPeer(t, cfg, false)
	p.send([]byte(http2.ClientPreface), settings(), settingsAck())
	p.settled()
	return p
}

// newClientPeer returns the server of a client's Conn, with the handshake done.
func newClientPeer(t testing.TB, cfg Config) *peer {
	p := newPeer(t, cfg, true)
	p.send(settings(), settingsAck())
	p.settled()
	return p
}

func (p *peer) settled() {
	p.output()
	require.True(p.t, p.conn.Settled())
	require.Nil(p.t, p.conn.Failure())
	require.Equal(p.t, []string{"settings"}, p.events.take())
}

// send gives the Conn bytes.
func (p *peer) send(parts ...[]byte) {
	b := append([]byte(nil), p.conn.Partial()...)
	for _, part := range parts {
		b = append(b, part...)
	}
	p.conn.Receive(b, int64(p.now))
}

// output takes everything that the Conn wants to send, and describes the frames.
func (p *peer) output() (frames []string) {
	p.conn.Flushed()
	for len(p.conn.Output()) > 0 {
		p.wire.Write(p.conn.Output())
		p.conn.Wrote(len(p.conn.Output()))
	}
	for {
		f, err := p.framer.ReadFrame()
		if errors.Is(err, io.EOF) {
			return frames
		}
		require.NoError(p.t, err)
		frames = append(frames, describe(f))
	}
}

// describe describes a frame in a line.
func describe(f http2.Frame) string {
	switch f := f.(type) {
	case *http2.DataFrame:
		text := fmt.Sprintf("%q", f.Data())
		if len(f.Data()) > 32 {
			text = fmt.Sprint(len(f.Data()))
		}
		return fmt.Sprintf("DATA %d %s%s", f.StreamID, text, endOf(f.StreamEnded()))
	case *http2.MetaHeadersFrame:
		var b strings.Builder
		fmt.Fprintf(&b, "HEADERS %d", f.StreamID)
		for _, h := range f.Fields {
			fmt.Fprintf(&b, " %s=%s", h.Name, h.Value)
		}
		return b.String() + endOf(f.StreamEnded())
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %s", f.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %s %s", f.LastStreamID, f.ErrCode, f.DebugData())
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW_UPDATE %d %d", f.StreamID, f.Increment)
	case *http2.PingFrame:
		return fmt.Sprintf("PING %q%s", f.Data[:], ackOf(f.IsAck()))
	case *http2.SettingsFrame:
		return "SETTINGS" + ackOf(f.IsAck())
	}
	return f.Header().String()
}

func endOf(end bool) string {
	if end {
		return " END"
	}
	return ""
}

func ackOf(ack bool) string {
	if ack {
		return " ACK"
	}
	return ""
}

// recorder is the owner of a Conn's streams. It notes what it is told, and does what the path of a request says:
//
//	/answer   answers with END_STREAM at the headers
//	/reset    resets the stream at the headers
//	/consume  gives credit for all DATA at once
type recorder struct {
	conn    *Conn
	log     []string
	deaf    bool               // nothing is noted
	streams map[uint32]*Stream // that are open

	onHead func(s *Stream, h *Head)
	onData func(s *Stream, p []byte, end bool)
	onDone func(s *Stream)
}

var fieldOK = hpack.NewField(":status", "200", false)

// take returns what was noted since the last take.
func (r *recorder) take() []string {
	log := r.log
	r.log = nil
	return log
}

func (r *recorder) note(format string, args ...any) {
	if !r.deaf {
		r.log = append(r.log, fmt.Sprintf(format, args...))
	}
}

func (r *recorder) Opened() *Stream { return &Stream{Owner: new(plan)} }

// plan is what a stream's path says.
type plan struct{ consume bool }

func (r *recorder) Head(s *Stream, h *Head) {
	r.streams[s.ID()] = s
	switch {
	case h == nil:
		r.note("head %d too large", s.ID())
	case h.Problem != "":
		r.note("malformed %d%s", s.ID(), endOf(h.End))
	case h.Trailer:
		r.note("trailers %d%s", s.ID(), endOf(h.End))
	case h.Status != 0:
		r.note("head %d %d%s", s.ID(), h.Status, endOf(h.End))
	default:
		r.note("head %d%s", s.ID(), endOf(h.End))
	}
	if r.onHead != nil {
		r.onHead(s, h)
	}
	if h == nil || h.Path == nil {
		return
	}
	switch h.Path.Value {
	case "/answer":
		s.WriteHeaders([]*hpack.Field{fieldOK}, true)
	case "/reset":
		delete(r.streams, s.ID())
		s.Reset(http2.ErrCodeCancel)
	case "/consume":
		s.Owner.(*plan).consume = true
	}
}

func (r *recorder) Data(s *Stream, p []byte, end bool) {
	if len(p) > 32 {
		r.note("data %d %d%s", s.ID(), len(p), endOf(end))
	} else {
		r.note("data %d %q%s", s.ID(), p, endOf(end))
	}
	if r.onData != nil {
		r.onData(s, p, end)
	}
	if pl, ok := s.Owner.(*plan); ok && pl.consume {
		s.Consumed(len(p))
	}
}

func (r *recorder) Sent(s *Stream, p []byte) { r.note("sent %d %d", s.ID(), len(p)) }

func (r *recorder) Done(s *Stream) {
	delete(r.streams, s.ID())
	r.note("done %d", s.ID())
	if r.onDone != nil {
		r.onDone(s)
	}
}

func (r *recorder) Reset(s *Stream, why *Reset) {
	delete(r.streams, s.ID())
	text := fmt.Sprintf("reset %d %s", s.ID(), why.Code)
	if why.Peer {
		text += " peer"
	}
	if why.Unprocessed {
		text += " unprocessed"
	}
	if why.Conn != nil {
		text += " conn"
	}
	r.note("%s", text)
}

func (r *recorder) Refused() {}

func (r *recorder) SettingsChanged() { r.note("settings") }

func (r *recorder) GoingAway(code http2.ErrCode, debug string) { r.note("goaway %s %q", code, debug) }

func (r *recorder) Pong() { r.note("pong") }

func (r *recorder) Wake() {}
