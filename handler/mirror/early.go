package mirror

import "github.com/framegate/framegate/handler/frame"

// early has the messages of a request that come before the metadata of its call is known.
type early struct {
	known    bool
	messages []frame.Message
}

// take keeps a message that comes too early, as long as the mirror's queue would have room, and reports whether it came too early.
func (e *early) take(m frame.Message, of *Mirror) bool {
	if e.known {
		return false
	}
	if len(e.messages) < of.doc.Queue.MaxMessages() {
		e.messages = append(e.messages, m)
	} else {
		of.drop(DroppedFull)
	}
	return true
}

// end says that the metadata is known, and returns what was kept.
func (e *early) end() []frame.Message {
	kept := e.messages
	e.known, e.messages = true, nil
	return kept
}
