// Package fanout sends a call to several endpoints and joins their answers into one. To the call it is one stream.Upstream; for
// each target it makes a leg, which is a call of its own.
//
//	            ┌─> leg ─> target ─┐
//	Write ──────┼─> leg ─> target ─┼──> joiner ──> Read
//	            └─> leg ─> target ─┘
//
// Enter at Open; then stream.go (the Stream), target.go (the answer of a target, message by message), and the joiners:
// gather.go with forms.go, first.go and quorum.go. Package wire works on the encodings of replies.
package fanout
