// Package eject ejects endpoints of a backend whose calls fail too often (outlier detection): for a while they get no calls,
// then they are back.
//
// Enter at Member.Report; then detector.go (which endpoints are ejected, for how long, and how many at once) and window.go
// (the share of recent calls that failed). The caller decides which calls failed: those whose connection could not be made
// or broke, whose stream was reset or whose status was UNAVAILABLE, also in the trailers; never one with an answer such as
// NOT_FOUND.
package eject
