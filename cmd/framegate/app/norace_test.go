//go:build !race

package app

// Without the race detector the figures are as they should be.
const (
	raceFactor   = 1
	memoryFactor = 1
)
