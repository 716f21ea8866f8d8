package handler

import "github.com/framegate/framegate/resolver"

// SetRoomBackoff sets roomBackoff until restore is called.
func SetRoomBackoff(b resolver.Backoff) (restore func()) {
	before := roomBackoff
	roomBackoff = b
	return func() { roomBackoff = before }
}
