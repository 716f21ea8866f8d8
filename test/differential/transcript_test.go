package differential

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/test/testbed"
)

// transcript is what the two ends of a call saw: first what the server saw of the request, then what the client saw of the
// answer. Fields are sorted by their names, the values of one name are in their order. DATA is split into messages, because a
// proxy may cut it into other frames.
type transcript []line

// line is a field of a header block or, if it has no name, something else that an end saw.
type line struct {
	in          block
	name, value string
	never       bool   // the field is never indexed (RFC 7541 §6.2.3)
	text        string // of what is no field
}

// block says which header block a field is of, or which direction something else is of.
type block string

const (
	inRequest       block = "request"
	inRequestEnd    block = "request's trailer"
	inInformational block = "informational answer"
	inAnswer        block = "answer"
	inTrailersOnly  block = "answer of trailers only"
	inTrailers      block = "trailer"
)

func (t transcript) String() string {
	var lines []string
	for _, l := range t {
		lines = append(lines, l.String())
	}
	return strings.Join(lines, "\n")
}

// ofRequest reports whether the server saw the line.
func (l line) ofRequest() bool { return l.in == inRequest || l.in == inRequestEnd }

func (l line) String() string {
	if l.name == "" {
		return fmt.Sprintf("%s: %s", l.in, l.text)
	}
	never := ""
	if l.never {
		never = ", never indexed"
	}
	return fmt.Sprintf("%s %s=%s%s", l.in, l.name, quoteUpTo(l.value, maxValue), never)
}

// callID is the field by which a script's request is known at the server.
const callID = "x-call"

// The lengths up to which a transcript has a value, a payload, and a list of messages in full.
const (
	maxValue    = 100
	maxPayload  = 40
	maxMessages = 20
)

func (t *transcript) add(in block, format string, args ...any) {
	*t = append(*t, line{in: in, text: fmt.Sprintf(format, args...)})
}

