package compress

// Room is asked before memory is taken for a message, so that all messages together are bounded. Its methods are called by
// one goroutine at a time.
type Room interface {
	Take(n int64) error // waits for n bytes of memory, or says why the message cannot have them
	Give(n int64)       // gives n bytes back
	Err() error         // not nil if the message is not wanted any more; asked every 128 KiB or so
}

// Within returns the codec that asks room. An error of room is returned, wrapped, and ends the message. What Decompress
// returns stays taken by its capacity, and so does what Compress appends; all else is given back.
func (c Codec) Within(room Room) Codec {
	c.room = room
	return c
}

// endless is the room of a codec that asks nobody.
type endless struct{}

func (endless) Take(int64) error { return nil }
func (endless) Give(int64)       {}
func (endless) Err() error       { return nil }
