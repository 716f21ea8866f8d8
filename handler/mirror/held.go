package mirror

import "github.com/framegate/framegate/handler/frame"

// held counts the messages that are held of one side of a comparison: up to as much as its queue, and within Config.MaxBytes. It is used
// under a lock of its owner.
type held struct {
	messages int
	bytes    int64
}

// take counts a message, or reports false if there is no room for it.
func (h *held) take(m *Mirror, one frame.Message) bool {
	n := int64(one.Len())
	if h.messages >= m.doc.Queue.MaxMessages() || h.bytes+n > m.doc.Queue.MaxBytes() || !m.registry.Take(n) {
		return false
	}
	h.messages++
	h.bytes += n
	return true
}

// give ends the count of a message.
func (h *held) give(m *Mirror, one frame.Message) {
	h.messages--
	h.bytes -= int64(one.Len())
	m.registry.Give(int64(one.Len()))
}

// end ends the count of all messages.
func (h *held) end(m *Mirror) {
	m.registry.Give(h.bytes)
	*h = held{}
}
