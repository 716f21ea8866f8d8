// Package buffer keeps the request of a call while it may be sent to a further attempt, until the call is committed to one
// (gRFC A6). Replay serves attempts that are made one after the other, Hedge two attempts at a time. Both take the memory of
// what they keep from the budget of package budget.
package buffer
