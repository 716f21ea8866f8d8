package mirror

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
)

// Result is what came out of comparing the answers to one call.
type Result string

// The results.
const (
	Same       Result = "same"
	Different  Result = "different"
	Incomplete Result = "incomplete" // nothing could be said: an answer is framegate's own or was cut off, the copy was not complete, or too much had to be held
)

// What differs.
const (
	DiffersCode     = "code"     // of the status
	DiffersStatus   = "status"   // its message or its details
	DiffersTrailer  = "trailer"  // of that Name
	DiffersMessage  = "message"  // at that Index
	DiffersMessages = "messages" // their number
)

// Difference is the first difference between two answers to one call.
type Difference struct {
	Time   time.Time       `json:"time"`
	Route  string          `json:"route"`
	Mirror string          `json:"mirror"`
	Method string          `json:"method"`
	Call   string          `json:"call"`            // its ID
	What   string          `json:"what"`            // DiffersCode and so on
	Name   string          `json:"name,omitempty"`  // of a trailer
	Index  int64           `json:"index,omitempty"` // of a message in its stream, from 0
	Client json.RawMessage `json:"client"`          // of the answer that the client got
	Got    json.RawMessage `json:"got"`             // of the mirror's
}

// differences keeps the last differences of a mirror. It is safe for concurrent use.
type differences struct {
	mu   sync.Mutex // guards the fields below
	most int
	all  []Difference // the oldest first
}

// keep sets how many differences are kept.
func (d *differences) keep(most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.most = most
	d.trimLocked()
}

func (d *differences) trimLocked() {
	if n := len(d.all) - d.most; n > 0 {
		d.all = append(d.all[:0:0], d.all[n:]...)
	}
}

func (d *differences) add(one Difference) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, one)
	d.trimLocked()
}

// Differences returns the last differences of the mirror's answers, the oldest first.
func (m *Mirror) Differences() []Difference {
	m.differences.mu.Lock()
	defer m.differences.mu.Unlock()
	return append([]Difference{}, m.differences.all...)
}

// shownCode is a code for people.
func shownCode(c codes.Code) json.RawMessage { return shown(local.CodeName(c)) }

// shown encodes what is shown of an answer.
func shown(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		text, _ = json.Marshal(err.Error())
	}
	return text
}