func (t *transcript) addFields(in block, fields testbed.Fields) {
	sorted := slices.Clone(fields)
	slices.SortStableFunc(sorted, func(a, b hpack.HeaderField) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range sorted {
		if f.Name != callID {
			*t = append(*t, line{in: in, name: f.Name, value: f.Value, never: f.Sensitive})
		}
	}
}

// addBody adds the messages of a body, and the bytes behind the last whole one.
func (t *transcript) addBody(in block, body []byte) {
	messages, err := testbed.Messages(body)
	if len(messages) > maxMessages {
		t.add(in, "%d messages, %s", len(messages), quoteUpTo(string(body), maxPayload))
		return
	}
	for _, m := range messages {
		t.add(in, "message, flag %d, %s", m.Flag, quoteUpTo(string(m.Payload), maxPayload))
		body = body[prefixLen+len(m.Payload):]
	}
	if err != nil {
		t.add(in, "%s %s", partOfMessage, quoteUpTo(string(body), maxPayload))
	}
}

// prefixLen is the length of what precedes a message (gRPC over HTTP/2, "Length-Prefixed-Message").
const prefixLen = 5

// The texts of lines that rules look for.
const (
	partOfMessage = "part of a message"
	badMessage    = "message, flag 2"
	headersOnly   = "headers only"
	endOfStream   = "END_STREAM"
	reset         = "RST_STREAM"
	missing       = "in vain awaited:"
)

func quoteUpTo(s string, limit int) string {
	if len(s) <= limit {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%.20q and so on, %d bytes, %.4x", s, len(s), sha256.Sum256([]byte(s)))
}

// addRequest adds what the server saw.
func (t *transcript) addRequest(events []testbed.Event) {
	t.addEvents(inRequest, events, func(i int, e testbed.Event) {
		switch {
		case i > 0:
			t.addFields(inRequestEnd, e.Fields)
		case e.End:
			t.addFields(inRequest, e.Fields)
			t.add(inRequest, headersOnly)
		default:
			t.addFields(inRequest, e.Fields)
		}
	})
}

// addAnswer adds what the client saw.
func (t *transcript) addAnswer(events []testbed.Event) {
	blocks := 0
	t.addEvents(inAnswer, events, func(_ int, e testbed.Event) {
		if strings.HasPrefix(e.Fields.Get(":status"), "1") {
			t.addFields(inInformational, e.Fields)
			return
		}
		in := inAnswer
		switch {
		case e.End && blocks == 0:
			in = inTrailersOnly
		case e.End:
			in = inTrailers
		}
		blocks++
		if text, ok := localStatus(e.Fields, in); ok {
			t.add(inAnswer, "%s", text)
		} else {
			t.addFields(in, e.Fields)
		}
	})
}

// addEvents adds the events up to the one that ends the stream.
func (t *transcript) addEvents(in block, events []testbed.Event, headers func(i int, e testbed.Event)) {
	var body []byte
	blocks := 0
	flush := func() { t.addBody(in, body); body = nil }
	defer func() { flush() }()
	for _, e := range events {
		if e.Kind != testbed.GotData {
			flush()
		}
		switch e.Kind {
		case testbed.GotData:
			body = append(body, e.Data...)
		case testbed.GotHeaders:
			headers(blocks, e)
			blocks++
		case testbed.GotReset:
			t.add(in, "%s %s", reset, e.Code)
			return
		default:
			t.add(in, "%s", e.Kind)
			return
		}
		if e.End && (in == inRequest || e.Kind == testbed.GotData) {
			flush()
			t.add(in, endOfStream)
		}
		if e.End && in == inAnswer {
			return // a RST_STREAM behind it says that the rest of the request is not wanted
		}
	}
}

// localStatus returns a text for a status that framegate made itself, whose message is for people: its code and its reason.
func localStatus(fields testbed.Fields, in block) (text string, ok bool) {
	reason := fields.Get("framegate-error")
	if reason == "" || !strings.HasPrefix((testbed.Outcome{Trailers: fields}).Message(), "framegate: ") {
		return "", false
	}
	text = statusText(fields.Get("grpc-status"), reason)
	for _, f := range fields {
		switch {
		case f.Name == "grpc-status", f.Name == "grpc-message", f.Name == "framegate-error":
		case in == inTrailersOnly && (f.Name == ":status" && f.Value == "200" || f.Name == "content-type" && isGRPC(f.Value)):
		default:
			text += fmt.Sprintf(" with %s: %q", f.Name, f.Value)
		}
	}
	return text, true
}

func statusText(code any, reason string) string {
	return fmt.Sprintf("framegate's own %v %s", code, reason)
}

// difference returns what is to be done to want to make it got: lines with "- " are in want only, with "+ " in got only.
func difference(want, got transcript) (diff []string) {
	common := make([][]int, len(want)+1) // common[i][j] is the length of the longest common subsequence of want[i:] and got[j:]
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			i, j = i+1, j+1
		case i < len(want) && (j == len(got) || common[i+1][j] >= common[i][j+1]):
			diff = append(diff, "- "+want[i].String())
			i++
		default:
			diff = append(diff, "+ "+got[j].String())
			j++
		}
	}
	return diff
}

// asSent puts back what a proxy must change of a request's headers: a grpc-timeout that is a little shorter than the one that was
// sent, and framegate's own entry in via.
func asSent(got, sent testbed.Fields) testbed.Fields {
	var out testbed.Fields
	for i, f := range got {
		switch {
		case f.Name == "grpc-timeout" && isRestOf(f.Value, sent.Get("grpc-timeout")):
			f.Value = sent.Get("grpc-timeout")
		case f.Name == "via" && f.Value == "2 framegate" && !testbed.Fields(got[i+1:]).Has("via") && len(got.Values("via")) == len(sent.Values("via"))+1:
			continue
		}
		out = append(out, f)
	}
	return out
}

// isRestOf reports whether a grpc-timeout is what may be left of another after Patience.
func isRestOf(got, sent string) bool {
	g, s := secondsOf(got), secondsOf(sent)
	return g > 0 && g <= s*1.00001 && g >= s-testbed.Patience.Seconds()
}

// secondsOf returns a grpc-timeout in seconds, -1 if it is none.
func secondsOf(v string) float64 {
	if v == "" {
		return -1
	}
	n, err := strconv.Atoi(v[:len(v)-1])
	unit, ok := timeoutUnits[v[len(v)-1]]
	if err != nil || !ok {
		return -1
	}
	return float64(n) * unit.Seconds()
}

var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// isGRPC reports whether v is a content-type of gRPC.
func isGRPC(v string) bool {
	rest, ok := strings.CutPrefix(v, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}
