package h2

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what a peer may do. Their defaults are far from what an honest peer of gRPC does. A field that is zero means its
// default. They are a part of the configuration; conf/framegate.yaml describes each key.
type Limits struct {
	HandshakeTimeout   time.Duration `yaml:"handshake_timeout"`   // until preface and SETTINGS have come, and until the peer has acknowledged ours
	HeaderTimeout      time.Duration `yaml:"header_timeout"`      // from the beginning of a header block to its end
	HeaderBlockBytes   int           `yaml:"header_block_bytes"`  // of one header block as it is sent, which is read to its end although it is over MaxHeaderList, because the HPACK table must stay in step with the peer's
	ContinuationFrames int           `yaml:"continuation_frames"` // of one header block

	// Streams that cost this end more than the peer. Each one costs two of what the peer may have of its kind, and each stream that
	// is opened adds one to every kind, but never to more than Burst.
	RapidResets    Resets `yaml:"rapid_resets"`    // reset by the peer at once
	ProvokedResets Rate   `yaml:"provoked_resets"` // reset by this end for an error of the peer's

	// Frames that cost the peer next to nothing. Each one costs one of what the peer may have of its kind. HEADERS and DATA in either
	// direction add to every kind, up to ten times Burst.
	Ping          Rate `yaml:"ping"`           // PING, and answers to none
	Settings      Rate `yaml:"settings"`       // SETTINGS, each setting in them, and acknowledgements
	EmptyData     Rate `yaml:"empty_data"`     // DATA without payload that does not end its stream
	WindowUpdate  Rate `yaml:"window_update"`  // WINDOW_UPDATE
	Priority      Rate `yaml:"priority"`       // PRIORITY
	UnknownFrames Rate `yaml:"unknown_frames"` // frames of an unknown type
	OtherFrames   Rate `yaml:"other_frames"`   // RST_STREAM, GOAWAY, informational answers, and frames for a stream that was reset

	UnreadBytes  int           `yaml:"unread_bytes"`  // of control frames and headers that wait for a peer that does not read, see Conn.Unsent
	WriteTimeout time.Duration `yaml:"write_timeout"` // how long a peer may take nothing of what it is sent; it is for the owner, who has the socket
}

// ClientLimits are the limits of clients.
type ClientLimits struct {
	Limits         `yaml:",inline"`
	RefusedStreams Rate `yaml:"refused_streams"` // see Config.RefusedStreams
}

// Rate is how many of a kind a peer may send.
type Rate struct {
	Burst     int `yaml:"burst"`      // at once
	PerSecond int `yaml:"per_second"` // when the burst is used up
}

// Resets is a Rate of streams that are reset by the peer.
type Resets struct {
	Within    time.Duration `yaml:"within"` // of their opening
	Burst     int           `yaml:"burst"`
	PerSecond int           `yaml:"per_second"`
}

// DefaultLimits returns the limits whose defaults do not follow from others.
func DefaultLimits() Limits {
	frames := Rate{Burst: 1000, PerSecond: 200}
	return Limits{
		HandshakeTimeout: 10 * time.Second, HeaderTimeout: 10 * time.Second, RapidResets: Resets{Within: 10 * time.Millisecond},
		Ping: frames, Settings: frames, EmptyData: frames, WindowUpdate: frames, Priority: frames, UnknownFrames: frames, OtherFrames: frames,
	}
}

// withDefaults returns l with the defaults of the fields that are zero, for a connection with that Config.
func (l Limits) withDefaults(c *Config) Limits {
	d := DefaultLimits()
	def(&l.HandshakeTimeout, d.HandshakeTimeout)
	def(&l.HeaderTimeout, d.HeaderTimeout)
	def(&l.HeaderBlockBytes, int(min(4*uint64(c.MaxHeaderList), maxLimitBytes)))
	def(&l.ContinuationFrames, 3+l.HeaderBlockBytes/1024)
	streams := c.streams()
	def(&l.RapidResets.Within, d.RapidResets.Within)
	def(&l.RapidResets.Burst, streams.Burst)
	def(&l.RapidResets.PerSecond, streams.PerSecond)
	l.ProvokedResets.withDefaults(streams)
	l.Ping.withDefaults(d.Ping)
	l.Settings.withDefaults(d.Settings)
	l.EmptyData.withDefaults(d.EmptyData)
	l.WindowUpdate.withDefaults(d.WindowUpdate)
	l.Priority.withDefaults(d.Priority)
	l.UnknownFrames.withDefaults(d.UnknownFrames)
	l.OtherFrames.withDefaults(d.OtherFrames)
	def(&l.UnreadBytes, max(1<<20, LeastUnread(c.MaxHeaderList)))
	def(&l.WriteTimeout, 3*time.Minute)
	return l
}

