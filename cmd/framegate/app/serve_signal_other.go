//go:build !unix

package app

// ignoreBrokenPipes does nothing: here no signal comes from writing to what nobody reads.
func ignoreBrokenPipes() {}
