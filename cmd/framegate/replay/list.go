package replay

import (
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror/tape"
	"github.com/framegate/framegate/resolver/spec"
)

// Recorded is a recorded call.
type Recorded struct {
	Call      string    `json:"call" yaml:"call"`
	Time      time.Time `json:"time" yaml:"time"`
	Method    string    `json:"method" yaml:"method"`
	Peer      string    `json:"peer" yaml:"peer"`
	Code      string    `json:"code" yaml:"code"` // empty if the recording ends before the call
	Requests  int       `json:"request_messages" yaml:"request_messages"`
	Responses int       `json:"response_messages" yaml:"response_messages"`
	Bytes     int64     `json:"bytes" yaml:"bytes"` // of all payloads
	Seconds   float64   `json:"duration_seconds" yaml:"duration_seconds"`
	Lost      uint64    `json:"lost,omitempty" yaml:"lost,omitempty"` // messages that were not recorded
}

// List calls do with each recorded call whose method the pattern matches, in the order in which they end; those that do not end in the
// recordings come last. It returns the files that are torn.
func List(paths []string, pattern *spec.Pattern, do func(Recorded) error) ([]Torn, error) {
	open := map[string]*Recorded{}
	var order []string
	torn, err := each(paths, func(e *tape.Entry) error {
		switch {
		case e.Call != nil && (pattern == nil || pattern.Match(e.Call.Method)):
			open[e.Call.Call] = &Recorded{Call: e.Call.Call, Time: time.Unix(0, e.Call.Time).UTC(), Method: e.Call.Method, Peer: e.Call.Peer}
			order = append(order, e.Call.Call)
		case e.Message != nil:
			if c := open[e.Message.Call]; c != nil {
				if e.Message.Response {
					c.Responses++
				} else {
					c.Requests++
				}
				c.Bytes += int64(len(e.Message.Payload))
			}
		case e.End != nil:
			c := open[e.End.Call]
			if c == nil {
				return nil
			}
			delete(open, e.End.Call)
			c.Code, c.Seconds, c.Lost = local.CodeName(codes.Code(e.End.Code)), time.Unix(0, e.End.Time).Sub(c.Time).Seconds(), e.End.Lost
			return do(*c)
		}
		return nil
	})
	if err != nil {
		return torn, err
	}
	for _, id := range order {
		if c := open[id]; c != nil {
			if err := do(*c); err != nil {
				return torn, err
			}
		}
	}
	return torn, nil
}
