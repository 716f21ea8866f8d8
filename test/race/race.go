// Package race tells a test whether the race detector is on. With it, code takes several times as long, and memory is kept
// that would be freed without it.
package race

// Choose returns detecting if the race detector is on, and plain if it is off.
func Choose[T any](plain, detecting T) T {
	if enabled {
		return detecting
	}
	return plain
}
