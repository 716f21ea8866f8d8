package mirror

import "github.com/framegate/framegate/handler/frame"

// assembly makes whole messages of a stream of frames: a frame.Parts.
type assembly struct {
	maxBytes int64               // of a message; a longer one is missed
	done     func(frame.Message) // is given each message
	missed   func()              // is called for each message that is too long

	message frame.Message // the current one; without a Payload if it is missed
}

// Begin implements frame.Parts.
func (a *assembly) Begin(flag byte, length int64) {
	a.message = frame.Message{Flag: flag}
	if length > a.maxBytes {
		a.missed()
		return
	}
	a.message.Payload = make([]byte, 0, length)
}

// Part implements frame.Parts.
func (a *assembly) Part(p []byte) {
	if a.message.Payload != nil {
		a.message.Payload = append(a.message.Payload, p...)
	}
}

// End implements frame.Parts.
func (a *assembly) End() {
	m := a.message
	if a.message = (frame.Message{}); m.Payload != nil {
		a.done(m)
	}
}
