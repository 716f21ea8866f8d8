package h2

import (
	"fmt"

	"golang.org/x/net/http2"
)

// Offence is why a peer's stream or connection was ended, or nothing if the peer is not to blame. Its text is a label of
// metrics and the debug data of a GOAWAY.
type Offence string

// The offences that end a connection. Except for the first three, and for TooManyPings of a client whose keepalive interval is set
// too short, an honest peer never comes near the bound.
const (
	BadProtocol      Offence = "protocol"                // any rule of RFC 9113 that has no offence of its own
	BadCompression   Offence = "bad_header_block"        // a header block that cannot be decoded (RFC 9113 §4.3)
	BadFlowControl   Offence = "window_overflow"         // more DATA than a window allows, or a window over 2^31-1
	TooManyResets    Offence = "too_many_resets"         // streams opened and reset at once (CVE-2023-44487), also by errors of the peer's making (CVE-2025-8671)
	TooManyControls  Offence = "too_many_control_frames" // PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA and unknown frames (CVE-2019-9511 and others)
	TooManyPings     Offence = "too_many_pings"          // see Limits.MinPing; clients of gRPC know these words
	HeadersTooLong   Offence = "header_block_too_long"   // a header block without an end (CVE-2024-27316)
	NotReading       Offence = "not_reading"             // answers that wait for a peer which does not read them
	HandshakeTooSlow Offence = "handshake_timeout"       // no preface, no SETTINGS or no acknowledgement of ours in time (RFC 9113 §6.5.3)
	HeadersTooSlow   Offence = "header_timeout"          // a header block that was begun and does not end
)

// Offences are all offences that end a connection.
var Offences = [...]Offence{BadProtocol, BadCompression, BadFlowControl, TooManyResets, TooManyControls, TooManyPings, HeadersTooLong, NotReading, HandshakeTooSlow, HeadersTooSlow}

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
