package handler

import (
	"github.com/framegate/framegate/resolver/spec"
)

// SetRoomBackoff sets roomBackoff until restore is called.
func SetRoomBackoff(b spec.Backoff) (restore func()) {
	before := roomBackoff
	roomBackoff = b
	return func() { roomBackoff = before }
}
