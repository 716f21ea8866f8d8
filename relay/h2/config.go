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

	// MinPing is how far apart a client's PINGs are to be; 0 for no such rule. The third one that comes sooner than that after the
	// one before, while neither HEADERS nor DATA were sent in between, ends the connection with "too_many_pings" (gRFC A8), at which
	// a client of gRPC doubles its interval. It is for servers.
	MinPing time.Duration

	// RefusedStreams is how many streams over MaxConcurrentStreams a client may open, as in Limits. It is for servers.
	RefusedStreams Rate

	Limits Limits
}

// WithDefaults returns c with the defaults of the fields that are zero.
func (c Config) WithDefaults() Config {
	def(&c.MaxConcurrentStreams, 1000)
	def(&c.StreamWindow, 256<<10)
	def(&c.ConnWindow, max(4<<20, c.StreamWindow))
	def(&c.MaxHeaderList, 64<<10)
	def(&c.HeaderTable, 4096)
	def(&c.SendLimit, 256<<10)
	c.RefusedStreams.withDefaults(c.streams())
	c.Limits = c.Limits.withDefaults(&c)
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
