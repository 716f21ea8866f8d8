package fanout

import "github.com/framegate/framegate/handler/frame"

// outbox has the messages for the client that have not been read whole.
type outbox struct {
	waiting []*outgoing
	read    int // bytes of the first one that were read, prefix included
}

// outgoing is a message for the client.
type outgoing struct {
	frame.Message
	prefix [frame.PrefixLen]byte
}

func (b *outbox) add(m frame.Message) *outgoing {
	o := &outgoing{m, frame.PrefixOf(m)}
	b.waiting = append(b.waiting, o)
	return o
}

func (b *outbox) any() bool { return len(b.waiting) > 0 }

// has reports whether o has not been read whole.
func (b *outbox) has(o *outgoing) bool {
	for _, one := range b.waiting {
		if one == o {
			return true
		}
	}
	return false
}

// take copies bytes of the first message into p, and drops the message when it was read whole.
func (b *outbox) take(p []byte) (n int, whole bool) {
	first := b.waiting[0]
	if b.read < frame.PrefixLen {
		n = copy(p, first.prefix[b.read:])
		b.read += n
	}
	if b.read >= frame.PrefixLen {
		k := copy(p[n:], first.Payload[b.read-frame.PrefixLen:])
		b.read += k
		n += k
	}
	if whole = b.read == first.Len(); whole {
		b.waiting[0] = nil
		b.waiting, b.read = b.waiting[1:], 0
	}
	return n, whole
}

func (b *outbox) drop() { b.waiting = nil }
