package relay

import (
	"strconv"
	"time"
)

// maxTimeoutDigits is how many digits a grpc-timeout may have (gRPC over HTTP/2, "Requests").
const maxTimeoutDigits = 8

// timeoutUnits are the units of grpc-timeout, the finest first.
var timeoutUnits = [...]struct {
	letter byte
	unit   time.Duration
}{{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour}}

// parseTimeout returns the time that a grpc-timeout says, and false if it is none. A time over 292 years is that.
func parseTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > maxTimeoutDigits+1 {
		return 0, false
	}
	var n time.Duration
	for i := range len(v) - 1 {
		if v[i] < '0' || v[i] > '9' {
			return 0, false
		}
		n = 10*n + time.Duration(v[i]-'0')
	}
	for _, u := range timeoutUnits {
		if v[len(v)-1] == u.letter {
			if n > maxDuration/u.unit {
				return maxDuration, true
			}
			return n * u.unit, true
		}
	}
	return 0, false
}

// isTimeout reports whether v is a grpc-timeout.
func isTimeout(v string) bool {
	_, ok := parseTimeout(v)
	return ok
}

const maxDuration = time.Duration(1<<63 - 1)

// formatTimeout returns the grpc-timeout of d in the finest unit that has room for it, rounded up; 1n for what is over.
func formatTimeout(d time.Duration) string {
	d = max(d, 1)
	var b [maxTimeoutDigits + 1]byte
	for _, u := range timeoutUnits {
		n := int64((d-1)/u.unit) + 1
		if n < 1e8 || u.letter == 'H' {
			return string(append(strconv.AppendInt(b[:0], min(n, 1e8-1), 10), u.letter))
		}
	}
	return "" // not reached: hours have room for any
}
