package h2

import (
	"strconv"

	"golang.org/x/net/http2"
)

// events are what all nodes of a world do alike.
type events struct{ w *world }

func (e events) Opened() *Stream {
	e.w.fail("a client was asked for a stream")
	return nil
}
func (e events) Sent(*Stream, []byte)            { /* only the relay asks */ }
func (e events) Refused()                        { e.w.fail("a stream was refused") }
func (e events) SettingsChanged()                { /* nobody asks */ }
func (e events) GoingAway(http2.ErrCode, string) { e.w.fail("GOAWAY") }
func (e events) Pong()                           { e.w.fail("PING ACK") }
func (e events) Wake()                           { /* all are looked at all the time */ }
func callOf(s *Stream) *journey                  { j, _ := s.Owner.(*journey); return j }
func (e events) byPath(h *Head) *journey         { i, _ := strconv.Atoi(h.Path.Value[1:]); return e.w.calls[i] }

// originEvents are the client's.
type originEvents struct{ events }

func (e *originEvents) Head(s *Stream, h *Head) {
	j := callOf(s)
	if h.Trailer {
		j.end("origin", &j.down, true)
		return
	}
	if j.headed {
		e.w.fail("call %d: a second answer", j.key)
	}
	j.headed = true
	if h.End {
		j.end("origin", &j.down, false)
	}
}
func (e *originEvents) Data(s *Stream, p []byte, end bool) {
	j := callOf(s)
	j.arrive("origin", &j.down, p, end)
}
func (e *originEvents) Done(s *Stream)            { callOf(s).closed(0, false) }
func (e *originEvents) Reset(s *Stream, _ *Reset) { callOf(s).closed(0, true) }

// frontEvents are those of the relay's server. They do what a relay does.
type frontEvents struct{ events }

func (e *frontEvents) Opened() *Stream { return &Stream{} }

func (e *frontEvents) Head(s *Stream, h *Head) {
	if h.Trailer {
		if j := callOf(s); j.keeps() {
			j.kept.trailers = append([]*field{}, h.Fields...)
		} else {
			j.c.WriteTrailers(h.Fields)
		}
		return
	}
	j := e.byPath(h)
	s.Owner, j.b, j.c = j, s, &Stream{Owner: j}
	e.w.back.conn.Open(j.c, h.Fields, h.End)
}

func (e *frontEvents) Data(s *Stream, p []byte, end bool) {
	if j := callOf(s); j.keeps() {
		j.kept.data.Add(e.w.front.memory, p)
		j.kept.end = end
	} else {
		s.Consumed(j.c.WriteData(p, end))
	}
}
func (e *frontEvents) Sent(s *Stream, p []byte) { callOf(s).c.Consumed(len(p)) }
func (e *frontEvents) Done(s *Stream)           { callOf(s).closed(1, false) }

func (e *frontEvents) Reset(s *Stream, _ *Reset) {
	j := callOf(s)
	j.closed(1, true)
	j.resetBy(2, j.c)
}

// backEvents are those of the relay's client.
type backEvents struct{ events }

func (e *backEvents) Head(s *Stream, h *Head) {
	if h.Trailer {
		callOf(s).b.WriteTrailers(h.Fields)
		return
	}
	callOf(s).b.WriteHeaders(h.Fields, h.End)
}

func (e *backEvents) Data(s *Stream, p []byte, end bool) {
	s.Consumed(callOf(s).b.WriteData(p, end))
}
func (e *backEvents) Sent(s *Stream, p []byte) { callOf(s).b.Consumed(len(p)) }
func (e *backEvents) Done(s *Stream)           { callOf(s).closed(2, false) }

func (e *backEvents) Reset(s *Stream, _ *Reset) {
	j := callOf(s)
	j.closed(2, true)
	j.resetBy(1, j.b)
}

// targetEvents are the server's.
type targetEvents struct{ events }

func (e *targetEvents) Opened() *Stream { return &Stream{} }

func (e *targetEvents) Head(s *Stream, h *Head) {
	if h.Trailer {
		j := callOf(s)
		j.end("target", &j.up, true)
		return
	}
	j := e.byPath(h)
	s.Owner, j.d = j, s
	if h.End {
		j.end("target", &j.up, false)
	}
}
func (e *targetEvents) Data(s *Stream, p []byte, end bool) {
	j := callOf(s)
	j.arrive("target", &j.up, p, end)
}
func (e *targetEvents) Done(s *Stream)            { callOf(s).closed(3, false) }
func (e *targetEvents) Reset(s *Stream, _ *Reset) { callOf(s).closed(3, true) }

// kept is what the relay's server holds of a request, as for a reader of its own.
type kept struct {
	data     Pending
	end      bool     // END_STREAM is behind it
	trailers []*field // trailers are behind it; nil for none
}

// clear drops all, and returns how many bytes that were.
func (k *kept) clear(m *Memory) int {
	k.end, k.trailers = false, nil
	return k.data.Clear(m)
}

// keeps reports whether the relay keeps what comes of the request, until forward is called.
func (j *journey) keeps() bool { return j.key%3 == 1 && j.c.IsOpen() }

// forward moves up to n bytes of what is kept to the target, and the end if that is all.
func (j *journey) forward(n int) (moved int) {
	k := &j.kept
	p := make([]byte, min(n, k.data.Len()))
	k.data.Read(j.w.front.memory, p)
	last := k.data.Len() == 0
	switch {
	case last && k.trailers != nil:
		j.b.Consumed(j.c.WriteData(p, false))
		j.c.WriteTrailers(k.trailers)
	case last && k.end || len(p) > 0:
		j.b.Consumed(j.c.WriteData(p, last && k.end))
	default:
		return 0
	}
	if last {
		k.clear(j.w.front.memory)
	}
	return len(p) + 1
}

// cutShort ends the answer with a status of the relay's own, as at a deadline.
func (j *journey) cutShort() {
	if j.b == nil || !j.b.IsOpen() || j.b.Ended() {
		return
	}
	j.cut, j.reset = true, true
	j.b.Consumed(j.kept.clear(j.w.front.memory) + j.c.Queued())
	j.resetBy(2, j.c)
	if j.b.Answered() {
		j.b.CutQueue(j.w.choice.upTo(j.b.Queued() + 1))
		j.b.WriteTrailers(fieldList("grpc-status=4"))
	} else {
		j.b.WriteHeaders([]*field{fieldOK}, true)
	}
}
