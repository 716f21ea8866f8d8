package pool

import (
	"context"

	"github.com/framegate/framegate/pool/transport"
)

// Slot is the place of one stream on a connection. It has one holder, who opens a stream in it with Open, opens one by other
// means and calls Use, or gives it back with Release.
type Slot struct{ conn *conn }

// Conn returns the slot's connection.
func (s Slot) Conn() transport.Conn { return s.conn.tr }

// Open opens a stream in the slot, whose Close gives it back. If it fails, it has given back the slot; the error is as for
// transport.Conn.Open.
func (s Slot) Open(ctx context.Context, hdr *transport.Header) (transport.Stream, error) {
	return s.conn.open(ctx, hdr)
}

// Use says that the holder has opened a stream in the slot, whose end gives the slot back with Release.
func (s Slot) Use() { s.conn.used.Add(1) }

// Release gives the slot back.
func (s Slot) Release() { s.conn.Release() }
