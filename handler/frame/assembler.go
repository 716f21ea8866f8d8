package frame

// Assembler puts together the messages of a stream of frames, which may come in pieces of any lengths. One that has only To stands at the
// beginning of a stream. As Splitter, it checks nothing.
type Assembler struct {
	To Messages // set once

	split   Splitter
	message Message // the current one; without a Payload if it is skipped
}

// Messages is told of the messages that an Assembler finds.
type Messages interface {
	// Wants is called when a message begins, with the length of its payload. If it reports false, the message is skipped.
	Wants(length int64) bool
	// Message is called with each message that is not skipped, in memory of its own, when it is complete. It has a Payload, if an
	// empty one.
	Message(m Message)
}

// Add adds p to the stream.
func (a *Assembler) Add(p []byte) { a.split.Split(p, (*assembling)(a)) }

// announcedBytes is for how much of a message there is memory before it has come: a peer may announce any length.
const announcedBytes = 16 << 10

// assembling is an Assembler as Parts, which its users do not see.
type assembling Assembler

// Begin implements Parts.
func (a *assembling) Begin(flag byte, length int64) {
	a.message = Message{Flag: flag}
	if a.To.Wants(length) {
		a.message.Payload = make([]byte, 0, min(length, announcedBytes))
	}
}

// Part implements Parts.
func (a *assembling) Part(p []byte) {
	if a.message.Payload != nil {
		a.message.Payload = append(a.message.Payload, p...)
	}
}

// End implements Parts.
func (a *assembling) End() {
	m := a.message
	if a.message = (Message{}); m.Payload != nil {
		a.To.Message(m)
	}
}
