package h2

import "time"

// Config is what one end of a connection announces and allows. Its zero values mean the defaults of WithDefaults.
type Config struct {
	MaxConcurrentStreams uint32 // that the peer may have open, enforced with REFUSED_STREAM; servers only
	StreamWindow         uint32 // flow-control window of each stream, in bytes: 65,535 to 2^31-1
	ConnWindow           uint32 // flow-control window of the connection, in bytes, at least StreamWindow
	MaxHeaderList        uint32 // of one header block, in bytes as RFC 9113 §6.5.2 counts them. A longer one costs its stream only
	HeaderTable          uint32 // bytes of the HPACK table that the peer may use

	// SendLimit is how many bytes of frames may wait for the socket before further DATA stays in the streams' queues.
	SendLimit int

	Limits Limits
}

// Limits bound what a peer may do. They are far from what an honest peer of gRPC does.
type Limits struct {
	Handshake   time.Duration // until preface and SETTINGS have come, and until the peer has acknowledged ours
	HeaderBlock time.Duration // from the beginning of a header block to its end

	// A control frame (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA, one of an unknown type, one for a stream
	// that has ended) costs one of a connection's budget. HEADERS and DATA in either direction, and time, add to the budget.
	ControlBurst  int // control frames at the start, and the most that a connection can save up is ten times that
	ControlPerSec int // control frames a second

	// MinPing is how far apart a client's PINGs are to be; 0 for no such rule. The third one that comes sooner than that after the
	// one before, while neither HEADERS nor DATA were sent in between, ends the connection with "too_many_pings" (gRFC A8), at which
	// a client of gRPC doubles its interval. It is for servers.
	MinPing time.Duration

	// A stream that the peer resets within RapidReset of its opening, or that an error of the peer's ends, costs two of a
	// connection's budget, and each stream that is opened adds one. When the budget is used up, the peer gets
	// MaxConcurrentStreams a second.
	RapidReset time.Duration
	ResetBurst int

	BlockBytes  int // of one header block as it is sent, which is read to its end although it is over MaxHeaderList, because the HPACK table must stay in step with the peer's
	BlockFrames int // of one header block
	MaxUnsent   int // bytes of control frames and headers that wait for a peer that does not read, see Conn.Unsent
}

// WithDefaults returns c with the defaults of the fields that are zero.
func (c Config) WithDefaults() Config {
	def(&c.MaxConcurrentStreams, 1000)
	def(&c.StreamWindow, 256<<10)
	def(&c.ConnWindow, max(4<<20, c.StreamWindow))
	def(&c.MaxHeaderList, 64<<10)
	def(&c.HeaderTable, 4096)
	def(&c.SendLimit, 256<<10)
	l := &c.Limits
	def(&l.Handshake, 10*time.Second)
	def(&l.HeaderBlock, 10*time.Second)
	def(&l.ControlBurst, 1000)
	def(&l.ControlPerSec, 200)
	def(&l.RapidReset, 10*time.Millisecond)
	def(&l.ResetBurst, int(min(c.MaxConcurrentStreams, 1<<20))+100)
	def(&l.BlockBytes, int(min(4*uint64(c.MaxHeaderList), 1<<30)))
	def(&l.BlockFrames, 4+l.BlockBytes/1024)
	def(&l.MaxUnsent, 1<<20)
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
