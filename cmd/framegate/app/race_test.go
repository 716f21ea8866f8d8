//go:build race

package app

// How much slower a process may start, and how much more memory it may take, with the race detector.
const (
	raceFactor   = 5
	memoryFactor = 6
)
