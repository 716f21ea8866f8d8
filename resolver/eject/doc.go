// Package eject takes the endpoints of a backend that fail the calls of others out for a while, and brings them back.
//
// Enter at Member.Report; then detector.go (who is ejected, for how long, and how many at once) and window.go (the share
// of calls that failed of late). What counts as a failure is the caller's business: a connection that cannot be made or
// breaks, a stream that is reset, a status of UNAVAILABLE, in the trailers too; never an answer such as NOT_FOUND.
package eject
