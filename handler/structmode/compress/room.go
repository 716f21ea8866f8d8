package compress

// Room counts the memory of a message before it is allocated, so that the memory of all messages together can be bounded. It
// is called by one goroutine at a time.
type Room interface {
	Take(n int64) error // takes n bytes, and may block until they are free; the error says why the message cannot have them
	Give(n int64)       // gives back n bytes
	Err() error         // not nil if the message is no longer wanted; called about every 128 KiB when decoding, every 1 MiB when encoding
}

// Within returns a codec that takes its memory from room. An error of room ends decoding or encoding, and is returned
// wrapped. When Decompress or Compress returns, the capacity of what it allocated for its result stays taken; all else is
// given back.
func (c Codec) Within(room Room) Codec {
	c.room = room
	return c
}

// endless is the Room of a codec without one: it has no bound.
type endless struct{}

func (endless) Take(int64) error { return nil }
func (endless) Give(int64)       {}
func (endless) Err() error       { return nil }
