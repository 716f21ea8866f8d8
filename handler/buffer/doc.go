// Package buffer keeps the request of a call while it may be sent to a further attempt, until the call is committed to one
// (gRFC A6): Replay for one attempt after the other, Hedge for two at a time. What is kept takes its memory of package budget.
package buffer