// streams is the default of rates of streams.
func (c *Config) streams() Rate {
	n := int(min(max(c.MaxConcurrentStreams, 1000), 1<<20))
	return Rate{Burst: n + 100, PerSecond: n}
}

func (r *Rate) withDefaults(d Rate) {
	def(&r.Burst, d.Burst)
	def(&r.PerSecond, d.PerSecond)
}

// Bounds of the limits.
const (
	minLimitTime  = time.Millisecond
	maxLimitTime  = time.Hour
	maxLimitCount = 1 << 20
	maxLimitBytes = 1 << 30
)

// LeastUnread returns the least of Limits.UnreadBytes: header lists of that length must not make a peer that is slow to read one that
// does not, nor must the control frames that it causes meanwhile.
func LeastUnread(maxHeaderList uint32) int {
	return int(min(2*uint64(max(maxHeaderList, 64<<10)), maxLimitBytes))
}

// Validate returns every mistake, each of which begins with its key. maxHeaderList is Config.MaxHeaderList.
func (l *Limits) Validate(maxHeaderList uint32) error {
	return errors.Join(l.problems(maxHeaderList)...)
}

// Validate returns every mistake, each of which begins with its key. maxHeaderList is Config.MaxHeaderList.
func (l *ClientLimits) Validate(maxHeaderList uint32) error {
	p := l.problems(maxHeaderList)
	p.rate("refused_streams", l.RefusedStreams)
	return errors.Join(p...)
}

func (l *Limits) problems(maxHeaderList uint32) (p problems) {
	p.duration("handshake_timeout", l.HandshakeTimeout)
	p.duration("header_timeout", l.HeaderTimeout)
	if n := l.HeaderBlockBytes; n != 0 && (int64(n) < int64(maxHeaderList) || n > maxLimitBytes) {
		p = append(p, fmt.Errorf("header_block_bytes: %d, want max_header_bytes (%d) to %d, or 0 (the default)", n, maxHeaderList, maxLimitBytes))
	}
	p.number("continuation_frames", l.ContinuationFrames, 1, maxLimitCount)
	p.duration("rapid_resets.within", l.RapidResets.Within)
	p.rate("rapid_resets", Rate{l.RapidResets.Burst, l.RapidResets.PerSecond})
	p.rate("provoked_resets", l.ProvokedResets)
	p.rate("ping", l.Ping)
	p.rate("settings", l.Settings)
	p.rate("empty_data", l.EmptyData)
	p.rate("window_update", l.WindowUpdate)
	p.rate("priority", l.Priority)
	p.rate("unknown_frames", l.UnknownFrames)
	p.rate("other_frames", l.OtherFrames)
	p.number("unread_bytes", l.UnreadBytes, LeastUnread(maxHeaderList), maxLimitBytes)
	p.duration("write_timeout", l.WriteTimeout)
	return p
}

// problems are mistakes, each of which begins with its key. Zero is none.
type problems []error

func (p *problems) number(key string, n, lower, upper int) {
	if n != 0 && (n < lower || n > upper) {
		*p = append(*p, fmt.Errorf("%s: %d, want %d to %d, or 0 (the default)", key, n, lower, upper))
	}
}

func (p *problems) duration(key string, d time.Duration) {
	if d != 0 && (d < minLimitTime || d > maxLimitTime) {
		*p = append(*p, fmt.Errorf("%s: %s, want %s to %s, or 0s (the default)", key, d, minLimitTime, maxLimitTime))
	}
}

func (p *problems) rate(key string, r Rate) {
	p.number(key+".burst", r.Burst, 1, maxLimitCount)
	p.number(key+".per_second", r.PerSecond, 1, maxLimitCount)
}
