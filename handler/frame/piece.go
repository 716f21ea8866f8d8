package frame

import (
	"encoding/binary"

	"github.com/bytedance/gopkg/lang/mcache"
)

// Kitex looks at the last 8 bytes of the capacity of every slice that it has sent: if they are the mark of its own allocator
// (internal/utils/safemcache), it gives the slice back to package mcache. So the last spareLen bytes of the capacity of
// every slice that is passed to Kitex must be either that mark or bytes that no peer can choose.
const (
	spareLen = 8
	// recycleMark is the mark of Kitex v0.16.3's safemcache. If Kitex changes it, slices are left to the garbage collector.
	recycleMark = 0xBADC0DEBADC0DEFF
)

// KeptPiece returns n bytes that stay valid after Kitex has sent them.
func KeptPiece(n int) []byte { return make([]byte, n, n+spareLen) }

// RecycledPiece returns n bytes that Kitex recycles when it has sent them: the caller must not touch them after the write.
func RecycledPiece(n int) []byte {
	b := mcache.Malloc(n + spareLen)
	binary.NativeEndian.PutUint64(b[:cap(b)][cap(b)-spareLen:], recycleMark)
	return b[:n]
}
