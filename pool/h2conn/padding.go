package h2conn

import "golang.org/x/net/http2"

// unpadded returns the fragment in the payload of a HEADERS frame (RFC 9113 §6.2).
func unpadded(p []byte, flags http2.Flags) (fragment []byte, ok bool) {
	padding := 0
	if flags.Has(http2.FlagHeadersPadded) {
		if len(p) == 0 {
			return nil, false
		}
		padding, p = int(p[0]), p[1:]
	}
	if flags.Has(http2.FlagHeadersPriority) {
		const priorityLen = 5
		if len(p) < priorityLen {
			return nil, false
		}
		p = p[priorityLen:]
	}
	if padding > len(p) {
		return nil, false
	}
	return p[:len(p)-padding], true
}

// ofBlock reports whether the frame with that header is part of a header block.
func ofBlock(h []byte) bool {
	return http2.FrameType(h[3]) == http2.FrameHeaders || http2.FrameType(h[3]) == http2.FrameContinuation
}
