package h2

import (
	"fmt"

	"golang.org/x/net/http2"
)

// Offence is why a peer's stream or connection was ended, or nothing if the peer is not to blame. Its text is a label of
// metrics and the debug data of a GOAWAY.
type Offence string

// The offences that end a connection. Except for the first three, and for TooManyPings of a client whose keepalive interval is set
// too short, an honest peer never comes near the bound, which is one of Limits.
const (
	BadProtocol           Offence = "protocol"                 // any rule of RFC 9113 that has no offence of its own
	BadCompression        Offence = "bad_header_block"         // a header block that cannot be decoded (RFC 9113 §4.3)
	BadFlowControl        Offence = "window_overflow"          // more DATA than a window allows, or a window over 2^31-1
	HandshakeTooSlow      Offence = "handshake_timeout"        // no preface, no SETTINGS or no acknowledgement of ours in time (RFC 9113 §6.5.3)
	HeadersTooSlow        Offence = "header_timeout"           // a header block that was begun and does not end
	HeadersTooLong        Offence = "header_block_too_long"    // a header block without an end
	TooManyContinuations  Offence = "too_many_continuations"   // the same in many small frames (CVE-2024-27316)
	TooManyResets         Offence = "too_many_resets"          // streams that the peer resets at once (CVE-2023-44487)
	TooManyProvokedResets Offence = "too_many_provoked_resets" // streams that this end resets for errors of the peer's making (CVE-2025-8671)
	TooManyStreams        Offence = "too_many_streams"         // streams opened over Config.MaxConcurrentStreams
	TooManyPings          Offence = "too_many_pings"           // see Config.MinPing; clients of gRPC know these words
	PingFlood             Offence = "ping_flood"               // PING (CVE-2019-9512)
	SettingsFlood         Offence = "settings_flood"           // SETTINGS (CVE-2019-9515)
	EmptyDataFlood        Offence = "empty_data_flood"         // empty DATA (CVE-2019-9518)
	WindowUpdateFlood     Offence = "window_update_flood"      // WINDOW_UPDATE
	PriorityFlood         Offence = "priority_flood"           // PRIORITY (CVE-2019-9513)
	UnknownFrameFlood     Offence = "unknown_frame_flood"      // frames of an unknown type
	TooManyControls       Offence = "too_many_control_frames"  // Limits.OtherFrames
	NotReading            Offence = "not_reading"              // answers that wait for a peer which does not read them
	WriteTooSlow          Offence = "write_timeout"            // a peer that takes nothing of what it is sent
)

// Offences are all offences that end a connection.
var Offences = [...]Offence{
	BadProtocol, BadCompression, BadFlowControl, HandshakeTooSlow, HeadersTooSlow, HeadersTooLong, TooManyContinuations,
	TooManyResets, TooManyProvokedResets, TooManyStreams, TooManyPings, PingFlood, SettingsFlood, EmptyDataFlood, WindowUpdateFlood,
	PriorityFlood, UnknownFrameFlood, TooManyControls, NotReading, WriteTooSlow,
}

// OffenceNames returns Offences as labels of metrics.
func OffenceNames() []string {
	names := make([]string, len(Offences))
	for i, o := range Offences {
		names[i] = string(o)
	}
	return names
}

// ConnError is why a connection has ended. It ends all its streams.
type ConnError struct {
	Code    http2.ErrCode // of the GOAWAY
	Offence Offence       // of the peer; empty if it is not to blame
	Text    string        // for people
	Peer    bool          // the peer said so in its GOAWAY, or closed the connection
}

func (e *ConnError) Error() string {
	who := "connection ended"
	if e.Peer {
		who = "connection ended by the peer"
	}
	return fmt.Sprintf("%s: %s: %s", who, e.Code, e.Text)
}

// Reset is how a stream ended before both directions had ended.
type Reset struct {
	Code http2.ErrCode
	Peer bool // the peer sent the RST_STREAM; otherwise this end did, because of an error of the peer's, or the connection has ended
	Text string

	// Conn is set if the stream has ended with its connection.
	Conn *ConnError

	// Unprocessed says that the peer has certainly not processed the stream (RFC 9113 §8.7): it refused the stream, or its
	// GOAWAY names a lower last stream.
	Unprocessed bool
}

func (r *Reset) Error() string {
	switch {
	case r.Conn != nil:
		return r.Conn.Error()
	case r.Peer:
		return "stream reset by the peer: " + r.Code.String()
	}
	return fmt.Sprintf("stream reset: %s: %s", r.Code, r.Text)
}
