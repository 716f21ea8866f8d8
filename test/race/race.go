// Package race tells a test whether the race detector is on: with it everything takes several times as long, and memory
// is kept that is given back without.
package race

// Choose returns what a test wants of a binary as users run it, or what it wants under the race detector.
func Choose[T any](plain, detecting T) T {
	if enabled {
		return detecting
	}
	return plain
}
