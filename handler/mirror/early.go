package mirror

import "github.com/framegate/framegate/handler/frame"

// early has the messages of a request that come before the metadata of its call is known.
type early struct {
	known    bool
	messages []frame.Message
	held     held
}

// take keeps a message that comes too early, and reports whether it came too early, and why it is left out, if it is.
func (e *early) take(m frame.Message, of *Mirror) (came bool, why Dropped) {
	if e.known {
		return false, ""
	}
	if why = e.held.take(of, m); why == "" {
		e.messages = append(e.messages, m)
	}
	return true, why
}

// end says that the metadata is known, or that the call ends before it is, and returns what was kept.
func (e *early) end(of *Mirror) []frame.Message {
	kept := e.messages
	e.known, e.messages = true, nil
	e.held.end(of)
	return kept
}
