package fanout

import "github.com/framegate/framegate/handler/frame"

// outbox has the messages for the client that have not been read whole.
type outbox struct {
	waiting []*outgoing
	cursor  frame.Cursor // in the first one
}

// outgoing is a message for the client.
type outgoing struct {
	frame.Message
	gone bool // it was read whole
}

func (b *outbox) add(m frame.Message) *outgoing {
	o := &outgoing{Message: m}
	b.waiting = append(b.waiting, o)
	return o
}

func (b *outbox) any() bool { return len(b.waiting) > 0 }

// take copies bytes of the first message into p, and drops the message when it was read whole.
func (b *outbox) take(p []byte) (n int, whole bool) {
	first := b.waiting[0]
	if n, whole = b.cursor.Read(p, first.Message); whole {
		first.gone = true
		b.waiting[0] = nil
		b.waiting = b.waiting[1:]
	}
	return n, whole
}

func (b *outbox) drop() { b.waiting = nil }
