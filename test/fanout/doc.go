// Package fanout tests calls that go to several endpoints at once, from end to end.
package fanout
