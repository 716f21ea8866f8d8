package accesslog

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

// maxText bounds each text from a client in a line, in bytes.
const maxText = 256

// entry is what the line of a call says.
type entry struct {
	Time             time.Time    `json:"time"` // of the call's end
	Listener         string       `json:"listener"`
	Method           string       `json:"method"`
	Route            string       `json:"route"`
	Backend          string       `json:"backend"`
	Endpoint         string       `json:"endpoint"`
	Code             string       `json:"code"`
	Reason           local.Reason `json:"reason"`
	Duration         float64      `json:"duration_ms"`
	FirstByte        float64      `json:"first_byte_ms"`
	RequestMessages  int64        `json:"request_messages"`
	RequestBytes     int64        `json:"request_bytes"`
	ResponseMessages int64        `json:"response_messages"`
	ResponseBytes    int64        `json:"response_bytes"`
	Authority        string       `json:"authority"`
	Peer             string       `json:"peer"`
	UserAgent        string       `json:"user_agent"`
	RequestID        string       `json:"request_id"`
	Attempts         int          `json:"attempts,omitempty"` // if there was more than one
	Asked            int          `json:"asked,omitempty"`    // targets, of a call with a fan-out
	Answered         int          `json:"answered,omitempty"` // of these, those that ended with OK
	Target           string       `json:"target,omitempty"`   // of a part of such a call, which is at that target
}

func newEntry(r *handler.Record) *entry {
	e := &entry{
		Time:             r.Start.Add(r.Duration),
		Listener:         r.Listener,
		Method:           bounded(r.Method),
		Route:            r.Route,
		Backend:          r.Backend,
		Endpoint:         r.Endpoint,
		Code:             codeName(r),
		Reason:           r.Reason,
		Duration:         milliseconds(r.Duration),
		FirstByte:        milliseconds(r.FirstByte),
		RequestMessages:  r.RequestMessages,
		RequestBytes:     r.RequestBytes,
		ResponseMessages: r.ResponseMessages,
		ResponseBytes:    r.ResponseBytes,
		Authority:        bounded(r.Authority()),
		Peer:             bounded(r.Peer()),
		UserAgent:        bounded(r.UserAgent()),
		RequestID:        bounded(r.RequestID()),
		Asked:            r.Asked,
		Answered:         r.Answered,
		Target:           bounded(r.Target),
	}
	if n := r.Attempts.Further(); n > 0 {
		e.Attempts = n + 1
	}
	return e
}

// bounded cuts s to at most maxText bytes. The result does not keep the rest of s in memory.
func bounded(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText - len("...")
	for n > maxText/2 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n]) + "..."
}

// codeName returns gRPC's name of the call's code, or the number of a code that gRPC does not define.
func codeName(r *handler.Record) string {
	if name := local.CodeName(r.Code); name != local.OtherCode {
		return name
	}
	return strconv.FormatUint(uint64(r.Code), 10)
}

// milliseconds returns d in milliseconds, rounded down to microseconds.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
