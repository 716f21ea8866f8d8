package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/net/http2"
)

// serve reads frames until the connection ends.
func (c *H2Conn) serve() {
	defer close(c.done)
	defer c.nc.Close()
	err := c.readFrames()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("%w: %w", errConnOver, err)
	for _, s := range c.streams {
		s.addLocked(Event{Kind: GotLost, Err: c.err})
	}
	c.changedLocked()
}

// readFrames returns the error of reading: what a peer says before it closes the connection counts even when it takes nothing any
// more.
func (c *H2Conn) readFrames() error {
	for {
		f, err := c.framer.ReadFrame()
		var streamErr http2.StreamError
		if errors.As(err, &streamErr) {
			c.event(streamErr.StreamID, Event{Kind: GotInvalid, Err: fmt.Errorf("%w: %w", err, c.framer.ErrorDetail())})
			continue
		}
		if err != nil {
			return err
		}
		_ = c.handle(f)
	}
}

func (c *H2Conn) handle(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		c.handleHeaders(f)
	case *http2.DataFrame:
		return c.handleData(f)
	case *http2.RSTStreamFrame:
		c.event(f.StreamID, Event{Kind: GotReset, Code: f.ErrCode})
	case *http2.SettingsFrame:
		return c.handleSettings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.Write(func(fr *http2.Framer) error { return fr.WritePing(true, f.Data) })
		}
	case *http2.WindowUpdateFrame:
		c.handleWindowUpdate(f)
	case *http2.GoAwayFrame:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.goAway = &GoAway{LastStreamID: f.LastStreamID, Code: f.ErrCode, Debug: string(f.DebugData())}
		c.changedLocked()
	}
	return nil
}

func (c *H2Conn) handleHeaders(f *http2.MetaHeadersFrame) {
	c.mu.Lock()
	s := c.streams[f.StreamID]
	c.mu.Unlock()
	isNew := s == nil
	if isNew {
		if c.accepted == nil {
			return
		}
		s = c.addStream(f.StreamID)
	}
	c.event(f.StreamID, Event{Kind: GotHeaders, Fields: slices.Clone(f.Fields), End: f.StreamEnded()})
	if isNew {
		c.accepted(s)
	}
}

func (c *H2Conn) handleData(f *http2.DataFrame) error {
	e := Event{Kind: GotData, End: f.StreamEnded()}
	if c.opts.onData != nil {
		c.opts.onData(f.Data())
	} else {
		e.Data = bytes.Clone(f.Data())
	}
	streamCredit := c.addData(f.StreamID, len(f.Data()), int(f.Length), e)
	c.unreturned += int(f.Length)
	if c.opts.holdWindows {
		return nil
	}
	return c.Write(func(fr *http2.Framer) error {
		if streamCredit > 0 {
			if err := fr.WriteWindowUpdate(f.StreamID, uint32(streamCredit)); err != nil {
				return err
			}
		}
		if c.unreturned < creditStep {
			return nil
		}
		n := c.unreturned
		c.unreturned = 0
		return fr.WriteWindowUpdate(0, uint32(n))
	})
}

// addData records a DATA frame and returns the increment of the stream's WINDOW_UPDATE to send now; 0 means none. size is the
// length of the data, frame that with padding.
func (c *H2Conn) addData(id uint32, size, frame int, e Event) (credit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s == nil {
		return 0
	}
	s.received += size
	s.unreturned += frame
	if e.Data != nil || e.End {
		s.addLocked(e)
	}
	c.changedLocked()
	if s.unreturned < creditStep || e.End {
		return 0
	}
	credit, s.unreturned = s.unreturned, 0
	return credit
}

func (c *H2Conn) handleSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
		c.mu.Lock()
		for _, s := range c.streams {
			s.sendWindow += int64(v) - c.initialWindow
		}
		c.initialWindow = int64(v)
		c.changedLocked()
		c.mu.Unlock()
	}
	return c.Write(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
}

func (c *H2Conn) handleWindowUpdate(f *http2.WindowUpdateFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		c.sendWindow += int64(f.Increment)
	} else if s := c.streams[f.StreamID]; s != nil {
		s.sendWindow += int64(f.Increment)
	}
	c.changedLocked()
}

func (c *H2Conn) event(id uint32, e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		s.addLocked(e)
		c.changedLocked()
	}
}
