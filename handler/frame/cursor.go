package frame

// Cursor reads messages as the bytes of a stream of frames. The zero Cursor stands at the beginning of a message.
type Cursor struct {
	read int // bytes of the current message that were read, prefix included
}

// AtStart reports whether nothing of the current message was read.
func (c *Cursor) AtStart() bool { return c.read == 0 }

// Read copies what was not read of m, the current message, into p as far as p has room, and returns how many bytes that were. If that is
// the rest of m, it reports whole, and the Cursor stands at the beginning of the next message.
func (c *Cursor) Read(p []byte, m Message) (n int, whole bool) {
	if c.read < PrefixLen {
		prefix := PrefixOf(m)
		n = copy(p, prefix[c.read:])
		c.read += n
	}
	if c.read >= PrefixLen {
		k := copy(p[n:], m.Payload[c.read-PrefixLen:])
		c.read += k
		n += k
	}
	if whole = c.read == m.Len(); whole {
		c.read = 0
	}
	return n, whole
}
